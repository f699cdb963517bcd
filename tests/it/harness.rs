//! A server process and the peers that talk to it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::net::getsockname;
use rustix::net::sockopt::socket_acceptconn;
pub(crate) use rustix::process::Signal;
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, WaitOptions, kill_process, pidfd_getfd, pidfd_open, waitpid,
};
use socket2::{Domain, SockRef, Socket, Type};

/// Every wait of a test fails after this time. Nothing takes nearly as long on any machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
pub(crate) const READY: &str = "GET /ready HTTP/1.1\r\nHost: a\r\n\r\n";

/// The binary, with an environment that holds nothing of the caller's.
pub(crate) fn onepoll() -> Command {
    let mut command = with_default_signals(env!("CARGO_BIN_EXE_onepoll"));
    command.env_clear().stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A command that ignores neither SIGINT nor SIGHUP, even if the tests do. A script starts its
/// background jobs with SIGINT ignored, nohup ignores SIGHUP, and children inherit both.
pub(crate) fn with_default_signals(program: impl AsRef<OsStr>) -> Command {
    let both = 1 << (Signal::INT.as_raw() - 1) | 1 << (Signal::HUP.as_raw() - 1);
    if signals("SigIgn") & both == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,HUP").arg(program);
    command
}

/// The signals of which a line in this process's status tells, a bit each (proc(5)).
pub(crate) fn signals(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let bits = status.lines().find_map(|each| each.strip_prefix(line)?.strip_prefix(":\t"));
    u64::from_str_radix(bits.expect("a line"), 16).expect("a number")
}

/// Limits that no test reaches on any machine. A test of a limit sets its own.
const GENEROUS: [&str; 5] = [
    "--idle-timeout=10m",
    "--header-timeout=10m",
    "--body-timeout=10m",
    "--write-timeout=10m",
    "--drain=10m",
];

/// A server that is running, killed at the latest when it is dropped.
pub(crate) struct Process {
    child: Child,
    /// The ready line, without its line end.
    pub ready: String,
    pub main: SocketAddr,
    pub diag: SocketAddr,
    stdout: Receiver<String>,
    log: Receiver<String>,
    logged: Vec<String>,
}

/// A server that has exited.
pub(crate) struct Exited {
    pub status: ExitStatus,
    pub log: Vec<String>,
}

impl Process {
    /// Starts a server on free ports, with generous limits unless the options say otherwise, and
    /// waits until it is ready.
    pub(crate) fn start(options: &[&str]) -> Process {
        let ports = ["--listen", "127.0.0.1:0", "--diag", "127.0.0.1:0"];
        Process::spawn(onepoll().args(ports).args(GENEROUS).args(options))
    }

    /// Starts `command`, which runs a server, and waits until it is ready.
    pub(crate) fn spawn(command: &mut Command) -> Process {
        let mut server = Process::spawn_unready(command);
        let Ok(ready) = server.stdout.recv_timeout(TIMEOUT) else {
            let exited = server.wait();
            panic!("no ready line, but {:?} and {:#?}", exited.status, exited.log);
        };
        let address = |key: &str| {
            let (_, rest) = ready.split_once(&format!("\"{key}\":\"")).expect("an address");
            rest.split('"').next().and_then(|text| text.parse().ok()).expect("an address")
        };
        (server.main, server.diag) = (address("listen"), address("diag"));
        server.ready = ready;
        server
    }

    /// Starts `command`, which runs a server, and does not wait for its addresses. What it
    /// logs is read unless the command has been given another place for it.
    pub(crate) fn spawn_unready(command: &mut Command) -> Process {
        Process::spawn_with_stdout(command.stdout(Stdio::piped()))
    }

    /// The same, with the standard output that the command already has.
    pub(crate) fn spawn_with_stdout(command: &mut Command) -> Process {
        let mut child = command.spawn().expect("the binary can be run");
        let stdout = child.stdout.take().map_or_else(|| lines(io::empty()), lines);
        let log = child.stderr.take().map_or_else(|| lines(io::empty()), lines);
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Process {
            child,
            ready: String::new(),
            main: nowhere,
            diag: nowhere,
            stdout,
            log,
            logged: Vec::new(),
        }
    }

    /// Whether it says that it is ready, instead of exiting.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.stdout.recv_timeout(TIMEOUT).is_ok()
    }

    /// Waits until a server listens that prints no ready line.
    pub(crate) fn found_by_its_sockets(mut self) -> Process {
        // The sockets are made in this order.
        (self.diag, self.main) = wait_for("it listens", || match self.listening_sockets()[..] {
            [(diag, _), (main, _)] => Some((diag, main)),
            _ => None,
        });
        self
    }

    /// The sockets that the process listens with, in the order of their descriptors, and what
    /// they are bound to.
    pub(crate) fn listening_sockets(&self) -> Vec<(SocketAddr, OwnedFd)> {
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).expect("the process is there");
        let sockets = (3..32).filter_map(|fd| {
            let socket = pidfd_getfd(process.as_fd(), fd, PidfdGetfdFlags::empty()).ok()?;
            let bound = getsockname(&socket).ok()?.try_into().ok()?;
            (socket_acceptconn(&socket) == Ok(true)).then_some((bound, socket))
        });
        sockets.collect()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there");
    }

    /// Stops the process as Ctrl-Z would, and waits until it has stopped.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("the process is there");
    }

    /// Sends SIGTERM with 200 requests waiting, each on a connection in the accept queue. A paused
    /// process accepts no connection, but the kernel takes connections and requests for it.
    pub(crate) fn terminate_with_a_queue(&self) -> Vec<Peer> {
        // In its first tick, the server accepts connections ahead of any event, a signal included.
        let mut first = self.connect();
        first.send(HELLO);
        first.response();
        // Its FIN has come by the time that the server goes on.
        drop(first);
        self.pause();
        let mut peers: Vec<Peer> = (0..200).map(|_| self.connect()).collect();
        for peer in &mut peers {
            peer.send(HELLO);
        }
        self.signal(Signal::TERM);
        self.resume();
        peers
    }

    /// Lets a process go on that has been paused.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Where main and diagnostics listen.
    pub(crate) fn addresses(&self) -> [SocketAddr; 2] {
        [self.main, self.diag]
    }

    /// Connects to the main listener.
    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.main)
    }

    /// Connects to the main listener with a socket whose buffers are small.
    pub(crate) fn connect_with_little_room(&self) -> Peer {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket option");
        let room = socket.set_send_buffer_size(64 * 1024);
        room.expect("a socket option");
        socket.connect(&self.main.into()).expect("it is listening");
        Peer::new(socket.into())
    }

    /// Waits until a line that contains `text` has been logged.
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        // Each line is looked at once.
        let mut found = self.logged.iter().any(|line| line.contains(text));
        while !found {
            match self.log.recv_timeout(TIMEOUT) {
                Ok(line) => {
                    found = line.contains(text);
                    self.logged.push(line);
                }
                Err(_) => panic!("{text:?} was never logged: {:#?}", self.logged),
            }
        }
    }

    /// The lines that a test has waited for so far.
    pub(crate) fn logged(&self) -> &[String] {
        &self.logged
    }

    /// What comes on standard output behind the ready line until that is closed.
    pub(crate) fn rest_of_stdout(&mut self) -> Vec<String> {
        self.stdout.iter().collect()
    }

    /// Whether the process exits by itself before so much time has passed.
    pub(crate) fn exits_within(&self, timeout: Duration) -> bool {
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).expect("the process is there");
        let timeout = timeout.try_into().expect("a short time");
        let mut exit = [PollFd::new(&process, PollFlags::IN)];
        retry_on_intr(|| poll(&mut exit, Some(&timeout))).expect("a descriptor") == 1
    }

    /// Waits until the process has exited by itself.
    pub(crate) fn wait(mut self) -> Exited {
        let exited = self.exits_within(TIMEOUT);
        self.logged.extend(self.log.try_iter());
        assert!(exited, "still running: {:#?}", self.logged);
        let status = self.child.wait().expect("it can be waited for");
        self.logged.extend(self.log.iter());
        Exited { status, log: mem::take(&mut self.logged) }
    }

    /// Sends a signal and waits for the exit; also returns how long that took.
    pub(crate) fn stop(self, signal: Signal) -> (Exited, Duration) {
        let start = Instant::now();
        self.signal(signal);
        (self.wait(), start.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have exited, so an error is of no interest.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Exited {
    /// The line that sums up the drain, from its counts on.
    pub(crate) fn summary(&self) -> &str {
        let last = self.log.last().map_or("", String::as_str);
        last.split_once(" ms: ").map_or(last, |(_, counts)| counts)
    }

    /// The log lines without their time stamps and levels.
    pub(crate) fn messages(&self) -> Vec<&str> {
        let message = |line: &String| line.find('[').unwrap_or(0);
        self.log.iter().map(|line| &line[message(line)..]).collect()
    }
}

/// Polls for something that no event announces.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < TIMEOUT, "never: {what}");
        // The pause leaves the processor to the process that is waited for.
        thread::sleep(Duration::from_millis(2));
    }
}

/// The lines that can be read somewhere, as they come.
pub(crate) fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if line.map_or(true, |line| sender.send(line).is_err()) {
                return;
            }
        }
    });
    receiver
}

/// The memory that a process takes, in bytes (proc(5)).
pub(crate) fn resident(server: &Process) -> usize {
    let statm = fs::read_to_string(format!("/proc/{}/statm", server.pid())).expect("statm");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(0, |pages: usize| pages * rustix::param::page_size())
}

/// A client that shows its bytes.
pub(crate) struct Peer {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Peer {
        Peer::try_connect(address).expect("it is listening")
    }

    pub(crate) fn try_connect(address: SocketAddr) -> Result<Peer, ErrorKind> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT);
        stream.map(Peer::new).map_err(|error| error.kind())
    }

    pub(crate) fn new(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(TIMEOUT)).expect("a socket option");
        stream.set_write_timeout(Some(TIMEOUT)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Peer { stream, received: Vec::new() }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.try_send(text).expect("the server reads");
    }

    pub(crate) fn try_send(&mut self, text: &str) -> Result<(), ErrorKind> {
        let sent = self.stream.write_all(text.as_bytes());
        sent.map_err(|error| error.kind())
    }

    /// Sends requests and reads no response, until all buffers are full and the server has stopped
    /// reading; returns the number of bytes sent.
    pub(crate) fn send_until_blocked(&mut self) -> usize {
        let set_timeout = |time| self.stream.set_write_timeout(Some(time));
        set_timeout(Duration::from_millis(300)).expect("a socket option");
        let batch = HELLO.repeat(1000);
        let mut sent = 0;
        loop {
            let rest = &batch.as_bytes()[sent % batch.len()..];
            match uninterrupted(|| (&self.stream).write(rest)) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
            assert!(sent < 1 << 30, "the client is never blocked");
        }
        set_timeout(TIMEOUT).expect("a socket option");
        sent
    }

    /// Enlarges the receive buffer of a peer from
    /// [`connect_with_little_room`](Process::connect_with_little_room).
    pub(crate) fn make_room(&self) {
        let socket = SockRef::from(&self.stream);
        socket.set_recv_buffer_size(1 << 20).expect("a socket option");
    }

    /// Sends a FIN and goes on reading.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the socket is open");
    }

    /// Closes the connection with an RST (socket(7)).
    pub(crate) fn reset(self) {
        let socket = SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket option");
    }

    /// Whether nothing comes within this time.
    pub(crate) fn has_nothing_for(&mut self, time: Duration) -> bool {
        let set_timeout = |time| self.stream.set_read_timeout(Some(time));
        set_timeout(time).expect("a socket option");
        let came = uninterrupted(|| self.stream.peek(&mut [0]));
        set_timeout(TIMEOUT).expect("a socket option");
        matches!(came, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// The next whole response.
    pub(crate) fn response(&mut self) -> String {
        self.try_response(false).expect("a response")
    }

    /// The next interim response, which is a head without a date.
    pub(crate) fn interim(&mut self) -> String {
        loop {
            let end = self.received.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                return String::from_utf8(head).expect("responses are ASCII");
            }
            self.receive().expect("an interim response");
        }
    }

    /// The next response to a `HEAD` request, which has no body.
    pub(crate) fn response_to_head(&mut self) -> String {
        self.try_response(true).expect("a response")
    }

    /// The next response, or the error instead of it: a clean end of the stream is `UnexpectedEof`.
    pub(crate) fn try_response(&mut self, fields_only: bool) -> Result<String, ErrorKind> {
        loop {
            let end = self.received.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end.map(|at| at + 4) {
                let head = String::from_utf8_lossy(&self.received[..end]);
                let length = field(&head, "Content-Length").expect("a Content-Length");
                let length: usize = length.parse().expect("a number");
                let whole = end + if fields_only { 0 } else { length };
                if self.received.len() >= whole {
                    let rest = self.received.split_off(whole);
                    let response = mem::replace(&mut self.received, rest);
                    return Ok(String::from_utf8(response).expect("responses are ASCII"));
                }
            }
            self.receive()?;
        }
    }

    /// Whether `text` is in the bytes that follow the latest response.
    pub(crate) fn has_received(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.received).contains(text)
    }

    /// Everything up to the end of the stream, which has to be clean.
    pub(crate) fn rest(&mut self) -> String {
        loop {
            match self.receive() {
                Ok(()) => {}
                Err(ErrorKind::UnexpectedEof) => break,
                Err(kind) => panic!("{kind} after {:?}", String::from_utf8_lossy(&self.received)),
            }
        }
        String::from_utf8(mem::take(&mut self.received)).expect("responses are ASCII")
    }

    fn receive(&mut self) -> Result<(), ErrorKind> {
        let mut space = [0; 64 * 1024];
        match uninterrupted(|| self.stream.read(&mut space)) {
            Ok(0) => Err(ErrorKind::UnexpectedEof),
            Ok(len) => {
                self.received.extend_from_slice(&space[..len]);
                Ok(())
            }
            Err(error) => Err(error.kind()),
        }
    }
}

/// A call that waits, made again if it was interrupted. With a timeout, the kernel does not restart
/// it (signal(7)).
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// The value of a field in a head.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The status code of a response.
pub(crate) fn status(response: &str) -> u16 {
    response.get(9..12).and_then(|code| code.parse().ok()).expect("a status line")
}
