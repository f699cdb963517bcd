//! How a server ends: from the signal to the last line in the log. When which part of that is due
//! is known to [`stop`](crate::event_loop::shutdown); here it is done.
//!
//! The invariant: it is over once nobody is here, and nobody can come any more.

use std::mem;

use log::info;
use mio::Events;

use super::{SIGNALS, Server};
use crate::event_loop::clock::Moment;
use crate::event_loop::shutdown::{Effect, Outcome, Stage};
use crate::observe::statistics::Step;
use crate::services::Service;
use crate::systemd;

impl Server {
    pub(super) fn take_signals(&mut self, events: &Events) {
        if events.iter().any(|event| event.token() == SIGNALS) {
            while let Some(signal) = self.signals.take() {
                let name = signal.name();
                match self.stop.take(signal, self.now) {
                    Effect::Begins => info!(target: "onepoll", "Signal '{name}' received"),
                    Effect::Leaves => {
                        info!(target: "onepoll", "Signal '{name}' received again: leaving at once");
                        self.tally.left = true;
                    }
                    Effect::Ignored => info!(target: "onepoll", "Signal '{name}' is ignored"),
                }
            }
        }
        if self.stop.has_begun() {
            let start = Moment::now();
            self.follow_stop();
            self.charge(Step::Signals, start);
        }
    }

    /// Does what the stop asks for when it has come further.
    pub(super) fn follow_stop(&mut self) {
        self.stop.advance(self.now);
        let stage = self.stop.stage();
        let before = mem::replace(&mut self.followed, stage);
        if before == stage {
            return;
        }
        let begins = before == Stage::Serving;
        if begins {
            self.answered_before = self.table.counters().answered();
            self.table.retire();
            self.table.announce_close(Service::Main, self.now);
        }
        if self.stop.is_draining() {
            self.doors.close(self.poll.registry(), self.now);
            self.tell_watchers();
        }
        if begins {
            // The last thing, as it may take a moment.
            systemd::notify_stopping();
        }
    }

    /// Dismisses those whose idle grace is over, and at the drain's deadline everybody.
    pub(super) fn send_home(&mut self) {
        let (now, tally) = (self.now, &mut self.tally);
        if self.stop.dismisses_idle(now) {
            self.table.dismiss_idle(Service::Main, now, tally);
        }
        self.tell_watchers();
        let (now, tally) = (self.now, &mut self.tally);
        if self.stop.dismisses_watchers(now) {
            self.table.dismiss_idle(Service::Diag, now, tally);
        }
        if self.stop.cuts(now) {
            self.table.cut(now, tally);
            tally.cut += self.doors.turn_away();
        }
    }

    /// Once a drain has left nobody on main, or no time, those who watch it are served for the
    /// last time.
    fn tell_watchers(&mut self) {
        let is_time = self.table.count(Service::Main) == 0 || self.stop.cuts(self.now);
        if is_time && self.stop.desert(self.now) {
            self.table.announce_close(Service::Diag, self.now);
        }
    }

    /// Whether the process has to stay for somebody, so that doors may as well.
    pub(super) fn somebody_stays(&self) -> bool {
        !self.table.is_empty() && !self.stop.dismisses_idle(self.now)
    }

    pub(super) fn is_over(&self) -> bool {
        self.stop.is_draining() && self.doors.are_closed() && self.table.is_empty()
    }

    /// Logs what the stop came to, once it is over.
    pub fn sum_up(&mut self) -> Outcome {
        for service in Service::ALL {
            info!(target: service.name(), "{} exited", service.title());
        }
        if let Some(overdue) = self.table.counters().overdue() {
            info!(target: "onepoll", "Overdue since the start: {overdue}");
        }
        self.tally.answered = self.table.counters().answered() - self.answered_before;
        let outcome = self.tally.outcome();
        let drain = self.stop.lasted(self.now);
        let (ended, time) = match outcome {
            Outcome::Drained | Outcome::Failed => ("Drained in", drain),
            Outcome::Cut => ("Cut off after", drain),
            Outcome::Left => ("Left after", self.stop.since_signal(self.now)),
        };
        let millis = time.as_millis();
        info!(target: "onepoll", "{ended} {millis} ms: {}", self.tally);
        outcome
    }
}
