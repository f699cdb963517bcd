//! Judges servers: any program that listens on a port takes part, ours as one of them.
//!
//! A contestant is a command, a path and a signal. Nothing else is asked of it, and whatever it
//! does is a row: no contestant ends the bench. Each part is a file of its own and returns tables.
//!
//! - `rules`: which conversations of `src/http/rules.rs` come to what the RFCs allow.
//! - `stop`: what a stop costs the clients.
//! - `wire`: time, latency and memory under load.
//! - `calm`: what bad clients do to it, and to the other clients.
//!
//! It is fair: one core for the server and another one for the clients, rounds interleaved so that
//! other load on the machine falls on all contestants, medians. It is polite: it talks to loopback
//! addresses only, unless `--host` names another one.

mod calm;
pub(crate) mod client;
pub(crate) mod contestant;
pub(crate) mod installed;
mod machine;
pub(crate) mod open_loop;
pub(crate) mod options;
pub(crate) mod page;
pub(crate) mod reaction;
pub(crate) mod report;
mod rules;
mod stop;
/// The table that the tests of the protocol hold onepoll to.
#[path = "../../src/http/rules.rs"]
pub(crate) mod table;
mod wire;

use std::env;
use std::fmt;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use contestant::Contestant;
use options::Options;
use report::{Part, Report};

/// A part of the bench: its name, and the function that judges all contestants.
type Judge = (&'static str, fn(&Contest) -> Part);

const PARTS: [Judge; 4] =
    [("rules", rules::judge), ("stop", stop::judge), ("wire", wire::judge), ("calm", calm::judge)];

/// How thorough a run is.
pub(crate) struct Effort {
    /// Rounds of stops, and rounds of load.
    pub rounds: usize,
    pub load_rounds: usize,
    /// In how many places a conversation is cut in two.
    pub cuts: usize,
    /// How long a run under load takes. A shorter one warms up.
    pub load: Duration,
    /// Requests a second where the rate is constant.
    pub rate: u32,
    /// How long may take what can be done at once: a response, or an exit with nothing to wait for.
    pub prompt: Duration,
    /// How long a stop may take.
    pub stop_limit: Duration,
    /// How many idle connections there are at most.
    pub idle: usize,
    /// How many requests a client pipelines.
    pub pipeline: usize,
    /// Whether all cases under load are measured.
    pub all_cases: bool,
}

/// A minute for each contestant.
const QUICK: Effort = Effort {
    rounds: 1,
    load_rounds: 3,
    cuts: 1,
    load: Duration::from_secs(1),
    rate: 20_000,
    prompt: Duration::from_secs(2),
    stop_limit: Duration::from_secs(7),
    idle: 10_000,
    pipeline: 1_000_000,
    all_cases: false,
};

/// Some minutes for each contestant.
const FULL: Effort = Effort {
    rounds: 5,
    load_rounds: 5,
    cuts: 4,
    load: Duration::from_secs(2),
    stop_limit: Duration::from_secs(12),
    ..QUICK
};

/// What shows that the bench works, on a machine that may be busy.
pub(crate) const TEST: Effort = Effort {
    prompt: Duration::from_secs(3),
    stop_limit: Duration::from_secs(20),
    load_rounds: 1,
    rate: 1_000,
    idle: 200,
    pipeline: 20_000,
    ..QUICK
};

/// The servers that are judged, and how.
pub(crate) struct Contest {
    pub contestants: Vec<Contestant>,
    pub effort: Effort,
    /// Only rows with this in their names are measured.
    pub case: Option<String>,
}

/// The result for a contestant, or why there is none.
pub(crate) type Outcome<T> = Result<T, Why>;

/// Why there is no result for a contestant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// It does not do what it should.
    Fails(String),
    /// It does not offer what the measurement takes, which is no fault.
    LeftOut(&'static str),
}

impl From<String> for Why {
    fn from(how: String) -> Why {
        Why::Fails(how)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Why::Fails(how) => f.write_str(how),
            Why::LeftOut(what) => f.write_str(what),
        }
    }
}

/// Judges what the command line names, in all parts or in one. Returns 2 for wrong usage, and 1 if
/// no contestant can take part.
pub(crate) fn main(only: Option<&str>) -> ExitCode {
    let mut options = match Options::parse(env::args_os()) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if let Some(part) = only {
        options.only = vec![part.to_owned()];
    }
    if let Err(why) = machine::check() {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    machine::raise_descriptors();
    contestant::end_with_all_servers_at_a_signal();
    let (contest, absent) = assemble(&options, only);
    if let Some(rule) = &options.explain {
        rules::explain(&contest, rule);
        print!("{}", report::absences(&absent));
    } else {
        let is_chosen = |name: &str| match &options.only[..] {
            [] => true,
            parts => parts.iter().any(|it| it == name),
        };
        let report = run(&contest, absent, is_chosen);
        // A test leaves the report of the last run alone.
        let written =
            if options.is_test { String::new() } else { report.write(only.unwrap_or("judge")) };
        report.print(env::args().skip(1));
        let _ = stdout().write_all(written.as_bytes());
    }
    machine::clean_up();
    if contest.contestants.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The contestants that can take part, and why the others cannot.
fn assemble(options: &Options, only: Option<&str>) -> (Contest, Vec<(String, String)>) {
    let effort = match (options.is_test, options.is_quick) {
        (true, _) => TEST,
        (false, true) => QUICK,
        (false, false) if only == Some("stop") => Effort { rounds: 10, ..FULL },
        (false, false) => Effort { all_cases: only == Some("wire"), ..FULL },
    };
    let mut contest = Contest { contestants: Vec::new(), effort, case: options.case.clone() };
    let mut absent = Vec::new();
    for (name, contestant) in options.contestants.iter().cloned() {
        contest.progress(&format!("{name} is started once"));
        match contestant.and_then(|contestant| contestant.check().map(|()| contestant)) {
            Ok(contestant) => contest.contestants.push(contestant),
            Err(why) => absent.push((name, why)),
        }
    }
    contest.progress("");
    (contest, absent)
}

/// Runs the parts that are chosen.
pub(crate) fn run(
    contest: &Contest,
    absent: Vec<(String, String)>,
    is_chosen: impl Fn(&str) -> bool,
) -> Report {
    let chosen = PARTS.into_iter().filter(|(name, _)| is_chosen(name));
    let parts = if contest.contestants.is_empty() {
        Vec::new()
    } else {
        chosen.map(|(_, judge)| judge(contest)).collect()
    };
    contest.progress("");
    Report { names: contest.names(), absent, parts, machine: machine::description() }
}

impl Contest {
    pub(crate) fn names(&self) -> Vec<String> {
        self.contestants.iter().map(|contestant| contestant.name.clone()).collect()
    }

    /// Whether a row is measured.
    pub(crate) fn has(&self, row: &str) -> bool {
        self.case.as_ref().is_none_or(|case| row.contains(case.as_str()))
    }

    /// Takes one measurement of each contestant in each round, one after the other. A contestant
    /// that fails is measured no more.
    pub(crate) fn rounds<T>(
        &self,
        what: &str,
        rounds: usize,
        mut measure: impl FnMut(&Contestant) -> Outcome<T>,
    ) -> Vec<Outcome<Vec<T>>> {
        let mut all: Vec<Outcome<Vec<T>>> =
            self.contestants.iter().map(|_| Ok(Vec::new())).collect();
        if !stderr().is_terminal() {
            eprintln!("{what}");
        }
        for round in 1..=rounds {
            for (contestant, results) in self.contestants.iter().zip(&mut all) {
                self.progress(&format!("{what}, round {round} of {rounds}: {}", contestant.name));
                if let Ok(taken) = results {
                    match measure(contestant) {
                        Ok(result) => taken.push(result),
                        Err(why) => *results = Err(why),
                    }
                }
            }
        }
        all
    }

    /// Says what is going on, on a line of the terminal that the next one replaces.
    pub(crate) fn progress(&self, text: &str) {
        if stderr().is_terminal() {
            eprint!("\r\x1b[K{text}");
            let _ = stderr().flush();
        }
    }
}

/// The median, or 0 of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
