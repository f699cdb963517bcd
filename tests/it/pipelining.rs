//! Many requests at once, in order, and clients that ask for more than they take.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::*;

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let server = Process::start(&["--log", "off"]);
    for depth in [1, 2, 16, 1000] {
        // Every third request is for a page that is not there.
        let expected: Vec<u16> = (0..depth)
            .map(|at| if at % 3 == 0 { 404 } else { 200 })
            .collect();
        let request = |code: &u16| if *code == 200 { HELLO } else { READY };
        let mut peer = server.connect();
        peer.send(&expected.iter().map(request).collect::<String>());
        let answered: Vec<u16> = (0..depth).map(|_| status(&peer.answer())).collect();
        assert_eq!(answered, expected, "depth {depth}");
    }
}

#[test]
fn what_follows_a_close_is_dropped() {
    let server = Process::start(&[]);
    let mut peer = server.connect();
    let close = HELLO.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    peer.send(&[HELLO, &close, HELLO, "nonsense"].concat());
    assert_eq!(peer.rest().matches("Hello world.").count(), 2);
}

#[test]
fn a_client_that_does_not_read_waits_alone() {
    let server = Process::start(&["--log", "off"]);
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket option");
    socket
        .connect(&server.main.into())
        .expect("it is listening");
    let mut peer = Peer::new(TcpStream::from(socket));

    // The buffers on the way fill up, and then the server stops reading.
    peer.stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .expect("a socket option");
    let batch = HELLO.repeat(1000);
    let mut sent = 0;
    loop {
        match peer.stream.write(&batch.as_bytes()[sent % batch.len()..]) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
        assert!(sent < 1 << 30, "nothing holds the client back");
    }

    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.answer()), 200);
    let resident = resident(&server);
    assert!(resident < 16 << 20, "{resident} bytes are resident");

    // Once it reads, it gets every answer.
    let requests = sent.div_ceil(HELLO.len());
    let mut tail = peer.stream.try_clone().expect("a socket");
    tail.set_write_timeout(Some(PATIENCE))
        .expect("a socket option");
    let writer = std::thread::spawn(move || {
        tail.write_all(&HELLO.as_bytes()[(sent - 1) % HELLO.len() + 1..])?;
        tail.shutdown(std::net::Shutdown::Write)
    });
    assert_eq!(peer.rest().matches("Hello world.").count(), requests);
    writer.join().expect("no panic").expect("the rest is sent");
}
