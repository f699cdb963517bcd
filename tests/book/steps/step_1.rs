//! Step 1: accept and respond. Every call blocks, so the server has one client at a time.

use std::env;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

/// The body of `/long`: more than the kernel keeps for a client that does not read.
const LONG: usize = 32 << 20;

struct Server {
    listener: TcpListener,
    responses: u64,
}

struct Connection {
    stream: TcpStream,
    /// What has come of a request.
    input: Vec<u8>,
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("localhost:9000".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("{}", listener.local_addr()?);
    let mut server = Server { listener, responses: 0 };
    loop {
        server.accept()?;
    }
}

impl Server {
    /// Accepts one client, and serves it until one of the two closes the connection.
    fn accept(&mut self) -> io::Result<()> {
        let (stream, _) = self.listener.accept()?;
        let mut connection = Connection { stream, input: Vec::new() };
        while connection.run(&mut self.responses).unwrap_or(false) {}
        Ok(())
    }
}

impl Connection {
    /// Reads once, and responds. Says whether the connection stays open.
    fn run(&mut self, responses: &mut u64) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let len = self.stream.read(&mut buffer)?;
        self.input.extend_from_slice(&buffer[..len]);
        while let Some(output) = respond(&mut self.input, responses)? {
            self.stream.write_all(&output)?;
        }
        Ok(len > 0)
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
