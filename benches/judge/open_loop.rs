//! A client that sends requests at a constant rate, whether or not the server keeps up. The latency
//! of a request counts from the instant at which it is due. A client that waits for a response
//! before it sends the next request asks less of a server that stalls, and so it measures few of
//! the long latencies (coordinated omission).
//!
//! Each connection has one request in flight at most. A request that is due while no connection is
//! idle waits for one. The thread polls without sleeping, because a timer is late by as much as a
//! response takes.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::client;

/// Requests that have no response after this time, counted from the end of a run, are errors.
const GRACE: Duration = Duration::from_secs(5);

/// The room for what one read takes.
const INPUT: usize = 16 * 1024;

pub(crate) struct Client {
    address: SocketAddr,
    request: Vec<u8>,
    poll: Poll,
    connections: Vec<Connection>,
    /// The connections without a request, the one that has waited longest first.
    idle: VecDeque<usize>,
}

struct Connection {
    stream: TcpStream,
    /// The instant at which the request in flight was due.
    due: Option<Instant>,
    /// The beginning of a response.
    received: Vec<u8>,
}

/// The outcome of one run.
pub(crate) struct Outcome {
    /// From the instant at which a request was due to its response, the shortest first.
    latencies: Vec<Duration>,
    pub(crate) errors: u64,
    /// Requests that were due and found no idle connection: the server is slower than the rate.
    pub(crate) unsent: u32,
    /// Until the last response came.
    time: Duration,
}

impl Client {
    pub(crate) fn connect(
        address: SocketAddr,
        request: Vec<u8>,
        connections: usize,
    ) -> Result<Client, String> {
        let poll = Poll::new().map_err(|error| error.to_string())?;
        let all = (0..connections).map(|at| Connection::open(address, &poll, at));
        let connections = all.collect::<Result<Vec<_>, _>>()?;
        let idle = (0..connections.len()).collect();
        Ok(Client { address, request, poll, connections, idle })
    }

    /// Sends `rate` requests a second at even intervals, and waits for the responses.
    pub(crate) fn run(&mut self, rate: u32, time: Duration) -> Result<Outcome, String> {
        let interval = Duration::from_secs(1) / rate;
        let count = u32::try_from(time.as_nanos() / interval.as_nanos()).expect("a short run");
        let mut latencies = Vec::with_capacity(count as usize);
        let mut events = Events::with_capacity(self.connections.len());
        let (mut sent, mut errors) = (0, 0);
        let start = Instant::now();
        let mut now = start;
        while latencies.len() as u64 + errors < count.into() && now < start + time + GRACE {
            while sent < count && start + interval * sent <= now && !self.idle.is_empty() {
                errors += u64::from(!self.send(start + interval * sent)?);
                sent += 1;
            }
            let polled = self.poll.poll(&mut events, Some(Duration::ZERO));
            polled.map_err(|error| error.to_string())?;
            for event in &events {
                match self.receive(event.token().0)? {
                    Ok(due) => latencies.extend(due.map(|due| due.elapsed())),
                    Err(lost) => errors += lost,
                }
            }
            now = Instant::now();
        }
        errors += self.abandon()?;
        latencies.sort_unstable();
        Ok(Outcome { latencies, errors, unsent: count - sent, time: now - start })
    }

    /// Sends a request on an idle connection. Returns whether the connection took it.
    fn send(&mut self, due: Instant) -> Result<bool, String> {
        let at = self.idle.pop_front().expect("one is idle");
        let connection = &mut self.connections[at];
        connection.due = Some(due);
        // So little fits into the buffer of a socket without a request in flight.
        let sent = connection.stream.write(&self.request);
        let taken = sent.is_ok_and(|len| len == self.request.len());
        if !taken {
            self.reopen(at)?;
        }
        Ok(taken)
    }

    /// Reads what has come. Returns when the request was due, once its response is there, or how
    /// many requests are lost with the connection.
    fn receive(&mut self, at: usize) -> Result<Result<Option<Instant>, u64>, String> {
        let connection = &mut self.connections[at];
        let due = match connection.receive() {
            Ok(None) => return Ok(Ok(None)),
            Ok(Some(is_kept)) => {
                let due = connection.due.take();
                if is_kept {
                    connection.received.clear();
                    self.idle.extend(due.map(|_| at));
                } else {
                    self.reopen(at)?;
                    self.idle.push_back(at);
                }
                due
            }
            Err(_) => return self.reopen(at).map(Err),
        };
        Ok(Ok(due))
    }

    /// Gives up the requests that are in flight. Returns their number.
    fn abandon(&mut self) -> Result<u64, String> {
        let busy = |at: &usize| self.connections[*at].due.is_some();
        let busy: Vec<usize> = (0..self.connections.len()).filter(busy).collect();
        busy.into_iter().map(|at| self.reopen(at)).sum()
    }

    /// Opens a connection in the place of another one. Returns how many requests were in flight.
    fn reopen(&mut self, at: usize) -> Result<u64, String> {
        let new = Connection::open(self.address, &self.poll, at)?;
        let old = std::mem::replace(&mut self.connections[at], new);
        self.idle.extend(old.due.map(|_| at));
        Ok(u64::from(old.due.is_some()))
    }
}

impl Connection {
    fn open(address: SocketAddr, poll: &Poll, at: usize) -> Result<Connection, String> {
        let connect = || {
            let stream = std::net::TcpStream::connect_timeout(&address, client::TIMEOUT)?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(at), Interest::READABLE)?;
            Ok(Connection { stream, due: None, received: Vec::new() })
        };
        let connection: io::Result<Connection> = connect();
        connection.map_err(|error| error.to_string())
    }

    /// Reads what has come. Once a whole response is there, returns whether the connection goes on.
    fn receive(&mut self) -> io::Result<Option<bool>> {
        let mut space = [0; INPUT];
        let mut ended = false;
        loop {
            match self.stream.read(&mut space) {
                Ok(0) => ended = true,
                Ok(len) => {
                    self.received.extend_from_slice(&space[..len]);
                    // Fewer bytes than there is room for were all of them (epoll(7)).
                    if self.received.len() > client::RESPONSE_MAX {
                        return Err(ErrorKind::InvalidData.into());
                    }
                    if len == space.len() {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            return self.parse(ended);
        }
    }

    fn parse(&self, ended: bool) -> io::Result<Option<bool>> {
        match client::parse(&self.received, false, ended) {
            Ok(Some((_, response))) if response.status / 100 == 2 => {
                Ok(Some(!response.closes && !ended))
            }
            Ok(None) if !ended => Ok(None),
            Ok(Some(_)) | Err(_) => Err(ErrorKind::InvalidData.into()),
            Ok(None) => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Outcome {
    pub(crate) fn responses(&self) -> usize {
        self.latencies.len()
    }

    /// Responses in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }

    /// The microseconds in which so many of a thousand requests had their response.
    pub(crate) fn quantile(&self, of_a_thousand: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (self.latencies.len() * of_a_thousand / 1000).min(last);
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }
}
