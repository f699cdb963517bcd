//! A server with faults for each part of the bench: it responds to whatever it reads, to some
//! requests with 500, it dies of a byte and without descriptors, and it has no clean stop.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

fn main() {
    static REQUESTS: AtomicUsize = AtomicUsize::new(1);
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        thread::spawn(move || {
            let mut space = [0; 4096];
            while stream.read(&mut space).is_ok_and(|len| len > 0) {
                if space[0] == 0x80 {
                    std::process::exit(9);
                }
                let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
                let status = if request.is_multiple_of(100) { "500 Sorry" } else { "200 OK" };
                let response = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
                if stream.write_all(response.as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
}
