//! Step 2: one poll, many clients. The only call that blocks waits for all clients at once.

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
    connections: Slab<Connection>,
    responses: u64,
}

struct Connection {
    stream: TcpStream,
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
        Ok(Server { poll, listener, connections: Slab::new(), responses: 0 })
    }

    /// One round of the loop.
    fn tick(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            polled => polled?,
        }
        for event in events.iter() {
            match event.token() {
                LISTENER => self.accept()?,
                Token(slot) => self.run(slot),
            }
        }
        Ok(())
    }

    /// Accepts all clients that wait.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                accepted => accepted?.0,
            };
            let entry = self.connections.vacant_entry();
            let token = Token(entry.key());
            self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
            entry.insert(Connection { stream, input: Vec::new() });
        }
    }

    fn run(&mut self, slot: usize) {
        match self.connections[slot].run(&mut self.responses) {
            Ok(true) => {}
            Ok(false) | Err(_) => drop(self.connections.remove(slot)),
        }
    }
}

impl Connection {
    /// Reads once, and responds. Says whether the connection stays open.
    fn run(&mut self, responses: &mut u64) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let len = match self.stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            read => read?,
        };
        self.input.extend_from_slice(&buffer[..len]);
        while let Some(output) = respond(&mut self.input, responses)? {
            self.write_all(&output)?;
        }
        Ok(len > 0)
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
