//! Conformance: every conversation of the rules table, whole and cut in two. Other servers have
//! other content, so a 404 of ours may be any final response to a request that was understood, and
//! a 400 any error, or a close without a response. A desync is told apart from a wrong status: the
//! server and the client no longer agree where a request ends, which allows request smuggling.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Lost};
use super::contestant::{Contestant, Server};
use super::reaction::{Fault, Reaction, allowed, fault, has_body};
use super::report::{Cell, Part, Table};
use super::table::{Conversation, Level, RULES};
use super::{Contest, machine};

/// How long a server may take to respond, or to close where it has to.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A server that has sent nothing for this time waits for more input.
const QUIET: Duration = Duration::from_millis(150);
/// The pause between two pieces, so that the server reads them one by one.
const PIECE_PAUSE: Duration = Duration::from_millis(10);
/// So many conversations run at once: most of their time is a wait.
const AT_ONCE: usize = 32;
/// How long the conversations of a server that dies are tried again, one by one.
const AGAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// A conversation of the table, for one contestant.
struct Trial {
    rule: usize,
    /// Its number among those of the rule, from 1 on.
    number: usize,
    conversation: Conversation,
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
    let trials = trials(|rule| contest.has(rule));
    let results = contest.rounds("rules", 1, |contestant| {
        Ok(machine::on_client_core(|| find_faults(contestant, &trials, contest.effort.cuts)))
    });
    let findings: Vec<Findings> =
        results.into_iter().map(|all| all.into_iter().flatten().flatten().collect()).collect();
    let by_rule = |rule: usize| {
        let cells = findings.iter().map(|all| {
            let (kept, of, must) = share(all, &trials, |trial| trial.rule == rule);
            Cell::graded(format!("{kept} of {of}"), must == 0)
        });
        cells.collect()
    };
    let chosen = RULES.iter().enumerate().filter(|(_, rule)| contest.has(rule.name));
    let rows = chosen.map(|(at, rule)| {
        let section = rule.says.rsplit_once(" (").map_or("", |(_, section)| section);
        (format!("{} ({section}", rule.name), by_rule(at))
    });
    let table = Table { corner: "rule".to_owned(), columns: contest.names(), rows: rows.collect() };
    let by_level = |level: Level| {
        let cells = findings.iter().map(|all| {
            let (kept, of, _) = share(all, &trials, |trial| trial.conversation.level == level);
            let text = format!("{kept} of {of}");
            match level {
                Level::Should | Level::May if kept < of => Cell::plain(text),
                _ => Cell::graded(text, kept == of),
            }
        });
        (format!("{level:?}").to_uppercase(), cells.collect())
    };
    let desyncs = findings.iter().map(|all| {
        let is_desync = |it: &&Finding| matches!(it.fault, Fault::Desync(_));
        let count = all.iter().flatten().filter(is_desync).count();
        Cell::graded(count.to_string(), count == 0)
    });
    let must = |all: &Findings| {
        let (kept, of, _) = share(all, &trials, |trial| trial.conversation.level == Level::Must);
        (of > 0).then_some(kept as f64 / of as f64)
    };
    Part {
        name: "Rules".to_owned(),
        how: format!(
            "Conversations that come to what the RFCs allow, each whole and cut in two at {} \
             offset(s): {} in {} rules. A cell is marked where a MUST is broken. \
             `--explain RULE` shows the bytes.",
            contest.effort.cuts,
            trials.len(),
            RULES.len()
        ),
        notes: notes(contest, &trials, &findings),
        columns: vec![
            by_level(Level::Must),
            by_level(Level::Should),
            by_level(Level::May),
            ("desyncs".to_owned(), desyncs.collect()),
        ],
        scores: findings.iter().map(must).collect(),
        tables: vec![table],
    }
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

/// How many of the chosen trials have no fault, how many there are, and how many of those with a
/// fault are a MUST.
fn share(
    findings: &Findings,
    trials: &[Trial],
    is_chosen: impl Fn(&Trial) -> bool,
) -> (usize, usize, usize) {
    let chosen = || findings.iter().zip(trials).filter(|(_, trial)| is_chosen(trial));
    let faults = chosen().filter(|(finding, _)| finding.is_some());
    let must = faults.clone().filter(|(_, trial)| trial.conversation.level == Level::Must).count();
    (chosen().count() - faults.count(), chosen().count(), must)
}

/// A line for each fault.
fn notes(contest: &Contest, trials: &[Trial], findings: &[Findings]) -> Vec<String> {
    let all = contest.contestants.iter().zip(findings).flat_map(|(contestant, findings)| {
        trials.iter().zip(findings).filter_map(move |(trial, finding)| {
            let finding = finding.as_ref()?;
            let Trial { rule, number, conversation } = trial;
            let (name, level) = (&contestant.name, format!("{:?}", conversation.level));
            let Finding { cut, fault, reaction } = finding;
            let sends = input(conversation, contestant);
            let came = reaction.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            let cut = cut.map_or(String::new(), |cut| format!(", cut at {cut}"));
            Some(format!(
                "{name}, {} {number} ({}): `{}`{cut}: {fault}: {came}; allowed: {}",
                RULES[*rule].name,
                level.to_uppercase(),
                sends.escape_ascii(),
                allowed(conversation)
            ))
        })
    });
    let standing = RULES.iter().filter(|rule| !rule.stands.is_empty());
    let standing = standing.map(|rule| format!("The rule {} stands: {}.", rule.name, rule.stands));
    standing.chain(all).collect()
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
/// If the server dies, each of them has a server of its own.
fn find_faults(contestant: &Contestant, trials: &[Trial], cuts: usize) -> Findings {
    let mut findings: Findings = trials.iter().map(|_| None).collect();
    let mut left: Vec<usize> = (0..trials.len()).collect();
    let mut death = None;
    for at_once in [AT_ONCE, AT_ONCE / 4] {
        let mut server = match contestant.start() {
            Ok(server) => server,
            Err(why) => return dead(trials, &why),
        };
        let found = run_all(&server, contestant, trials, &left, cuts, at_once);
        for (at, finding) in left.iter().zip(found) {
            findings[*at] = finding;
        }
        left.retain(|&at| findings[at].is_some());
        death = server.death();
    }
    let start = Instant::now();
    let mut server = None;
    for at in left.into_iter().take_while(|_| death.is_some()) {
        if start.elapsed() > AGAIN_TIMEOUT {
            break;
        }
        let Ok(running) = server.take().map_or_else(|| contestant.start(), Ok) else { break };
        let mut running: Server = running;
        findings[at] = run_one(&running, contestant, &trials[at], cuts);
        match running.death() {
            Some(how) => {
                let fault = Fault::Died(how);
                findings[at] = Some(Finding { cut: None, fault, reaction: None });
            }
            None => server = Some(running),
        }
    }
    findings
}

/// The findings for a server that does not start.
fn dead(trials: &[Trial], why: &str) -> Findings {
    let finding = || Finding { cut: None, fault: Fault::Died(why.to_owned()), reaction: None };
    trials.iter().map(|_| Some(finding())).collect()
}

/// Runs the trials that are chosen, so many at once.
fn run_all(
    server: &Server,
    contestant: &Contestant,
    trials: &[Trial],
    chosen: &[usize],
    cuts: usize,
    at_once: usize,
) -> Findings {
    let next = AtomicUsize::new(0);
    let findings = Mutex::new(chosen.iter().map(|_| None).collect::<Findings>());
    thread::scope(|scope| {
        for _ in 0..at_once.min(chosen.len()) {
            scope.spawn(|| {
                while let Some(&at) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let finding = run_one(server, contestant, &trials[at], cuts);
                    let place = chosen.iter().position(|it| *it == at).expect("it is chosen");
                    findings.lock().expect("no thread panics")[place] = finding;
                }
            });
        }
    });
    findings.into_inner().expect("no thread panics")
}

/// Runs a conversation whole and cut.
fn run_one(
    server: &Server,
    contestant: &Contestant,
    trial: &Trial,
    cuts: usize,
) -> Option<Finding> {
    let conversation = &trial.conversation;
    let bytes = input(conversation, contestant);
    let mut whole = None;
    for cut in offsets(bytes.len(), cuts) {
        let (first, second) = bytes.split_at(cut.unwrap_or(bytes.len()));
        let reaction = converse(server.main, [first, second], conversation);
        let fault = fault(conversation, &reaction).or_else(|| {
            let kind = reaction.kind();
            let differs = whole.as_ref().is_some_and(|whole| *whole != kind);
            whole.get_or_insert(kind);
            // A server may respond ahead of a broken body, or read it first.
            (differs && !has_body(&bytes)).then_some(Fault::Cut)
        });
        if let Some(fault) = fault {
            return Some(Finding { cut, fault, reaction: Some(reaction) });
        }
    }
    None
}

/// `None` for the whole, and the offsets of cuts at even distances, the last one ahead of the last
/// byte.
fn offsets(len: usize, cuts: usize) -> impl Iterator<Item = Option<usize>> {
    let even = (1..=cuts).map(move |at| if at == 4 { len.saturating_sub(1) } else { len * at / 4 });
    let even = even.map(move |at| if cuts == 1 { len / 2 } else { at });
    [None].into_iter().chain(even.filter(move |at| (1..len).contains(at)).map(Some))
}

/// Sends the pieces, and reads until as much has come as should, or nothing more does.
fn converse(address: SocketAddr, pieces: [&[u8]; 2], conversation: &Conversation) -> Reaction {
    let nothing =
        |end| Reaction { statuses: Vec::new(), interim: 0, end, goes_on: false, bytes: Vec::new() };
    let mut client = match Client::connect(address) {
        Ok(client) => client,
        Err(lost) => return nothing(lost),
    };
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
        let is_due = statuses.len() < expected || must_close;
        let time = if is_due { RESPONSE_TIMEOUT } else { QUIET };
        // Without a deadline of its own, an open connection would be waited for at a rejection.
        let time = if statuses.len() >= expected { time.min(RESPONSE_TIMEOUT / 2) } else { time };
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
        let sent = client.send(b"GET / HTTP/1.0\r\n\r\n");
        sent.is_ok() && client.response_within(QUIET, false).is_ok()
    };
    Reaction { statuses, interim, end, goes_on, bytes }
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
        let server = match contestant.start() {
            Ok(server) => server,
            Err(why) => {
                println!("{}: {why}\n", contestant.name);
                continue;
            }
        };
        for trial in &trials {
            explain_trial(contest, contestant, &server, trial);
        }
    }
}

/// The same for one conversation: whole, and where a fault shows itself only if it is cut, cut.
fn explain_trial(contest: &Contest, contestant: &Contestant, server: &Server, trial: &Trial) {
    let Trial { rule, number, conversation } = trial;
    let finding = run_one(server, contestant, trial, contest.effort.cuts);
    let cut = finding.as_ref().and_then(|finding| finding.cut);
    let bytes = input(conversation, contestant);
    let (first, second) = bytes.split_at(cut.unwrap_or(bytes.len()));
    let verdict = finding.as_ref().map_or("kept".to_owned(), |it| it.fault.to_string());
    let reaction = finding.and_then(|finding| finding.reaction);
    let reaction = reaction.unwrap_or_else(|| converse(server.main, [&bytes, b""], conversation));
    let level = format!("{:?}", conversation.level).to_uppercase();
    println!("{} {number}, {level}, {}: {verdict}", RULES[*rule].name, contestant.name);
    println!("  sent:    {}", first.escape_ascii());
    if cut.is_some() {
        println!("           {}", second.escape_ascii());
    }
    println!("  came:    {reaction}");
    if !reaction.bytes.is_empty() {
        println!("           {}", reaction.bytes.escape_ascii());
    }
    println!("  allowed: {}\n", allowed(conversation));
}
