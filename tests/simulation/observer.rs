//! The observer of a life: it tells the judge, and then the observer that the program has.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use onepoll::event_loop::clock::Instant;
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::observer::{Budget, CloseReason, Observer, Step, Traffic};
use onepoll::event_loop::shutdown::Stage;
use onepoll::event_loop::state::StateName;
use onepoll::http::{Error, Handler, Head, Page, Status};
use onepoll::limits::LOG_PAUSE;
use onepoll::observe::{Hooks, Observe};

use super::kernel::Shared;
use super::plan::Fault;
use super::time::{MILLI, SECOND, instant, length, nanos};
use super::world::World;

pub struct Observed {
    world: Shared,
    observe: Rc<RefCell<Observe>>,
}

impl Observed {
    pub fn new(world: Shared, observe: Rc<RefCell<Observe>>) -> Observed {
        Observed { world, observe }
    }
}

/// The observer of the program, in this world.
pub fn observe(world: &World) -> Rc<RefCell<Observe>> {
    let block = Duration::ZERO;
    let hooks = Hooks { before_wait: || None, stopping: || {}, dropped: || 0, block };
    let date = Duration::from_nanos(world.date_offset + world.now);
    Rc::new(RefCell::new(Observe::since(instant(world.now), date, "1", hooks)))
}

impl Observer for Observed {
    fn tick_begins(&mut self, now: Instant) {
        self.world.lock().judge_tick(nanos(now));
        self.observe.borrow_mut().tick_begins(now);
    }

    fn date_changed(&mut self, unix_seconds: u64) {
        self.observe.borrow_mut().date_changed(unix_seconds);
    }

    fn step_took(&mut self, step: Step, nanos: u64) {
        self.observe.borrow_mut().step_took(step, nanos);
    }

    fn budget_exhausted(&mut self, budget: Budget, times: u64) {
        self.world.lock().counts.budgets[budget as usize] += times;
        self.observe.borrow_mut().budget_exhausted(budget, times);
    }

    fn accepted(&mut self, slot: usize, service: Service, peer: SocketAddr) {
        let world = &mut *self.world.lock();
        world.judge_accept(service);
        world.judge_accepted(slot, service, usize::from(peer.port()));
        self.observe.borrow_mut().accepted(slot, service, peer);
    }

    fn run_begins(&mut self, slot: usize) {
        self.world.lock().judge_run(slot);
        self.observe.borrow_mut().run_begins(slot);
    }

    fn run_ends(&mut self, slot: usize, traffic: Traffic) {
        self.world.lock().judge_ran(slot, None, traffic);
        self.observe.borrow_mut().run_ends(slot, traffic);
    }

    fn state_changed(&mut self, slot: usize, from: StateName, to: StateName, traffic: Traffic) {
        self.world.lock().judge_ran(slot, Some((from, to)), traffic);
        self.observe.borrow_mut().state_changed(slot, from, to, traffic);
    }

    fn timed_out(&mut self, slot: usize, timeout: StateName) {
        self.world.lock().judge_timed_out(slot, timeout);
        self.observe.borrow_mut().timed_out(slot, timeout);
    }

    fn closed(&mut self, slot: usize, from: StateName, reason: CloseReason, traffic: Traffic) {
        self.world.lock().judge_closed(slot, from, reason, traffic);
        self.observe.borrow_mut().closed(slot, from, reason, traffic);
    }

    fn shutdown_changed(&mut self, stage: Stage) {
        self.world.lock().judge_stage(stage);
        self.observe.borrow_mut().shutdown_changed(stage);
    }

    fn exits(&mut self) {
        self.observe.borrow_mut().exits();
    }

    fn tick_ends(&mut self, busy: u64, events: usize) {
        self.world.lock().judge_tick_end();
        self.observe.borrow_mut().tick_ends(busy, events);
    }

    /// The log is flushed. Its reader may be stuck: then the loop tries again after a pause.
    fn before_wait(&mut self) -> Option<Duration> {
        let world = &mut *self.world.lock();
        if world.now >= world.log_blocked_until && world.strikes(Fault::BlockedLog, 30) {
            world.log_blocked_until = world.now + world.random.time(MILLI, 3 * SECOND);
        }
        let is_blocked = world.now < world.log_blocked_until;
        let pause = length(LOG_PAUSE);
        world.judge.log_due = if is_blocked { world.now + pause } else { u64::MAX };
        world.judge.progress |= is_blocked;
        is_blocked.then_some(LOG_PAUSE)
    }

    fn spun(&mut self, nanos: u64) {
        self.observe.borrow_mut().spun(nanos);
    }
}

impl Handler for Observed {
    fn on_request(&mut self, head: &Head, has_route: bool) {
        self.observe.borrow_mut().on_request(head, has_route);
    }

    fn on_response(&mut self, status: Status, bytes: usize) {
        self.observe.borrow_mut().on_response(status, bytes);
    }

    fn on_error(&mut self, error: Error, text: &str, input: &[u8], bytes: usize) {
        self.observe.borrow_mut().on_error(error, text, input, bytes);
    }

    fn render(&mut self, path: &str, query: &[u8]) -> Page {
        self.world.lock().judge_page();
        self.observe.borrow_mut().render(path, query)
    }
}
