//! Conformance: every conversation of the rules table, whole and cut in two. Other servers have
//! other content, so a 404 of ours may be any final response that shows that the request was
//! understood, and a 400 another rejection, or a close without a response. A desync is told apart
//! from a wrong status: the server and the client no longer agree where a request ends, which
//! allows request smuggling.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Lost};
use super::contestant::{Contestant, Server};
use super::reaction::{Fault, Reaction, allowed, fault, is_understood};
use super::report::{Cell, Column, Part, Table};
use super::table::{Conversation, Level, RULES};
use super::{Contest, Effort, machine};

/// A server that has sent nothing for this time waits for more input.
const QUIET: Duration = Duration::from_millis(150);
/// The pause between two pieces, so that the server reads them one by one.
const PIECE_PAUSE: Duration = Duration::from_millis(10);
/// So many conversations run at once: most of their time is a wait.
const AT_ONCE: usize = 32;
/// How long the conversations take at most. A server that is not silent needs a few seconds.
const FIRST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long those with a fault, and then those of a server that dies are tried
/// again.
const AGAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// A server that dies of a conversation has ended after this time.
const DEATH_PAUSE: Duration = Duration::from_millis(20);

/// A conversation, and its place in the table.
struct Trial {
    /// The index of its rule.
    rule: usize,
    /// Its number among those of the rule, from 1 on.
    number: usize,
    conversation: Conversation,
}

impl Trial {
    fn is_at(&self, level: Level) -> bool {
        self.conversation.level == level
    }
}

/// A fault, with the cut and the reaction that show it.
struct Finding {
    cut: Option<usize>,
    fault: Fault,
    reaction: Option<Reaction>,
}

/// What a contestant did in each trial.
type Findings = Vec<Option<Finding>>;

/// The names of the rules.
pub(crate) fn names() -> Vec<&'static str> {
    RULES.iter().map(|rule| rule.name).collect()
}

/// Judges all contestants by all rules.
pub(crate) fn judge(contest: &Contest) -> Part {
    let effort = &contest.effort;
    let trials = trials(|rule| contest.has(rule));
    let results = contest.rounds("rules", 1, |contestant| {
        Ok(machine::on_client_core(|| find_faults(contestant, &trials, effort)))
    });
    let findings: Vec<Findings> =
        results.into_iter().map(|all| all.into_iter().flatten().flatten().collect()).collect();
    let must = |all: &Findings| {
        let Share { kept, of, .. } = share(all, &trials, |trial| trial.is_at(Level::Must));
        (of > 0).then_some(kept as f64 / of as f64)
    };
    let mut columns: Vec<Column> = [Level::Must, Level::Should, Level::May]
        .map(|level| level_column(level, &trials, &findings))
        .into();
    let is_desync = |it: &&Finding| matches!(it.fault, Fault::Desync(_));
    let desyncs = findings.iter().map(|all| all.iter().flatten().filter(is_desync).count());
    let desyncs = desyncs.map(|count| Cell::graded(count.to_string(), count == 0));
    columns.push(("desyncs".to_owned(), desyncs.collect()));
    Part {
        name: "Rules".to_owned(),
        how: format!(
            "Conversations that come to what the RFCs allow, each whole and cut in two in {} \
             place(s): {} in {} rules. A cell is marked where a MUST is broken. `--explain RULE` \
             shows the bytes.",
            effort.cuts,
            trials.len(),
            RULES.iter().filter(|rule| contest.has(rule.name)).count()
        ),
        remarks: RULES
            .iter()
            .filter(|rule| contest.has(rule.name) && !rule.stands.is_empty())
            .map(|rule| format!("The rule \"{}\" stands: {}.", rule.name, rule.stands))
            .collect(),
        findings: describe_findings(contest, &trials, &findings),
        columns,
        scores: findings.iter().map(must).collect(),
        tables: vec![table(contest, &trials, &findings)],
    }
}

/// A row for each rule.
fn table(contest: &Contest, trials: &[Trial], findings: &[Findings]) -> Table {
    let chosen = RULES.iter().enumerate().filter(|(_, rule)| contest.has(rule.name));
    let rows = chosen.map(|(at, rule)| {
        let cells = findings.iter().map(|all| {
            let Share { kept, of, must_broken } = share(all, trials, |trial| trial.rule == at);
            Cell::graded(format!("{kept} of {of}"), must_broken == 0)
        });
        let section = rule.says.rsplit_once(" (").map_or("", |(_, section)| section);
        (format!("{} ({section}", rule.name), cells.collect())
    });
    Table { corner: "rule".to_owned(), columns: contest.names(), rows: rows.collect() }
}

/// How much of a level each contestant keeps.
fn level_column(level: Level, trials: &[Trial], findings: &[Findings]) -> Column {
    let cells = findings.iter().map(|all| {
        let Share { kept, of, .. } = share(all, trials, |trial| trial.is_at(level));
        if of == 0 {
            return Cell::absent();
        }
        let text = format!("{kept} of {of}");
        match level {
            Level::Should | Level::May if kept < of => Cell::plain(text),
            _ => Cell::graded(text, kept == of),
        }
    });
    (level.to_string(), cells.collect())
}

/// All conversations of the rules that are chosen.
fn trials(is_chosen: impl Fn(&str) -> bool) -> Vec<Trial> {
    let rules = RULES.iter().enumerate().filter(|(_, rule)| is_chosen(rule.name));
    let trials = rules.flat_map(|(at, rule)| {
        let numbered = rule.conversations().zip(1..);
        numbered.map(move |(conversation, number)| Trial { rule: at, number, conversation })
    });
    trials.collect()
}

/// How many of some trials have no fault, how many there are, and how many of those with a fault
/// break a MUST.
struct Share {
    kept: usize,
    of: usize,
    must_broken: usize,
}

fn share(findings: &Findings, trials: &[Trial], is_chosen: impl Fn(&Trial) -> bool) -> Share {
    let chosen = || findings.iter().zip(trials).filter(|(_, trial)| is_chosen(trial));
    let faults = chosen().filter(|(finding, _)| finding.is_some());
    let must_broken = faults.clone().filter(|(_, trial)| trial.is_at(Level::Must)).count();
    let of = chosen().count();
    Share { kept: of - faults.count(), of, must_broken }
}

/// A line for each fault.
fn describe_findings(contest: &Contest, trials: &[Trial], findings: &[Findings]) -> Vec<String> {
    let all = contest.contestants.iter().zip(findings).flat_map(|(contestant, findings)| {
        trials.iter().zip(findings).filter_map(move |(trial, finding)| {
            let finding = finding.as_ref()?;
            let Trial { rule, number, conversation } = trial;
            let (name, level) = (&contestant.name, conversation.level);
            let Finding { cut, fault, reaction } = finding;
            let sends = input(conversation, contestant);
            let came = reaction.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            let cut = cut.map_or(String::new(), |cut| format!(", cut at {cut}"));
            Some(format!(
                "{name}, {} {number} ({}): `` {} ``{cut}: {fault}: {came}; allowed: {}",
                RULES[*rule].name,
                level,
                sends.escape_ascii(),
                allowed(conversation)
            ))
        })
    });
    all.collect()
}

/// The bytes of a conversation, with the contestant's path in the place of ours.
fn input(conversation: &Conversation, contestant: &Contestant) -> Vec<u8> {
    const OURS: &[u8] = b"/hello";
    let (mut rest, mut bytes) = (&conversation.sends[..], Vec::new());
    while let Some(at) = rest.windows(OURS.len()).position(|window| window == OURS) {
        bytes.extend_from_slice(&rest[..at]);
        bytes.extend_from_slice(contestant.path.as_bytes());
        rest = &rest[at + OURS.len()..];
    }
    [&bytes, rest].concat()
}

/// Runs all trials at once, and those with a fault once more: what happens once may be the machine.
fn find_faults(contestant: &Contestant, trials: &[Trial], effort: &Effort) -> Findings {
    // What the time does not suffice for is a fault of a server that is silent.
    let silent = || Finding { cut: None, fault: Fault::Silent, reaction: None };
    let mut findings: Findings = trials.iter().map(|_| Some(silent())).collect();
    let mut left: Vec<usize> = (0..trials.len()).collect();
    let mut has_died = false;
    for (at_once, time) in [(AT_ONCE, FIRST_TIMEOUT), (AT_ONCE / 4, AGAIN_TIMEOUT)] {
        let mut server = match contestant.start() {
            Ok(server) => server,
            Err(why) => return dead(trials, &why),
        };
        let run_one = |at: usize| run_one(&server, contestant, &trials[at], effort);
        for (at, finding) in run_all(&left, at_once, Instant::now() + time, run_one) {
            findings[at] = finding;
        }
        left.retain(|&at| findings[at].is_some());
        has_died |= server.death().is_some();
    }
    if has_died {
        find_deaths(contestant, trials, effort, &mut findings);
    }
    findings
}

/// Runs the trials one by one, those with a fault first, to learn which of them a server dies of.
fn find_deaths(
    contestant: &Contestant,
    trials: &[Trial],
    effort: &Effort,
    findings: &mut Findings,
) {
    let start = Instant::now();
    let mut order: Vec<usize> = (0..trials.len()).collect();
    order.sort_by_key(|&at| findings[at].is_none());
    let mut server = None;
    for at in order.into_iter().take_while(|_| start.elapsed() < AGAIN_TIMEOUT) {
        let running: Result<Server, String> = server.take().map_or_else(|| contestant.start(), Ok);
        let Ok(mut running) = running else { return };
        findings[at] = run_one(&running, contestant, &trials[at], effort);
        match running.wait(DEATH_PAUSE).and_then(|_| running.death()) {
            Some(how) => {
                let fault = Fault::Died(how);
                findings[at] = Some(Finding { cut: None, fault, reaction: None });
            }
            None => server = Some(running),
        }
    }
}

/// The findings for a server that does not start.
fn dead(trials: &[Trial], why: &str) -> Findings {
    let finding = || Finding { cut: None, fault: Fault::Died(why.to_owned()), reaction: None };
    trials.iter().map(|_| Some(finding())).collect()
}

/// Runs the trials at these places, so many at once, until the deadline.
fn run_all(
    places: &[usize],
    at_once: usize,
    deadline: Instant,
    run_one: impl Fn(usize) -> Option<Finding> + Sync,
) -> Vec<(usize, Option<Finding>)> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.min(places.len()) {
            scope.spawn(|| {
                while let Some(&at) = places.get(next.fetch_add(1, Ordering::Relaxed))
                    && Instant::now() < deadline
                {
                    let finding = run_one(at);
                    found.lock().expect("no thread panics").push((at, finding));
                }
            });
        }
    });
    found.into_inner().expect("no thread panics")
}

/// Runs a conversation whole and cut.
fn run_one(
    server: &Server,
    contestant: &Contestant,
    trial: &Trial,
    effort: &Effort,
) -> Option<Finding> {
    let conversation = &trial.conversation;
    let bytes = input(conversation, contestant);
    let mut whole: Option<Reaction> = None;
    for cut in offsets(bytes.len(), effort.cuts) {
        let (first, second) = bytes.split_at(cut.unwrap_or(bytes.len()));
        let reaction = match converse(server.main, [first, second], conversation, effort.prompt) {
            Ok(reaction) => reaction,
            Err(lost) => {
                let fault = Fault::NotConnected(lost);
                return Some(Finding { cut, fault, reaction: None });
            }
        };
        let fault = fault(conversation, &reaction).or_else(|| {
            // Of several outcomes, timing may choose.
            let has_one = conversation.others.is_empty();
            let whole = whole.get_or_insert_with(|| reaction.clone());
            (has_one && reaction.contradicts(whole)).then_some(Fault::Cut)
        });
        if let Some(fault) = fault {
            return Some(Finding { cut, fault, reaction: Some(reaction) });
        }
    }
    None
}

/// `None` for the whole, and so many places to cut it in two.
fn offsets(len: usize, cuts: usize) -> impl Iterator<Item = Option<usize>> {
    let places = [len / 2, len / 4, len * 3 / 4, len.saturating_sub(1)].into_iter().take(cuts);
    [None].into_iter().chain(places.filter(move |at| (1..len).contains(at)).map(Some))
}

/// Sends the pieces, and reads until as much has come as should, or nothing more does.
fn converse(
    address: SocketAddr,
    pieces: [&[u8]; 2],
    conversation: &Conversation,
    prompt: Duration,
) -> Result<Reaction, Lost> {
    let mut client = Client::connect(address)?;
    for (at, piece) in pieces.into_iter().filter(|piece| !piece.is_empty()).enumerate() {
        if at > 0 {
            thread::sleep(PIECE_PAUSE);
        }
        // A server that has ended the connection may have said why.
        let _ = client.send(piece);
    }
    let expected = conversation.statuses.split(' ').filter(|word| word.len() > 1).count();
    let must_close = conversation.statuses.ends_with('x');
    let is_head = conversation.sends.starts_with(b"HEAD ");
    let mut statuses = Vec::new();
    let end = loop {
        // A close may be due behind the last response.
        let is_due = statuses.len() < expected || must_close;
        let time = if is_due { prompt } else { QUIET };
        match client.response_within(time, is_head && statuses.is_empty()) {
            Ok(response) => statuses.push(response.status),
            Err(lost) => break lost,
        }
        if statuses.len() > expected + 3 {
            break Lost::Silent;
        }
    };
    let (interim, bytes) = (client.interim, client.kept());
    let goes_on = must_close && end == Lost::Silent && statuses.len() == expected && {
        let response = client
            .send(b"GET / HTTP/1.0\r\n\r\n")
            .and_then(|()| client.response_within(QUIET, false));
        response.is_ok_and(|response| is_understood(response.status))
    };
    Ok(Reaction { statuses, interim, end, goes_on, bytes })
}

/// Prints what is sent for a rule, what is allowed, and what each contestant does.
pub(crate) fn explain(contest: &Contest, name: &str) {
    let trials = trials(|rule| rule == name);
    let rule = &RULES[trials[0].rule];
    println!("{}: {}\n", rule.name, rule.says);
    if !rule.stands.is_empty() {
        println!("It stands: {}.\n", rule.stands);
    }
    for contestant in &contest.contestants {
        let mut server = match contestant.start() {
            Ok(server) => server,
            Err(why) => {
                println!("{}: {why}\n", contestant.name);
                continue;
            }
        };
        for trial in &trials {
            if server.death().is_some() {
                match contestant.start() {
                    Ok(another) => server = another,
                    Err(why) => println!("{}: {why}\n", contestant.name),
                }
            }
            explain_trial(contest, contestant, &mut server, trial);
        }
    }
}

/// The same for one conversation: whole, and where a fault shows itself only if it is cut, cut.
fn explain_trial(contest: &Contest, contestant: &Contestant, server: &mut Server, trial: &Trial) {
    let Trial { rule, number, conversation } = trial;
    let finding = run_one(server, contestant, trial, &contest.effort);
    let cut = finding.as_ref().and_then(|finding| finding.cut);
    let bytes = input(conversation, contestant);
    let (first, second) = bytes.split_at(cut.unwrap_or(bytes.len()));
    let verdict = finding.as_ref().map_or("kept".to_owned(), |it| it.fault.to_string());
    let reaction = finding.and_then(|finding| finding.reaction);
    let reaction = reaction.map_or_else(
        || converse(server.main, [&bytes, b""], conversation, contest.effort.prompt),
        Ok,
    );
    let (rule, level) = (RULES[*rule].name, conversation.level);
    println!("{rule} {number}, {level}, {}: {verdict}", contestant.name);
    println!("  sent:    {}", first.escape_ascii());
    if cut.is_some() {
        println!("           {}", second.escape_ascii());
    }
    match reaction {
        Ok(reaction) => {
            println!("  came:    {reaction}");
            if !reaction.bytes.is_empty() {
                println!("           {}", reaction.bytes.escape_ascii());
            }
        }
        Err(lost) => println!("  came:    {lost}"),
    }
    if let Some(how) = server.death() {
        println!("  then:    {how}");
    }
    println!("  allowed: {}\n", allowed(conversation));
}
