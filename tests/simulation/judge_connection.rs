//! What has to be true of a connection: from its accepting, over its states and timeouts, to the
//! reason for which it closes, by what the loop does and by what it tells.

use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::observer::{CloseReason, Traffic};
use onepoll::event_loop::state::{StateName, is_allowed};
use onepoll::limits;

use super::counts::Effect;
use super::link::Link;
use super::plan::Reading;
use super::time::{MICRO, Nanos, SECOND, length};
use super::world::World;

impl World {
    /// The server sends a FIN.
    pub fn judge_fin(&mut self, at: usize) {
        let (link, tick) = (&self.links[at], self.judge.tick);
        if !link.output.is_between() {
            self.fail_on(at, "a FIN in the middle of a response");
        } else if link.output.closes {
            // It was announced.
        } else if link.eof_read && !self.is_due(at, link.output.whole) {
            // The client has sent its own FIN, perhaps in the middle of a request.
        } else if !self.closes_idle(link.service, tick) {
            self.fail_on(at, "a FIN that was not announced");
        } else if self.is_due(at, link.output.whole) {
            self.fail_on(at, "it is closed as idle with a request that has come");
        } else {
            self.links[at].judged.has_idle_fin = true;
            self.counts.effect(match self.links[at].service {
                Service::Main => Effect::ClosesIdleOnMain,
                Service::Diag => Effect::ClosesIdleOnDiag,
            });
        }
    }

    pub fn judge_read(&mut self, at: usize) {
        let tick = self.judge.tick;
        let link = &mut self.links[at];
        link.judged.reads_in_run += 1;
        link.judged.heard_at = tick;
        let read = link.read;
        for request in link.requests.iter_mut().skip(link.output.whole) {
            if request.end <= read && request.read_at == Nanos::MAX {
                request.read_at = tick;
            } else if request.end > read {
                break;
            }
        }
        if link.judged.reads_in_run > limits::READS_PER_RUN {
            self.fail_on(at, "it reads more often in a run than its budget has");
        }
    }

    /// The loop tells that it has accepted a connection.
    pub fn judge_accepted(&mut self, slot: usize, service: Service, at: usize) {
        let judge = &mut self.judge;
        judge.accepted[service as usize] += 1;
        judge.open[service as usize] += 1;
        if slot >= judge.slots.len() {
            judge.slots.resize(slot + 1, None);
        }
        if let Some(other) = judge.slots[slot].replace(at) {
            self.fail_on(other, "its slot is filled again");
        }
        let (tick, number) = (self.judge.tick, self.judge.accepted.iter().sum());
        let link = &mut self.links[at];
        (link.slot, link.number, link.since) = (Some(slot), number, tick);
        if link.service != service {
            self.fail_on(at, "it is accepted by the other service");
        }
        if service == Service::Main && self.judge.open[1] > self.settings.connections_max {
            self.fail_on(at, "main has more connections than it may have");
        }
        self.counts.connections += 1;
    }

    fn in_slot(&mut self, slot: usize) -> Option<usize> {
        let at = self.judge.slots.get(slot).copied().flatten();
        if at.is_none() {
            self.fail(format!("the loop tells of slot {slot}, in which there is no connection"));
        }
        at
    }

    pub fn judge_run(&mut self, slot: usize) {
        let Some(at) = self.in_slot(slot) else { return };
        let link = &mut self.links[at];
        (link.judged.reads_in_run, link.judged.writes_in_run) = (0, 0);
        link.judged.runs_in_tick += 1;
        // One for an event, one for what is left, one for each page, and for a timeout and a stop.
        if link.judged.runs_in_tick > limits::PAGES_PER_TICK + 4 {
            self.fail_on(at, "it runs again and again in one tick");
        }
    }

    /// The loop tells what a run has led to.
    pub fn judge_ran(
        &mut self,
        slot: usize,
        states: Option<(StateName, StateName)>,
        traffic: Traffic,
    ) {
        let Some(at) = self.in_slot(slot) else { return };
        let tick = self.judge.tick;
        self.judge.changes += 1;
        let link = &mut self.links[at];
        link.output.add(traffic);
        let moved = traffic.received > 0 || traffic.sent > 0;
        let is_unsent = link.output.told.responses as usize > link.output.ends.len();
        if is_unsent && traffic.sent > 0 && link.judged.forced_at.is_some_and(|at| tick < at) {
            // It may go on because of responses for which there was no room.
            link.judged.forced_at = None;
        }
        match states {
            None => {
                if moved && link.state.is_renewed_by_traffic() {
                    link.since = tick;
                }
                link.judged.body_bytes =
                    link.judged.body_bytes.map(|bytes| bytes + u64::from(traffic.received));
                link.judged.body_is_slow =
                    traffic.received > 0 && tick > link.body_due(link.judged.body_bytes[1]);
            }
            Some((from, to)) => {
                self.counts.transitions[from as usize][to as usize] += 1;
                self.judge.progress = true;
                let state = std::mem::replace(&mut link.state, to);
                link.judged.changes.push((from, to));
                link.since = tick;
                link.go_on(to, tick, traffic);
                if to == StateName::Deferred {
                    let time = length(limits::DEFERRED_TIME_MAX);
                    link.judged.forced_at.get_or_insert(tick + time);
                }
                let goes_on = matches!(to, StateName::Idle | StateName::Head | StateName::Deferred);
                let is_forced =
                    link.judged.was_deferred || link.judged.forced_at.is_some_and(|at| tick > at);
                if is_forced && goes_on && traffic.responses > 0 {
                    self.fail_on(at, "it was forced to close, and goes on");
                } else if state != from || !is_allowed(from, to) {
                    self.fail_on(
                        at,
                        &format!("it goes from {from:?} to {to:?}, and was in {state:?}"),
                    );
                }
            }
        }
    }

    pub fn judge_timed_out(&mut self, slot: usize, state: StateName) {
        let Some(at) = self.in_slot(slot) else { return };
        let (tick, aborts) = (self.judge.tick, self.judge.is_aborting());
        let (least, _) = self.judge.timeouts[state as usize];
        self.judge.progress = true;
        let link = &mut self.links[at];
        // A delay that is over is no timeout.
        self.judge.timed_out += usize::from(state != StateName::Delayed);
        link.judged.timed_out |= matches!(state, StateName::Head | StateName::Body);
        link.judged.was_deferred |= state == StateName::Deferred;
        // The loop may have rounded the time for each part of it.
        let due = link.body_due(link.judged.body_bytes[0]);
        let is_slow = state == StateName::Body && tick + MICRO > due;
        if tick < link.since + least && !is_slow && !aborts {
            self.fail_on(at, &format!("its timeout in {} comes early", state.name()));
        }
    }

    /// The loop tells that a connection is closed.
    pub fn judge_closed(
        &mut self,
        slot: usize,
        from: StateName,
        reason: CloseReason,
        traffic: Traffic,
    ) {
        let Some(at) = self.in_slot(slot) else { return };
        self.judge.slots[slot] = None;
        self.judge.progress = true;
        let aborts = self.judge.is_aborting();
        self.counts.closed[from as usize] += 1;
        let link = &mut self.links[at];
        self.judge.open[link.service as usize] -= 1;
        link.output.add(traffic);
        (link.slot, link.closed) = (None, Some(reason));
        let output = &link.output;
        let is_true = match reason {
            CloseReason::Finished => link.eof_read,
            CloseReason::Requested => output.closes && output.is_between(),
            CloseReason::Truncated => link.eof_read && !output.closes,
            CloseReason::Failed(_) => link.reset_arrived || link.failed,
            CloseReason::TimedOut => true,
            // A connection that is half-closed has had its last response. If it has just got that,
            // with something unread behind it, closing resets it.
            CloseReason::Aborted => {
                aborts && (link.fin_written.is_none() || link.since == self.judge.tick)
            }
            CloseReason::DrainOver => aborts && link.fin_written.is_some(),
        };
        let bytes = (u64::from(output.told.received), u64::from(output.told.sent));
        let seen = (link.read as u64, link.written as u64);
        let (served, ends) = (output.told.responses as usize, output.ends.len());
        let is_cut =
            matches!(reason, CloseReason::Failed(_) | CloseReason::Aborted | CloseReason::TimedOut);
        let closes_early = !is_cut && !output.closes && reason != CloseReason::DrainOver;
        if !is_true {
            self.fail_on(at, &format!("it is closed as {reason:?}, which is not true"));
        } else if bytes != seen {
            self.fail_on(
                at,
                &format!("it has read and written {seen:?} bytes, and {bytes:?} are told"),
            );
        } else if served < ends || served > ends && !is_cut {
            self.fail_on(at, &format!("{served} responses are told, of {ends}"));
        } else if closes_early
            && !link.judged.has_idle_fin
            && self.is_due(at, self.links[at].output.whole)
        {
            self.fail_on(at, "it is closed with a request that has come");
        } else if reason == CloseReason::TimedOut {
            self.judge_timeout_close(at, from);
        }
        if reason == CloseReason::Aborted {
            self.judge.aborted += 1;
            self.counts.effect(Effect::Aborts);
        }
    }

    /// A connection is closed by its timeout.
    fn judge_timeout_close(&mut self, at: usize, from: StateName) {
        let (least, _) = self.judge.timeouts[from as usize];
        let link = &self.links[at];
        let tick = self.judge.tick;
        let is_early = tick < link.since + least;
        let is_due = from == StateName::Idle && self.is_due(at, link.output.whole);
        let has_rounds = tick < link.since + Nanos::from(limits::HALF_CLOSED_ROUNDS_MAX) * least;
        let is_heard = link.judged.heard_at + least * 9 / 10 > tick && self.judge.paused == 0;
        if matches!(from, StateName::Head | StateName::Body) {
            self.fail_on(at, "its timeout has no 408");
        } else if from == StateName::HalfClosed && has_rounds && is_heard {
            self.fail_on(at, "it is closed although its client still sends");
        } else if is_early {
            self.fail_on(at, &format!("it is closed ahead of its timeout in {}", from.name()));
        } else if is_due {
            self.fail_on(at, "it is closed as idle with a request that has come");
        }
    }

    /// The socket is closed.
    pub fn judge_drop(&mut self, at: usize) {
        self.judge.freed_at = self.now;
        let link = &self.links[at];
        if link.number == 0 {
            // It was accepted to be rejected.
            self.judge.rejected += 1;
            self.counts.effect(Effect::RejectsQueue);
            self.links[at].failed = true;
            if !self.judge.is_aborting() {
                self.fail_on(at, "it is accepted and dropped");
            }
        } else if link.closed.is_none() {
            self.fail_on(at, "its socket is closed and nothing tells of it");
        }
    }

    /// A reset destroys what the client has not read.
    pub fn judge_reset(&mut self, at: usize) {
        let link = &self.links[at];
        let kinds = self.catalog.kinds(link.service);
        let asked_on =
            link.requests[..link.begun].iter().rev().skip(1).any(|it| kinds[it.kind].closes);
        let is_excused = link.failed
            || link.reset_arrived
            || asked_on && link.closed == Some(CloseReason::Requested)
            || link.client.reading != Reading::AtOnce
            || matches!(
                link.closed,
                Some(CloseReason::TimedOut | CloseReason::Aborted | CloseReason::DrainOver)
            );
        if link.taken < link.written && !is_excused {
            self.fail_on(at, "a reset destroys a response");
        }
    }

    /// What has been written is what the clients have got in the end.
    pub fn judge_clients(&mut self) {
        // What is on its way arrives.
        let end = self.now + 200 * SECOND;
        while self.judge.failure.is_none() && self.next().is_some_and(|next| next <= end) {
            self.now = self.next().unwrap_or(end).max(self.now);
            self.happen();
        }
        for at in 0..self.links.len() {
            let link = &self.links[at];
            let reads = link.client.reading == Reading::AtOnce && !link.is_gone;
            if link.accepted && reads && link.taken < link.written && !link.failed {
                self.fail_on(at, "a response has not come to its client");
            }
        }
    }
}

impl Link {
    /// It has come to a state.
    fn go_on(&mut self, state: StateName, now: Nanos, traffic: Traffic) {
        match state {
            StateName::Body => {
                let received = u64::from(traffic.received);
                (self.judged.body_since, self.judged.body_is_slow) = (now, false);
                self.judged.body_bytes = [received.min(limits::INPUT as u64), received];
            }
            StateName::Deferred if self.judged.told_deferred && traffic.sent == 0 => {}
            StateName::Deferred => {
                (self.judged.deferred_since, self.judged.told_deferred) = (now, true);
            }
            _ => self.judged.told_deferred = false,
        }
    }
}
