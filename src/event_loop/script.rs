//! A socket for tests. The kernel behind it follows a script and records the calls.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;

use super::kernel::Socket;

/// What the kernel does in one call.
pub(crate) enum Act {
    Give(Vec<u8>),
    Take(usize),
    Eof,
    Fail(ErrorKind),
}

/// A kernel that follows a script. At the end of the script it has nothing to read and takes every
/// write.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) reads: VecDeque<Act>,
    pub(crate) writes: VecDeque<Act>,
    pub(crate) sent: Vec<u8>,
    pub(crate) calls: Vec<&'static str>,
}

pub(crate) struct Scripted(pub(crate) Rc<RefCell<Script>>);

impl Read for Scripted {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let kernel = &mut *self.0.borrow_mut();
        kernel.calls.push("recv");
        match kernel.reads.pop_front() {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(Act::Eof) => Ok(0),
            Some(Act::Fail(kind)) => Err(kind.into()),
            Some(Act::Take(_)) => panic!("a read takes nothing"),
            Some(Act::Give(mut bytes)) => {
                let len = bytes.len().min(space.len());
                space[..len].copy_from_slice(&bytes[..len]);
                bytes.drain(..len);
                if !bytes.is_empty() {
                    kernel.reads.push_front(Act::Give(bytes));
                }
                Ok(len)
            }
        }
    }
}

impl Script {
    fn take(&mut self, call: &'static str, bytes: &[u8]) -> io::Result<usize> {
        self.calls.push(call);
        let len = match self.writes.pop_front() {
            None => bytes.len(),
            Some(Act::Take(len)) => len.min(bytes.len()),
            Some(Act::Fail(kind)) => return Err(kind.into()),
            Some(Act::Give(_) | Act::Eof) => panic!("a write gives nothing"),
        };
        self.sent.extend_from_slice(&bytes[..len]);
        Ok(len)
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().take("send", bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice]) -> io::Result<usize> {
        let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
        self.0.borrow_mut().take("writev", &parts.concat())
    }

    fn flush(&mut self) -> io::Result<()> {
        panic!("sockets have nothing to flush")
    }
}

impl Socket for Scripted {
    fn write_before_fin(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().take("send_last", bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().calls.push("shutdown");
        Ok(())
    }
}
