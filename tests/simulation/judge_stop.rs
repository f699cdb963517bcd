//! What has to be true of the stop: what begins it, how far it is, what it comes to, and what is
//! left when the process exits.

use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::shutdown::{Outcome, Stage};
use onepoll::event_loop::signals::Signal;
use onepoll::limits;

use super::counts::Effect;
use super::judge::Judge;
use super::plan::Dialect;
use super::time::{Nanos, instant, length, nanos};
use super::world::World;

impl World {
    pub fn judge_signal(&mut self, signal: Signal) {
        let judge = &mut self.judge;
        judge.progress = true;
        let now = judge.tick;
        match (signal, judge.signalled) {
            (Signal::User1 | Signal::User2, _) => {}
            (_, None) => {
                judge.signalled = Some(now);
                judge.announces_at.get_or_insert(now);
                let is_lame = signal != Signal::Interrupt && judge.lame_duck > 0;
                if is_lame && judge.drain_at.is_none() {
                    judge.lame_duck_since = Some(now);
                } else {
                    judge.drain_at.get_or_insert(now);
                }
            }
            (Signal::Interrupt, Some(first)) if now > first + length(limits::SIGNAL_REPEAT) => {
                judge.is_interrupted = true;
                judge.drain_at.get_or_insert(now);
            }
            _ => {}
        }
    }

    pub fn judge_listener_fails(&mut self) {
        let judge = &mut self.judge;
        let now = judge.tick;
        if judge.is_aborting() {
            // Nor can it be known whether the loop met it ahead of the abort.
            judge.is_unclear = true;
        } else {
            judge.listener_failed = true;
            judge.announces_at.get_or_insert(now);
            judge.drain_at.get_or_insert(now);
        }
    }

    /// The loop says how far the shutdown is.
    pub fn judge_stage(&mut self, stage: Stage) {
        let judge = &mut self.judge;
        judge.told_stop = true;
        match stage {
            Stage::Serving => self.fail("a shutdown goes back".to_owned()),
            Stage::LameDuck(since) => {
                if judge.lame_duck_since.map(instant) != Some(since) {
                    self.fail("a lame duck without its signal".to_owned());
                }
            }
            Stage::Draining(since) => {
                let since = nanos(since);
                let is_due = judge.lame_duck_since.is_some_and(|at| since >= at + judge.lame_duck);
                let at = *judge.drain_at.get_or_insert(since);
                if at != since || since == 0 || !(is_due || judge.has_reason_to_drain()) {
                    self.fail("a drain without a reason, or at another instant".to_owned());
                }
            }
        }
    }

    pub fn judge_stops_accepting(&mut self) {
        if self.judge.drain_at.is_none() {
            self.fail("the listeners close ahead of the drain".to_owned());
        }
    }

    /// A listener closes: not while the process stays for a connection anyway.
    pub fn judge_closes_listener(&mut self) {
        let judge = &self.judge;
        let is_open = judge.open != [0; 2];
        let is_drain = judge.drain_at.is_some() && !judge.listener_failed && !judge.is_aborting();
        let is_gentle = is_drain && !self.settings.inherited && !self.closes_roughly();
        if is_gentle && is_open && !self.closes_idle(Service::Main, judge.tick) {
            self.fail("a listener closes although the process stays".to_owned());
        }
    }

    /// A client comes late, whose handshake had begun ahead of the drain.
    pub fn judge_late(&mut self, link: usize) {
        let judge = &self.judge;
        let until = judge.drain_at.map_or(0, |at| at + length(limits::HANDSHAKE_TIME));
        if !judge.listener_failed && judge.tick < judge.abort_at().min(until) && self.now < until {
            self.fail_on(link, "its handshake was under way when the listener closed");
        }
    }

    /// Whether a listener closes with clients in its queue, as the kernel cannot ignore SYNs.
    pub fn closes_roughly(&self) -> bool {
        self.settings.dialect == Dialect::Kqueue
    }

    /// A client in the queue of a listener that closes.
    pub fn judge_unaccepted(&mut self, link: usize) {
        let is_rough = self.closes_roughly();
        let judge = &mut self.judge;
        if judge.is_aborting() {
            // A listener that closes roughly does not count them, unless the deadline closes it.
            judge.is_unclear |= is_rough;
            judge.rejected += usize::from(!judge.is_unclear);
        }
        if !judge.is_aborting() && !judge.listener_failed && !is_rough {
            self.fail_on(link, "it is in the queue of a listener that closes");
        }
        self.counts.effect(Effect::RejectsQueue);
    }

    /// The end of each tick: diagnostics stays until main is empty.
    pub fn judge_tick_end(&mut self) {
        let judge = &mut self.judge;
        judge.main_empty_at = judge.main_empty();
        if judge.told_stop != judge.announces_at.is_some() {
            self.fail("the loop does not tell that it stops".to_owned());
        }
    }

    /// Whether idle connections are closed.
    pub fn closes_idle(&self, service: Service, now: Nanos) -> bool {
        let judge = &self.judge;
        let since = if service == Service::Main { judge.drain_at } else { judge.main_empty() };
        judge.is_aborting() || since.is_some_and(|since| now >= since + judge.grace)
    }

    /// Whether the last response to each client of a service may announce the close.
    pub fn announces_since(&self, service: Service) -> Option<Nanos> {
        let judge = &self.judge;
        match service {
            Service::Main => judge.announces_at,
            Service::Diag if judge.is_aborting() => judge.drain_at,
            Service::Diag => judge.main_empty(),
        }
    }

    /// The process exits.
    pub fn judge_outcome(&mut self, outcome: Outcome) {
        let judge = &self.judge;
        let expected = if judge.is_interrupted {
            Outcome::Interrupted
        } else if judge.listener_failed {
            Outcome::Failed
        } else if judge.aborted + judge.rejected > 0 {
            Outcome::Aborted
        } else {
            Outcome::Drained
        };
        let is_unclear = judge.is_unclear && outcome != Outcome::Interrupted;
        if outcome != expected && !is_unclear {
            self.fail(format!("the outcome is {outcome:?} and should be {expected:?}"));
        }
        self.counts.effect(match outcome {
            Outcome::Drained => Effect::Drained,
            Outcome::Aborted => Effect::Aborted,
            Outcome::Failed => Effect::Failed,
            Outcome::Interrupted => Effect::Interrupted,
        });
        let open = self.queues.iter().filter(|queue| queue.watched && !queue.closed).count();
        if self.judge.open != [0; 2] || open > 0 {
            self.fail("the process exits while something is open".to_owned());
        }
        self.judge_clients();
    }
}

impl Judge {
    /// Since when a drain has had no connection to main. One that comes later changes nothing.
    fn main_empty(&self) -> Option<Nanos> {
        let is_empty = self.drain_at.is_some() && self.open[Service::Main as usize] == 0;
        self.main_empty_at.or(is_empty.then_some(self.tick))
    }

    fn has_reason_to_drain(&self) -> bool {
        self.listener_failed
            || self.signalled.is_some() && self.lame_duck_since.is_none()
            || self.is_interrupted
    }
}
