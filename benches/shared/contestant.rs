//! A server that takes part in a benchmark, ours or another one.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Process;

/// A server that does not listen after this time takes no part. Each of them listens within a
/// second, even on a machine that is busy.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A server, and how to start it.
pub(crate) struct Contestant {
    pub name: String,
    /// With `{port}` and `{diag}` in it; `None` for our own.
    command: Option<String>,
}

impl Contestant {
    /// Our own.
    pub(crate) fn ours() -> Contestant {
        Contestant { name: "onepoll".to_owned(), command: None }
    }

    /// Another one, in the form `NAME=COMMAND`.
    pub(crate) fn parse(text: &str) -> Contestant {
        let (name, command) = text.split_once('=').expect("NAME=COMMAND");
        Contestant::other(name, command)
    }

    pub(crate) fn other(name: &str, command: &str) -> Contestant {
        Contestant { name: name.to_owned(), command: Some(command.to_owned()) }
    }

    /// Starts it on ports of its own, by way of the words of `launcher`, if there are any.
    pub(crate) fn start(&self, launcher: &str) -> Process {
        self.try_start(launcher).unwrap_or_else(|| panic!("{} does not listen", self.name))
    }

    /// The same. Returns `None` if the server exits, or does not listen in time.
    pub(crate) fn try_start(&self, launcher: &str) -> Option<Process> {
        let [main, diag] = free_addresses();
        let command = self.command.as_ref().map_or_else(
            || {
                let binary = env!("CARGO_BIN_EXE_onepoll");
                format!(
                    "'{binary}' --listen 127.0.0.1:{{port}} --diag 127.0.0.1:{{diag}} --log warn"
                )
            },
            String::clone,
        );
        let port = |address: SocketAddr| address.port().to_string();
        let listens = [Some(main), Some(diag).filter(|_| command.contains("{diag}"))];
        let command = command.replace("{port}", &port(main)).replace("{diag}", &port(diag));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {launcher} {command}")]);
        shell.stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Process::spawn_with_stdout(&mut shell);
        (server.main, server.diag) = (main, diag);
        let start = Instant::now();
        for address in listens.into_iter().flatten() {
            while TcpStream::connect(address).is_err() {
                if server.exits_within(Duration::ZERO) || start.elapsed() > START_TIMEOUT {
                    return None;
                }
                thread::yield_now();
            }
        }
        Some(server)
    }
}

/// Two addresses that are free just now.
fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address"))
}
