//! Servers side by side under load. Run it with `cargo bench --bench wire`. Other servers are named
//! behind that, with a place for the port:
//! `cargo bench --bench wire -- 'limit=/path/to/limit {port}'`, or in the environment:
//! `PEER_limit='/path/to/limit {port}' cargo bench --bench wire`. nginx, h2o and lighttpd take
//! part if they are installed. Words without an equals sign choose cases:
//! `cargo bench --bench wire -- idle`.
//!
//! Each server has one core, and the client another. The client is wrk, or at a constant rate
//! `open_loop`. The servers alternate, round by round, so that other load on the machine falls on
//! all of them. The results are medians. The most reliable one is the processor time per request,
//! from the kernel's accounting: it does not depend on whether the client keeps up.

#[allow(dead_code)]
#[path = "../shared/contestant.rs"]
mod contestant;
#[allow(dead_code)]
#[path = "../../tests/it/harness.rs"]
mod harness;
mod installed;
mod open_loop;
mod report;

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use contestant::Contestant;
use harness::{HELLO, Peer, Process};
use open_loop::Client;
use report::Report;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

/// What the client does, and how many idle connections there are beside it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    connections: usize,
    heads: Heads,
    /// Requests at once.
    depth: usize,
    idle: usize,
    /// Requests a second, from a client that sends them when they are due. Without it, wrk sends
    /// the next request once it has the response.
    rate: Option<u32>,
}

impl Case {
    /// The quantiles of the latencies: their names, and how many of a thousand requests they hold.
    pub(crate) fn quantiles(&self) -> &'static [(&'static str, usize)] {
        match self.rate {
            Some(_) => &[("p50", 500), ("p99", 990), ("p99.9", 999), ("max", 1000)],
            None => &[("p50", 500), ("p99", 990)],
        }
    }
}

/// The heads of the requests; the names are those of `requests.lua`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heads {
    Small,
    /// No two in a row are alike.
    Browser,
    /// The server is told to close the connection.
    Close,
}

/// The case that the others differ from.
const BASE: Case = Case {
    name: "64 connections",
    connections: 64,
    heads: Heads::Small,
    depth: 1,
    idle: 0,
    rate: None,
};

const CASES: [Case; 9] = [
    Case { name: "1 connection", connections: 1, ..BASE },
    BASE,
    Case { name: "64 connections, browser-like heads", heads: Heads::Browser, ..BASE },
    Case { name: "64 connections, 16 requests at once", depth: 16, ..BASE },
    Case {
        name: "64 connections, 16 requests at once, browser-like heads",
        heads: Heads::Browser,
        depth: 16,
        ..BASE
    },
    Case { name: "64 clients, a connection for each request", heads: Heads::Close, ..BASE },
    Case {
        name: "1000 connections, browser-like heads",
        connections: 1000,
        heads: Heads::Browser,
        ..BASE
    },
    Case { name: "64 connections beside 9000 idle ones", idle: 9000, ..BASE },
    Case { name: "64 connections, a constant 20000 requests/s", rate: Some(20_000), ..BASE },
];

/// The result of one run.
pub(crate) struct Run {
    pub(crate) requests: f64,
    /// Requests in a second.
    pub(crate) rate: f64,
    /// Nanoseconds of a processor, the server's share, for a request.
    pub(crate) cpu: f64,
    /// The quantiles of the case, in microseconds; 0 is one that wrk does not know.
    pub(crate) latencies: Vec<f64>,
    /// Requests that failed, or lines in which wrk reports errors.
    pub(crate) errors: u64,
}

/// The runs of one server in a case, or why it takes no part.
pub(crate) type Runs = Result<Vec<Run>, &'static str>;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if Command::new("wrk").arg("-v").output().is_err() {
        println!("wrk is not here: install it, as with `apt-get install wrk`, and come again");
        return;
    }
    // `cargo test --benches` only wants to know whether this still works.
    let is_test = !words.iter().any(|word| word == "--bench");
    let (rounds, time, cases) = if is_test {
        (1, Duration::from_secs(1), vec![&CASES[0], &CASES[CASES.len() - 1]])
    } else {
        (5, Duration::from_secs(2), CASES.iter().collect())
    };
    let chosen = |case: &&Case| {
        let mut words =
            words.iter().filter(|word| !word.starts_with("--") && !word.contains('=')).peekable();
        words.peek().is_none() || words.any(|word| case.name.contains(word.as_str()))
    };
    let descriptors = raise_descriptors();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = folder.parent().expect("it is in the target folder");
    let [server_core, client_core] = cores();
    let launcher = format!("taskset -c {server_core}");
    let (names, servers) = start(&contestants(&words, folder), &launcher);
    let mut report = Report::new(names);
    if is_test {
        open_loop::check(&servers[0], client_core);
    }
    for case in cases.into_iter().filter(chosen) {
        let needed = case.connections + case.idle + 100;
        if descriptors < needed as u64 {
            println!("{}: that takes {needed} descriptors (ulimit -Hn)\n", case.name);
            continue;
        }
        let mut runs: Vec<Runs> = servers.iter().map(|server| takes_part(server, case)).collect();
        for _ in 0..rounds {
            for (server, runs) in servers.iter().zip(&mut runs) {
                if let Ok(runs) = runs {
                    runs.push(measure(server, case, time, client_core));
                }
            }
        }
        report.add(case, &runs);
        for (name, text) in [("wire.md", report.markdown()), ("wire.svg", report.svg())] {
            fs::write(target.join(name), text).expect("a file");
        }
    }
    println!("The tables are in {0}/wire.md, a chart in {0}/wire.svg.", target.display());
}

/// Raises the limit of descriptors as far as possible, for this process and its children.
fn raise_descriptors() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limits.maximum, ..limits };
    setrlimit(Resource::Nofile, most).expect("no more than the hard limit");
    limits.maximum.unwrap_or(u64::MAX)
}

/// Our own, the servers that the caller names, and those that are installed.
fn contestants(words: &[String], folder: &Path) -> Vec<Contestant> {
    let mut all = vec![Contestant::ours()];
    let named = words.iter().filter(|word| !word.starts_with("--") && word.contains('='));
    all.extend(named.map(|word| Contestant::parse(word)));
    let variables = std::env::vars();
    let peers = variables.filter_map(|(name, command)| {
        let name = name.strip_prefix("PEER_")?;
        Some(Contestant::other(name, &command))
    });
    all.extend(peers);
    all.extend(installed::contestants(folder));
    all
}

/// A core for the server and another one for the client, of those that we may use.
fn cores() -> [usize; 2] {
    let allowed = sched_getaffinity(None).expect("our own");
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    let first = cores.next().expect("we run on one");
    [first, cores.next().unwrap_or(first)]
}

/// Starts our own server, which has to start, and the others, which may fail to.
fn start(contestants: &[Contestant], launcher: &str) -> (Vec<String>, Vec<Process>) {
    let (ours, others) = contestants.split_first().expect("ours is the first");
    let mut started = (vec![ours.name.clone()], vec![ours.start(launcher)]);
    for other in others {
        match other.try_start(launcher) {
            Some(server) => started.extend([(other.name.clone(), server)]),
            None => println!("{} is left out: it does not listen\n", other.name),
        }
    }
    started
}

/// No runs yet, unless the case needs what the server does not do.
fn takes_part(server: &Process, case: &Case) -> Runs {
    if case.heads == Heads::Close && !closes(server.main) {
        return Err("keeps the connection");
    }
    Ok(Vec::new())
}

/// Whether a server closes the connection within a second, if a request tells it to.
fn closes(address: SocketAddr) -> bool {
    let mut peer = Peer::connect(address);
    peer.stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket option");
    peer.send("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let end = peer.stream.read_to_end(&mut Vec::new());
    !end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Runs the client of a case against one server.
fn measure(server: &Process, case: &Case, time: Duration, core: usize) -> Run {
    if let Some(rate) = case.rate {
        return measure_at(rate, server, case, time, core);
    }
    let idle: Vec<Peer> = (0..case.idle).map(|_| connect(server.main)).collect();
    wrk(server, case, time / 4, core);
    let before = processor_time(server.pid());
    let mut run = wrk(server, case, time, core);
    run.cpu = (processor_time(server.pid()) - before) / run.requests.max(1.0);
    drop(idle);
    run
}

/// Sends requests to one server at a constant rate.
fn measure_at(rate: u32, server: &Process, case: &Case, time: Duration, core: usize) -> Run {
    let (pid, address) = (server.pid(), server.main);
    let (outcome, cpu) = open_loop::on_core(core, || {
        let mut client = Client::connect(address, case.connections);
        client.run(rate, time / 4);
        let before = processor_time(pid);
        let outcome = client.run(rate, time);
        (outcome, processor_time(pid) - before)
    });
    let requests = outcome.responses() as f64;
    let quantiles = case.quantiles().iter();
    Run {
        requests,
        rate: outcome.rate(),
        cpu: cpu / requests.max(1.0),
        latencies: quantiles.map(|&(_, of_a_thousand)| outcome.quantile(of_a_thousand)).collect(),
        errors: outcome.errors,
    }
}

/// Connects, and waits for a response of any kind.
fn connect(address: SocketAddr) -> Peer {
    let mut peer = Peer::connect(address);
    peer.send(HELLO);
    let len = peer.stream.read(&mut [0; 4096]).expect("a response");
    assert!(len > 0, "the server has closed the connection");
    peer
}

fn wrk(server: &Process, case: &Case, time: Duration, core: usize) -> Run {
    let seconds = time.as_secs().max(1);
    let heads = match case.heads {
        Heads::Small => "small",
        Heads::Browser => "browser",
        Heads::Close => "close",
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/wire/requests.lua");
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), "wrk", "-t1", "--latency", "-s", script]);
    command.args([format!("-c{}", case.connections), format!("-d{seconds}")]);
    command.arg(format!("http://{}/hello", server.main));
    command.args(["--", heads, &case.depth.to_string()]);
    let output = command.output().expect("wrk is here");
    let text = String::from_utf8_lossy(&output.stdout);
    report::read(&text).unwrap_or_else(|| panic!("wrk said {text:?}"))
}

/// The nanoseconds that all threads of a server have spent on a processor, their own and the
/// kernel's for them (`schedstat` in proc(5)).
fn processor_time(server: Pid) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{server}/task")).expect("it is running");
    let times = tasks.map(|task| {
        let stat = task.expect("a thread").path().join("schedstat");
        let stat = fs::read_to_string(stat).expect("it is running");
        let time = stat.split(' ').next().and_then(|time| time.parse().ok());
        time.unwrap_or(0.0)
    });
    times.sum()
}
