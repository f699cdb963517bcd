//! The bench that judges servers, judged: a broken contestant is caught in each part, ours is not,
//! and no contestant ends the bench.

#![cfg(target_os = "linux")]

#[path = "../shared/built.rs"]
mod built;
mod client;
#[allow(dead_code)]
#[path = "../../benches/judge/mod.rs"]
mod judge;
mod reaction;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use built::example;
use judge::contestant::Contestant;
use judge::options::Options;
use judge::report::{Cell, Grade, Report};
use judge::{Contest, Effort, TEST, installed, open_loop};
use rustix::process::Signal;

fn contestant(name: &str, command: &str) -> Contestant {
    Contestant {
        name: name.to_owned(),
        command: command.to_owned(),
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        path: "/".to_owned(),
        signal: Signal::TERM,
    }
}

/// Judges ours beside the broken one, in the rows of one part whose names contain `case`.
fn judge(part: &str, case: &str) -> Report {
    let command = format!("'{}' {{port}}", example("broken").display());
    judge_beside_ours(contestant("broken", &command), part, case)
}

fn judge_beside_ours(broken: Contestant, part: &str, case: &str) -> Report {
    let mut ours = installed::find("onepoll").expect("it is here").expect("it is known");
    // On a busy machine a client may be late with its next request.
    ours.command += " --idle-grace 5m";
    let contestants = vec![ours, broken];
    let contest = Contest { contestants, effort: TEST, case: Some(case.to_owned()) };
    judge::run(&contest, Vec::new(), |name| name == part)
}

/// The cells of the row with this name, in the tables of the only part.
fn row<'a>(report: &'a Report, name: &str) -> &'a [Cell] {
    let tables = report.parts[0].tables.iter();
    let mut rows = tables.flat_map(|table| &table.rows);
    let row = rows.find(|(row, _)| row.starts_with(name));
    &row.unwrap_or_else(|| panic!("there is no {name}")).1
}

#[track_caller]
fn assert_caught(cells: &[Cell]) {
    let grades = [cells[0].grade, cells[1].grade];
    assert_eq!(grades, [Grade::Good, Grade::Bad], "{cells:?}");
}

#[test]
fn a_server_that_guesses_where_a_body_ends_is_caught_by_the_rules() {
    let report = judge("rules", "two lengths");
    assert_caught(row(&report, "two lengths"));
    let [must, _, _, desyncs] = &report.parts[0].columns[..] else {
        panic!("four columns");
    };
    assert_caught(&must.1);
    assert_caught(&desyncs.1);
    let findings = &report.parts[0].findings;
    let desync = findings.iter().find(|it| it.contains("desync"));
    assert!(desync.is_some_and(|it| it.starts_with("broken, two lengths")), "{findings:?}");
}

#[test]
fn a_server_that_dies_of_a_byte_is_caught() {
    let command = format!("'{}' {{port}}", example("broken").display());
    let contestants = vec![contestant("broken", &command)];
    let effort = Effort { prompt: Duration::from_secs(1), ..TEST };
    let contest = Contest { contestants, effort, case: Some("other protocols".to_owned()) };
    let report = judge::run(&contest, Vec::new(), |name| name == "rules");
    let findings = &report.parts[0].findings;
    let deaths: Vec<_> = findings.iter().filter(|it| it.contains("ends with status 9")).collect();
    let [death] = deaths[..] else { panic!("{findings:#?}") };
    assert!(death.contains("`` \\x80 ``"), "{death}");
}

#[test]
fn a_server_without_a_clean_stop_is_caught() {
    let report = judge("stop", "request");
    assert_caught(row(&report, "64 clients that send request after request"));
    assert_caught(row(&report, "1,000 requests at once"));
    assert_caught(row(&report, "half a request, and the rest"));
    assert_caught(&report.parts[0].columns[0].1);
    let [half, of_broken] = row(&report, "half a request for good") else {
        panic!("two contestants");
    };
    assert!(half.text.ends_with(" s (3)"), "{half:?}");
    assert!(of_broken.text.ends_with(" s (signal 15)"), "{of_broken:?}");
}

#[test]
fn a_server_with_errors_is_caught_on_the_wire() {
    let report = judge("wire", "constant");
    let (errors, cells) = report.parts[0].columns.last().expect("columns");
    assert_eq!(errors, "errors");
    assert_caught(cells);
    assert!(row(&report, "broken (with errors)").len() > 4);
}

#[test]
fn a_thread_for_each_connection_shows_in_the_memory() {
    let report = judge("wire", "memory");
    let of = |name| {
        let cells = row(&report, name).iter();
        cells.map(|cell| cell.text.parse::<f64>().expect("a number")).collect::<Vec<_>>()
    };
    let ([rest, each], [_, each_of_broken]) = (&of("onepoll")[..], &of("broken")[..]) else {
        panic!("two columns");
    };
    assert!((0.1..100.0).contains(rest), "{rest} MB");
    assert!(*each < 1000.0 && *each_of_broken > 4000.0, "{each} and {each_of_broken} bytes");
}

#[test]
fn a_server_that_spins_is_caught() {
    // One loop alone gets a small share of a busy processor.
    let script = r#"for i in 1 2 3 4; do while :; do :; done & done; exec "$0" "$1""#;
    let command = format!("sh -c '{script}' '{}' {{port}}", example("broken").display());
    let report = judge_beside_ours(contestant("spins", &command), "calm", "read no response");
    assert_caught(row(&report, "32 clients that read no response"));
}

#[test]
fn a_server_that_dies_without_descriptors_is_caught() {
    let report = judge("calm", "100 descriptors");
    let cells = row(&report, "200 clients, and 100 descriptors");
    assert_caught(cells);
    assert!(cells[1].text.starts_with("it ends with status 101"), "{cells:?}");
    assert_caught(&report.parts[0].columns[0].1);
}

#[test]
fn what_does_not_start_or_does_not_serve_is_a_row_that_says_so() {
    let words =
        ["judge", "--path", "/nowhere", "gone=./no-such-server {port}", "dies=false {port}"];
    let options = parse(&words).expect("it is valid");
    let why = |at: usize| {
        let (name, contestant) = &options.contestants[at];
        (name.clone(), contestant.as_ref().expect("it is named").check().expect_err("it is not"))
    };
    let (gone, dies) = (why(0), why(1));
    assert!(gone.1.starts_with("it ends with status 127 (") && gone.1.contains("no-such-server"));
    assert!(dies.1.starts_with("it ends with status 1 before it listens"), "{dies:?}");
    let broken = format!("'{}' {{port}}; true", example("broken").display());
    let ours = installed::find("onepoll").expect("it is here").expect("it is known");
    let lost = Contestant { path: "/nowhere".to_owned(), ..ours.clone() };
    assert_eq!(
        lost.check().expect_err("not 200"),
        "GET /nowhere gets 404, not 200; --path names another path"
    );
    assert_eq!(contestant("broken", &broken).check(), Ok(()));

    let contest = Contest { contestants: vec![ours], effort: TEST, case: Some("host".to_owned()) };
    let report = judge::run(&contest, vec![gone, dies], |name| name == "rules");
    let rows: Vec<String> = report.verdict().rows.into_iter().map(|(name, _)| name).collect();
    assert_eq!(rows, ["onepoll", "gone", "dies"]);
    assert!(report.markdown().contains("\ngone takes no part: it ends with status 127"));
}

#[test]
fn a_server_that_leaves_for_the_background_is_not_left_running() {
    let file = std::env::temp_dir().join(format!("onepoll-background-{}", std::process::id()));
    std::fs::copy(example("broken"), &file).expect("a copy");
    let command = format!("setsid -f '{}' {{port}}", file.display());
    let why = contestant("background", &command).check().expect_err("it is gone");
    std::fs::remove_file(&file).expect("it is there");
    assert!(why.starts_with("it ends with status 0"), "{why}");
    let name = file.display().to_string();
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let commands = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    let left = commands.filter(|it| String::from_utf8_lossy(it).contains(&name)).count();
    assert_eq!(left, 0);
}

#[test]
fn a_contestant_that_dies_in_a_part_is_judged_on() {
    // The second start finds no file.
    let file = std::env::temp_dir().join(format!("onepoll-judge-{}", std::process::id()));
    std::fs::copy(example("broken"), &file).expect("a copy");
    let command = format!("'{0}' {{port}}", file.display());
    let once = contestant("once", &command);
    assert_eq!(once.check(), Ok(()));
    std::fs::remove_file(file).expect("it is there");
    let contest = Contest { contestants: vec![once], effort: TEST, case: Some("o".to_owned()) };
    let report = judge::run(&contest, Vec::new(), |_| true);
    let rules = &report.parts[0];
    assert!(rules.findings.iter().all(|it| it.contains("status 127")), "{:?}", rules.findings);
    let parts = report.parts.iter().skip(1);
    let cells = parts.flat_map(|part| &part.tables).flat_map(|table| &table.rows);
    for (name, cells) in cells {
        let says_why = cells[0].text.contains("status 127") || name.contains("status 127");
        assert!(says_why, "{name}: {cells:?}");
    }
}

#[test]
fn a_pause_of_the_server_shows_in_the_latencies_at_a_constant_rate() {
    const PAUSE: Duration = Duration::from_millis(100);
    let ours = installed::find("onepoll").expect("it is here").expect("it is known");
    let server = ours.start().expect("it starts");
    server.signal_all(Signal::STOP);
    // The kernel takes connections for a process that is paused.
    let client = open_loop::Client::connect(server.main, ours.request(), 64);
    let mut client = client.expect("connections");
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(PAUSE);
            server.signal_all(Signal::CONT);
        });
        client.run(1_000, 5 * PAUSE).expect("it runs")
    });
    assert_eq!((outcome.responses(), outcome.errors), (500, 0));
    // A fifth of the requests were due during the pause, and an eighth of them could be sent.
    let late = outcome.quantile(850);
    assert!(late > 10_000.0, "what waits for a connection is late, but by {late} µs");
}

fn parse(words: &[&str]) -> Result<Options, String> {
    Options::parse(words.iter().map(Into::into)).map(|options| options.expect("no help is asked"))
}

#[test]
fn options_hold_for_the_commands_behind_them() {
    let words = ["judge", "a=a {port}", "--path", "/x", "--signal", "QUIT", "b=b {port} {diag}"];
    let options = parse(&words).expect("it is valid");
    let [(_, Ok(a)), (_, Ok(b))] = &options.contestants[..] else {
        panic!("two contestants");
    };
    assert_eq!((&*a.path, a.signal_name(), a.has_diagnostics()), ("/", "TERM", false));
    assert_eq!((&*b.path, b.signal_name(), b.has_diagnostics()), ("/x", "QUIT", true));
    assert!(options.is_test && !options.is_quick);
}

#[test]
fn wrong_usage_is_quoted_with_what_is_accepted() {
    for (words, message) in [
        ([" "].as_slice(), "no server is known as \" \"; known are onepoll, nginx, lighttpd,"),
        (
            &["mine=./webserv"],
            "\"mine=./webserv\" is no contestant, which is NAME=COMMAND with {port}",
        ),
        (&["=x {port}"], "is no contestant"),
        (&["a=x {port}", "a=y {port}"], "two contestants have the name \"a\""),
        (&["--path", "x"], "--path \"x\" is no path, which begins with a slash"),
        (&["--signal", "KILL"], "--signal \"KILL\" is none of TERM, INT, QUIT, HUP, USR1, USR2"),
        (&["--host", "a"], "--host \"a\" is no IP address"),
        (&["--only", "x"], "--only \"x\" is none of rules, stop, wire, calm"),
        (&["--explain", "x"], "--explain \"x\" is none of order, line ends,"),
        (&["--case", "xyz"], "--case \"xyz\" is in the name of no row"),
        (&["--wat"], "see --help"),
        (&["--path"], "missing argument"),
    ] {
        let words = [&["judge"], words].concat();
        let error = parse(&words).err().unwrap_or_else(|| panic!("{words:?} are taken"));
        assert!(error.contains(message), "{words:?}: {error}");
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let cell = |text: &str, grade| Cell { text: text.to_owned(), grade };
    let part = |name: &str, score| judge::report::Part {
        name: name.to_owned(),
        how: "<how>".to_owned(),
        tables: Vec::new(),
        remarks: vec!["<remark>".to_owned()],
        findings: vec!["<finding>".to_owned()],
        columns: vec![(name.to_owned(), vec![cell("1", Grade::Good), cell("2", Grade::Bad)])],
        scores: vec![Some(score), Some(0.5)],
    };
    let report = Report {
        names: vec!["a<b".to_owned(), "c".to_owned()],
        absent: vec![("d".to_owned(), "it is away".to_owned())],
        parts: vec![part("Rules", 1.0), part("Stop", 0.0), part("Wire", 9e4)],
        machine: "a machine".to_owned(),
    };
    let page = judge::page::page(&report);
    let named = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!named.contains(outside), "{outside}");
    }
    assert!(page.contains("color-scheme: light dark") && page.contains("prefers-color-scheme"));
    assert!(page.contains("a&lt;b") && page.contains("&lt;how>") && !page.contains("<how>"));
    assert!(page.contains("d takes no part: it is away."));
    // A mark for each, that of the second with what it loses.
    assert_eq!(page.matches("<circle").count(), 2);
    assert!(page.contains("<circle class=\"good\"") && page.contains("c, loses 50.0 %"));
}

#[test]
#[ignore = "needs nginx, lighttpd, h2o, haproxy and python3"]
fn servers_that_are_known_come_out_as_they_are_known() {
    let names = ["onepoll", "nginx", "lighttpd", "h2o", "haproxy", "python"];
    let known = names.map(|name| installed::find(name).expect("it is installed").expect("known"));
    for contestant in &known {
        assert_eq!(contestant.check(), Ok(()), "{}", contestant.name);
    }
    let contest = Contest { contestants: known.into(), effort: TEST, case: None };
    let report = judge::run(&contest, Vec::new(), |name| name == "rules");
    let kept = |name: &str| report.parts[0].scores[names.iter().position(|it| *it == name)?];
    assert_eq!(kept("onepoll"), Some(1.0), "{:#?}", report.parts[0].findings);
    // What versions of these servers may keep. The manual of the last one says that it is not for
    // production.
    for (name, least, most) in [
        ("nginx", 0.85, 0.99),
        ("lighttpd", 0.85, 0.99),
        ("h2o", 0.6, 0.9),
        ("haproxy", 0.75, 0.95),
        ("python", 0.5, 0.85),
    ] {
        let kept = kept(name).expect("it is judged");
        assert!((least..most).contains(&kept), "{name}: {kept}");
    }
    let [.., (_, desyncs)] = &report.parts[0].columns[..] else {
        panic!("columns");
    };
    assert_eq!((&*desyncs[0].text, &*desyncs[2].text), ("0", "0"), "{desyncs:?}");
}
