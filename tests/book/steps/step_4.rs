//! Step 4: output that the kernel does not take. It waits with its connection until there is room,
//! and nothing more is read from a client that does not read.

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
    /// A response, and how much of it the kernel has taken.
    output: Vec<u8>,
    sent: usize,
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
                Token(slot) => self.on_event(slot, event.is_readable()),
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
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, interest)?;
            entry.insert(Connection::new(stream));
        }
        Ok(())
    }

    fn on_event(&mut self, slot: usize, readable: bool) {
        // kqueue(2) tells of input and of room in two events; the first may have closed it.
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.readable |= readable;
            self.run(slot);
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
    fn new(stream: TcpStream) -> Connection {
        Connection { stream, readable: false, input: Vec::new(), output: Vec::new(), sent: 0 }
    }

    /// Writes, responds and reads, in this order, until one of them has to wait. Says whether the
    /// connection stays open.
    fn run(&mut self, responses: &mut u64) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            if !self.flush()? {
                return Ok(true);
            }
            if let Some(output) = respond(&mut self.input, responses)? {
                self.output = output;
                continue;
            }
            if !self.readable {
                return Ok(true);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                read => self.input.extend_from_slice(&buffer[..read?]),
            }
        }
    }

    /// Writes as much of the output as the kernel takes. Says whether nothing is left.
    fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                written => self.sent += written?,
            }
        }
        (self.output, self.sent) = (Vec::new(), 0);
        Ok(true)
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
