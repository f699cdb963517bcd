//! The page that shows system calls beside the source: strace tells the calls of a server, each
//! with its stack, and the page has to show the same.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
/// The steps of the tick, by the function of each.
const STEPS: &[(&str, &str)] = &[
    ("wait_for_events", "1 wait"),
    ("read_clock", "2 clock"),
    ("handle_signals", "3 signals"),
    ("handle_events", "4 events"),
    ("run_again", "5 run again"),
    ("accept", "6 accept"),
    ("handle_timeouts", "7 timers"),
];

/// One call, and where it is made.
struct Call {
    text: String,
    step: &'static str,
    /// Addresses in the program and the functions that they are in, the innermost first.
    stack: Vec<(u64, String)>,
}

/// A server that strace watches.
struct Watched {
    server: Child,
    strace: Child,
    lines: BufReader<ChildStderr>,
    main: SocketAddr,
    calls: Vec<Call>,
    /// The line that has been read ahead.
    ahead: String,
}

/// A program, and how far its code is from where it is in the file.
struct Program {
    path: PathBuf,
    distance: u64,
}

/// The server, with frame pointers and unwind tables, so that strace finds the stack.
fn program() -> Program {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("calls");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked"]).env("CARGO_TARGET_DIR", &folder);
    cargo.env_remove("CARGO_BUILD_TARGET").env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    cargo.env("RUSTFLAGS", "-C force-frame-pointers=yes -C force-unwind-tables=yes");
    assert!(cargo.status().expect("cargo is here").success());
    let path = folder.join("debug/onepoll");
    let headers = Command::new("readelf").arg("-lW").arg(&path).output().expect("binutils");
    let headers = String::from_utf8(headers.stdout).expect("text");
    let code = headers.lines().find(|line| line.contains("LOAD") && line.contains("R E"));
    let mut words = code.expect("code").split_whitespace().skip(1).map(number);
    let (offset, address) = (words.next().expect("an offset"), words.next().expect("an address"));
    Program { path, distance: address - offset }
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0)
}

impl Watched {
    fn start(program: &Program, options: &[&str]) -> Watched {
        let mut command = Command::new(&program.path);
        command.args(["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0", "--log", "off"]);
        let mut server = command.args(options).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut ready = String::new();
        let stdout = server.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut ready).expect("a line");
        let address = ready.split("\"listen\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let main = address.and_then(|address| address.parse().ok()).expect("an address");
        let mut strace = Command::new("strace");
        strace.args(["-k", "-s", "12", "-p", &server.id().to_string()]);
        let mut strace = strace.stderr(Stdio::piped()).spawn().expect("strace is here");
        let mut lines = BufReader::new(strace.stderr.take().expect("a pipe"));
        let mut ahead = String::new();
        lines.read_line(&mut ahead).expect("it says that it is attached");
        assert!(ahead.contains("attached"), "{ahead}");
        ahead.clear();
        let mut watched = Watched { server, strace, lines, main, calls: Vec::new(), ahead };
        // strace may have missed the beginning of the wait in which it came.
        drop(watched.connect());
        watched.wait_for("close");
        watched.calls.clear();
        watched
    }

    /// Reads calls up to one that contains a text.
    fn wait_for(&mut self, text: &str) {
        let mut seen = self.calls.len();
        while self.next_call() {
            if self.calls[seen..].iter().any(|call| call.text.contains(text)) {
                return;
            }
            seen = self.calls.len();
        }
        panic!("there was no {text}");
    }

    /// Reads a call with its stack. Says whether there was one.
    fn next_call(&mut self) -> bool {
        let mut line = std::mem::take(&mut self.ahead);
        if line.is_empty() && self.lines.read_line(&mut line).expect("text") == 0 {
            return false;
        }
        let (mut step, mut inner, mut stack) = ("", String::new(), Vec::new());
        loop {
            self.ahead.clear();
            let len = self.lines.read_line(&mut self.ahead).expect("text");
            let Some(frame) = self.ahead.strip_prefix(" > ").filter(|_| len > 0) else { break };
            if frame.contains("onepoll(") {
                let address = frame.rsplit_once('[').and_then(|(_, rest)| rest.split(']').next());
                let path = frame.rsplit_once('+').map_or("", |(path, _)| path);
                let function = path.rsplit("::").next().unwrap_or_default().to_owned();
                if path.ends_with("Server<O,K>::tick") {
                    step = STEPS.iter().find(|(name, _)| *name == inner).map_or("", |it| it.1);
                }
                inner.clone_from(&function);
                stack.push((number(address.expect("an address")), function));
            }
            // Here it ends. strace waits with the next line until the next call is over.
            if frame.contains("(onepoll::run+") {
                self.ahead.clear();
                break;
            }
        }
        if let Some(text) = shown(line.trim_end()) {
            self.calls.push(Call { text, step, stack });
        }
        true
    }

    /// Connects, and waits until the loop has taken the connection and sleeps again.
    fn connect(&mut self) -> TcpStream {
        let client = TcpStream::connect(self.main).expect("it listens");
        self.wait_for("EPOLLOUT of slot 0");
        client
    }

    /// Rows of a table: each call, its step, its file and its line.
    fn rows(mut self, program: &Program, from: usize) -> String {
        // The server may have exited, and strace with it.
        let _ = self.server.kill().and_then(|()| self.server.wait());
        let _ = self.strace.wait();
        let mut rows = String::from("| call | step | file | line |\n|---|---|---|---|\n");
        let mut before = String::new();
        for call in &self.calls[from..] {
            let (file, line) = place(program, &call.stack);
            let (text, step) = (call.text.replace('|', "\\|"), call.step);
            let row = format!("| `{text}` | {step} | {file} | {line} |\n");
            if row != before {
                rows.push_str(&row);
            }
            before = row;
        }
        rows
    }
}

/// The innermost line of the source that a stack goes through: its file, and its text.
fn place(program: &Program, stack: &[(u64, String)]) -> (String, String) {
    let source = root().join("src");
    let mut tool = Command::new("addr2line");
    // A call has been made just ahead of where it returns to.
    let addresses = stack.iter().map(|(at, _)| format!("{:x}", at + program.distance - 1));
    let output = tool.arg("-e").arg(&program.path).args(addresses).output().expect("binutils");
    let places = String::from_utf8(output.stdout).expect("text");
    for (place, (_, function)) in places.lines().zip(stack) {
        let place = Path::new(place).strip_prefix(&source).ok().and_then(Path::to_str);
        let Some((file, line)) = place.and_then(|place| place.split_once(':')) else { continue };
        let text = fs::read_to_string(source.join(file)).expect("a file of the source");
        let line = line.split(' ').next().and_then(|line| line.parse::<usize>().ok());
        let text = line.and_then(|line| text.lines().nth(line - 1)).unwrap_or_default();
        return match text.trim() {
            "}" => (file.to_owned(), format!("the end of `{function}`")),
            text => (file.to_owned(), format!("`{text}`").replace('|', "\\|")),
        };
    }
    ("signal-hook".to_owned(), "its handler".to_owned())
}

/// A call in short, or `None` for those that are of no interest: without addresses, descriptors and
/// times.
fn shown(line: &str) -> Option<String> {
    if line.starts_with("--- SIGTERM") {
        return Some("SIGTERM".to_owned());
    }
    let (name, rest) = line.split_once('(')?;
    let (_, result) = rest.rsplit_once(" = ")?;
    let result = match result.split_once(' ') {
        Some(("-1", error)) => error.split(' ').next().unwrap_or_default(),
        _ => result.split(' ').next().unwrap_or_default(),
    };
    let text = rest.split_once('"').map(|(_, text)| text.rsplit_once('"').map_or("", |it| it.0));
    let text = text.unwrap_or_default();
    Some(match name {
        "epoll_wait" if result == "1" || result == "2" => {
            let events: Vec<String> = rest.split("{events=").skip(1).map(event).collect();
            format!("epoll_wait: {}", events.join(", "))
        }
        "epoll_wait" if result == "0" => "epoll_wait: its time is over".to_owned(),
        // Whether a signal interrupts the wait or comes just ahead of it is chance.
        "epoll_wait" if result == "EINTR" => return None,
        "epoll_wait" | "shutdown" | "close" => format!("{name} = {result}"),
        "accept4" if result.starts_with('E') => format!("accept4 = {result}"),
        "accept4" => "accept4 = a descriptor".to_owned(),
        "ppoll" => format!("ppoll = {result}"),
        "epoll_ctl" if rest.contains("EPOLL_CTL_ADD") => format!("epoll_ctl(ADD) = {result}"),
        "recvfrom" if result.starts_with('E') => format!("recvfrom = {result}"),
        "recvfrom" | "sendto" => format!("{name} \"{text}\" = {result}"),
        "writev" if result.starts_with('E') => format!("writev = {result}"),
        "writev" => "writev = a part".to_owned(),
        "setsockopt" => {
            let option = rest.split(", ").nth(2).unwrap_or_default();
            format!("setsockopt({option}) = {result}")
        }
        _ => return None,
    })
}

/// An event: what it tells, and of what.
fn event(text: &str) -> String {
    let events = text.split(',').next().unwrap_or_default();
    let token = text.split("u64=").nth(1).and_then(|rest| rest.split('}').next());
    let token: u64 = token.and_then(|token| token.parse().ok()).expect("a token");
    let whose = match u64::MAX - token {
        0 => "the signals".to_owned(),
        1 | 2 => "a listener".to_owned(),
        _ => format!("slot {token}"),
    };
    format!("{events} of {whose}")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn request(program: &Program) -> String {
    let mut watched = Watched::start(program, &[]);
    let mut client = watched.connect();
    client.write_all(HELLO.as_bytes()).expect("it is open");
    assert!(client.read(&mut [0; 1024]).expect("a response") > 100);
    drop(client);
    watched.wait_for("close");
    watched.rows(program, 0)
}

fn batch(program: &Program) -> String {
    let mut watched = Watched::start(program, &[]);
    let mut client = watched.connect();
    let from = watched.calls.len();
    client.write_all(HELLO.repeat(3).as_bytes()).expect("it is open");
    watched.wait_for("sendto");
    watched.rows(program, from)
}

fn slow_reader(program: &Program) -> String {
    let mut watched = Watched::start(program, &["--body-size", "67108864"]);
    let mut client = watched.connect();
    let from = watched.calls.len();
    client.write_all(HELLO.as_bytes()).expect("it is open");
    watched.wait_for("writev = EAGAIN");
    client.read_exact(&mut vec![0; 32 << 20]).expect("it goes on");
    watched.wait_for("writev = a part");
    watched.rows(program, from)
}

fn sigterm(program: &Program) -> String {
    let mut watched = Watched::start(program, &[]);
    let mut client = watched.connect();
    let from = watched.calls.len();
    kill_process(Pid::from_child(&watched.server), Signal::TERM).expect("it runs");
    assert_eq!(client.read(&mut [0; 1]).expect("a FIN"), 0);
    watched.wait_for("EPOLLOUT of slot 0");
    drop(client);
    while watched.next_call() {}
    watched.rows(program, from)
}

#[test]
#[ignore = "needs Debian's strace and binutils"]
fn the_page_shows_the_calls_beside_the_source() {
    let program = program();
    let page = fs::read_to_string(root().join("src/book/calls.md")).expect("text");
    for (title, rows) in [
        ("A request", request(&program)),
        ("A batch", batch(&program)),
        ("A slow reader", slow_reader(&program)),
        ("SIGTERM", sigterm(&program)),
    ] {
        println!("## {title}\n\n{rows}");
        let section = page.split(&format!("\n## {title}\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("the page has no {title:?}"));
        assert!(section.contains(&rows), "{title} shows other calls than these:\n{rows}");
    }
}
