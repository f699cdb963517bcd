//! The boxes of the documentation that readers are asked to try: commands for bash, of which the
//! first one starts a server. They are run as they stand, on free ports.

use std::path::Path;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

/// How the first line of a box ends.
const START: &str = " & server=$!; sleep 0.5";

/// Runs a box in one shell with job control, as where a reader types it. Once the server has told
/// its addresses, they stand in place of those that the box has.
const SHELL: &str = r#"
set -m
mkfifo ready
SERVER >ready 2>log & server=$!
trap 'kill -KILL $server 2>/dev/null' EXIT
read -r ready <ready || exit 1
addresses=($(grep -o '127[.]0[.]0[.]1:[0-9]*' <<<"$ready"))
sed -i "s,localhost:\(8080\|9000\),${addresses[0]},g; s,localhost:8081,${addresses[1]},g" rest
sed -i "s,localhost/\(8080\|9000\),${addresses[0]/:/\/},g" rest
. ./rest
kill -0 $server 2>/dev/null || echo >ended
"#;

/// A box: where it is, and its lines.
pub(crate) struct Try {
    pub(crate) place: String,
    lines: Vec<String>,
}

/// What a box has printed and logged, and whether its server has ended by then.
pub(crate) struct Shown {
    pub(crate) printed: String,
    pub(crate) log: String,
    pub(crate) has_ended: bool,
}

/// All boxes in a text.
pub(crate) fn boxes(place: &str, text: &str) -> Vec<Try> {
    let parts = text.split("```sh\n").skip(1);
    let lines = parts.map(|part| part.split_once("```").expect("an end").0.lines());
    let lines = lines.map(|lines| lines.map(str::to_owned).collect());
    lines.map(|lines| Try { place: place.to_owned(), lines }).collect()
}

impl Try {
    /// What its first line starts.
    pub(crate) fn starts(&self) -> &str {
        let command = self.lines[0].strip_suffix(START);
        command.unwrap_or_else(|| panic!("{} starts {:?}", self.place, self.lines[0]))
    }

    /// What one should look for, behind a mark.
    pub(crate) fn expected(&self, mark: &str) -> Vec<&str> {
        self.lines.iter().filter_map(|line| Some(line.split_once(mark)?.1)).collect()
    }

    /// Runs it with another command in its first line, and with a change of the others.
    pub(crate) fn run(&self, server: &str, change: impl Fn(String) -> String) -> Shown {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("onepoll-box-{}-{count}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let rest = change(self.lines[1..].join("\n") + "\n");
        fs::write(folder.join("rest"), rest).expect("it is written");
        // A box that waits for what never comes is ended, and its test fails.
        let mut shell = Command::new("timeout");
        shell.args(["--foreground", "300", "bash", "-c", &SHELL.replace("SERVER", server)]);
        let output = shell.current_dir(&folder).output().expect("bash");
        let shown = Shown {
            printed: String::from_utf8_lossy(&output.stdout).into_owned(),
            log: fs::read_to_string(folder.join("log")).unwrap_or_default(),
            has_ended: Path::exists(&folder.join("ended")),
        };
        fs::remove_dir_all(&folder).expect("it was there");
        assert!(output.status.success(), "{} ends with {}", self.place, output.status);
        shown
    }
}
