//! What has to be true. The judge sees every call of the loop and every word that it tells its
//! observer, and it knows what each client has sent and when. It knows the rules of the server by
//! their documentation. Of its code it uses the limits, the table of states, and the protocol,
//! which says what a request gets that comes alone and whole.
//!
//! The first thing that is wrong ends the life.

use std::time::Duration;

use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::state::StateName;
use onepoll::limits;

use super::memory;
use super::plan::Settings;
use super::time::{MILLI, Nanos, length};
use super::world::World;

/// What the judge knows of the server as a whole.
#[derive(Debug)]
pub struct Judge {
    /// What is wrong, and the connection that it is about.
    pub failure: Option<(String, Option<usize>)>,
    pub timeouts: [(Nanos, Nanos); StateName::ALL.len()],
    pub delay: Nanos,
    pub lame_duck: Nanos,
    pub drain: Nanos,
    pub grace: Nanos,

    /// When the present tick began, by the loop.
    pub tick: Nanos,
    /// Whether its wait was to take time, and how many events it found.
    pub slept: bool,
    pub found: usize,
    /// Something has come of the present tick.
    pub progress: bool,
    pub idle_ticks: usize,
    /// Ticks that had slept and had nothing to do, and changes of timers.
    pub empty_wakes: usize,
    pub changes: usize,
    pub paused: Nanos,
    /// The wait that begins has to end by then.
    pub log_due: Nanos,

    pub signalled: Option<Nanos>,
    pub is_interrupted: bool,
    pub listener_failed: bool,
    pub lame_duck_since: Option<Nanos>,
    pub drain_at: Option<Nanos>,
    /// When the drain, or the lame duck, began to announce the close.
    pub announces_at: Option<Nanos>,
    pub main_empty_at: Option<Nanos>,
    /// When accept(2) last lacked a descriptor or memory.
    pub lacks_at: Nanos,
    /// When a connection was closed last.
    pub freed_at: Nanos,

    /// Connections that are open, by service.
    pub open: [usize; 2],
    pub accepted: [usize; 2],
    pub timed_out: usize,
    pub aborted: usize,
    pub rejected: usize,
    /// At the deadline clients were rejected whose number is not known.
    pub is_unclear: bool,
    pub accepts_in_tick: [usize; 2],
    pub pages_in_tick: usize,
    pub calls_in_tick: usize,
    /// Whether the loop has told that it drains, or is a lame duck.
    pub told_stop: bool,
    /// The connection in each slot.
    pub slots: Vec<Option<usize>>,
    pub dates: Vec<u64>,
    pub memory_at_start: isize,
    pub most_open: usize,
    /// Until when the last of them is true.
    pub date_due: Nanos,
}

impl Judge {
    pub fn new(settings: &Settings) -> Judge {
        let config = &settings.config;
        Judge {
            failure: None,
            timeouts: timeouts(settings),
            delay: length(config.delay),
            lame_duck: length(config.schedule.lame_duck),
            drain: length(config.schedule.drain),
            grace: length(config.schedule.idle_grace),
            tick: 0,
            slept: true,
            found: 0,
            progress: true,
            idle_ticks: 0,
            empty_wakes: 0,
            changes: 0,
            paused: 0,
            log_due: Nanos::MAX,
            signalled: None,
            is_interrupted: false,
            listener_failed: false,
            lame_duck_since: None,
            drain_at: None,
            announces_at: None,
            main_empty_at: None,
            lacks_at: 0,
            freed_at: 0,
            open: [0; 2],
            accepted: [0; 2],
            timed_out: 0,
            aborted: 0,
            rejected: 0,
            is_unclear: false,
            accepts_in_tick: [0; 2],
            pages_in_tick: 0,
            calls_in_tick: 0,
            told_stop: false,
            slots: Vec::new(),
            dates: Vec::new(),
            memory_at_start: 0,
            most_open: 0,
            date_due: 0,
        }
    }

    /// When all that is left is closed.
    pub fn abort_at(&self) -> Nanos {
        match self.drain_at {
            None => Nanos::MAX,
            Some(_) if self.is_interrupted => 0,
            Some(at) => at + self.drain,
        }
    }

    pub fn is_aborting(&self) -> bool {
        self.tick >= self.abort_at()
    }
}

/// The least and the most time that a connection may be in a state, or wait for more in it.
fn timeouts(settings: &Settings) -> [(Nanos, Nanos); StateName::ALL.len()] {
    let config = &settings.config;
    StateName::ALL.map(|state| {
        let (time, is_renewed) = match state {
            StateName::Idle => (config.timeouts.idle, true),
            StateName::Head => (config.timeouts.header, false),
            StateName::Body => (config.timeouts.body, true),
            StateName::Delayed => (config.delay, false),
            StateName::Deferred => (limits::DEFERRED_TIMEOUT, true),
            StateName::Writing => (config.timeouts.write, true),
            StateName::HalfClosed => (limits::HALF_CLOSED_TIMEOUT, false),
            StateName::IdleClosed => (limits::IDLE_CLOSED_TIMEOUT, false),
        };
        let late = if is_renewed { time / limits::TIMEOUT_PRECISION } else { Duration::ZERO };
        (length(time), length(time + late))
    })
}

impl World {
    /// Something is wrong.
    pub fn fail(&mut self, what: String) {
        self.judge.failure.get_or_insert((what, None));
    }

    /// Something is wrong with a connection.
    pub fn fail_on(&mut self, link: usize, what: &str) {
        if self.judge.failure.is_none() {
            let (service, number) = (self.links[link].service.name(), self.links[link].number);
            let text = format!("connection {number} of {service}: {what}");
            self.judge.failure = Some((text, Some(link)));
        }
    }

    /// A tick is over, and the loop waits.
    pub fn judge_wait(&mut self, from: Nanos, until: Nanos) {
        self.counts.ticks += 1;
        let judge = &mut self.judge;
        let is_idle = !judge.progress && judge.found == 0;
        judge.idle_ticks = if is_idle && !judge.slept { judge.idle_ticks + 1 } else { 0 };
        judge.empty_wakes += usize::from(is_idle && judge.slept);
        // A timer that was disarmed may have been the soonest.
        let wakes_for_nothing = judge.empty_wakes > judge.changes + 32;
        if judge.idle_ticks > 3 {
            self.fail("the loop spins: four ticks had neither work nor an event".to_owned());
        }
        if wakes_for_nothing {
            self.fail("the loop wakes again and again for nothing".to_owned());
        }
        if self.counts.ticks > 5_000_000 {
            self.fail("the life does not end".to_owned());
        }
        if until > self.judge.log_due {
            self.fail("the loop sleeps longer than the log allows".to_owned());
        }
        self.judge_exit(until);
        self.judge_memory();
        if until > from {
            self.judge_queues(from, until);
            if until - from >= 5 * MILLI {
                self.judge_sleep(until);
            }
        }
        let judge = &mut self.judge;
        (judge.progress, judge.accepts_in_tick) = (false, [0; 2]);
        (judge.pages_in_tick, judge.calls_in_tick) = (0, 0);
    }

    /// A wait has ended, and has found so many events.
    pub fn judge_woken(&mut self, from: Nanos, until: Nanos, found: usize) {
        self.judge.found = found;
        self.judge.slept = until > from;
        // It ended early.
        self.judge.progress |= found == 0 && self.now < until;
    }

    /// The process has to exit by its deadline, and as soon as it can.
    fn judge_exit(&mut self, until: Nanos) {
        let judge = &self.judge;
        let Some(drain_at) = judge.drain_at else {
            if judge.lame_duck_since.is_some_and(|since| until > since + judge.lame_duck) {
                self.fail("the loop sleeps past the end of the lame duck".to_owned());
            }
            return;
        };
        let open: usize = judge.open.iter().sum();
        if judge.is_aborting() {
            self.fail(format!(
                "the process lives past the drain's deadline, with {open} connections"
            ));
            return;
        }
        let (is_idle, tick) = (open == 0, judge.tick);
        let is_open = |service: Service| {
            let queue = &self.queues[service as usize];
            queue.watched && !queue.closed
        };
        let open_listeners = Service::ALL.into_iter().filter(|&service| is_open(service)).count();
        let is_paused = tick < judge.lacks_at + length(limits::ACCEPT_PAUSE) + MILLI;
        let closes_at = drain_at + length(limits::HANDSHAKE_TIME);
        let rough = drain_at + 2 * length(limits::HANDSHAKE_TIME);
        if is_idle && open_listeners == 0 {
            self.fail("nothing is open, and the process stays".to_owned());
        } else if is_idle && !is_paused && until > tick.max(closes_at) + MILLI {
            self.fail("the process stays for its listeners".to_owned());
        } else if open_listeners > 0 && self.closes_roughly() && until > tick.max(rough) + MILLI {
            self.fail("the loop sleeps although a listener has to close".to_owned());
        } else if until > judge.abort_at() {
            self.fail("the loop sleeps past the drain's deadline".to_owned());
        }
    }

    /// The server has no more memory than its connections may have by their states.
    fn judge_memory(&mut self) {
        let judge = &mut self.judge;
        let most: usize = judge.open.iter().sum();
        judge.most_open = judge.most_open.max(most);
        if judge.memory_at_start == 0 {
            judge.memory_at_start = memory::of_server();
        }
        let used = memory::of_server() - judge.memory_at_start;
        // Only if it is much, what it is made of is looked at.
        let fixed = (4 * limits::CONNECTION_BYTES * judge.most_open + limits::START_MEMORY / 4)
            .cast_signed();
        if used <= fixed {
            return;
        }
        let links = judge.slots.iter().flatten().map(|&at| &self.links[at]);
        let kept = links.map(|link| match link.state {
            StateName::Idle | StateName::HalfClosed | StateName::IdleClosed => 0,
            StateName::Head | StateName::Body => limits::INPUT,
            StateName::Delayed | StateName::Deferred => limits::INPUT + 2 * limits::DEFERRED_MAX,
            StateName::Writing => limits::INPUT + 2 * limits::OUTPUT,
        });
        let kept: usize = kept.sum();
        if used > fixed + kept.cast_signed() {
            self.fail(format!("the server has {used} bytes, and needs {fixed} and {kept} at most"));
        }
    }

    /// A client in a queue is accepted if there is room for it.
    fn judge_queues(&mut self, from: Nanos, until: Nanos) {
        for service in Service::ALL {
            let (queue, judge) = (&self.queues[service as usize], &self.judge);
            let is_full =
                service == Service::Main && judge.open[1] >= self.settings.connections_max;
            // What has come since the tick began has its event.
            let is_known = queue.watched && !queue.edge && !queue.connections.is_empty();
            // A pause ends when a descriptor is free.
            let is_paused = judge.freed_at <= judge.lacks_at;
            let pause = if is_paused { length(limits::ACCEPT_PAUSE) + MILLI } else { 0 };
            if is_known && !is_full && until > from + pause {
                self.fail(format!("a client waits in the queue of {}", service.name()));
            }
        }
    }

    /// The loop is about to sleep: no connection has work, and none outlives its timeout.
    fn judge_sleep(&mut self, until: Nanos) {
        for slot in 0..self.judge.slots.len() {
            let Some(at) = self.judge.slots[slot] else { continue };
            let (link, tick) = (&self.links[at], self.judge.tick);
            let (_, most) = self.judge.timeouts[link.state as usize];
            let begun = match link.state {
                // It begins anew when something has come in the meantime.
                StateName::HalfClosed => {
                    // One more for what each round is late.
                    let most_often = Nanos::from(limits::HALF_CLOSED_ROUNDS_MAX) + 1;
                    let last = link.since + most_often * most + self.judge.paused;
                    // A round that begins late ends late.
                    let late = self.judge.paused + 100 * MILLI;
                    let heard = link.judged.heard_at + most + late;
                    if link.judged.heard_at < link.since { link.since } else { heard.min(last) }
                }
                _ => link.since,
            };
            let reads = matches!(
                link.state,
                StateName::Idle | StateName::Head | StateName::Body | StateName::Deferred
            );
            let has_bytes = link.arrived > link.read || link.fin_arrived && !link.eof_read;
            if begun + most < tick {
                self.fail_on(at, &format!("it outlives its timeout in {}", link.state.name()));
            } else if begun + most < until {
                self.fail_on(at, &format!("its timeout in {} is not armed", link.state.name()));
            } else if reads && has_bytes && !link.has_event {
                self.fail_on(at, "its input is forgotten");
            } else if link.reset_arrived && !link.has_event {
                self.fail_on(at, "it is reset and stays open");
            } else if link.fin_written.is_some() && link.eof_read {
                self.fail_on(at, "both have sent a FIN, and it stays open");
            } else if link.state == StateName::Body && link.judged.body_is_slow {
                self.fail_on(at, "its body is too slow, and is waited for");
            } else if link.is_deferred_too_long(tick) {
                self.fail_on(at, "its responses are deferred for too long");
            } else if link.state == StateName::Writing && !link.blocked && !link.has_event {
                self.fail_on(at, "its output is forgotten");
            } else if link.state == StateName::Idle && self.closes_idle(link.service, until - MILLI)
            {
                self.fail_on(at, "it is idle after the idle grace");
            }
        }
    }

    pub fn judge_tick(&mut self, now: Nanos) {
        if now < self.judge.tick {
            self.fail("the clock of the loop goes back".to_owned());
        }
        self.judge.tick = now;
        if self.judge.lame_duck_since.is_some_and(|since| now >= since + self.judge.lame_duck) {
            self.judge.drain_at.get_or_insert(now);
        }
        for slot in 0..self.judge.slots.len() {
            if let Some(link) = self.judge.slots[slot] {
                self.links[link].judged.runs_in_tick = 0;
            }
        }
    }

    pub fn judge_page(&mut self) {
        self.judge.pages_in_tick += 1;
        if self.judge.pages_in_tick > limits::PAGES_PER_TICK {
            self.fail("more pages are rendered in a tick than its budget has".to_owned());
        }
    }

    pub fn judge_accept(&mut self, service: Service) {
        let count = &mut self.judge.accepts_in_tick[service as usize];
        *count += 1;
        if *count > limits::ACCEPTS_PER_TICK {
            self.fail("more connections are accepted in a tick than its budget has".to_owned());
        }
    }
}
