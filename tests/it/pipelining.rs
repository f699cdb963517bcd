//! Many requests at once, in order, and clients that ask for more than they take.

use std::io::Write;

use crate::harness::*;

#[test]
fn responses_come_in_the_order_of_the_requests() {
    let server = Process::start(&["--log", "off"]);
    for depth in [1, 2, 16, 1000] {
        // Every third request is for a page that is not there.
        let expected: Vec<u16> = (0..depth).map(|at| if at % 3 == 0 { 404 } else { 200 }).collect();
        let request = |code: &u16| if *code == 200 { HELLO } else { READY };
        let mut peer = server.connect();
        peer.send(&expected.iter().map(request).collect::<String>());
        let found: Vec<u16> = (0..depth).map(|_| status(&peer.response())).collect();
        assert_eq!(found, expected, "depth {depth}");
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
    let mut peer = server.connect_with_little_room();
    let sent = peer.send_until_blocked();
    let mut other = server.connect();
    other.send(HELLO);
    assert_eq!(status(&other.response()), 200);
    let resident = resident(&server);
    assert!(resident < 16 << 20, "{resident} bytes are resident");

    // Once the client reads, it gets every response.
    let requests = sent.div_ceil(HELLO.len());
    let mut stream = peer.stream.try_clone().expect("a socket");
    let writer = std::thread::spawn(move || {
        stream.write_all(&HELLO.as_bytes()[(sent - 1) % HELLO.len() + 1..])?;
        stream.shutdown(std::net::Shutdown::Write)
    });
    peer.make_room();
    assert_eq!(peer.rest().matches("Hello world.").count(), requests);
    writer.join().expect("no panic").expect("the rest is sent");
}
