//! The boxes of the tour, which readers of the documentation are asked to try: every one is run,
//! and what it says one should look for has to be there.

use std::path::Path;
use std::sync::Mutex;
use std::{fs, thread};

use crate::boxes::{Try, boxes};
use crate::harness::onepoll;

/// All boxes in the documentation of the modules.
fn tour() -> Vec<Try> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs" || it == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        let docs = text.lines().map_while(|line| line.strip_prefix("//!"));
        let docs: Vec<&str> = docs.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        // Other boxes of a chapter are for other machines.
        let docs = match text.split_once("\n## Try it\n") {
            Some((_, end)) if docs.is_empty() => end.to_owned(),
            _ => docs.join("\n"),
        };
        let place = file.strip_prefix(&root).expect("below src").display().to_string();
        found.extend(boxes(&place, &docs));
    }
    found
}

/// The options of the server that a box begins with.
fn options(found: &Try) -> &str {
    found.starts().strip_prefix("onepoll ").expect("it starts the server")
}

fn shows_what_it_says(found: &Try) {
    let (program, options) = (env!("CARGO_BIN_EXE_onepoll"), options(found));
    let server = format!("'{program}' {options} --listen 127.0.0.1:0 --diag 127.0.0.1:0");
    let shown = found.run(&server, |rest| rest);
    for text in found.expected("# look for: ") {
        let printed = &shown.printed;
        assert!(printed.contains(text), "{}: no {text:?} in {printed}", found.place);
    }
    for text in found.expected("# look in the log for: ") {
        assert!(shown.log.contains(text), "{}: no {text:?} in {}", found.place, shown.log);
    }
    assert!(shown.has_ended, "{} leaves its server", found.place);
}

#[test]
fn the_tour_has_boxes_of_what_the_program_takes() {
    let boxes = tour();
    for name in [
        "event_loop/mod.rs",
        "event_loop/stream.rs",
        "event_loop/state.rs",
        "event_loop/connections.rs",
        "event_loop/timers.rs",
        "event_loop/shutdown.rs",
        "observe/recorder.rs",
        "observe/statistics.rs",
        "readiness.md",
    ] {
        assert!(boxes.iter().any(|found| found.place == name), "{name} has none");
    }
    for found in boxes {
        let words = options(&found).split_whitespace();
        let help = onepoll().args(words).arg("--help").output().expect("it can be run");
        assert!(help.status.success(), "{}: {:?}", found.place, options(&found));
        let looks =
            found.expected("# look for: ").len() + found.expected("# look in the log for: ").len();
        assert!(looks > 0, "{} says nothing to look for", found.place);
    }
}

#[test]
#[ignore = "needs Debian's curl, strace and wrk"]
fn every_box_of_the_tour_shows_what_it_says() {
    let boxes = Mutex::new(tour().into_iter());
    let next = || boxes.lock().expect("no box panics with it").next();
    // Two at a time, as a box waits most of its time.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(found) = next() {
                    shows_what_it_says(&found);
                }
            });
        }
    });
}

#[test]
fn the_readme_leads_to_pages_of_the_book() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("a README");
    let links = readme.split("(target/doc/onepoll/").skip(1);
    let modules: Vec<&str> = links.filter_map(|link| link.split("/index.html)").next()).collect();
    assert!(!modules.is_empty(), "it does lead there");
    for module in modules {
        let page = root.join("src").join(module);
        let text = fs::read_to_string(page.join("mod.rs"));
        let text = text.or_else(|_| fs::read_to_string(page.with_extension("rs")));
        let text = text.expect("a module");
        assert!(text.contains("//! # Try it"), "{module} has something to try");
    }
}
