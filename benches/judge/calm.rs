//! What bad clients do to a server, and to its other clients. Beside each kind of them, another
//! client connects and sends a request again and again.
//!
//! A server is calm if it stays up, serves the other client promptly, sleeps while nothing happens,
//! and does not grow without bound.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, TIMEOUT, idle_clients};
use super::contestant::{Contestant, Server};
use super::report::{Cell, Grade, Part, Table};
use super::{Contest, Effort, Outcome, Why, machine};

/// The share of a processor that a server takes at most while nothing happens, or next to nothing.
const BUSY_MAX: f64 = 0.2;
/// So much memory may be taken by the clients of a case.
const GROWTH_MAX: f64 = 256e6;
/// How long a server may work on what the clients have sent so far.
const WORK_TIME: Duration = Duration::from_secs(10);
/// How long a case goes on once all clients are there.
const TIME: Duration = Duration::from_millis(1500);
/// The pause between two requests of the other client.
const PAUSE: Duration = Duration::from_millis(100);

const SLOW_READERS: usize = 32;
const SLOW_SENDERS: usize = 200;
/// The pause between two bytes of a slow sender.
const BYTE_PAUSE: Duration = Duration::from_millis(100);
/// The descriptors of a server that runs out of them, and the clients that come then.
const FEW_DESCRIPTORS: usize = 100;
const TOO_MANY_CLIENTS: usize = 200;
/// A short accept queue is full when a connection takes longer than this.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Where a server takes fewer idle clients, so many of them leave.
const ROOM: usize = 50;
/// So much is sent of a head without an end.
const HEAD_MAX: usize = 64 << 20;
/// How long a pipeline may take.
const PIPELINE_TIME: Duration = Duration::from_secs(5);

/// What a case did to a server and its other clients.
#[derive(Default)]
struct Effect {
    /// The longest that the other client waited for a response; `None` if one never came.
    waited: Option<Duration>,
    /// The share of a processor that it took.
    busy: f64,
    /// The bytes of memory that it grew by.
    grown: f64,
    /// Whether `busy` counts: nothing or next to nothing happens.
    is_quiet: bool,
    remark: String,
}

type Case = (&'static str, fn(&Contestant, &Effort) -> Outcome<Effect>);

const CASES: [Case; 6] = [
    ("32 clients that read no response", slow_readers),
    ("200 clients that send a byte each 100 ms", slow_senders),
    ("idle clients", idle),
    ("200 clients, and 100 descriptors", few_descriptors),
    ("a head without an end", endless_head),
    ("a pipeline of requests", pipeline),
];

/// The names of all rows.
pub(crate) fn names() -> Vec<&'static str> {
    CASES.iter().map(|(name, _)| *name).collect()
}

/// Judges all contestants.
pub(crate) fn judge(contest: &Contest) -> Part {
    let mut rows = Vec::new();
    for (name, measure) in CASES.into_iter().filter(|(name, _)| contest.has(name)) {
        let results = contest.rounds(&format!("calm: {name}"), 1, |contestant| {
            machine::on_client_core(|| measure(contestant, &contest.effort))
        });
        let cells = results.into_iter().map(|effects| match effects {
            Ok(effects) => effects[0].cell(contest.effort.prompt),
            Err(why) => Cell::none(&why),
        });
        rows.push((name.to_owned(), cells.collect::<Vec<_>>()));
    }
    let calm = (0..contest.contestants.len()).map(|at| {
        let count = |grade| rows.iter().filter(|(_, cells)| cells[at].grade == grade).count();
        let (good, bad) = (count(Grade::Good), count(Grade::Bad));
        match good + bad {
            0 => Cell::absent(),
            all => Cell::graded(format!("{good} of {all}"), bad == 0),
        }
    });
    Part {
        name: "Calm".to_owned(),
        how: format!(
            "One run of each case. The longest that another client waited for a response, at most \
             {:?}; the share of a processor that the server took where next to nothing \
             happens, at most {:.0} %; the memory that it grew by, at most {:.0} MB. There are up \
             to {} idle clients, and {} requests in the pipeline.",
            contest.effort.prompt,
            BUSY_MAX * 100.0,
            GROWTH_MAX / 1e6,
            contest.effort.idle,
            contest.effort.pipeline
        ),
        columns: vec![("calm".to_owned(), calm.collect())],
        scores: Vec::new(),
        tables: vec![Table { corner: "clients".to_owned(), columns: contest.names(), rows }],
        ..Part::default()
    }
}

impl Effect {
    fn cell(&self, wait_max: Duration) -> Cell {
        let Effect { waited, busy, grown, is_quiet, remark } = self;
        let is_good = waited.is_some_and(|it| it <= wait_max)
            && *grown <= GROWTH_MAX
            && (!is_quiet || *busy <= BUSY_MAX);
        let busy = if *is_quiet { format!("{:.0} %, ", busy * 100.0) } else { String::new() };
        let waited = waited.map(|it| format!("{} ms", it.as_millis()));
        let waited = waited.unwrap_or("no response".to_owned());
        let text = format!("{waited}, {busy}{:+.1} MB{remark}", grown / 1e6);
        Cell::graded(text, is_good)
    }
}

/// What a server had taken at an instant.
struct Usage {
    at: Instant,
    processor: f64,
    memory: f64,
}

impl Usage {
    fn of(server: &Server) -> Usage {
        let (at, processor) = (Instant::now(), server.processor_time());
        Usage { at, processor, memory: server.memory() }
    }

    /// The share of a processor that the server has taken since.
    fn busy(&self, server: &Server) -> f64 {
        (server.processor_time() - self.processor) / self.at.elapsed().as_nanos() as f64
    }

    /// The bytes of memory that it has grown by since.
    fn grown(&self, server: &Server) -> f64 {
        server.memory() - self.memory
    }
}

/// Starts a server that has served a request, which takes memory that each client needs.
fn start(contestant: &Contestant) -> Outcome<(Server, Usage)> {
    let server = contestant.start()?;
    ask(server.main, &contestant.request());
    let usage = Usage::of(&server);
    Ok((server, usage))
}

/// Measures a server while `act` runs, beside another client.
fn observe(
    contestant: &Contestant,
    server: &mut Server,
    is_quiet: bool,
    act: impl FnOnce(),
) -> Outcome<Effect> {
    let over = AtomicBool::new(false);
    let (address, request) = (server.main, contestant.request());
    let before = Usage::of(server);
    let waited = thread::scope(|scope| {
        let other = scope.spawn(|| ask_until(&over, address, &request));
        act();
        over.store(true, Ordering::SeqCst);
        other.join().expect("the client does not panic")
    });
    let busy = before.busy(server);
    match server.death() {
        Some(how) => Err(how.into()),
        None => Ok(Effect { waited, busy, is_quiet, ..Effect::default() }),
    }
}

/// Connects and sends a request again and again. Returns the longest time to a response, or `None`
/// if one never comes.
fn ask_until(over: &AtomicBool, address: SocketAddr, request: &[u8]) -> Option<Duration> {
    let mut longest = Some(Duration::ZERO);
    while !over.load(Ordering::SeqCst) {
        longest = longest.zip(ask(address, request)).map(|(longest, time)| longest.max(time));
        thread::sleep(PAUSE);
    }
    longest
}

/// Sends a request on a connection of its own. Returns the time to the response, if one comes.
fn ask(address: SocketAddr, request: &[u8]) -> Option<Duration> {
    let start = Instant::now();
    let mut client = Client::connect(address).ok()?;
    client.reset_at_close();
    client.send(request).and_then(|()| client.response(false)).ok().map(|_| start.elapsed())
}

/// Measures a server whose clients are there and do nothing.
fn observe_quiet(contestant: &Contestant, server: &mut Server) -> Outcome<Effect> {
    wait_until_it_sleeps(server);
    observe(contestant, server, true, || thread::sleep(TIME))
}

/// Waits until a server has done what the clients have asked for so far, or for the time that it
/// has for that.
fn wait_until_it_sleeps(server: &Server) {
    let start = Instant::now();
    while start.elapsed() < WORK_TIME {
        let before = Usage::of(server);
        thread::sleep(Duration::from_millis(250));
        if before.busy(server) < BUSY_MAX / 2.0 {
            return;
        }
    }
}

fn slow_readers(contestant: &Contestant, _: &Effort) -> Outcome<Effect> {
    let (mut server, before) = start(contestant)?;
    let (address, batch) = (server.main, contestant.request().repeat(1000));
    let connect = || {
        let mut client = Client::connect_with_little_room(address).ok()?;
        client.send_until_blocked(&batch, 4 << 20);
        Some(client)
    };
    let _clients: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..SLOW_READERS).map(|_| scope.spawn(connect)).collect();
        all.into_iter().map(|it| it.join().expect("it does not panic")).collect()
    });
    let effect = observe_quiet(contestant, &mut server)?;
    Ok(Effect { grown: before.grown(&server), ..effect })
}

fn slow_senders(contestant: &Contestant, _: &Effort) -> Outcome<Effect> {
    let (mut server, before) = start(contestant)?;
    let mut clients = connect(server.main, SLOW_SENDERS);
    // It begins at once with a part that any server waits behind, and goes on for good.
    let request = contestant.request();
    let start = &request[..request.len() - 2];
    for client in &mut clients {
        let _ = client.send(start);
    }
    let field = b"X-Field: value\r\n";
    let effect = observe(contestant, &mut server, true, || {
        let start = Instant::now();
        for byte in field.chunks(1).cycle().take_while(|_| start.elapsed() < TIME) {
            for client in &mut clients {
                let _ = client.send(byte);
            }
            thread::sleep(BYTE_PAUSE);
        }
    })?;
    Ok(Effect { grown: before.grown(&server), ..effect })
}

fn idle(contestant: &Contestant, effort: &Effort) -> Outcome<Effect> {
    let most = machine::raise_descriptors().saturating_sub(100);
    let most = usize::try_from(most).map_or(effort.idle, |most| most.min(effort.idle));
    let (mut server, before) = start(contestant)?;
    let mut clients = idle_clients(server.main, &contestant.request(), most)?;
    if clients.len() < most {
        // The server has reached a limit of its own, and has no room for another client.
        clients.truncate(clients.len().saturating_sub(ROOM));
    }
    let effect = observe_quiet(contestant, &mut server)?;
    let len = clients.len();
    let remark = if len < effort.idle { format!(", {len} of them") } else { String::new() };
    Ok(Effect { grown: before.grown(&server), remark, ..effect })
}

/// Connects clients that send nothing yet, until there are so many or one is not accepted.
fn connect(address: SocketAddr, most: usize) -> Vec<Client> {
    let clients = (0..most).map_while(|_| Client::connect_within(address, CONNECT_TIMEOUT).ok());
    clients.collect()
}

/// Beside clients that take all descriptors, no other client can be served. It has to be once they
/// are gone.
fn few_descriptors(contestant: &Contestant, _: &Effort) -> Outcome<Effect> {
    if !machine::has("prlimit") {
        return Err(Why::LeftOut("needs prlimit"));
    }
    let limit = format!("prlimit --nofile={FEW_DESCRIPTORS}:{FEW_DESCRIPTORS}");
    let mut server = contestant.start_by(&limit).map_err(|_| {
        let why = contestant.start().err().map(Why::Fails);
        why.unwrap_or(Why::LeftOut("does not start with so few"))
    })?;
    ask(server.main, &contestant.request());
    let first = Usage::of(&server);
    let clients = connect(server.main, TOO_MANY_CLIENTS);
    let before = Usage::of(&server);
    thread::sleep(TIME);
    let (busy, grown) = (before.busy(&server), first.grown(&server));
    drop(clients);
    let waited = ask(server.main, &contestant.request());
    if let Some(how) = server.death() {
        return Err(how.into());
    }
    Ok(Effect { waited, busy, grown, is_quiet: true, remark: String::new() })
}

fn endless_head(contestant: &Contestant, _: &Effort) -> Outcome<Effect> {
    let (mut server, before) = start(contestant)?;
    let field = [&b"X-Field: "[..], &[b'x'; 500], b"\r\n"].concat();
    let request = contestant.request();
    let start = &request[..request.len() - 2];
    let mut taken = 0;
    let mut client = Client::connect(server.main).map_err(|lost| lost.to_string())?;
    let effect = observe(contestant, &mut server, false, || {
        if client.send(start).is_ok() {
            taken = client.send_until_blocked(&field.repeat(100), HEAD_MAX);
        }
    })?;
    let remark =
        if taken < HEAD_MAX { String::new() } else { format!(", all of {} MiB", HEAD_MAX >> 20) };
    Ok(Effect { grown: before.grown(&server), remark, ..effect })
}

fn pipeline(contestant: &Contestant, effort: &Effort) -> Outcome<Effect> {
    let (mut server, before) = start(contestant)?;
    let client = Client::connect(server.main).map_err(|lost| lost.to_string())?;
    client.reset_at_close();
    let batch = contestant.request().repeat(1000);
    let mut stream = client.stream.try_clone().map_err(|error| error.to_string())?;
    let effect = observe(contestant, &mut server, false, || {
        let deadline = Instant::now() + PIPELINE_TIME;
        thread::scope(|scope| {
            scope.spawn(|| read_until(&mut stream, deadline));
            let mut client = client;
            for _ in 0..effort.pipeline / 1000 {
                if Instant::now() > deadline || client.send(&batch).is_err() {
                    break;
                }
            }
            // The reader notices the end.
            let _ = client.stream.shutdown(std::net::Shutdown::Write);
        });
    })?;
    Ok(Effect { grown: before.grown(&server), ..effect })
}

/// Reads and drops what comes until the end, or until nothing comes behind the deadline.
fn read_until(stream: &mut std::net::TcpStream, deadline: Instant) {
    let mut space = vec![0; 1 << 20];
    let _ = stream.set_read_timeout(Some(TIMEOUT));
    while Instant::now() < deadline + TIMEOUT {
        match stream.read(&mut space) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
