//! The loop. One thread owns the poll, the listeners, the signal pipe and all connections, and
//! goes round in ticks. [`Server::run`] and its `tick` are the program:
//!
//! ```text
//!   1 wait       until an event, a timeout, the next action of a shutdown or the end of a pause
//!   2 clock      one instant for the whole tick; a new Date if the second has changed
//!   3 signals    begin the shutdown, so that the responses of this tick already announce it
//!   4 events     connections run; listeners are only noted
//!   5 run again  connections that have more to do although no event will come
//!   6 accept     from each listener, within a budget; a new connection runs at once
//!   7 timers     connections whose timeout has passed; then the actions of a shutdown that are due
//! ```
//!
//! There are two services: main is what the server is for, and diagnostics shows the loop. A page
//! is a response of diagnostics that is rendered for its request. A response of main may be
//! delayed on purpose (`--delay`), to play a slow server. Accepting pauses while the process is out
//! of descriptors or memory. A shutdown may begin as a lame duck, which goes on and announces the
//! end. Then it drains: requests that have begun may finish, and a connection that is idle may send
//! another one until the idle grace ends. A step with nothing to do is skipped.
//!
//! The loop knows no statistics, no pages and no place where log lines go. An [`observer`] is told
//! of ticks, connections, budgets and the stage of a shutdown.
//!
//! The invariant: a slot that is freed in a tick is not filled again before all events of that
//! tick are over, so no event can reach the wrong connection. That is why accepting comes after
//! them. It also means that connections that are open go ahead of new ones.
//!
//! # Reading order
//!
//! 1. this file: the tick
//! 2. [`connections`]: the slab of connections, and what a run of one of them leads to
//! 3. [`state`]: the states of a connection and their transitions
//! 4. [`crate::http`]: the types `Next` and `Served`, which a connection goes by
//! 5. [`connection`]: a run, from the read to the send, with what is [`shared`]
//! 6. [`stream`]: the socket, its readiness and its unsent output
//! 7. [`kernel`]: every call that the loop makes, and [`system`], which makes it
//! 8. [`timers`] and [`clock`]
//! 9. [`listeners`], [`listener`] and [`listening`]
//! 10. [`shutdown`] and [`signals`]
//! 11. [`observer`], [`Config`] and [`resources`]
//!
//! # Try it
//!
//! Under load a tick finds tens of events at once, and hardly waits. Without, it sleeps.
//!
//! ```sh
//! onepoll --log warn & server=$!; sleep 0.5
//! wrk -t2 -c400 -d3s http://localhost:8080/hello & client=$!; sleep 2
//! curl -s http://localhost:8081/loop # look for: events per tick
//! wait $client; kill $server; wait $server
//! ```

pub mod clock;
mod config;
pub mod connection;
pub mod connections;
pub mod kernel;
pub mod listener;
pub mod listeners;
pub mod listening;
pub mod observer;
pub mod resources;
pub mod shared;
pub mod shutdown;
pub mod signals;
pub mod state;
pub mod stream;
pub mod system;
pub mod timers;

use std::io;
use std::net::SocketAddr;

use log::{info, warn};
use mio::Token;

use self::clock::Instant;
pub use self::config::Config;
use self::connections::Connections;
use self::kernel::Kernel;
use self::listener::{Accepted, Listener};
use self::listeners::{Listeners, Service};
use self::observer::{Budget, Observer, Step};
use self::shutdown::{Action, Effect, Outcome, Shutdown, Stage};
use self::system::System;
use crate::http::Routes;
use crate::limits::{ACCEPTS_PER_TICK, CONNECTIONS_MAX, EVENTS_PER_TICK};

/// A connection has its slot for a token, so all other tokens are at the far end.
const SIGNALS: Token = Token(usize::MAX);
/// The token of the first listener; the other one follows.
const LISTENERS: usize = usize::MAX - Service::ALL.len();

/// The whole server, listening.
#[derive(Debug)]
pub struct Server<O, K: Kernel = System> {
    kernel: K,
    listeners: Listeners<K::Listener>,
    connections: Connections<K::Stream, O>,
    /// How many connections main may have.
    connections_max: usize,
    shutdown: Shutdown,
    /// The stage of the shutdown that the observer knows.
    stage_told: Stage,
    /// When the present tick began, and when the work of the last one ended.
    now: Instant,
    work_ended: Instant,
    /// When the date in the responses is no longer true.
    date_due: Instant,
    /// Responses that had been given when the shutdown began.
    responses_before: u64,
}

impl<O: Observer> Server<O> {
    /// Installs the signal handlers and then lets clients connect, so that no signal is lost from
    /// then on. The listeners are bound before one of them listens: if another one could not be,
    /// no client would have connected yet.
    ///
    /// # Errors
    /// What the kernel says; if it is about a listener, the message names it.
    pub fn new(
        config: &Config,
        listeners: Vec<(Listener, Routes)>,
        observer: O,
    ) -> io::Result<Server<O>> {
        let cannot = |what| move |error| cannot(what, &error);
        resources::require_memory().map_err(cannot("allocate buffers"))?;
        let kernel = System::new(config.spin)?;
        // What may fail comes ahead of listening, as clients connect from then on.
        let connections_max = resources::connections_max(config.max_connections)
            .map_err(cannot("keep descriptors for connections"))?;
        let mut server = Server::on(kernel, config, listeners, connections_max, observer)?;
        server.connections.reserve(resources::connections_with_space(connections_max));
        Ok(server)
    }
}

impl<O: Observer, K: Kernel> Server<O, K> {
    /// A server on a kernel, with so many connections to main at most.
    ///
    /// # Errors
    /// Those of [`Kernel::watch_signals`] and [`Kernel::listen`]; the message says what failed.
    pub fn on(
        mut kernel: K,
        config: &Config,
        listeners: Vec<(Listener<K::Listener>, Routes)>,
        connections_max: usize,
        observer: O,
    ) -> io::Result<Server<O, K>> {
        let mut routes = Service::ALL.map(|_| Routes::new(Vec::new()));
        let mut bound = Vec::new();
        for (listener, served) in listeners {
            routes[listener.service() as usize] = served;
            bound.push(listener);
        }
        let watched = kernel.watch_signals(SIGNALS);
        watched.map_err(|error| cannot("watch for signals", &error))?;
        let listeners = Listeners::open(bound, &mut kernel, LISTENERS)?;
        let connections = Connections::new(routes, &config.timeouts, config.delay, observer);
        let now = kernel.now();
        Ok(Server {
            kernel,
            listeners,
            connections,
            connections_max,
            shutdown: Shutdown::new(config.schedule),
            stage_told: Stage::Serving,
            now,
            work_ended: now,
            date_due: now,
            responses_before: 0,
        })
    }

    /// Serves until a shutdown is over: a signal has come, or a listener has failed, and nothing
    /// is open any more.
    ///
    /// # Errors
    /// Only those of `epoll_wait(2)`, none of which is expected.
    // Inlined into `main`, a tick would take sixty instructions more.
    #[inline(never)]
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = K::room_for_events();
        while !self.is_over() {
            self.tick(&mut events)?;
        }
        Ok(())
    }

    /// The observer, which may have more to show when the server has run.
    pub fn observer(&mut self) -> &mut O {
        self.connections.observer()
    }

    fn tick(&mut self, events: &mut K::Events) -> io::Result<()> {
        self.wait_for_events(events)?;
        self.read_clock();
        self.handle_signals(events);
        self.handle_events(events);
        self.run_again();
        self.accept();
        self.handle_timeouts();

        self.work_ended = self.kernel.now();
        let busy = self.work_ended.nanos_since(self.now);
        let found = K::events(events).count();
        self.connections.observer().tick_ends(busy, found);
        if found == EVENTS_PER_TICK {
            self.connections.observer().budget_exhausted(Budget::Events, 1);
        }
        Ok(())
    }

    fn wait_for_events(&mut self, events: &mut K::Events) -> io::Result<()> {
        self.resume_accepting();
        let observer = self.connections.observer().before_wait();
        let observer = observer.map_or(Instant::NEVER, |time| self.work_ended + time);
        let until = self.connections.next_run().min(self.next_accept());
        let until = until.min(self.shutdown.next_due()).min(observer);
        let spun = self.kernel.wait(events, self.work_ended, until)?;
        self.connections.observer().spun(spun);
        Ok(())
    }

    /// Reads the clock for the tick. When it ends it is read again, which tells how long the next
    /// wait may be.
    fn read_clock(&mut self) {
        self.now = self.kernel.now();
        self.connections.begin_tick(self.now);
        if self.now >= self.date_due {
            let (seconds, left) = self.kernel.date();
            self.connections.set_date(seconds);
            self.date_due = self.now + left;
            self.charge(Step::Clock, self.now);
        }
    }

    fn handle_signals(&mut self, events: &K::Events) {
        if K::events(events).any(|(token, _)| token == SIGNALS) {
            while let Some(signal) = self.kernel.take_signal() {
                let name = signal.name();
                let what = match self.shutdown.on_signal(signal, self.now) {
                    Effect::Begins => "received",
                    Effect::Exits => "received again: exiting at once",
                    Effect::Ignored => "is ignored",
                };
                info!(target: "onepoll", "Signal '{name}' {what}");
            }
        }
        if self.shutdown.has_begun() {
            let start = self.kernel.now();
            self.act_ahead_of_events();
            self.charge(Step::Signals, start);
        }
    }

    fn handle_events(&mut self, events: &K::Events) {
        for (token, readiness) in K::events(events) {
            match token {
                SIGNALS => {}
                Token(slot) if slot < LISTENERS => self.connections.on_event(slot, readiness),
                Token(token) => {
                    let service = Service::ALL[token - LISTENERS];
                    let has_room = self.connections.count(service) <= self.connections_max / 2;
                    self.listeners.set_ready(service, has_room);
                    if self.is_full(service) {
                        self.warn_full(service);
                    }
                }
            }
        }
    }

    fn run_again(&mut self) {
        if !self.connections.has_work() {
            return;
        }
        let start = self.kernel.now();
        self.connections.run_again();
        self.charge(Step::RunAgain, start);
    }

    fn accept(&mut self) {
        self.resume_accepting();
        if self.next_accept() > self.now {
            return;
        }
        let start = self.kernel.now();
        for service in Service::ALL {
            let accepted = (0..ACCEPTS_PER_TICK).take_while(|_| self.accept_one(service));
            if accepted.count() == ACCEPTS_PER_TICK {
                self.connections.observer().budget_exhausted(Budget::Accepts, 1);
            }
        }
        self.charge(Step::Accept, start);
    }

    fn handle_timeouts(&mut self) {
        if !self.connections.is_due() && !self.shutdown.has_begun() {
            return;
        }
        let start = self.kernel.now();
        self.connections.expire();
        self.listeners.close_late(self.now);
        let main_is_empty = |server: &Server<O, K>| server.connections.count(Service::Main) == 0;
        while let Some(action) = self.shutdown.next_action(self.now, main_is_empty(self)) {
            self.act(action);
        }
        self.tell_stage();
        self.charge(Step::Timers, start);
    }

    /// Ends a pause if a descriptor is free again.
    fn resume_accepting(&mut self) {
        if self.connections.take_freed() {
            self.listeners.resume();
        }
    }

    fn next_accept(&self) -> Instant {
        let (stays, is_full) = (|| self.waits_for_clients(), |service| self.is_full(service));
        self.listeners.next_accept(self.now, stays, is_full)
    }

    /// In a drain, whether the process stays for a connection to either service. Idle ones count
    /// until the idle grace of main ends. Until then the listeners stay open, too.
    fn waits_for_clients(&self) -> bool {
        !self.connections.is_empty() && !self.connections.closes_idle(Service::Main)
    }

    /// Whether a service has all the connections that it may have.
    fn is_full(&self, service: Service) -> bool {
        let main_is_full = self.connections.count(Service::Main) >= self.connections_max;
        self.connections.len() == CONNECTIONS_MAX || service == Service::Main && main_is_full
    }

    fn warn_full(&mut self, service: Service) {
        self.listeners.warn_full(service, self.connections.count(service));
    }

    /// Accepts a connection to a service. Says whether there may be another one.
    fn accept_one(&mut self, service: Service) -> bool {
        if self.is_full(service) {
            self.warn_full(service);
            return false;
        }
        match self.listeners.accept(service, self.now, self.waits_for_clients()) {
            Accepted::Stream(stream, peer) => self.add(service, stream, peer),
            Accepted::Lost => {}
            Accepted::Empty | Accepted::Pause(_) => return false,
            Accepted::Failed => {
                self.shutdown.on_failure(self.now);
                self.act_ahead_of_events();
                return false;
            }
        }
        true
    }

    /// Adds a connection. One that is over after its first run never gets to the poll.
    fn add(&mut self, service: Service, stream: K::Stream, peer: SocketAddr) {
        let Some((slot, socket)) = self.connections.add(service, stream, peer) else {
            return;
        };
        if let Err(error) = self.kernel.watch(socket, Token(slot)) {
            warn!(target: service.name(), "Connection from {peer} cannot be polled: {error}");
            self.connections.fail(slot, error.kind());
        }
    }

    fn act_ahead_of_events(&mut self) {
        while let Some(action) = self.shutdown.next_ahead_of_events(self.now) {
            self.act(action);
        }
        self.tell_stage();
    }

    /// Does an action of the shutdown.
    fn act(&mut self, action: Action) {
        match action {
            Action::AnnounceClose(service) => {
                if service == Service::Main {
                    self.responses_before = self.connections.responses;
                }
                self.connections.announce_close(service);
            }
            Action::CloseListeners => self.listeners.close(&mut self.kernel, self.now),
            Action::CloseIdle(service) => self.connections.close_idle(service),
            Action::Abort => {
                self.connections.abort();
                self.connections.aborted += self.listeners.reject_backlog();
            }
        }
    }

    fn tell_stage(&mut self) {
        let stage = self.shutdown.stage();
        if self.stage_told != stage {
            self.stage_told = stage;
            self.connections.observer().shutdown_changed(stage);
        }
    }

    fn is_over(&self) -> bool {
        let is_closed = self.listeners.are_closed();
        self.shutdown.is_draining() && is_closed && self.connections.is_empty()
    }

    /// Logs what the shutdown came to, once it is over.
    pub fn sum_up(&mut self) -> Outcome {
        self.connections.observer().exits();
        for service in Service::ALL {
            info!(target: service.name(), "{} exited", service.title());
        }
        let (idle, aborted) = (self.connections.closed_idle, self.connections.aborted);
        let responses = self.connections.responses - self.responses_before;
        let outcome = self.shutdown.outcome(aborted);
        let ended = match outcome {
            Outcome::Drained | Outcome::Failed => "Drained in",
            Outcome::Aborted => "Aborted after",
            Outcome::Interrupted => "Exited after",
        };
        let millis = self.shutdown.took(self.now).as_millis();
        info!(
            target: "onepoll",
            "{ended} {millis} ms: responses {responses}, closed idle {idle}, aborted {aborted}"
        );
        outcome
    }

    fn charge(&mut self, step: Step, since: Instant) {
        let nanos = self.kernel.now().nanos_since(since);
        self.connections.observer().step_took(step, nanos);
    }
}

/// Says what could not be done, ahead of what the kernel says.
fn cannot(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("Cannot {what}: {error}"))
}

#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
