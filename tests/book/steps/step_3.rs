//! Step 3: edges, and the memory of readiness. The kernel tells of a change once, so the server
//! remembers it until a call shows that there is nothing more.

use std::env;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// The body of `/long`: more than the kernel keeps for a client that does not read.
const LONG: usize = 32 << 20;
/// The token of the listener. A connection has its slot for a token.
const LISTENER: Token = Token(usize::MAX);

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// Clients may wait to be accepted.
    acceptable: bool,
    connections: Slab<Connection>,
    responses: u64,
}

struct Connection {
    stream: TcpStream,
    /// An event sets it, and only a read that is refused clears it.
    readable: bool,
    /// What has come of a request.
    input: Vec<u8>,
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("localhost:9000".to_owned());
    let listener = std::net::TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    let mut server = Server::new(listener)?;
    let mut events = Events::with_capacity(1024);
    loop {
        server.tick(&mut events)?;
    }
}

impl Server {
    fn new(listener: std::net::TcpListener) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        let (poll, mut listener) = (Poll::new()?, TcpListener::from_std(listener));
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let connections = Slab::new();
        Ok(Server { poll, listener, acceptable: false, connections, responses: 0 })
    }

    /// One round of the loop.
    fn tick(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            polled => polled?,
        }
        for event in events.iter() {
            match event.token() {
                LISTENER => self.acceptable = true,
                Token(slot) => self.on_event(slot),
            }
        }
        self.accept()
    }

    /// Accepts all clients that wait.
    fn accept(&mut self) -> io::Result<()> {
        while self.acceptable {
            let mut stream = match self.listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.acceptable = false;
                    break;
                }
                accepted => accepted?.0,
            };
            let entry = self.connections.vacant_entry();
            let token = Token(entry.key());
            self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
            entry.insert(Connection { stream, readable: false, input: Vec::new() });
        }
        Ok(())
    }

    fn on_event(&mut self, slot: usize) {
        self.connections[slot].readable = true;
        self.run(slot);
    }

    fn run(&mut self, slot: usize) {
        match self.connections[slot].run(&mut self.responses) {
            Ok(true) => {}
            Ok(false) | Err(_) => drop(self.connections.remove(slot)),
        }
    }
}

impl Connection {
    /// Reads until nothing is left, and responds. Says whether the connection stays open.
    fn run(&mut self, responses: &mut u64) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        while self.readable {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                read => self.input.extend_from_slice(&buffer[..read?]),
            }
            while let Some(output) = respond(&mut self.input, responses)? {
                self.write_all(&output)?;
            }
        }
        Ok(true)
    }

    /// Writes all of the output, and tries again and again while the kernel has no room for it.
    fn write_all(&mut self, mut output: &[u8]) -> io::Result<()> {
        while !output.is_empty() {
            match self.stream.write(output) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => output = &output[written?..],
            }
        }
        Ok(())
    }
}

/// Takes a whole request from the front of the input, and returns its response. This is the
/// protocol: a function of its arguments, which stays as it is in all steps.
fn respond(input: &mut Vec<u8>, responses: &mut u64) -> io::Result<Option<Vec<u8>>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(len) = request.parse(input).map_err(io::Error::other)? else {
        return Ok(None);
    };
    *responses += 1;
    let body = match request.path {
        Some("/long") => "x".repeat(LONG),
        _ => format!("response {responses}\n"),
    };
    input.drain(..len);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    Ok(Some((head + &body).into_bytes()))
}
