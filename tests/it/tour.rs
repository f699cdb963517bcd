//! The boxes of the tour, which readers of the documentation are asked to try: every one is run,
//! and what it says one should look for has to be there.

use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, thread};

use crate::harness::{onepoll, wait_for};

/// A box: where it is, and its lines.
struct Try {
    place: String,
    lines: Vec<String>,
}

/// All boxes in the documentation of the modules.
fn boxes() -> Vec<Try> {
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
    let mut boxes = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        let docs = text.lines().map_while(|line| line.strip_prefix("//!"));
        let docs: Vec<&str> = docs.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        // Other boxes of a chapter are for other machines.
        let docs = match text.split_once("\n## Try it\n") {
            Some((_, end)) if docs.is_empty() => end.to_owned(),
            _ => docs.join("\n"),
        };
        for part in docs.split("```sh\n").skip(1) {
            let (lines, _) = part.split_once("```").expect("an end");
            boxes.push(Try {
                place: file.strip_prefix(&root).expect("below src").display().to_string(),
                lines: lines.lines().map(str::to_owned).collect(),
            });
        }
    }
    boxes
}

/// How the first line of a box ends.
const START: &str = "& server=$!; sleep 0.5";

/// What a box has printed and logged.
struct Shown {
    printed: String,
    log: String,
}

impl Try {
    /// The options of the server that it begins with.
    fn options(&self) -> &str {
        let first = self.lines[0].strip_prefix("onepoll ");
        let options = first.and_then(|rest| rest.strip_suffix(START));
        options.unwrap_or_else(|| panic!("{} starts {:?}", self.place, self.lines[0]))
    }

    /// What one should look for, behind a mark.
    fn expected(&self, mark: &str) -> Vec<&str> {
        self.lines.iter().filter_map(|line| Some(line.split_once(mark)?.1)).collect()
    }

    fn shows_what_it_says(&self) {
        let shown = self.run();
        for text in self.expected("# look for: ") {
            let printed = &shown.printed;
            assert!(printed.contains(text), "{}: no {text:?} in {printed}", self.place);
        }
        for text in self.expected("# look in the log for: ") {
            assert!(shown.log.contains(text), "{}: no {text:?} in {}", self.place, shown.log);
        }
    }

    /// Runs it as it stands, on free ports. All lines are of one shell with job control, as where a
    /// reader types them. The shell takes the rest once it is known where the server listens.
    fn run(&self) -> Shown {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("onepoll-tour-{}-{count}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (program, options) = (env!("CARGO_BIN_EXE_onepoll"), self.options());
        let begin = format!(
            "set -m\n'{program}' {options} --listen 127.0.0.1:0 --diag 127.0.0.1:0 \
                 >ready 2>log & server=$!\n\
             trap 'kill -KILL $server 2>/dev/null' EXIT\n\
             until [ -e rest.sh ]; do sleep 0.05; done\n. ./rest.sh\n\
             kill -0 $server 2>/dev/null || echo ended >>ended"
        );
        let mut shell = Command::new("bash");
        shell.args(["-c", &begin]).current_dir(&folder).stdin(Stdio::null());
        let shell = shell.stdout(Stdio::piped()).spawn().expect("a shell");
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let ready =
            wait_for("the server listens", || Some(text("ready")).filter(|it| !it.is_empty()));
        let address = |key: &str| {
            let (_, rest) = ready.split_once(&format!("\"{key}\":\"")).expect("an address");
            rest.split('"').next().expect("its end").to_owned()
        };
        let rest = self.lines[1..].join("\n") + "\n";
        let rest = rest.replace("localhost:8080", &address("listen"));
        let rest = rest.replace("localhost:8081", &address("diag"));
        // As bash has it in the name of a socket.
        let rest = rest.replace("localhost/8080", &address("listen").replace(':', "/"));
        fs::write(folder.join("rest"), rest).expect("it is written");
        fs::rename(folder.join("rest"), folder.join("rest.sh")).expect("it is there");
        let output = shell.wait_with_output().expect("the shell ends");
        let (log, ended) = (text("log"), text("ended"));
        fs::remove_dir_all(&folder).expect("it was there");
        assert_eq!(ended, "ended\n", "{}: the server has ended by then", self.place);
        Shown { printed: String::from_utf8_lossy(&output.stdout).into_owned(), log }
    }
}

#[test]
fn the_tour_has_boxes_of_what_the_program_takes() {
    let boxes = boxes();
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
        let options = found.options().split_whitespace();
        let help = onepoll().args(options).arg("--help").output().expect("it can be run");
        assert!(help.status.success(), "{}: {:?}", found.place, found.options());
        let looks =
            found.expected("# look for: ").len() + found.expected("# look in the log for: ").len();
        assert!(looks > 0, "{} says nothing to look for", found.place);
    }
}

#[test]
#[ignore = "needs Debian's curl, strace and wrk"]
fn every_box_of_the_tour_shows_what_it_says() {
    let boxes = Mutex::new(boxes().into_iter());
    let next = || boxes.lock().expect("no box panics with it").next();
    // Two at a time, as a box waits most of its time.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(found) = next() {
                    found.shows_what_it_says();
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
