//! Servers side by side under load. The client is wrk, or at a constant rate `open_loop`. The
//! results are medians of all rounds. The most reliable one is the processor time per request, from
//! the kernel's accounting: it does not depend on whether the client keeps up.

use std::process::Command;
use std::time::Duration;

use super::client::{Client, Lost, idle_clients};
use super::contestant::{Contestant, Server};
use super::open_loop;
use super::report::{Cell, Part, Table};
use super::{Contest, Effort, Outcome, Why, machine, median};

/// What the client does, and how many idle connections there are beside it.
struct Case {
    name: &'static str,
    connections: usize,
    heads: Heads,
    /// Requests at once.
    depth: usize,
    idle: usize,
    /// Whether the client sends requests when they are due, at the rate of the effort. Otherwise
    /// wrk sends the next request once it has the response.
    has_rate: bool,
    /// Whether it is left out unless all cases are asked for.
    is_extra: bool,
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
    has_rate: false,
    is_extra: false,
};

const CASES: [Case; 9] = [
    Case { name: "1 connection", connections: 1, is_extra: true, ..BASE },
    BASE,
    Case { name: "64 connections, browser-like heads", heads: Heads::Browser, ..BASE },
    Case { name: "64 connections, 16 requests at once", depth: 16, ..BASE },
    Case {
        name: "64 connections, 16 requests at once, browser-like heads",
        heads: Heads::Browser,
        depth: 16,
        is_extra: true,
        ..BASE
    },
    Case { name: "64 clients, a connection for each request", heads: Heads::Close, ..BASE },
    Case {
        name: "1000 connections, browser-like heads",
        connections: 1000,
        heads: Heads::Browser,
        is_extra: true,
        ..BASE
    },
    Case { name: "64 connections beside 9000 idle ones", idle: 9000, is_extra: true, ..BASE },
    Case { name: "64 connections, a constant rate", has_rate: true, ..BASE },
];

/// The seconds beside its run after which wrk is ended.
const WRK_GRACE: u64 = 5;
/// The row of what a server takes at rest.
const MEMORY: &str = "memory";
/// So many idle connections show what each of them takes.
const IDLE: usize = 1000;

/// The bytes at rest, and those that each idle connection adds to it.
type Memory = (f64, f64);

/// The result of one run.
pub(crate) struct Run {
    pub requests: f64,
    /// Requests in a second.
    pub rate: f64,
    /// Nanoseconds of a processor, the server's share, for a request.
    pub cpu: f64,
    /// The quantiles of the case, in microseconds; 0 is one that wrk does not know.
    pub latencies: Vec<f64>,
    /// Requests that failed, or lines in which wrk reports errors.
    pub errors: u64,
    /// Whether the server is slower than the rate.
    pub is_slower: bool,
}

impl Case {
    /// The quantiles of the latencies: their names, and how many of a thousand requests they hold.
    fn quantiles(&self) -> &'static [(&'static str, usize)] {
        if self.has_rate {
            &[("p50", 500), ("p99", 990), ("p99.9", 999), ("max", 1000)]
        } else {
            &[("p50", 500), ("p99", 990)]
        }
    }
}

/// The names of all rows.
pub(crate) fn names() -> Vec<&'static str> {
    CASES.iter().map(|case| case.name).chain([MEMORY]).collect()
}

/// Judges all contestants.
pub(crate) fn judge(contest: &Contest) -> Part {
    let effort = &contest.effort;
    let has_wrk = machine::has("wrk");
    let chosen = |case: &&Case| {
        contest.has(case.name)
            && (effort.all_cases || contest.case.is_some() || !case.is_extra)
            && (has_wrk || case.has_rate)
    };
    let mut results: Vec<(&Case, Vec<Outcome<Run>>)> = Vec::new();
    for case in CASES.iter().filter(chosen) {
        let runs =
            contest.rounds(&format!("wire: {}", case.name), effort.load_rounds, |contestant| {
                measure(contestant, case, effort)
            });
        let runs = runs.into_iter().map(|runs| runs.map(|runs| medians(&runs)));
        results.push((case, runs.collect()));
    }
    let memory = contest.has(MEMORY).then(|| {
        let taken = contest.rounds("wire: memory", effort.load_rounds, memory);
        let medians = taken.into_iter().map(|taken| {
            let of = |taken: &[Memory], value: fn(&Memory) -> f64| median(taken.iter().map(value));
            taken.map(|taken| (of(&taken, |it| it.0), of(&taken, |it| it.1)))
        });
        medians.collect::<Vec<Outcome<Memory>>>()
    });

    let names = contest.names();
    let mut tables: Vec<Table> =
        results.iter().map(|(case, runs)| table(case, &names, runs)).collect();
    tables.extend(memory.iter().map(|memory| memory_table(&names, memory)));
    // The verdict shows the case that the others differ from, or the only one without wrk.
    let base = results.iter().find(|(case, _)| case.name == BASE.name).or(results.last());
    let base = |at: usize| base.and_then(|(_, runs)| runs[at].as_ref().ok());
    let column = |name: &str, show: &dyn Fn(usize) -> Option<String>| {
        let cells = (0..names.len()).map(|at| show(at).map_or_else(Cell::absent, Cell::plain));
        (name.to_owned(), cells.collect::<Vec<_>>())
    };
    let columns = vec![
        column("ns/request", &|at| Some(format!("{:.0}", base(at)?.cpu))),
        column("requests/s", &|at| Some(format!("{:.0}", base(at)?.rate))),
        column("p99 µs", &|at| Some(micros_or_unknown(base(at)?.latencies[1]))),
        column("bytes/idle", &|at| Some(format!("{:.0}", memory.as_ref()?[at].as_ref().ok()?.1))),
        ("errors".to_owned(), (0..names.len()).map(|at| errors(&results, at)).collect()),
    ];
    let scores =
        (0..names.len()).map(|at| Some(1e9 / base(at).filter(|run| run.cpu > 0.0)?.cpu)).collect();
    let (name, how) = ("Wire".to_owned(), how(contest, has_wrk));
    Part { name, how, tables, columns, scores, ..Part::default() }
}

fn how(contest: &Contest, has_wrk: bool) -> String {
    let client = if has_wrk {
        "The client is wrk, and at a constant rate"
    } else {
        "wrk is not here (apt-get install wrk). The client is"
    };
    let Effort { load_rounds, load, rate, .. } = contest.effort;
    format!(
        "Medians of {load_rounds} round(s) of {load:?}, each after a shorter one. {client} one of \
         this bench, which sends {rate} requests/s. The processor time is that of all threads of \
         the server. Memory is beside {IDLE} idle connections. The verdict shows the case {}.",
        BASE.name
    )
}

/// In how many cases requests of a contestant failed.
fn errors(results: &[(&Case, Vec<Outcome<Run>>)], at: usize) -> Cell {
    let fails = |run: &Outcome<Run>| match run {
        Ok(run) => run.errors > 0,
        Err(why) => matches!(why, Why::Fails(_)),
    };
    let count = results.iter().filter(|(_, runs)| fails(&runs[at])).count();
    Cell::graded(count.to_string(), count == 0)
}

/// wrk does not know all quantiles with several requests at once.
fn micros_or_unknown(time: f64) -> String {
    if time > 0.0 { format!("{time:.0}") } else { "?".to_owned() }
}

/// A case, with a row for each contestant. The processor time is compared with that of the first.
fn table(case: &Case, names: &[String], medians: &[Outcome<Run>]) -> Table {
    let first = medians[0].as_ref().map_or(f64::NAN, |run| run.cpu);
    let mut columns: Vec<String> = ["requests/s", "CPU ns per request"].map(String::from).into();
    columns.push(format!("to {}", names[0]));
    columns.extend(case.quantiles().iter().map(|(name, _)| format!("{name} µs")));
    let rows = names.iter().zip(medians).map(|(name, run)| match run {
        Ok(Run { rate, cpu, latencies, errors, is_slower, .. }) => {
            let ratio = if first.is_nan() { "-".to_owned() } else { format!("{:.2}", cpu / first) };
            let mut cells: Vec<Cell> =
                [format!("{rate:.0}"), format!("{cpu:.0}"), ratio].map(Cell::plain).into();
            cells.extend(latencies.iter().map(|&time| Cell::plain(micros_or_unknown(time))));
            let name = match (*errors > 0, *is_slower) {
                (true, _) => format!("{name} (with errors)"),
                (false, true) => format!("{name} (slower than the rate)"),
                (false, false) => name.clone(),
            };
            (name, cells)
        }
        Err(why) => (format!("{name} ({why})"), columns.iter().map(|_| Cell::absent()).collect()),
    });
    let rows = rows.collect();
    Table { corner: case.name.to_owned(), columns, rows }
}

fn memory_table(names: &[String], memory: &[Outcome<Memory>]) -> Table {
    let rows = names.iter().zip(memory).map(|(name, taken)| match taken {
        Ok((rest, idle)) => {
            let cells = [format!("{:.1}", rest / 1e6), format!("{idle:.0}")].map(Cell::plain);
            (name.clone(), cells.into())
        }
        Err(why) => (format!("{name} ({why})"), vec![Cell::absent(), Cell::absent()]),
    });
    let columns = ["MB at rest", "bytes for each idle connection"].map(String::from).into();
    Table { corner: MEMORY.to_owned(), columns, rows: rows.collect() }
}

fn medians(runs: &[Run]) -> Run {
    let of = |value: fn(&Run) -> f64| median(runs.iter().map(value));
    let latencies =
        (0..runs[0].latencies.len()).map(|at| median(runs.iter().map(|run| run.latencies[at])));
    Run {
        requests: of(|run| run.requests),
        rate: of(|run| run.rate),
        cpu: of(|run| run.cpu),
        latencies: latencies.collect(),
        errors: runs.iter().map(|run| run.errors).sum(),
        is_slower: runs.iter().any(|run| run.is_slower),
    }
}

/// The memory at rest, once a request has been served, and what each idle connection adds to it.
fn memory(contestant: &Contestant) -> Outcome<Memory> {
    let server = contestant.start()?;
    drop(idle_clients(server.main, &contestant.request(), 1)?);
    let rest = server.memory();
    let clients = idle_clients(server.main, &contestant.request(), IDLE)?;
    Ok((rest, (server.memory() - rest) / clients.len() as f64))
}

/// Runs the client of a case against a server of its own.
fn measure(contestant: &Contestant, case: &Case, effort: &Effort) -> Outcome<Run> {
    let needed = case.connections + case.idle + 100;
    if machine::raise_descriptors() < needed as u64 {
        return Err(format!("that takes {needed} descriptors, see ulimit -Hn").into());
    }
    let mut server = contestant.start()?;
    let closes = || closes(contestant, &server).map_err(|lost| lost.to_string());
    if case.heads == Heads::Close && !closes()? {
        // wrk would keep the connections too.
        return Err(Why::LeftOut("keeps the connection"));
    }
    let run = if case.has_rate {
        measure_at_a_rate(contestant, &server, case, effort)
    } else {
        measure_with_wrk(contestant, &server, case, effort.load)
    };
    // Why there is no result may be that there is no server.
    run.map_err(|why| server.death().map_or(why, Why::Fails))
}

/// Whether a server closes the connection, if a request tells it to.
fn closes(contestant: &Contestant, server: &Server) -> Result<bool, Lost> {
    let request = contestant.request();
    let close = [&request[..request.len() - 2], b"Connection: close\r\n\r\n"].concat();
    let mut client = Client::connect(server.main)?;
    client.send(&close)?;
    client.response(false)?;
    Ok(client.end_within(Duration::from_secs(1)) != Lost::Silent)
}

fn measure_with_wrk(
    contestant: &Contestant,
    server: &Server,
    case: &Case,
    time: Duration,
) -> Outcome<Run> {
    let idle = idle_clients(server.main, &contestant.request(), case.idle)?;
    if idle.len() < case.idle {
        let idle = idle.len();
        return Err(format!("it serves {idle} of {} idle connections", case.idle).into());
    }
    wrk(contestant, server, case, time / 4)?;
    let before = server.processor_time();
    let mut run = wrk(contestant, server, case, time)?;
    run.cpu = (server.processor_time() - before) / run.requests.max(1.0);
    if run.requests == 0.0 {
        return Err("no request is served".to_owned().into());
    }
    Ok(run)
}

/// Sends requests at a constant rate.
fn measure_at_a_rate(
    contestant: &Contestant,
    server: &Server,
    case: &Case,
    effort: &Effort,
) -> Outcome<Run> {
    let Effort { rate, load, .. } = *effort;
    let (outcome, cpu) = machine::on_client_core(|| {
        let request = contestant.request();
        let mut client = open_loop::Client::connect(server.main, request, case.connections)?;
        client.run(rate, load / 4)?;
        let before = server.processor_time();
        let outcome = client.run(rate, load)?;
        Ok::<_, String>((outcome, server.processor_time() - before))
    })?;
    let requests = outcome.responses() as f64;
    let quantiles = case.quantiles().iter();
    if requests == 0.0 {
        return Err("no request is served".to_owned().into());
    }
    Ok(Run {
        requests,
        rate: outcome.rate(),
        cpu: cpu / requests,
        latencies: quantiles.map(|&(_, of_a_thousand)| outcome.quantile(of_a_thousand)).collect(),
        errors: outcome.errors,
        is_slower: outcome.unsent > 0,
    })
}

fn wrk(contestant: &Contestant, server: &Server, case: &Case, time: Duration) -> Outcome<Run> {
    let seconds = time.as_secs().max(1);
    let heads = match case.heads {
        Heads::Small => "small",
        Heads::Browser => "browser",
        Heads::Close => "close",
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/judge/requests.lua");
    let mut command = Command::new("taskset");
    let [_, core] = machine::cores();
    // wrk waits for ever where the accept queue is full.
    let limit = (seconds + WRK_GRACE).to_string();
    command.args(["-c", &core.to_string(), "timeout", &limit]);
    command.args(["wrk", "-t1", "--latency", "-s", script]);
    command.args([format!("-c{}", case.connections), format!("-d{seconds}")]);
    command.arg(format!("http://{}{}", server.main, contestant.path));
    command.args(["--", heads, &case.depth.to_string()]);
    let output = command.output().map_err(|error| format!("wrk: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    read(&text).ok_or_else(|| {
        let last = text.lines().last().unwrap_or("nothing, as it cannot connect");
        format!("wrk says: {last}").into()
    })
}

/// Reads what wrk has printed; the processor time is not in it.
fn read(text: &str) -> Option<Run> {
    let behind = |key: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.find_map(|line| Some(line.strip_prefix(key)?.trim()))
    };
    let number = |word: &str| word.parse::<f64>().ok();
    let errors =
        text.lines().filter(|line| line.contains("Socket errors") || line.contains("Non-2xx"));
    let requests = text.split_once(" requests in ").map(|(before, _)| before);
    Some(Run {
        requests: requests.and_then(|before| before.lines().last()?.trim().parse().ok())?,
        rate: behind("Requests/sec:").and_then(number)?,
        cpu: 0.0,
        latencies: vec![behind("50%").and_then(micros)?, behind("99%").and_then(micros)?],
        errors: errors.count() as u64,
        is_slower: false,
    })
}

/// A time as wrk writes it.
fn micros(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}
