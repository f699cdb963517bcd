//! The boxes of the tour, which readers of the documentation are asked to try: every one is run,
//! and what it says one should look for has to be there.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, Command};

use crate::harness::{Process, onepoll};

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

impl Try {
    /// The options of the server that it begins with.
    fn options(&self) -> Vec<&str> {
        let first = self.lines[0].strip_prefix("onepoll");
        let options = first.and_then(|rest| rest.strip_suffix("& server=$!"));
        let options =
            options.unwrap_or_else(|| panic!("{} starts {:?}", self.place, self.lines[0]));
        options.split_whitespace().collect()
    }

    /// What one should look for, behind a mark.
    fn expected(&self, mark: &str) -> Vec<&str> {
        self.lines.iter().filter_map(|line| Some(line.split_once(mark)?.1)).collect()
    }

    /// The rest as a script about a server that runs already.
    fn script(&self, server: &Process) -> String {
        let pid = server.pid();
        let script = format!("set -m\nserver={pid}\n{}\n", self.lines[1..].join("\n"));
        let [main, diag] = server.addresses().map(|address| address.to_string());
        script.replace("localhost:8080", &main).replace("localhost:8081", &diag)
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
        let help = onepoll().args(found.options()).arg("--help").output().expect("it can be run");
        assert!(help.status.success(), "{}: {:?}", found.place, found.options());
        let looks =
            found.expected("# look for: ").len() + found.expected("# look in the log for: ").len();
        assert!(looks > 0, "{} says nothing to look for", found.place);
    }
}

#[test]
#[ignore = "needs Debian's curl, strace and wrk"]
fn every_box_of_the_tour_shows_what_it_says() {
    for found in boxes() {
        let ports = ["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0"];
        let mut server = Process::spawn(onepoll().args(ports).args(found.options()));
        let folder = std::env::temp_dir().join(format!("onepoll-tour-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let mut shell = Command::new("bash");
        let output = shell.arg("-c").arg(found.script(&server)).current_dir(&folder).output();
        let output = output.expect("a shell");
        fs::remove_dir_all(&folder).expect("it was there");
        let shown = String::from_utf8_lossy(&output.stdout);
        for text in found.expected("# look for: ") {
            assert!(shown.contains(text), "{}: no {text:?} in {shown}", found.place);
        }
        for text in found.expected("# look in the log for: ") {
            server.wait_for_log(text);
        }
        let exited = server.wait();
        assert_eq!(exited.status.signal(), None, "{}: it ends by itself", found.place);
    }
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
