//! What a stop costs the clients, by the signal that asks the contestant for a clean one.
//!
//! A request is lost if it has been sent and gets no response. A client whose connection is
//! refused has sent none. A stop that takes longer than the limit is ended.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::client::{Client, Lost};
use super::contestant::{Contestant, Server, describe};
use super::report::{Cell, Grade, Part, Row, Table};
use super::{Contest, Effort, Outcome, Why, machine};

/// Clients that send request after request, each on one connection.
const ASKING: usize = 64;
/// Clients that connect for each request.
const CONNECTING: usize = 8;
/// So many requests are served ahead of the signal, or this time passes.
const SERVED_BEFORE: usize = 3_000;
const TIME_BEFORE: Duration = Duration::from_secs(2);
/// Requests in the accept queue, each on a connection of its own.
const QUEUE: usize = 200;
/// Requests that are sent at once.
const WINDOW: usize = 1_000;
/// A connection that takes longer than this is not accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A person who presses Ctrl-C once more takes longer than this. onepoll ignores what comes sooner,
/// as supervisors repeat signals.
const SECOND_SIGNAL: Duration = Duration::from_millis(150);
/// The pause between the signal and what a client does behind it.
const BEHIND: Duration = Duration::from_millis(50);

/// The requests of all clients in one stop.
#[derive(Default)]
struct Fate {
    served: AtomicUsize,
    lost: AtomicUsize,
    signalled: AtomicBool,
    /// The clients give up.
    over: AtomicBool,
}

/// How many requests were lost, and of how many.
type Loss = (usize, usize);

/// A stop under load.
type Load = (&'static str, fn(&Contestant, &Effort) -> Outcome<Loss>);

const LOADS: [Load; 4] = [
    ("64 clients that send request after request", |contestant, effort| {
        lost_under_load(contestant, effort, ASKING, ask_on)
    }),
    ("8 clients that connect for each request", |contestant, effort| {
        lost_under_load(contestant, effort, CONNECTING, ask_once)
    }),
    ("200 requests in the queue of a paused process", lost_in_the_queue),
    ("1,000 requests at once, ahead of the signal", lost_of_a_window),
];

/// A stop beside what a client does, how long it took where that counts, and what comes of it.
type Wait = (&'static str, fn(&Contestant, &Effort) -> Outcome<Taken>);

type Taken = (Duration, Cell);

const WAITS: [Wait; 9] = [
    ("no connection: exit", |contestant, effort| {
        exit(contestant, effort, Expected::Clean, |_, _| Ok(()))
    }),
    ("a silent connection: exit", |contestant, effort| {
        exit(contestant, effort, Expected::Clean, |_, server| connect(server.main))
    }),
    ("an idle connection: exit", |contestant, effort| {
        exit(contestant, effort, Expected::Clean, idle)
    }),
    ("half a request, and the rest behind the signal", half_that_is_finished),
    ("half a request for good: exit", |contestant, effort| {
        exit(contestant, effort, Expected::Bounded, |contestant, server| {
            half(contestant, server.main)
        })
    }),
    ("responses that the client does not read: exit", |contestant, effort| {
        exit(contestant, effort, Expected::Bounded, unread)
    }),
    ("half a request, and a SIGINT 150 ms later: exit", second_signal),
    ("a new client behind the signal, beside half a request", new_client),
    ("half a request on diagnostics: main accepts for", main_accepts_for),
];

/// The names of all rows.
pub(crate) fn names() -> Vec<&'static str> {
    LOADS.iter().map(|(name, _)| *name).chain(WAITS.iter().map(|(name, _)| *name)).collect()
}

/// Judges all contestants.
pub(crate) fn judge(contest: &Contest) -> Part {
    let (mut rows, totals) = losses(contest);
    rows.extend(waits(contest));
    let lost = totals.iter().map(|total| match total {
        Ok((_, 0)) => Cell::absent(),
        Ok((lost, sent)) => Cell::graded(format!("{lost} of {sent}"), *lost == 0),
        Err(why) => Cell::none(why),
    });
    let of_row = |name: &str| {
        let row = rows.iter().find(|(row, _)| row.starts_with(name));
        row.map_or_else(|| vec![Cell::absent(); totals.len()], |(_, cells)| cells.clone())
    };
    let share = |total: &Outcome<Loss>| match total {
        Ok((lost, sent)) if *sent > 0 => Some(*lost as f64 / *sent as f64),
        _ => None,
    };
    let signals =
        contest.contestants.iter().map(|it| format!("{} SIG{}", it.name, it.signal_name()));
    Part {
        name: "Stop".to_owned(),
        how: format!(
            "In {} stop(s) of each kind, the sums of what was lost under load, and the worst of \
             the others: the time from the signal to the exit, and in parentheses the exit status \
             or the signal that ended it. A stop may take {:?}. The verdict has the sum of all \
             that was lost, and the exits beside an idle connection and half a request. The \
             signals: {}.",
            contest.effort.rounds,
            contest.effort.stop_limit,
            signals.collect::<Vec<_>>().join(", ")
        ),
        columns: vec![
            ("lost".to_owned(), lost.collect()),
            ("exit, idle".to_owned(), of_row("an idle connection")),
            ("exit, half".to_owned(), of_row("half a request for good")),
        ],
        scores: totals.iter().map(share).collect(),
        tables: vec![Table { corner: "stop".to_owned(), columns: contest.names(), rows }],
        ..Part::default()
    }
}

/// The rows of the stops under load, and for each contestant the sum of all.
fn losses(contest: &Contest) -> (Vec<Row>, Vec<Outcome<Loss>>) {
    let effort = &contest.effort;
    let mut rows = Vec::new();
    let mut totals: Vec<Outcome<Loss>> = contest.contestants.iter().map(|_| Ok((0, 0))).collect();
    for (name, measure) in LOADS.into_iter().filter(|(name, _)| contest.has(name)) {
        let results = contest.rounds(&format!("stop: {name}"), effort.rounds, |contestant| {
            machine::on_client_core(|| measure(contestant, effort))
        });
        let mut cells = Vec::new();
        for (result, total) in results.into_iter().zip(&mut totals) {
            let sum = result.map(|stops| {
                stops.iter().fold((0, 0), |sum, stop| (sum.0 + stop.0, sum.1 + stop.1))
            });
            cells.push(match &sum {
                Ok((lost, sent)) => Cell::graded(format!("{lost} of {sent}"), *lost == 0),
                Err(why) => Cell::none(why),
            });
            *total = match (&*total, sum) {
                (Ok(total), Ok(sum)) => Ok((total.0 + sum.0, total.1 + sum.1)),
                (Err(why), _) => Err(why.clone()),
                (_, Err(why)) => Err(why),
            };
        }
        rows.push((format!("{name}: lost"), cells));
    }
    (rows, totals)
}

/// The rows of the other stops, the worst of all rounds. Most of their time is spent waiting, so
/// those of a contestant run at once.
fn waits(contest: &Contest) -> Vec<Row> {
    let effort = &contest.effort;
    let chosen = || WAITS.into_iter().filter(|(name, _)| contest.has(name));
    let stop_all = |contestant: &Contestant| {
        thread::scope(|scope| {
            let running: Vec<_> = chosen()
                .map(|(_, measure)| scope.spawn(move || measure(contestant, effort)))
                .collect();
            let taken = running.into_iter().map(|it| it.join().expect("it does not panic"));
            taken
                .map(|it| it.unwrap_or_else(|why| (Duration::ZERO, Cell::none(&why))))
                .collect::<Vec<Taken>>()
        })
    };
    let results = contest.rounds("stop: the others, at once", effort.rounds, |contestant| {
        Ok(machine::on_client_core(|| stop_all(contestant)))
    });
    let row = |(at, (name, _)): (usize, Wait)| {
        let worst = results.iter().map(|rounds| {
            let stops = rounds.iter().flatten().map(|round| &round[at]);
            let worst = stops.max_by_key(|(took, cell)| (cell.grade == Grade::Bad, *took));
            worst.map_or_else(Cell::absent, |(_, cell)| cell.clone())
        });
        (name.to_owned(), worst.collect())
    };
    chosen().enumerate().map(row).collect()
}

/// Stops a server under load.
fn lost_under_load(
    contestant: &Contestant,
    effort: &Effort,
    clients: usize,
    client: fn(&Fate, SocketAddr, &[u8]),
) -> Outcome<Loss> {
    let mut server = contestant.start()?;
    let (fate, request, address) = (Fate::default(), contestant.request(), server.main);
    let death = thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| client(&fate, address, &request));
        }
        let start = Instant::now();
        while fate.served.load(Ordering::SeqCst) < SERVED_BEFORE && start.elapsed() < TIME_BEFORE {
            thread::sleep(Duration::from_millis(1));
        }
        let death = server.death();
        fate.signalled.store(true, Ordering::SeqCst);
        server.signal(contestant.signal);
        server.wait(effort.stop_limit);
        fate.over.store(true, Ordering::SeqCst);
        // Clients that still wait for a response get none.
        server.signal_all(Signal::KILL);
        death
    });
    let (lost, served) = (fate.lost.load(Ordering::SeqCst), fate.served.load(Ordering::SeqCst));
    match death {
        Some(how) => Err(format!("{how} under load").into()),
        None if served == 0 => Err("no request is served".to_owned().into()),
        None => Ok((lost, lost + served)),
    }
}

impl Fate {
    /// Sends one request. Returns whether the connection goes on.
    fn ask(&self, client: &mut Client, request: &[u8]) -> bool {
        match client.send(request).and_then(|()| client.response(false)) {
            Ok(response) => {
                self.served.fetch_add(1, Ordering::SeqCst);
                !response.closes
            }
            Err(_) => {
                self.lost.fetch_add(1, Ordering::SeqCst);
                false
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Sends request after request. Ahead of the signal, a connection that ends is replaced.
fn ask_on(fate: &Fate, address: SocketAddr, request: &[u8]) {
    while !fate.is_over() {
        let signalled = fate.signalled.load(Ordering::SeqCst);
        let Ok(mut client) = Client::connect_within(address, CONNECT_TIMEOUT) else { return };
        while fate.ask(&mut client, request) && !fate.is_over() {}
        if signalled || fate.signalled.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// Sends each request on a connection of its own, until the port is closed.
fn ask_once(fate: &Fate, address: SocketAddr, request: &[u8]) {
    while !fate.is_over() {
        match Client::connect_within(address, CONNECT_TIMEOUT) {
            Ok(mut client) => {
                client.reset_at_close();
                fate.ask(&mut client, request);
            }
            // Accepted, and reset before connect(2) returned.
            Err(Lost::Reset) => {
                fate.lost.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) if fate.signalled.load(Ordering::SeqCst) => return,
            Err(_) => {}
        }
    }
}

/// A paused process accepts no connection, but the kernel takes connections and requests for it.
fn lost_in_the_queue(contestant: &Contestant, effort: &Effort) -> Outcome<Loss> {
    let mut server = contestant.start()?;
    // In their first ticks, some servers accept connections ahead of any event.
    idle(contestant, &server)?;
    server.signal_all(Signal::STOP);
    let mut clients = Vec::new();
    while clients.len() < QUEUE {
        match Client::connect_within(server.main, CONNECT_TIMEOUT) {
            Ok(client) => clients.push(client),
            // A short queue is full.
            Err(_) => break,
        }
    }
    for client in &mut clients {
        let _ = client.send(&contestant.request());
    }
    server.signal(contestant.signal);
    server.signal_all(Signal::CONT);
    let deadline = Instant::now() + effort.stop_limit;
    let lost = clients.iter_mut().filter_map(|client| {
        let left = deadline.saturating_duration_since(Instant::now());
        client.response_within(left, false).err()
    });
    let lost = lost.count();
    server.wait(deadline.saturating_duration_since(Instant::now()));
    Ok((lost, clients.len()))
}

fn lost_of_a_window(contestant: &Contestant, effort: &Effort) -> Outcome<Loss> {
    let mut server = contestant.start()?;
    let mut client = idle(contestant, &server)?;
    let _ = client.send(&contestant.request().repeat(WINDOW));
    server.signal(contestant.signal);
    let deadline = Instant::now() + effort.stop_limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    let (mut served, mut is_closed) = (0, false);
    while served < WINDOW && !is_closed {
        let Ok(response) = client.response_within(left(), false) else { break };
        served += 1;
        is_closed = response.closes;
    }
    drop(client);
    server.wait(left());
    // Behind a response that says so, no request has been processed: the client knows it and sends
    // them again (RFC 9112, 9.6).
    let lost = if is_closed { 0 } else { WINDOW - served };
    Ok((lost, served + lost))
}

fn connect(address: SocketAddr) -> Outcome<Client> {
    Client::connect(address).map_err(|lost| lost.to_string().into())
}

/// A connection that has had a response, if the server keeps it.
fn idle(contestant: &Contestant, server: &Server) -> Outcome<Client> {
    let mut client = connect(server.main)?;
    let response = client.send(&contestant.request()).and_then(|()| client.response(false));
    response.map(|_| client).map_err(|lost| lost.to_string().into())
}

/// A connection with half a request, which the server has accepted before it accepts another one.
fn half(contestant: &Contestant, address: SocketAddr) -> Outcome<Client> {
    let mut client = connect(address)?;
    let _ = client.send(&contestant.request()[..9]);
    if let Ok(mut other) = Client::connect(address) {
        let _ = other.send(&contestant.request()).and_then(|()| other.response(false));
    }
    Ok(client)
}

/// A connection whose buffers are full of responses.
fn unread(contestant: &Contestant, server: &Server) -> Outcome<Client> {
    let mut client = Client::connect_with_little_room(server.main).map_err(|it| it.to_string())?;
    client.send_until_blocked(&contestant.request().repeat(1000), 1 << 26);
    Ok(client)
}

/// What a stop has to come to.
#[derive(Clone, Copy)]
enum Expected {
    /// Prompt, and with status 0.
    Clean,
    /// Within the limit, and by itself.
    Bounded,
    /// Within the limit, and not because of the first signal.
    AtTheSecond(Signal),
}

/// Stops a server beside what `prepare` makes. Shows the time to the exit and the status.
fn exit<T>(
    contestant: &Contestant,
    effort: &Effort,
    expected: Expected,
    prepare: impl FnOnce(&Contestant, &Server) -> Outcome<T>,
) -> Outcome<Taken> {
    let mut server = contestant.start()?;
    // A server may listen before it is ready for signals.
    drop(idle(contestant, &server)?);
    let prepared = prepare(contestant, &server);
    let start = Instant::now();
    server.signal(contestant.signal);
    let cell = exit_cell(&mut server, start, effort, expected);
    prepared.map(|_| cell)
}

fn exit_cell(server: &mut Server, start: Instant, effort: &Effort, expected: Expected) -> Taken {
    let Some(status) = server.wait(effort.stop_limit) else {
        let limit = effort.stop_limit;
        return (limit, Cell::graded(format!("over {limit:?}"), false));
    };
    let took = start.elapsed();
    let is_good = match expected {
        Expected::Clean => took <= effort.prompt && status.code() == Some(0),
        Expected::Bounded => status.code().is_some(),
        Expected::AtTheSecond(first) => status.signal() != Some(first.as_raw()),
    };
    let status = describe(status).replace("status ", "");
    (took, Cell::graded(format!("{} ({status})", seconds(took)), is_good))
}

/// What comes of a stop whose time does not count.
fn untimed(text: impl Into<String>, is_good: bool) -> Taken {
    (Duration::ZERO, Cell::graded(text, is_good))
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// A client that has sent half a request sends the rest behind the signal.
fn half_that_is_finished(contestant: &Contestant, _: &Effort) -> Outcome<Taken> {
    let server = contestant.start()?;
    let mut client = half(contestant, server.main)?;
    server.signal(contestant.signal);
    match client.response_within(BEHIND, false) {
        Ok(response) => {
            return Ok(untimed(format!("{} ahead of the rest", response.status), false));
        }
        Err(Lost::Silent) => {}
        Err(lost) => return Ok(untimed(lost.to_string(), false)),
    }
    let response = client.send(&contestant.request()[9..]).and_then(|()| client.response(false));
    Ok(response.map_or_else(
        |lost| untimed(lost.to_string(), false),
        |response| untimed(response.status.to_string(), response.status == 200),
    ))
}

/// The time from a SIGINT that follows the signal to the exit, with half a request open.
fn second_signal(contestant: &Contestant, effort: &Effort) -> Outcome<Taken> {
    let mut server = contestant.start()?;
    let _half = half(contestant, server.main)?;
    server.signal(contestant.signal);
    thread::sleep(SECOND_SIGNAL);
    let start = Instant::now();
    server.signal(Signal::INT);
    let expected = Expected::AtTheSecond(contestant.signal);
    Ok(exit_cell(&mut server, start, effort, expected))
}

/// What a client meets that connects behind the signal, while the stop waits for another one. It is
/// served or refused; a connection that is accepted and gets no response is lost.
fn new_client(contestant: &Contestant, _: &Effort) -> Outcome<Taken> {
    let server = contestant.start()?;
    let _half = half(contestant, server.main)?;
    server.signal(contestant.signal);
    thread::sleep(BEHIND);
    let mut client = match Client::connect_within(server.main, CONNECT_TIMEOUT) {
        Ok(client) => client,
        Err(Lost::Refused) => return Ok(untimed("refused", true)),
        Err(Lost::Silent) => return Ok(untimed("shut out", true)),
        Err(lost) => return Ok(untimed(lost.to_string(), false)),
    };
    let response = client.send(&contestant.request()).and_then(|()| client.response(false));
    Ok(match response {
        Ok(response) => untimed(format!("served, {}", response.status), response.status == 200),
        Err(lost) => untimed(format!("accepted, then {lost}"), false),
    })
}

/// How long the first listener takes connections if only the second one has something open.
fn main_accepts_for(contestant: &Contestant, effort: &Effort) -> Outcome<Taken> {
    let server = contestant.start()?;
    let diag = server.diag.ok_or(Why::LeftOut("has no second listener"))?;
    let _half = half(contestant, diag)?;
    let start = Instant::now();
    server.signal(contestant.signal);
    let mut last = Duration::ZERO;
    while start.elapsed() < effort.stop_limit {
        match Client::connect_within(server.main, CONNECT_TIMEOUT) {
            Ok(client) => client.reset_at_close(),
            Err(_) => break,
        }
        last = start.elapsed();
    }
    Ok((last, Cell::plain(seconds(last))))
}
