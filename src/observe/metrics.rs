//! `/metrics`: everything that is counted, in the text format of Prometheus, version 0.0.4. Times
//! are in seconds, amounts in bytes; what only grows ends in `_total`.
//!
//! The invariant: what is told of the past never changes.

use std::time::Duration;

use super::Observe;
use super::exposition::{Exposition, counter, gauge, histogram};
use super::process::Process;
use crate::event_loop::listeners::Service;
use crate::event_loop::observer::{Budget, Step};
use crate::event_loop::shutdown::Stage;
use crate::event_loop::state::StateName;
use crate::http::{Error, Status};
use crate::observe::histogram::Histogram;
use crate::observe::units::Seconds;

/// The doublings that end between a microsecond and a second, which is where loops live.
fn doublings(counts: &Histogram<u64>) -> impl Iterator<Item = (Seconds, u64)> {
    let doublings = counts.doublings().take(21);
    doublings.map(|(end, below)| (Seconds(end), below))
}

impl Observe {
    pub(super) fn metrics(&self) -> String {
        let mut page = Exposition(String::with_capacity(16 * 1024));
        self.requests(&mut page);
        self.traffic(&mut page);
        self.ticks(&mut page);
        self.program(&mut page);
        process(&mut page, self.statistics.date());
        page.0
    }

    fn requests(&self, page: &mut Exposition) {
        let requests = counter("onepoll_requests_total", "Responses, by listener and status code.");
        page.by_listener_and(&requests, "code", &|service| {
            let codes = Status::all().map(Status::code);
            codes.zip(self.services[service as usize].responses).collect()
        });
        let errors = counter(
            "onepoll_request_errors_total",
            "Error responses, by listener and reason; they are among the responses.",
        );
        page.by_listener_and(&errors, "reason", &|service| {
            let reasons = Error::all().map(Error::name);
            reasons.zip(self.services[service as usize].errors).collect()
        });
        let service = histogram(
            "onepoll_service_seconds",
            "Time from readiness to the response, to the end of the tick.",
        );
        let totals = self.statistics.totals();
        let sum = Seconds(Duration::from_nanos(totals.service_sum));
        page.histogram(&service, doublings(&totals.service), (sum, totals.service.len()));
    }

    fn traffic(&self, page: &mut Exposition) {
        let listeners = || Service::ALL.map(Service::name).into_iter();
        let open = self.connections();
        let connections = gauge("onepoll_connections", "Connections open, by listener and state.");
        page.by_listener_and(&connections, "state", &|service| {
            let states = StateName::ALL.map(StateName::name).into_iter();
            states.zip(open[service as usize]).collect()
        });
        let accepted =
            counter("onepoll_connections_accepted_total", "Connections accepted, by listener.");
        page.by(
            &accepted,
            "listener",
            listeners().zip(self.services.map(|counters| counters.accepted)),
        );
        let timeouts = counter(
            "onepoll_timeouts_total",
            "Timeouts of connections, by the state that they were in.",
        );
        let states = StateName::ALL.map(StateName::name).into_iter();
        page.by(&timeouts, "state", states.zip(self.timeouts));
        let services = self.services;
        let received = counter("onepoll_received_bytes_total", "Bytes read, by listener.");
        let bytes = services.map(|counters| counters.received);
        page.by(&received, "listener", listeners().zip(bytes));
        let sent = counter("onepoll_sent_bytes_total", "Bytes that the kernel took, by listener.");
        page.by(&sent, "listener", listeners().zip(services.map(|counters| counters.sent)));
        let partial =
            counter("onepoll_partial_writes_total", "Writes of which the kernel took a part.");
        let writes: u64 = services.iter().map(|counters| counters.partial_writes).sum();
        page.single(&partial, writes);
    }

    fn ticks(&self, page: &mut Exposition) {
        let totals = self.statistics.totals();
        let ticks = totals.ticks();
        page.single(&counter("onepoll_ticks_total", "Times round the loop."), ticks);
        let events = histogram("onepoll_events_per_tick", "Events that a tick found.");
        let mut below = 0;
        let buckets = totals.events.iter().enumerate().map(|(at, count)| {
            below += count;
            ((1_u64 << at) >> 1, below)
        });
        page.histogram(&events, buckets, (totals.events_sum, ticks));
        let busy = histogram(
            "onepoll_tick_busy_seconds",
            "Time that a tick was at work, from the end of the wait.",
        );
        let busy_sum = Duration::from_nanos(totals.busy_sum);
        let sum = Seconds(busy_sum);
        page.histogram(&busy, doublings(&totals.busy), (sum, ticks));
        let waiting = counter("onepoll_waiting_seconds_total", "Time spent waiting for events.");
        let elapsed = self.now - self.statistics.started();
        page.single(&waiting, Seconds(elapsed.saturating_sub(busy_sum)));
        let spinning = counter(
            "onepoll_spinning_seconds_total",
            "Time spent polling without sleep, which is part of the waiting.",
        );
        page.single(&spinning, Seconds(Duration::from_nanos(totals.spun_sum)));
        let steps = counter("onepoll_step_seconds_total", "Time at work, by the step of the tick.");
        let seconds = Step::ALL.map(|step| (step.name(), Seconds(totals.step(step))));
        page.by(&steps, "step", seconds.into_iter());
        let exhausted = counter(
            "onepoll_budget_exhausted_total",
            "Times that a budget was used up, so that a connection had to wait for a later tick.",
        );
        let budgets = Budget::ALL.map(|budget| (budget.name(), totals.exhausted[budget as usize]));
        page.by(&exhausted, "budget", budgets.into_iter());
    }

    fn program(&self, page: &mut Exposition) {
        page.family(&gauge("onepoll_build_info", "The version that is running."));
        page.sample("onepoll_build_info", &format!("version=\"{}\"", self.version), &1);
        let dropped = counter(
            "onepoll_log_lines_dropped_total",
            "Log lines that standard error did not take.",
        );
        page.single(&dropped, (self.hooks.dropped)());
        let stages = gauge(
            "onepoll_shutdown_stage",
            "How far a shutdown has come: 1 for the present stage.",
        );
        let present = [
            matches!(self.stage, Stage::Serving),
            matches!(self.stage, Stage::LameDuck(_)),
            matches!(self.stage, Stage::Draining(_)),
        ];
        let names = ["serving", "lame_duck", "draining"].into_iter();
        page.by(&stages, "stage", names.zip(present.map(u8::from)));
    }
}

fn process(page: &mut Exposition, start: Duration) {
    let process = Process::read();
    let name = "process_start_time_seconds";
    page.single(&gauge(name, "When the process started, since 1970."), Seconds(start));
    let cpu = counter("process_cpu_seconds_total", "Processor time taken.");
    page.single(&cpu, Seconds(process.cpu));
    if let Some((space, memory)) = process.memory {
        let family = gauge("process_resident_memory_bytes", "Memory taken.");
        page.single(&family, memory);
        let family = gauge("process_virtual_memory_bytes", "Address space taken.");
        page.single(&family, space);
    }
    if let Some(count) = process.descriptors {
        page.single(&gauge("process_open_fds", "Descriptors open."), count);
    }
    if let Some(count) = process.descriptors_max {
        page.single(&gauge("process_max_fds", "Descriptors allowed."), count);
    }
}
