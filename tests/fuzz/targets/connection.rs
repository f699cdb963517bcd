//! A whole connection over a socket that follows a script: whatever the kernel does in
//! between, what is sent is the beginning of what the protocol answers to all that came.

#![no_main]

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use onepoll::event_loop::connection::Connection;
use onepoll::event_loop::timers::Lane;
use onepoll::event_loop::desk::Desk;
use onepoll::http::{Behind, Next, Route, Site, serve};
use onepoll::limits::BODY_COPIED_MAX;
use onepoll::event_loop::turn::Turn;
use onepoll::event_loop::stream::{Edge, Socket};

/// What goes on behind the socket. The script's bytes are instructions: what a read brings or
/// a write takes, if it is not an error.
struct Kernel<'a> {
    script: &'a [u8],
    input: &'a [u8],
    received: usize,
    sent: Vec<u8>,
    finished: bool,
}

struct Script<'a>(Rc<RefCell<Kernel<'a>>>);

impl Kernel<'_> {
    /// The next instruction; at the end of the script, everything is possible.
    fn next(&mut self) -> io::Result<usize> {
        let [instruction, rest @ ..] = self.script else {
            return Ok(usize::MAX);
        };
        self.script = rest;
        match instruction {
            0 => Err(ErrorKind::WouldBlock.into()),
            1 => Err(ErrorKind::Interrupted.into()),
            2 => Err(ErrorKind::ConnectionReset.into()),
            len @ ..=200 => Ok(usize::from(*len)),
            _ => Ok(usize::MAX),
        }
    }
}

impl Read for Script<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let kernel = &mut *self.0.borrow_mut();
        assert!(!space.is_empty(), "there is always room to read");
        let left = &kernel.input[kernel.received..];
        let len = kernel.next()?.min(left.len()).min(space.len());
        space[..len].copy_from_slice(&left[..len]);
        kernel.received += len;
        Ok(len)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let kernel = &mut *self.0.borrow_mut();
        assert!(!kernel.finished, "nothing is sent after the FIN");
        let len = kernel.next()?.min(bytes.len());
        kernel.sent.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Script<'_> {
    fn finish(&mut self) -> io::Result<()> {
        self.0.borrow_mut().finished = true;
        Ok(())
    }

    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}

/// What happens between two turns.
enum Event {
    Edge { eof: bool },
    Nothing,
    Overdue,
    LastCall,
}

impl Kernel<'_> {
    /// The next event; at the end of the script, the peer's FIN is known.
    fn event(&mut self) -> Event {
        let [instruction, rest @ ..] = self.script else {
            return Event::Edge { eof: true };
        };
        self.script = rest;
        match instruction {
            0 => Event::Nothing,
            1 => Event::Overdue,
            2 => Event::LastCall,
            3..100 => Event::Edge { eof: false },
            _ => Event::Edge { eof: true },
        }
    }
}

/// What a site says to all of an input, if time is no matter.
fn answers(site: &mut Site, input: &[u8]) -> Vec<u8> {
    let (mut all, mut rest, mut unread) = (Vec::new(), input, None);
    loop {
        let mut out = Vec::new();
        let served = serve(site, unread, rest, Behind::Nothing, &mut out);
        all.append(&mut out);
        all.extend_from_slice(site.tail(served.tail));
        rest = &rest[served.consumed..];
        unread = served.next.unread();
        if !matches!(served.next, Next::Queued | Next::Delayed(_)) {
            return all;
        }
    }
}

/// The answers among what was sent: whether a client gets an interim answer is a matter of where
/// its input is cut.
fn without_interim(sent: &[u8]) -> Vec<u8> {
    const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let (mut answers, mut rest) = (Vec::new(), sent);
    while let Some(&byte) = rest.first() {
        // The last one may have been sent in part.
        if rest.starts_with(INTERIM) || INTERIM.starts_with(rest) {
            rest = &rest[INTERIM.len().min(rest.len())..];
        } else {
            answers.push(byte);
            rest = &rest[1..];
        }
    }
    answers
}

fuzz_target!(|input: &[u8]| {
    let [len, draining, input @ ..] = input else {
        return;
    };
    let (script, input) = input.split_at(usize::from(*len).min(input.len()));
    let (kind, draining) = (draining % 4, *draining > 200);
    let body = if kind & 1 == 0 {
        12
    } else {
        BODY_COPIED_MAX + 1
    };
    let route = Route {
        is_delayed: kind & 2 != 0,
        ..Route::new("/hello", "x".repeat(body))
    };
    let mut site = Site::new("main", vec![route.clone()]);
    let expected = answers(&mut Site::new("main", vec![route]), input);

    if draining {
        site.announce_close();
    }
    let kernel = Rc::new(RefCell::new(Kernel {
        script,
        input,
        received: 0,
        sent: Vec::new(),
        finished: false,
    }));
    let mut connection = Connection::new(Script(Rc::clone(&kernel)));
    let mut desk = Desk::new();
    let mut undisturbed = !draining && !script.contains(&0);
    // Each turn meets at least one instruction, or takes at least one byte of the input.
    let turns = 2 * (script.len() + input.len()) + 99;
    let ended = (0..turns).any(|_| {
        // An answer that waits for its time gets it.
        if connection.lane() == Lane::Delayed {
            return matches!(connection.expire(&mut desk, &mut site), Turn::Over(_));
        }
        let event = kernel.borrow_mut().event();
        let turn = match event {
            Event::Edge { eof } => {
                connection.note(if eof { Edge::FIN } else { Edge::READABLE });
                connection.advance(&mut desk, &mut site)
            }
            Event::Nothing => connection.advance(&mut desk, &mut site),
            Event::Overdue => {
                undisturbed = false;
                connection.expire(&mut desk, &mut site)
            }
            Event::LastCall if connection.lane() == Lane::Idle => {
                undisturbed = false;
                connection.dismiss()
            }
            Event::LastCall => connection.advance(&mut desk, &mut site),
        };
        matches!(turn, Turn::Over(_))
    });
    assert!(
        ended,
        "the script ends with the peer's FIN, and so does the connection"
    );
    let kernel = kernel.borrow();
    if undisturbed {
        let (sent, expected) = (without_interim(&kernel.sent), without_interim(&expected));
        assert!(
            expected.starts_with(&sent),
            "{:?} instead of {:?}",
            String::from_utf8_lossy(&sent),
            String::from_utf8_lossy(&expected)
        );
        if kernel.script.is_empty() && !script.contains(&2) {
            assert_eq!(sent.len(), expected.len(), "nothing is left unanswered");
        }
    }
});
