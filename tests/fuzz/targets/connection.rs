//! A whole connection over a socket that follows a script: whatever the kernel does in
//! between, what is sent is the beginning of the responses to all that came.

#![no_main]

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use onepoll::event_loop::connection::{Connection, RunEnd};
use onepoll::event_loop::kernel::{Readiness, Socket};
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::shared::Shared;
use onepoll::event_loop::state::StateName;
use onepoll::http::{Next, Output, Route, Routes, serve};
use onepoll::limits::BODY_COPIED_MAX;

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
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().finished = true;
        Ok(())
    }
}

/// What happens between two runs.
enum Event {
    Ready { eof: bool },
    Nothing,
    StateName,
    IdleGrace,
}

impl Kernel<'_> {
    /// The next event; at the end of the script, the peer's FIN is known.
    fn event(&mut self) -> Event {
        let [instruction, rest @ ..] = self.script else {
            return Event::Ready { eof: true };
        };
        self.script = rest;
        match instruction {
            0 => Event::Nothing,
            1 => Event::StateName,
            2 => Event::IdleGrace,
            3..100 => Event::Ready { eof: false },
            _ => Event::Ready { eof: true },
        }
    }
}

/// The responses to all of an input, if time does not matter.
fn responses(routes: &Routes, input: &[u8]) -> Vec<u8> {
    let (mut all, mut rest, mut next) = (Vec::new(), input, Next::Head);
    loop {
        let (bytes, pages) = (Vec::new(), 0);
        let mut output = Output { bytes, pages };
        let served = serve(routes, &mut (), next, rest, &mut output);
        all.append(&mut output.bytes);
        all.extend_from_slice(routes.unsent(served.body));
        rest = &rest[served.consumed..];
        next = served.next;
        if !matches!(next, Next::Full | Next::Delayed(_)) {
            return all;
        }
    }
}

/// The responses among the sent bytes, without interim responses: these depend on where the input
/// is cut.
fn without_interim(sent: &[u8]) -> Vec<u8> {
    const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let (mut responses, mut rest) = (Vec::new(), sent);
    while let Some(&byte) = rest.first() {
        // The last one may have been sent in part.
        if rest.starts_with(INTERIM) || INTERIM.starts_with(rest) {
            rest = &rest[INTERIM.len().min(rest.len())..];
        } else {
            responses.push(byte);
            rest = &rest[1..];
        }
    }
    responses
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
    let routes = || Routes::new(vec![route.clone()]);
    let expected = responses(&routes(), input);
    let mut shared = Shared::new([routes(), routes()], ());
    shared.announces_close = [draining; 2];
    let kernel = Rc::new(RefCell::new(Kernel {
        script,
        input,
        received: 0,
        sent: Vec::new(),
        finished: false,
    }));
    let mut connection = Connection::new(Service::Main, Script(Rc::clone(&kernel)));
    let mut undisturbed = !draining && !script.contains(&0);
    // Each run meets at least one instruction, or takes at least one byte of the input.
    let runs = 2 * (script.len() + input.len()) + 99;
    let ended = (0..runs).any(|_| {
        // A delayed response comes when its time has passed.
        let run = if connection.state_name() == StateName::Delayed {
            connection.on_timeout(&mut shared)
        } else {
            let event = kernel.borrow_mut().event();
            match event {
                Event::Ready { eof } => {
                    connection.set_ready(if eof { Readiness::EOF } else { Readiness::READABLE });
                    connection.run(&mut shared)
                }
                Event::StateName => {
                    undisturbed = false;
                    connection.on_timeout(&mut shared)
                }
                Event::IdleGrace if connection.state_name() == StateName::Idle => {
                    undisturbed = false;
                    connection.close_idle()
                }
                Event::Nothing | Event::IdleGrace => connection.run(&mut shared),
            }
        };
        matches!(run, RunEnd::Closed(_))
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
            assert_eq!(sent.len(), expected.len(), "every request gets its response");
        }
    }
});
