//! A server that takes part: how to start it, what it may offer, and the process while it runs.
//! All that a contestant may do wrong is a value here and never a panic: it may not start, refuse a
//! port, die or hang.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpgrp, getpid, kill_process, kill_process_group,
    pidfd_open, set_child_subreaper, waitpid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::pipe;

use super::client::Client;
use super::machine;

/// A server that does not listen after this time does not start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How often what no event announces is looked for.
const POLL_PAUSE: Duration = Duration::from_millis(2);

/// The ports that servers get.
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 20_000;

/// The process groups of all servers that are running, for a signal that ends the bench.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Kills all servers and ends this process, once it is told to end. They are in groups of their
/// own, so Ctrl-C does not reach them.
pub(crate) fn end_with_all_servers_at_a_signal() {
    let (mut reader, writer) = UnixStream::pair().expect("a socket pair");
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
        let writer = writer.try_clone().expect("a descriptor");
        pipe::register(signal, writer).expect("a handler");
    }
    thread::spawn(move || {
        let _ = reader.read(&mut [0]);
        let running = RUNNING.lock().expect("no thread panics");
        for group in running.iter() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
        machine::clean_up();
        std::process::exit(130);
    });
}

/// How a server is started and spoken to.
#[derive(Clone)]
pub(crate) struct Contestant {
    pub name: String,
    /// With `{port}` in it, and with `{diag}` if it has a second listener.
    pub command: String,
    /// Where it listens.
    pub host: IpAddr,
    /// The path that is served with 200.
    pub path: String,
    /// The signal that asks for a clean stop.
    pub signal: Signal,
}

/// The names of signals that may stop a server.
pub(crate) const SIGNALS: [(&str, Signal); 6] = [
    ("TERM", Signal::TERM),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("HUP", Signal::HUP),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
];

impl Contestant {
    pub(crate) fn has_diagnostics(&self) -> bool {
        self.command.contains("{diag}")
    }

    pub(crate) fn signal_name(&self) -> &'static str {
        let known = SIGNALS.iter().find(|(_, signal)| *signal == self.signal);
        known.map_or("?", |(name, _)| name)
    }

    /// A GET request for the path.
    pub(crate) fn request(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", self.path).into_bytes()
    }

    /// Starts it on the server's core, on ports of its own, and waits until it listens.
    pub(crate) fn start(&self) -> Result<Server, String> {
        self.start_by("")
    }

    /// The same, by way of the words of `launcher`.
    pub(crate) fn start_by(&self, launcher: &str) -> Result<Server, String> {
        set_child_subreaper(Some(getpid())).map_err(|error| error.to_string())?;
        let free_port = || free_port(self.host).map_err(|error| format!("{}: {error}", self.host));
        let [port, diag] = [free_port()?, free_port()?];
        let text = self.command.replace("{port}", &port.to_string());
        let text = text.replace("{diag}", &diag.to_string());
        let log = machine::scratch(&format!("server-{port}.log"));
        let stderr = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut shell = Command::new("sh");
        let [core, _] = machine::cores();
        shell.args(["-c", &format!("exec taskset -c {core} {launcher} {text}")]);
        shell.env("PATH", machine::path());
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0);
        // A process that is not known yet would be taken for an orphan.
        let mut running = RUNNING.lock().expect("no thread panics");
        let child = shell.spawn().map_err(|error| format!("sh: {error}"))?;
        running.push(Pid::from_child(&child));
        drop(running);
        let main = SocketAddr::from((self.host, port));
        let diag = self.has_diagnostics().then_some(SocketAddr::from((self.host, diag)));
        let mut server = Server { child, main, diag, log };
        for address in [Some(main), diag].into_iter().flatten() {
            server.wait_until_it_listens(address)?;
        }
        match server.death() {
            None => Ok(server),
            Some(death) => Err(format!("{death}, and listens; it has to stay in the foreground")),
        }
    }

    /// Starts it once and sends it one request. Returns why it cannot take part.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut server = self.start()?;
        let status = Client::connect(server.main).and_then(|mut client| {
            client.send(&self.request())?;
            client.response(false)
        });
        match status {
            Ok(response) if response.status == 200 => Ok(()),
            Ok(response) => {
                let (path, status) = (&self.path, response.status);
                Err(format!("GET {path} gets {status}, not 200; --path names another path"))
            }
            Err(lost) => Err(format!("GET {} gets no response: {}", self.path, {
                server.death().unwrap_or_else(|| lost.to_string())
            })),
        }
    }
}

/// The last bytes of a file.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, mut bytes) = (File::open(path)?, Vec::new());
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(4096)))?;
    file.take(4096).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A port that is free and that no other server of this run gets. It is below those that the kernel
/// gives to clients (`ip_local_port_range` in ip(7)).
fn free_port(host: IpAddr) -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PORTS {
        // Another run begins at another one.
        let number = std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST_PORT + number % PORTS).expect("it is below");
        match TcpListener::bind((host, port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AddrInUse.into())
}

/// A contestant that is running. It is killed with all of its processes when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub main: SocketAddr,
    /// The second listener.
    pub diag: Option<SocketAddr>,
    /// What it writes to standard error.
    log: PathBuf,
}

impl Server {
    fn wait_until_it_listens(&mut self, address: SocketAddr) -> Result<(), String> {
        let start = Instant::now();
        while TcpStream::connect_timeout(&address, START_TIMEOUT).is_err() {
            if let Some(death) = self.death() {
                return Err(format!("{death} before it listens on port {}", address.port()));
            }
            if start.elapsed() > START_TIMEOUT {
                let port = address.port();
                return Err(format!("it does not listen on port {port} within {START_TIMEOUT:?}"));
            }
            thread::sleep(POLL_PAUSE);
        }
        Ok(())
    }

    /// How it has ended, if it has, with the last line of its standard error.
    pub(crate) fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let log = end_of(&self.log).unwrap_or_default();
        // What a terminal would take for a command is not shown.
        let log = String::from_utf8_lossy(&log).replace(|c: char| c.is_control() && c != '\n', "");
        // A backtrace, or a note on how to get one, is no message.
        let is_message = |line: &&str| {
            !line.trim().is_empty()
                && !["note: ", "stack backtrace", " "].iter().any(|start| line.starts_with(start))
        };
        let last = log.lines().rev().find(is_message);
        let last =
            last.map(|line| format!(" ({})", line.trim().chars().take(120).collect::<String>()));
        Some(format!("it ends with {}{}", describe(status), last.unwrap_or_default()))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal to the process that was started. One that has exited takes none.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid(), signal);
    }

    /// Stops all of its processes as Ctrl-Z would, or lets them go on.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let _ = kill_process_group(self.pid(), signal);
    }

    /// Its exit status, once it exits by itself, or `None` after `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).ok()?;
        let timeout = timeout.try_into().ok()?;
        let mut exit = [PollFd::new(&process, PollFlags::IN)];
        retry_on_intr(|| poll(&mut exit, Some(&timeout))).ok()?;
        self.child.try_wait().ok().flatten()
    }

    /// The nanoseconds that all threads of all of its processes have spent on a processor, their
    /// own and the kernel's for them (proc(5)): exactly for threads that are there (`schedstat`),
    /// by the clock's ticks where threads have ended (`stat`), whichever is more.
    pub(crate) fn processor_time(&self) -> f64 {
        let times = self.processes().into_iter().map(|process| {
            let threads = entries(&process.join("task")).into_iter().filter_map(|task| {
                let stat = fs::read_to_string(task.join("schedstat")).ok()?;
                stat.split(' ').next()?.parse::<f64>().ok()
            });
            let fields = stat_fields(&process);
            let ticks = fields.iter().skip(11).take(2).filter_map(|it| it.parse::<f64>().ok());
            let tick = 1e9 / rustix::param::clock_ticks_per_second() as f64;
            threads.sum::<f64>().max(ticks.sum::<f64>() * tick)
        });
        times.sum()
    }

    /// The bytes of memory that all of its processes take. Of what they share with others, each
    /// takes its part (`Pss` in proc(5)).
    pub(crate) fn memory(&self) -> f64 {
        let sizes = self.processes().into_iter().filter_map(|process| {
            let text = fs::read_to_string(process.join("smaps_rollup")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().strip_suffix(" kB")?.parse::<f64>().ok()
        });
        sizes.sum::<f64>() * 1024.0
    }

    /// The folders below `/proc` of the processes in its group, which workers stay in.
    fn processes(&self) -> Vec<PathBuf> {
        let group = self.pid().to_string();
        let is_in_group = |process: &PathBuf| stat_fields(process).get(2) == Some(&group);
        let own = PathBuf::from(format!("/proc/{group}"));
        let is_process = |path: &PathBuf| path.file_name().is_some_and(is_number) && *path != own;
        let others = entries(Path::new("/proc")).into_iter().filter(is_process).filter(is_in_group);
        [own.clone()].into_iter().chain(others).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // All of them may have exited.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
        let mut running = RUNNING.lock().expect("no thread panics");
        running.retain(|group| *group != self.pid());
        kill_orphans(&running);
        let _ = fs::remove_file(&self.log);
    }
}

/// Kills what servers have left behind in groups of their own. The kernel has made such processes
/// children of this one, which is their reaper (`PR_SET_CHILD_SUBREAPER`).
fn kill_orphans(running: &[Pid]) {
    let own_group = getpgrp().to_string();
    let known: Vec<String> = running.iter().map(ToString::to_string).chain([own_group]).collect();
    let own = std::process::id().to_string();
    let orphan = |process: PathBuf| match &stat_fields(&process)[..] {
        [_, parent, group, ..] if *parent == own && !known.contains(group) => {
            let pid = process.file_name()?.to_str()?.parse().ok()?;
            Pid::from_raw(pid)
        }
        _ => None,
    };
    // The children of an orphan are orphans once it is gone.
    loop {
        let orphans: Vec<Pid> =
            entries(Path::new("/proc")).into_iter().filter_map(orphan).collect();
        if orphans.is_empty() {
            return;
        }
        for pid in orphans {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// An exit status, or the signal that ended the process.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}

/// The fields of `stat` behind the name, which may contain blanks and parentheses.
fn stat_fields(process: &Path) -> Vec<String> {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').map(str::to_owned).collect()
}

fn is_number(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
