//! The rules of the source that a machine can check. They keep the source readable, and the README
//! as true as the code.

use std::fs;
use std::path::{Path, PathBuf};

use onepoll::event_loop::listeners::Service;
use onepoll::limits::*;
use onepoll::services::default_port;

use crate::harness::onepoll;

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 60;
const FILE_LINES_MAX: usize = 450;
const README_LINES_MAX: usize = 400;

/// Which folders and files of the crate each of them may name: arrows run downward only.
const ARROWS: &[(&str, &[&str])] = &[
    ("lib", &[]),
    (
        "book",
        &["event_loop", "http", "limits", "log", "observe", "platform", "readiness", "simulation"],
    ),
    ("main", &["cli", "event_loop", "limits", "log", "observe", "platform", "services", "systemd"]),
    ("cli", &["event_loop", "http", "limits", "services"]),
    ("systemd", &["event_loop", "limits", "platform"]),
    ("services", &["event_loop", "http", "limits", "observe"]),
    ("log", &["limits", "platform"]),
    ("observe", &["event_loop", "http", "limits", "platform"]),
    ("event_loop", &["http", "limits", "platform"]),
    ("http", &["limits"]),
    ("platform", &["limits"]),
    ("limits", &[]),
];

/// The files that are there for tests alone.
const TESTS: &[&str] = &[
    "src/event_loop/script.rs",
    "src/event_loop/tests.rs",
    "src/event_loop/connection/tests.rs",
    "src/event_loop/connections/tests.rs",
    "src/http/rules.rs",
    "src/http/tests.rs",
];

struct Source {
    name: String,
    text: String,
}

impl Source {
    /// The part ahead of the unit tests.
    fn code(&self) -> &str {
        self.text.split("\n#[cfg(test)]").next().unwrap_or_default()
    }

    /// The folder below `src` that it is in, or its own name if it is in none.
    fn folder(&self) -> &str {
        let path = self.name.strip_prefix("src/").expect("below src");
        path.split(['/', '.']).next().unwrap_or_default()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder.
fn sources(folder: &str) -> Vec<Source> {
    let (mut folders, mut sources) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                // The fuzz targets are built beside their sources.
                folders.extend(Some(path).filter(|path| !path.ends_with("target")));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("it is below").display().to_string();
                sources.push(Source { name, text: fs::read_to_string(&path).expect("text") });
            }
        }
    }
    assert!(!sources.is_empty(), "{folder} has sources");
    sources
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("a README")
}

#[test]
fn arrows_between_folders_run_downward() {
    for source in sources("src") {
        let folder = source.folder();
        let allowed = ARROWS.iter().find(|(name, _)| *name == folder);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{} has no row", source.name));
        let named = ["crate::", "onepoll::"].map(|root| source.code().split(root).skip(1));
        for rest in named.into_iter().flatten() {
            let module = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next();
            let module = module.unwrap_or_default();
            assert!(
                module == folder || allowed.contains(&module),
                "{} may not name {module}",
                source.name
            );
        }
    }
}

#[test]
fn the_protocol_knows_no_socket_and_no_clock() {
    for source in sources("src/http") {
        for name in ["mio", "std::net", "std::io", "Instant", "SystemTime"] {
            let used = source.code().contains(&format!("{name}::"))
                || source.code().contains(&format!("use {name}"));
            assert!(!used, "{} names {name}", source.name);
        }
    }
}

#[test]
fn only_the_platform_asks_for_the_system() {
    let others =
        |source: &Source| source.folder() != "platform" && !TESTS.contains(&source.name.as_str());
    for source in sources("src").into_iter().filter(others) {
        for name in ["target_os", "target_vendor", "cfg(unix", "std::os::linux", "/proc/"] {
            assert!(!source.code().contains(name), "{} names {name}", source.name);
        }
    }
}

#[test]
fn the_clock_is_asked_by_the_loop_and_by_the_probe() {
    let asking = [
        // How long a response took is told in the log at debug alone.
        "src/observe/requests.rs",
        // When the server was started.
        "src/observe/mod.rs",
        // The time stamps of the log.
        "src/log/mod.rs",
        // A wait that does not sleep has to know when it is over.
        "src/event_loop/system.rs",
        "src/cli/probe.rs",
        // The loop that is asked for the time may be stuck.
        "src/event_loop/signals.rs",
    ];
    for source in sources("src") {
        let name = source.name.as_str();
        if asking.contains(&name) || TESTS.contains(&name) {
            continue;
        }
        assert!(!source.code().contains("::now()"), "{} asks the clock", source.name);
    }
}

#[test]
fn lines_functions_and_files_are_short() {
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        let mut function: Option<(usize, &str)> = None;
        for (at, line) in source.text.lines().enumerate() {
            let place = format!("{}:{}", source.name, at + 1);
            assert!(line.chars().count() <= COLUMNS_MAX, "{place} is too long");
            let indent = line.len() - line.trim_start().len();
            let begins = ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "const fn "];
            let begun = begins.iter().any(|start| line.trim_start().starts_with(start));
            if function.is_none() && begun && !line.ends_with([';', '}']) {
                function = Some((at, &line[..indent]));
            } else if line.trim_start().starts_with("->") && line.ends_with(';') {
                // A method of a trait, without a body.
                function = None;
            } else if let Some((start, indent)) = function
                && line.strip_prefix(indent) == Some("}")
            {
                function = None;
                assert!(at - start < FUNCTION_LINES_MAX, "{place} ends a long function");
            }
        }
        if source.name.starts_with("src") && !TESTS.contains(&source.name.as_str()) {
            let lines = source.code().lines().count();
            assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", source.name);
        }
    }
}

#[test]
fn every_socket_is_registered_once() {
    let code: String = sources("src").iter().map(Source::code).collect();
    assert!(!code.contains("reregister"), "something is registered twice");
    let leaves = code.matches("deregister(").count();
    assert_eq!(leaves, 1, "only a listener that others hold has to be left");
    let calls = ["registry.register(", "registry().register(", "pipe.register("];
    let calls: usize = calls.iter().map(|call| code.matches(call).count()).sum();
    assert_eq!(calls, 3, "connections, listeners and the signal pipe are each registered");
}

#[test]
fn nothing_is_left_open() {
    let marks = ["TO-DO", "FIX-ME", "XX-X"].map(|mark| mark.replace('-', ""));
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        for mark in &marks {
            assert!(!source.text.contains(mark), "{} has a {mark}", source.name);
        }
    }
}

#[test]
fn the_readme_is_short() {
    let lines = readme().lines().count();
    assert!(
        lines <= README_LINES_MAX,
        "the README has {lines} lines: details belong beside their source"
    );
}

#[test]
fn the_readme_has_the_rows_of_the_help_text() {
    let output = onepoll().arg("--help").output().expect("the binary can be run");
    let help = String::from_utf8(output.stdout).expect("text");
    let mut rows = 0;
    for lines in help.lines().collect::<Vec<_>>().windows(2) {
        let Some((flag, _)) = lines[0].trim().split_once("  ") else {
            continue;
        };
        let Some((_, variable)) = lines[1].split_once("[env: ") else {
            continue;
        };
        let (variable, default) = variable.split_once("] [default: ").expect("a default");
        // The README tells of a build without settings of its own.
        let default = default
            .replace(&format!("::]:{}", default_port(Service::Main)), "::]:8080")
            .replace(&format!("::]:{}", default_port(Service::Diag)), "::]:8081");
        let row = format!("| `{flag}` | `{variable}` | `{}` |", default.trim_end_matches(']'));
        assert!(readme().contains(&row), "the README has no {row:?}");
        rows += 1;
    }
    assert_eq!(rows, help.matches("[env: ").count());
}

#[test]
fn the_readme_has_a_row_for_every_folder() {
    let readme = readme();
    for source in sources("src") {
        let folder = source.folder();
        let row = match source.name.matches('/').count() {
            1 => format!("| `{folder}.rs` |"),
            _ => format!("| `{folder}/` |"),
        };
        assert!(readme.contains(&row), "the README has no {row:?}");
    }
}

#[test]
fn the_chapters_have_one_order() {
    let contents = fs::read_to_string(root().join("src/lib.rs")).expect("text");
    let chapters = contents.lines().filter_map(|line| {
        let (_, name) = line.strip_prefix("//! ")?.split_once(". [`")?;
        Some(name.split('`').next().unwrap_or_default().to_owned())
    });
    let chapters: Vec<String> = chapters.collect();
    assert!(chapters.len() > 7, "{chapters:?}");
    let readme = readme();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let names = rows.map(|(name, _)| name.trim_end_matches('/').split('.').next());
    let names: Vec<&str> =
        names.flatten().filter(|name| chapters.iter().any(|it| it == name)).collect();
    assert_eq!(names, chapters, "README has the order of lib.rs");
}

#[test]
fn the_tests_that_a_chapter_names_are_there() {
    let sources = ["src", "tests"].into_iter().flat_map(sources);
    let code: String = sources.map(|source| source.text).collect();
    for (chapter, at_least) in
        [("src/readiness.md", 7), ("src/simulation.md", 3), ("src/book/order.md", 2)]
    {
        let chapter = fs::read_to_string(root().join(chapter)).expect("text");
        let named: Vec<&str> =
            chapter.split('`').filter(|name| name.matches('_').count() > 4).collect();
        assert!(named.len() >= at_least, "{named:?}");
        for name in named {
            assert!(code.contains(&format!("fn {name}()")), "there is no test {name}");
        }
    }
}

fn bytes(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        0x10_0000.. => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes / 1024),
    }
}

/// How much of everything there may be, as the README writes it.
fn amounts() -> Vec<(&'static str, String)> {
    vec![
        ("HEAD_MAX", bytes(HEAD_MAX)),
        ("FIELDS_MAX", FIELDS_MAX.to_string()),
        ("FIELDS_USUAL", FIELDS_USUAL.to_string()),
        ("EMPTY_LINES_MAX", EMPTY_LINES_MAX.to_string()),
        ("CHUNK_LINE_MAX", bytes(CHUNK_LINE_MAX)),
        ("TRAILERS_MAX", bytes(TRAILERS_MAX)),
        ("INPUT", bytes(INPUT)),
        ("OUTPUT", bytes(OUTPUT)),
        ("BODY_COPIED_MAX", bytes(BODY_COPIED_MAX)),
        ("RESPONSE_MAX", format!("{RESPONSE_MAX} B")),
        ("PAGE_MAX", bytes(PAGE_MAX)),
        ("PAGE_REQUEST_BODY_MAX", bytes(PAGE_REQUEST_BODY_MAX)),
        ("RECORDS_MAX", RECORDS_MAX.to_string()),
        ("TRACE_LOG_LINES_MAX", TRACE_LOG_LINES_MAX.to_string()),
        ("TRACE_LINES_MAX", TRACE_LINES_MAX.to_string()),
        ("TRACE_LATEST_MAX", TRACE_LATEST_MAX.to_string()),
        ("DEFERRED_MAX", bytes(DEFERRED_MAX)),
        ("BODY_SIZE_MAX", bytes(BODY_SIZE_MAX)),
        ("READS_PER_RUN", READS_PER_RUN.to_string()),
        ("ACCEPTS_PER_TICK", ACCEPTS_PER_TICK.to_string()),
        ("EVENTS_PER_TICK", EVENTS_PER_TICK.to_string()),
        ("PAGES_PER_TICK", PAGES_PER_TICK.to_string()),
        ("CONNECTIONS_MAX", CONNECTIONS_MAX.to_string()),
        ("DESCRIPTORS_RESERVED", DESCRIPTORS_RESERVED.to_string()),
        ("MAP_SLOTS_MAX", MAP_SLOTS_MAX.to_string()),
        ("BACKLOG", BACKLOG.to_string()),
    ]
}

/// How long everything may take, and what else follows in their file.
fn times() -> Vec<(&'static str, String)> {
    vec![
        ("IDLE_TIMEOUT", format!("{IDLE_TIMEOUT:?}")),
        ("HEADER_TIMEOUT", format!("{HEADER_TIMEOUT:?}")),
        ("BODY_TIMEOUT", format!("{BODY_TIMEOUT:?}")),
        ("BODY_RATE_MIN", format!("{BODY_RATE_MIN} B/s")),
        ("BODY_GRACE", format!("{BODY_GRACE:?}")),
        ("DELAY", format!("{}s", DELAY.as_secs())),
        ("DEFERRED_TIMEOUT", format!("{DEFERRED_TIMEOUT:?}")),
        ("DEFERRED_TIME_MAX", format!("{DEFERRED_TIME_MAX:?}")),
        ("WRITE_TIMEOUT", format!("{WRITE_TIMEOUT:?}")),
        ("HALF_CLOSED_TIMEOUT", format!("{HALF_CLOSED_TIMEOUT:?}")),
        ("HALF_CLOSED_ROUNDS_MAX", HALF_CLOSED_ROUNDS_MAX.to_string()),
        ("TIMEOUT_PRECISION", TIMEOUT_PRECISION.to_string()),
        ("IDLE_CLOSED_TIMEOUT", format!("{IDLE_CLOSED_TIMEOUT:?}")),
        ("HANDSHAKE_TIME", format!("{HANDSHAKE_TIME:?}")),
        ("ACCEPT_PAUSE", format!("{ACCEPT_PAUSE:?}")),
        ("SPIN", format!("{}s", SPIN.as_secs())),
        ("LOG_BUFFER_MAX", bytes(LOG_BUFFER_MAX)),
        ("LOG_LINE_MAX", bytes(LOG_LINE_MAX)),
        ("LOGGED_INPUT_MAX", bytes(LOGGED_INPUT_MAX)),
        ("LOG_PAUSE", format!("{LOG_PAUSE:?}")),
        ("PIPE_WRITE", bytes(PIPE_WRITE)),
        ("TERMINAL_WRITE", bytes(TERMINAL_WRITE)),
        ("LOG_EXIT_TIMEOUT", format!("{LOG_EXIT_TIMEOUT:?}")),
        ("LOG_EXIT_WRITES_MAX", LOG_EXIT_WRITES_MAX.to_string()),
        ("LAME_DUCK", format!("{}s", LAME_DUCK.as_secs())),
        ("DRAIN", format!("{DRAIN:?}")),
        ("IDLE_GRACE", format!("{IDLE_GRACE:?}")),
        ("SIGNAL_REPEAT", format!("{SIGNAL_REPEAT:?}")),
        ("NOTIFY_TIMEOUT", format!("{NOTIFY_TIMEOUT:?}")),
        ("PROBE_TIMEOUT", format!("{PROBE_TIMEOUT:?}")),
        ("DURATION_MAX", format!("{DURATION_MAX:?}")),
        ("START_MEMORY", bytes(START_MEMORY)),
        ("CONNECTION_BYTES", bytes(CONNECTION_BYTES)),
        ("ADDRESS_SPACE_LEFT", bytes(ADDRESS_SPACE_LEFT)),
        ("VERSION_MAX", bytes(VERSION_MAX)),
    ]
}

#[test]
fn the_readme_knows_every_limit_by_its_value() {
    let limits = [amounts(), times()].concat();
    let source = fs::read_to_string(root().join("src/limits.rs")).expect("limits");
    let names =
        source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    assert_eq!(names.collect::<Vec<_>>(), limits.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, value) in &limits {
        let row = format!("| `{name}` | {value} |");
        assert!(readme().contains(&row), "the README has no {row:?}");
    }
}
