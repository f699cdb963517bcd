//! One life of the server: from its start to its exit, in the world of a seed.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;

use onepoll::event_loop::Server;
use onepoll::event_loop::listener::Listener;
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::shutdown::Outcome;
use onepoll::http::Handler;
use onepoll::observe::Observe;

use super::counts::Counts;
use super::kernel::{Listening, Shared, Simulated};
use super::memory::{self, Owner};
use super::observer::{Observed, observe};
use super::plan::{Fault, Faults, Plan};
use super::requests::{BODIES, Catalog};
use super::world::World;

/// All catalogs: to make them takes longer than a life.
pub struct Lives {
    catalogs: Vec<[Rc<Catalog>; 2]>,
}

/// What was wrong with a life.
#[derive(Debug)]
pub struct Failure {
    pub text: String,
    /// The trace of the connection that it is about, by the recorder.
    pub trace: String,
    pub calls: Vec<String>,
}

/// The calls of a life, or what was wrong.
pub type Lived = Result<Vec<String>, Failure>;

impl Lives {
    pub fn new() -> Lives {
        let both =
            |&body: &usize| [false, true].map(|delayed| Rc::new(Catalog::new(body, delayed)));
        let lives = Lives { catalogs: BODIES.iter().map(both).collect() };
        // What is allocated once, by the first life, is no leak.
        let _ = lives.live_in(&lives.plan(0), &mut Counts::default(), false);
        lives
    }

    /// What the life of a seed consists of.
    pub fn plan(&self, seed: u64) -> Plan {
        let catalog = &self.catalogs[0][0];
        Plan::draw(seed, catalog.main.len(), catalog.diag.len())
    }

    /// Lives a life, and returns its calls if they are to be shown.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn live(&self, plan: &Plan, counts: &mut Counts, shows_calls: bool) -> Lived {
        let before = memory::of_both();
        let lived = self.live_in(plan, counts, shows_calls);
        let left = memory::of_both() - before;
        if lived.is_ok() && left != 0 && !shows_calls {
            let text = format!("{left} bytes of memory are left");
            return Err(Failure { text, trace: String::new(), calls: Vec::new() });
        }
        lived
    }

    fn live_in(&self, plan: &Plan, counts: &mut Counts, shows_calls: bool) -> Lived {
        let is_delayed = !plan.settings.config.delay.is_zero();
        let catalog = Rc::clone(&self.catalogs[plan.body][usize::from(is_delayed)]);
        let world = World::new(Rc::new(plan.clone()), Rc::clone(&catalog), shows_calls);
        let observe = observe(&world);
        let world = Shared::new(world);
        let outcome = serve(&world, &observe, &catalog);
        let world = &mut *world.lock();
        match outcome {
            Some(outcome) => world.judge_outcome(outcome),
            None => world.fail("the poll fails".to_owned()),
        }
        world.judge_end(&mut observe.borrow_mut());
        world.counts.lives = 1;
        for link in &world.links {
            world.counts.requests += link.whole as u64;
            world.counts.responses += link.output.whole as u64;
        }
        counts.add(&world.counts);
        let calls = world.calls.take().unwrap_or_default();
        match world.judge.failure.take() {
            None => Ok(calls),
            Some((text, link)) => {
                let trace = link.map_or(String::new(), |link| trace(world, &observe, link));
                Err(Failure { text, trace, calls })
            }
        }
    }

    /// The shortest beginning of a life that still fails, without the clients and the faults that
    /// make no difference.
    pub fn shrink(&self, plan: &Plan) -> Plan {
        let mut counts = Counts::default();
        let mut fails = |plan: &Plan| self.live(plan, &mut counts, false).is_err();
        let mut shrunk = plan.clone();
        for len in 0..plan.clients.len() {
            let clients = plan.clients[..len].to_vec();
            let shorter = Plan { clients, ..plan.clone() };
            if fails(&shorter) {
                shrunk = shorter;
                break;
            }
        }
        let mut at = shrunk.clients.len();
        while at > 0 {
            at -= 1;
            let mut fewer = shrunk.clone();
            fewer.clients.remove(at);
            if fails(&fewer) {
                shrunk = fewer;
            }
        }
        for fault in plan.faults.iter() {
            let fewer = Plan { faults: shrunk.faults.without(fault), ..shrunk.clone() };
            if fails(&fewer) {
                shrunk = fewer;
            }
        }
        shrunk
    }
}

/// Runs the server until its shutdown is over.
pub fn serve(world: &Shared, observe: &Rc<RefCell<Observe>>, catalog: &Catalog) -> Option<Outcome> {
    let _owner = Owner::server();
    let observer = Observed::new(world.clone(), Rc::clone(observe));
    let listeners = Service::ALL.map(|service| {
        let socket = Listening::new(world.clone(), service);
        let address = ([127, 0, 0, 1], 8080).into();
        (Listener::new(service, socket, address), catalog.routes(service))
    });
    let (config, max) = {
        let settings = &world.lock().settings;
        (settings.config, settings.connections_max)
    };
    let kernel = Simulated::new(world.clone());
    let server = Server::on(kernel, &config, listeners.into(), max, observer);
    let mut server = server.expect("it listens");
    let ended = server.run();
    ended.ok().map(|()| server.sum_up())
}

fn trace(world: &World, observe: &RefCell<Observe>, link: usize) -> String {
    let query = format!("conn={}", world.links[link].number);
    let page = observe.borrow_mut().render("/trace", query.as_bytes());
    String::from_utf8_lossy(&page.body).into_owned()
}

/// What a life consists of.
pub fn describe(plan: &Plan) -> String {
    let mut text = format!("{:?}\nsignals {:?}\n", plan.settings, plan.signals);
    for client in &plan.clients {
        let _ = writeln!(text, "{client:?}");
    }
    text
}

/// How many of the latest calls a report has.
const CALLS_REPORTED: usize = 120;

/// What is to be told of a life that fails.
pub fn report(plan: &Plan, shrunk: &Plan, failure: &Failure) -> String {
    let mut report = format!("seed {} fails: {}\n", plan.seed, failure.text);
    let of = |faults: Faults| faults.iter().map(Fault::name).collect::<Vec<_>>().join(", ");
    let (left, all) = (shrunk.clients.len(), plan.clients.len());
    let faults = match of(shrunk.faults) {
        none if none.is_empty() => "without faults".to_owned(),
        faults => format!("with these faults: {faults}"),
    };
    let _ = writeln!(report, "It does so with {left} of its {all} clients, and {faults}");
    report += &describe(shrunk);
    let from = failure.calls.len().saturating_sub(CALLS_REPORTED);
    for call in &failure.calls[from..] {
        let _ = writeln!(report, "{call}");
    }
    report + &failure.trace
}
