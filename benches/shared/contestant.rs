//! A server that takes part in a benchmark, ours or another one.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::harness::{Process, TIMEOUT};

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
                assert!(start.elapsed() < TIMEOUT, "{command:?} does not listen");
                thread::yield_now();
            }
        }
        server
    }
}

/// Two addresses that are free just now.
fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address"))
}
