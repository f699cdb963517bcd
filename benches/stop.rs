//! What a stop costs the clients. Run it with `cargo bench --bench stop`. Other servers are named
//! behind that, with places for their two ports:
//! `cargo bench --bench stop -- 'go=/path/to/server {port} {diag}'`.

#[allow(dead_code)]
#[path = "shared/contestant.rs"]
mod contestant;
#[allow(dead_code)]
#[path = "../tests/it/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../tests/it/load.rs"]
mod load;

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use contestant::Contestant;
use harness::{HELLO, Peer, Process, READY, Signal, TIMEOUT};
use load::Fate;

/// A measurement: its label, and the function that takes it in so many rounds.
type Measure = (&'static str, fn(&Contestant, usize) -> String);

const MEASURES: [Measure; 11] = [
    ("64 clients that send request after request: requests lost", lost_by_asking),
    ("8 clients that connect for each request: requests lost", lost_by_connecting),
    ("200 requests in the queue of a paused process: lost", lost_in_the_queue),
    ("1,000 requests at once, ahead of the signal: lost", lost_of_a_batch),
    ("no connection: time to the exit", |server, rounds| time_to_exit(server, rounds, |_| ())),
    ("a silent connection: time to the exit", |server, rounds| {
        time_to_exit(server, rounds, Process::connect)
    }),
    ("an idle connection: time to the exit", |server, rounds| time_to_exit(server, rounds, idle)),
    ("half a request on diagnostics: main accepts for", main_accepts_for),
    ("half a request, at the deadline: exit status", |server, rounds| {
        status_at_the_deadline(server, rounds, half_a_request)
    }),
    ("responses that the client does not read, at the deadline: exit status", |server, rounds| {
        status_at_the_deadline(server, rounds, unread_responses)
    }),
    ("half a request, and a SIGINT after 150 ms: time to the exit", time_to_exit_at_the_second),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to know whether this still works.
    let rounds = if words.iter().any(|word| word == "--bench") { 10 } else { 1 };
    let peers = words.iter().filter(|word| !word.starts_with("--"));
    let mut contestants = vec![Contestant::ours()];
    contestants.extend(peers.map(|word| Contestant::parse(word)));
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name.as_str()).collect();
    println!("| in {rounds} stops by SIGTERM | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (name, measure) in MEASURES {
        let results = contestants.iter().map(|contestant| measure(contestant, rounds));
        println!("| {name} | {} |", results.collect::<Vec<_>>().join(" | "));
    }
}

/// Stops a server under load; returns how many of all requests were lost.
fn lost_under_load(
    contestant: &Contestant,
    rounds: usize,
    clients: usize,
    client: fn(&Fate, SocketAddr),
) -> String {
    let (mut lost, mut served) = (0, 0);
    for _ in 0..rounds {
        let fate = Fate::default();
        let server = contestant.start("");
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| client(&fate, server.main));
            }
            fate.wait_for(3_000);
            server.signal(Signal::TERM);
        });
        lost += fate.lost();
        served += fate.served();
        server.wait();
    }
    format!("{lost} of {}", served + lost)
}

fn lost_by_asking(contestant: &Contestant, rounds: usize) -> String {
    lost_under_load(contestant, rounds, 64, |fate, address| {
        load::keep_asking(fate, Peer::connect(address));
    })
}

fn lost_by_connecting(contestant: &Contestant, rounds: usize) -> String {
    lost_under_load(contestant, rounds, 8, load::keep_connecting)
}

fn lost_in_the_queue(contestant: &Contestant, rounds: usize) -> String {
    let mut lost = 0;
    for _ in 0..rounds {
        let server = contestant.start("");
        let mut peers = server.terminate_with_a_queue();
        let responses = peers.iter_mut().map(|peer| peer.try_response(false));
        lost += responses.filter(Result::is_err).count();
        drop(peers);
        server.wait();
    }
    format!("{lost} of {}", 200 * rounds)
}

fn lost_of_a_batch(contestant: &Contestant, rounds: usize) -> String {
    let mut lost = 0;
    for _ in 0..rounds {
        let server = contestant.start("");
        let mut peer = idle(&server);
        peer.send(&HELLO.repeat(1000));
        server.signal(Signal::TERM);
        lost += (0..1000).filter(|_| peer.try_response(false).is_err()).count();
        drop(peer);
        server.wait();
    }
    format!("{lost} of {}", 1000 * rounds)
}

/// The longest time that a stop took, with a client that `connect` makes.
fn time_to_exit<T>(contestant: &Contestant, rounds: usize, connect: fn(&Process) -> T) -> String {
    let times = (0..rounds).map(|_| {
        let server = contestant.start("");
        let _connected = connect(&server);
        ask(server.main, HELLO);
        server.stop(Signal::TERM).1
    });
    millis(times.max().unwrap_or_default())
}

/// The longest time from a SIGINT that follows a SIGTERM to the exit, with half a request open.
fn time_to_exit_at_the_second(contestant: &Contestant, rounds: usize) -> String {
    let times = (0..rounds).map(|_| {
        let server = contestant.start("");
        let _half = half_a_request(&server);
        server.signal(Signal::TERM);
        // onepoll ignores an interrupt that follows sooner.
        thread::sleep(Duration::from_millis(150));
        server.stop(Signal::INT).1
    });
    millis(times.max().unwrap_or_default())
}

/// Sends a request on a connection that is then closed. The server has accepted all earlier
/// connections by then.
fn ask(address: SocketAddr, request: &str) {
    let mut peer = Peer::connect(address);
    peer.send(&request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    peer.rest();
}

fn idle(server: &Process) -> Peer {
    let mut peer = server.connect();
    peer.send(HELLO);
    peer.response();
    peer
}

fn main_accepts_for(contestant: &Contestant, rounds: usize) -> String {
    let times = (0..rounds).map(|_| {
        let server = contestant.start("");
        let mut half = Peer::connect(server.diag);
        half.send(&READY[..9]);
        ask(server.diag, READY);
        let start = Instant::now();
        server.signal(Signal::TERM);
        let mut last = Duration::ZERO;
        while TcpStream::connect_timeout(&server.main, TIMEOUT).is_ok() {
            last = start.elapsed();
        }
        last
    });
    millis(times.max().unwrap_or_default())
}

fn half_a_request(server: &Process) -> Peer {
    let mut half = server.connect();
    half.send(&HELLO[..9]);
    ask(server.main, HELLO);
    half
}

fn unread_responses(server: &Process) -> Peer {
    let mut deaf = server.connect_with_little_room();
    deaf.send_until_blocked();
    deaf
}

fn status_at_the_deadline(
    contestant: &Contestant,
    rounds: usize,
    connect: fn(&Process) -> Peer,
) -> String {
    let stops = (0..rounds).map(|_| {
        let server = contestant.start("");
        let _connected = connect(&server);
        let (exited, took) = server.stop(Signal::TERM);
        (took, exited.status.code())
    });
    let (took, code) = stops.max().expect("there is a round");
    let status = code.map_or("a signal".to_owned(), |code| code.to_string());
    format!("{status}, after {}", millis(took))
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
