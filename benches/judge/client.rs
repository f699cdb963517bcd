//! A client that takes whatever a server does: every outcome is a value, and every wait has an end.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use httparse::Status;
use socket2::{Domain, SockRef, Socket, Type};

use super::{Outcome, Why};

/// How long a response may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);

/// How long a client sends to a server that takes its input slowly.
const SENDING_TIME: Duration = Duration::from_secs(5);

/// How long idle clients are opened.
const OPENING_TIME: Duration = Duration::from_secs(20);

/// Why there is no response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lost {
    /// The port is closed.
    Refused,
    /// The server has closed the connection.
    Closed,
    /// It has reset the connection.
    Reset,
    /// Nothing came in time.
    Silent,
    /// What came is not HTTP/1.
    NotHttp,
    /// More came than a client takes.
    TooMuch,
}

/// A final response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Response {
    pub status: u16,
    /// Whether it says that the connection ends with it.
    pub closes: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Lost::Refused => "the connection is refused",
            Lost::Closed => "the connection is closed",
            Lost::Reset => "the connection is reset",
            Lost::Silent => "nothing comes",
            Lost::NotHttp => "what comes is not HTTP/1",
            Lost::TooMuch => "a response is above 4 MiB, or its head above 64 KiB",
        })
    }
}

impl From<ErrorKind> for Lost {
    fn from(kind: ErrorKind) -> Lost {
        match kind {
            ErrorKind::ConnectionRefused => Lost::Refused,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Lost::Silent,
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => Lost::Closed,
            _ => Lost::Reset,
        }
    }
}

/// A connection.
pub(crate) struct Client {
    pub stream: TcpStream,
    /// What has come and is in no response yet.
    received: Vec<u8>,
    /// All that has come, up to [`KEPT_MAX`] bytes.
    kept: Vec<u8>,
    ended: Option<Lost>,
    /// The interim responses that have come.
    pub interim: usize,
}

/// The bytes of one response that a client takes, and of its head.
pub(crate) const RESPONSE_MAX: usize = 4 << 20;
const HEAD_MAX: usize = 64 << 10;

/// The bytes that a report can show.
const KEPT_MAX: usize = 2048;

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Client, Lost> {
        Client::connect_within(address, TIMEOUT)
    }

    pub(crate) fn connect_within(address: SocketAddr, time: Duration) -> Result<Client, Lost> {
        let stream = TcpStream::connect_timeout(&address, time);
        Client::new(stream.map_err(|error| Lost::from(error.kind()))?)
    }

    /// Connects with a socket whose buffers are small.
    pub(crate) fn connect_with_little_room(address: SocketAddr) -> Result<Client, Lost> {
        let connect = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.set_recv_buffer_size(4096)?;
            socket.set_send_buffer_size(64 * 1024)?;
            socket.connect_timeout(&address.into(), TIMEOUT)?;
            Ok(socket.into())
        };
        let stream: std::io::Result<TcpStream> = connect();
        Client::new(stream.map_err(|error| Lost::from(error.kind()))?)
    }

    fn new(stream: TcpStream) -> Result<Client, Lost> {
        let options = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(TIMEOUT)))
            .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)));
        // A socket that has been reset meanwhile takes no options on some systems.
        options.map_err(|error| Lost::from(error.kind()))?;
        Ok(Client { stream, received: Vec::new(), kept: Vec::new(), ended: None, interim: 0 })
    }

    /// Closes the connection with an RST when it is dropped, so that no port waits (tcp(7)).
    pub(crate) fn reset_at_close(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.stream.write_all(bytes).map_err(|error| Lost::from(error.kind()))
    }

    /// Sends again and again, until the server has taken none for a while or has ended the
    /// connection. Returns the number of bytes that were taken.
    pub(crate) fn send_until_blocked(&mut self, batch: &[u8], most: usize) -> usize {
        let pause = Duration::from_millis(300);
        let _ = self.stream.set_write_timeout(Some(pause));
        let (mut sent, start) = (0, Instant::now());
        while sent < most && start.elapsed() < SENDING_TIME {
            match self.stream.write(&batch[sent % batch.len()..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        sent
    }

    /// The next final response, within [`TIMEOUT`].
    pub(crate) fn response(&mut self, has_no_body: bool) -> Result<Response, Lost> {
        self.response_within(TIMEOUT, has_no_body)
    }

    pub(crate) fn response_within(
        &mut self,
        time: Duration,
        has_no_body: bool,
    ) -> Result<Response, Lost> {
        let deadline = Instant::now() + time;
        loop {
            match parse(&self.received, has_no_body, self.ended == Some(Lost::Closed))? {
                Some((len, response)) if response.status < 200 && response.status != 101 => {
                    self.received.drain(..len);
                    self.interim += 1;
                }
                Some((len, response)) => {
                    self.received.drain(..len);
                    return Ok(response);
                }
                None => match self.ended {
                    Some(lost) => return Err(lost),
                    None => self.receive(deadline)?,
                },
            }
        }
    }

    /// Waits for the end of the connection. Returns `Silent` if it is still open after this time,
    /// with all that comes in between left for [`response`](Client::response).
    pub(crate) fn end_within(&mut self, time: Duration) -> Lost {
        let deadline = Instant::now() + time;
        loop {
            match self.ended {
                Some(lost) => return lost,
                None => {
                    if self.receive(deadline) == Err(Lost::Silent) {
                        return Lost::Silent;
                    }
                }
            }
        }
    }

    /// The first bytes of all that has come.
    pub(crate) fn kept(&mut self) -> Vec<u8> {
        mem::take(&mut self.kept)
    }

    /// Reads once. An end is remembered, and what came ahead of it remains.
    fn receive(&mut self, deadline: Instant) -> Result<(), Lost> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Lost::Silent);
        }
        let _ = self.stream.set_read_timeout(Some(left));
        let mut space = [0; 64 * 1024];
        match self.stream.read(&mut space) {
            Ok(0) => self.ended = Some(Lost::Closed),
            Ok(len) => {
                self.received.extend_from_slice(&space[..len]);
                if self.received.len() > RESPONSE_MAX {
                    self.ended = Some(Lost::TooMuch);
                }
                let room = KEPT_MAX.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&space[..len.min(room)]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => match Lost::from(error.kind()) {
                Lost::Silent => return Err(Lost::Silent),
                lost => self.ended = Some(lost),
            },
        }
        Ok(())
    }
}

/// Opens connections that have had a response and stay, until there are so many, the server takes
/// no more, or it takes too much time. An error says why there is none.
pub(crate) fn idle_clients(
    address: SocketAddr,
    request: &[u8],
    most: usize,
) -> Outcome<Vec<Client>> {
    let connect = || {
        let mut client = Client::connect(address)?;
        client.reset_at_close();
        client.send(request)?;
        client.response(false).map(|response| (client, response.closes))
    };
    let (mut clients, start) = (Vec::new(), Instant::now());
    while clients.len() < most && start.elapsed() < OPENING_TIME {
        match connect() {
            Ok((client, false)) => clients.push(client),
            Ok(_) if clients.is_empty() => return Err(Why::LeftOut("keeps no connection")),
            Err(lost) if clients.is_empty() => return Err(lost.to_string().into()),
            Ok(_) | Err(_) => break,
        }
    }
    Ok(clients)
}

/// The response at the start of `received` and its length, once it is whole. The end of the
/// connection may be the end of a body (RFC 9112, section 6.3).
pub(crate) fn parse(
    received: &[u8],
    has_no_body: bool,
    ended: bool,
) -> Result<Option<(usize, Response)>, Lost> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(received) {
        Ok(Status::Complete(head)) => head,
        Ok(Status::Partial) if received.len() > HEAD_MAX => return Err(Lost::TooMuch),
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(Lost::NotHttp),
    };
    let status = response.code.unwrap_or_default();
    let value = |name: &str| {
        let mut fields = response.headers.iter();
        let field = fields.find(|field| field.name.eq_ignore_ascii_case(name))?;
        str::from_utf8(field.value).ok()
    };
    let says = |word: &str| {
        let words = value("Connection").unwrap_or_default().split(',');
        words.map(str::trim).any(|each| each.eq_ignore_ascii_case(word))
    };
    let is_chunked = value("Transfer-Encoding").is_some();
    let length = value("Content-Length").and_then(|length| length.parse::<usize>().ok());
    let has_body = !has_no_body && status >= 200 && status != 204 && status != 304;
    let body = match (has_body, is_chunked, length) {
        (false, ..) => Some(0),
        (true, true, _) => chunked(&received[head..])?,
        (true, false, Some(length)) => (received.len() - head >= length).then_some(length),
        (true, false, None) => ended.then_some(received.len() - head),
    };
    let is_old = response.version == Some(0);
    let is_endless = has_body && !is_chunked && length.is_none();
    let closes = says("close") || is_old && !says("keep-alive") || is_endless;
    Ok(body.map(|body| (head + body, Response { status, closes })))
}

/// The length of a chunked body, once it is whole.
fn chunked(body: &[u8]) -> Result<Option<usize>, Lost> {
    let mut at = 0;
    loop {
        match httparse::parse_chunk_size(&body[at..]) {
            Ok(Status::Complete((line, size))) => {
                let size = usize::try_from(size).map_err(|_| Lost::NotHttp)?;
                at = (at + line).saturating_add(size).saturating_add(2);
                if at > body.len() {
                    return Ok(None);
                }
                if size == 0 {
                    return Ok(Some(at));
                }
            }
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err(Lost::NotHttp),
        }
    }
}
