//! The boxes of the book: commands for bash, of which the first one starts a server.

use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use crate::built::example;

/// A box of a page, and what it says to look for.
pub(crate) struct Box {
    lines: Vec<String>,
}

impl Box {
    /// The only box of a page.
    pub(crate) fn of(page: &str) -> Box {
        let parts: Vec<&str> = page.split("```sh\n").collect();
        let [_, part] = parts[..] else { panic!("there is one box in {page}") };
        let (lines, _) = part.split_once("```").expect("an end");
        Box { lines: lines.lines().map(str::to_owned).collect() }
    }

    /// What one should look for in the output.
    pub(crate) fn expected(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| Some(line.split_once("# look for: ")?.1))
    }

    /// What it prints if another program stands in its first line, on a free port. Waits that the
    /// box has for what does not come may be longer.
    pub(crate) fn run(&self, program: &str, waits_longer: bool) -> String {
        let (first, rest) = self.lines.split_first().expect("it has lines");
        assert!(first.ends_with(" & server=$!; sleep 0.5"), "{first}");
        let script = format!(
            "set -m; mkfifo address; '{}' 127.0.0.1:0 >address & server=$!\n\
             trap 'kill -KILL $server 2>/dev/null' EXIT; read address <address\n{}",
            example(program).display(),
            rest.join("\n")
        );
        let script = script
            .replace("localhost:9000", "$address")
            .replace("localhost/9000", "${address%:*}/${address##*:}");
        let script = match waits_longer {
            true => script.replace("-m 3 ", "-m 100 ").replace("timeout 5 ", "timeout 100 "),
            false => script,
        };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("onepoll-book-{}-{count}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let output = Command::new("bash").args(["-c", &script]).current_dir(&folder).output();
        fs::remove_dir_all(&folder).expect("it was there");
        String::from_utf8_lossy(&output.expect("bash").stdout).into_owned()
    }
}
