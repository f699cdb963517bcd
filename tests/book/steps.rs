//! The seven steps: each breaks as its next page says, and is mended there.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::boxes::boxes;
use crate::built::example;

/// How much longer than the last one a step may be.
const LINES_MORE_MAX: usize = 60;

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("text")
}

fn page(step: usize) -> String {
    text(&format!("src/book/step_{step}.md"))
}

fn has_line(shown: &str, text: &str) -> bool {
    shown.lines().any(|line| line.trim_end() == text)
}

/// A box shows on its own step what it says, and none of it on the step before, if there is one.
fn shows_what_it_says(step: usize) {
    let found = boxes("its page", &page(step));
    let [found] = &found[..] else { panic!("there is one box on the page of step {step}") };
    assert_eq!(found.starts(), format!("step_{step}"));
    let expected = found.expected("# look for: ");
    assert!(!expected.is_empty());
    let server = |step| format!("'{}' 127.0.0.1:0", example(&format!("step_{step}")).display());
    // On a busy machine, what comes may take longer than the box waits for what does not.
    let longer =
        |rest: String| rest.replace("-m 3 ", "-m 100 ").replace("timeout 5", "timeout 100");
    let shown = found.run(&server(step), longer).printed;
    for text in &expected {
        assert!(has_line(&shown, text), "step {step}: no {text:?} in {shown:?}");
    }
    if step > 1 {
        let shown = found.run(&server(step - 1), |rest| rest).printed;
        for text in expected {
            assert!(!has_line(&shown, text), "the step before shows {text:?}: {shown:?}");
        }
    }
}

#[test]
fn step_1_responds() {
    shows_what_it_says(1);
}

#[test]
fn a_silent_client_stops_step_1_and_not_step_2() {
    shows_what_it_says(2);
}

#[test]
fn a_long_head_hangs_step_2_and_not_step_3() {
    shows_what_it_says(3);
}

#[test]
fn a_slow_reader_stops_step_3_and_not_step_4() {
    shows_what_it_says(4);
}

#[test]
fn half_a_request_stays_in_step_4_and_not_in_step_5() {
    shows_what_it_says(5);
}

#[test]
fn a_long_batch_goes_first_in_step_5_and_not_in_step_6() {
    shows_what_it_says(6);
}

#[test]
fn a_signal_loses_a_request_of_step_6_and_not_of_step_7() {
    shows_what_it_says(7);
}

/// A step that runs, and ends with its test.
struct Running(Child, SocketAddr);

impl Running {
    fn step(step: usize) -> Running {
        let mut command = Command::new(example(&format!("step_{step}")));
        let mut child = command.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        Running(child, line.trim().parse().expect("an address"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }

    fn client(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(self.1).expect("it listens"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// The last line of a response.
fn response(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    while !line.starts_with("response ") {
        line.clear();
        assert!(client.read_line(&mut line).expect("a response") > 0, "it has closed");
    }
    line
}

#[test]
fn a_client_that_goes_on_stays_longer_than_the_timeout() {
    for step in 5..=7 {
        let running = Running::step(step);
        let (mut client, mut silent) = (running.client(), running.client());
        let pause = Some(Duration::from_millis(100));
        silent.get_ref().set_read_timeout(pause).expect("a socket option");
        // The silent client has connected later, and is closed at its timeout.
        let mut is_open = true;
        while is_open {
            client.get_mut().write_all(REQUEST).expect("it is open");
            response(&mut client);
            is_open = silent.read(&mut [0; 1]).is_err_and(|it| it.kind() == ErrorKind::WouldBlock);
        }
        client.get_mut().write_all(REQUEST).expect("it is open");
        response(&mut client);
    }
}

#[test]
fn a_head_without_an_end_is_closed_from_step_6_on() {
    for step in 6..=7 {
        let running = Running::step(step);
        let mut client = running.client();
        let sent = client.get_mut().write_all(&[b"GET /".to_vec(), vec![b'x'; 1 << 20]].concat());
        let end = client.read(&mut [0; 1]);
        // The limit leaves input unread, which resets the client. A timeout would send a FIN.
        assert!(sent.is_err() || end.is_err(), "step {step}: {end:?}");
    }
}

#[test]
fn step_7_serves_the_client_in_its_queue_before_it_stops() {
    let mut running = Running::step(7);
    running.signal(Signal::STOP);
    let mut client = running.client();
    client.get_mut().write_all(REQUEST).expect("it is connected");
    running.signal(Signal::TERM);
    running.signal(Signal::CONT);
    assert_eq!(response(&mut client), "response 1\n");
    assert!(running.0.wait().expect("it exits").success());
}

#[test]
fn step_7_closes_what_is_left_at_its_deadline() {
    let mut running = Running::step(7);
    let mut client = running.client();
    // With the end of each request comes the beginning of the next one. So no response is the last
    // one, and each of them puts off the timeout.
    let (begin, end) = REQUEST.split_at(REQUEST.len() / 2);
    client.get_mut().write_all(begin).expect("it is open");
    running.signal(Signal::TERM);
    let (next, since) = ([end, begin].concat(), Instant::now());
    let exited = loop {
        assert!(since.elapsed() < Duration::from_secs(100), "it has a deadline of 5 s");
        if let Some(exited) = running.0.try_wait().expect("it is a child") {
            break exited;
        }
        // It may close at any time.
        let _ = client.get_mut().write_all(&next);
        let mut lines = client.by_ref().lines().map_while(Result::ok);
        lines.find(|line| line.starts_with("response "));
    };
    assert_eq!(exited.code(), Some(1));
}

#[test]
fn each_step_is_a_little_longer_and_its_page_has_the_difference() {
    let lines = |step| text(&format!("tests/book/steps/step_{step}.rs")).lines().count();
    for step in 2..=7 {
        let more = lines(step) - lines(step - 1);
        assert!(more <= LINES_MORE_MAX, "step {step} has {more} lines more");
        let (before, after) = (format!("step_{}.rs", step - 1), format!("step_{step}.rs"));
        let mut diff = Command::new("diff");
        diff.args(["-U2", "--label", &before, "--label", &after, &before, &after]);
        diff.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/book/steps"));
        let output = diff.output().expect("diffutils");
        let shown = text(&format!("tests/book/steps/step_{step}.diff"));
        let is_same = String::from_utf8_lossy(&output.stdout) == shown;
        assert!(is_same, "step_{step}.diff is not what this prints: {diff:?}");
    }
}

#[test]
fn the_protocol_is_the_same_in_all_steps() {
    let protocol = |step| {
        let program = text(&format!("tests/book/steps/step_{step}.rs"));
        program.split_once("/// Takes a whole request").expect("a function").1.to_owned()
    };
    for step in 2..=7 {
        assert_eq!(protocol(step), protocol(1), "step {step}");
    }
}
