//! A simulated connection: what is on its way in both directions, and what the poll knows of it.
//! Bytes are not copied: all that a client will ever send is known, and of a response only its
//! length travels back, as the judge has compared it when it was written.

use onepoll::event_loop::kernel::Readiness;
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::observer::CloseReason;
use onepoll::event_loop::state::StateName;
use onepoll::limits;

use super::judge_responses::Output;
use super::plan::{Client, Dialect};
use super::random::Random;
use super::time::{Nanos, SECOND, length};

/// A request of a client.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Its place in the catalog.
    pub kind: usize,
    /// Where it ends in all that the client sends.
    pub end: usize,
    /// When all of it had come to the server.
    pub whole_at: Nanos,
    /// When the server had read all of it.
    pub read_at: Nanos,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    pub client: Client,
    pub random: Random,
    pub service: Service,

    // From the client to the server.
    /// All that the client is going to send.
    pub bytes: Vec<u8>,
    pub requests: Vec<Sent>,
    /// How many requests it has sent, of which the last may wait for `100 Continue`.
    pub begun: usize,
    pub waits_to_continue: bool,
    pub sent: usize,
    pub arrived: usize,
    /// How many requests have come whole.
    pub whole: usize,
    pub read: usize,
    /// No packet of the client arrives ahead of one that it has sent earlier.
    pub last_arrival: Nanos,
    pub fin_sent: bool,
    /// The client reads no more, and resets what still comes.
    pub is_gone: bool,
    pub fin_arrived: bool,
    pub reset_arrived: bool,
    pub eof_read: bool,
    pub error_told: bool,

    // From the server to the client.
    pub written: usize,
    /// Bytes that the client's kernel has, and those that the client has read.
    pub delivered: usize,
    pub taken: usize,
    pub last_delivery: Nanos,
    pub reads_later: bool,
    pub fin_written: Option<Nanos>,
    pub fin_delivered: bool,
    /// How many responses the client has, and whether one of them has announced the close.
    pub received: usize,
    pub stopped: bool,
    pub output: Output,

    // The server's side.
    /// Its number in the order of accepting.
    pub number: usize,
    pub accepted: bool,
    pub slot: Option<usize>,
    pub state: StateName,
    pub since: Nanos,
    pub closed: Option<CloseReason>,
    pub dropped: bool,
    /// An attempt to write has found no room.
    pub blocked: bool,
    /// A write since the last read has not been taken whole.
    pub refused: bool,
    pub watched: bool,
    /// Changes that no event has told of yet.
    pub in_edge: bool,
    pub out_edge: bool,
    pub has_event: bool,
    /// The client has sent a request ahead of the response to the one before.
    pub pipelines: bool,
    /// The kernel has lost the connection, so that no response is due.
    pub failed: bool,
    /// What the judge keeps.
    pub judged: Judged,
}

/// What the judge keeps of a connection.
#[derive(Debug, Default)]
pub struct Judged {
    /// When bytes were read last.
    pub heard_at: Nanos,
    pub reads_in_run: usize,
    pub writes_in_run: usize,
    pub runs_in_tick: usize,
    pub timed_out: bool,
    /// Changes that the loop has told of, beside its accepting and its end.
    pub changes: Vec<(StateName, StateName)>,
    /// Its responses were deferred for as long as they may be.
    pub was_deferred: bool,
    /// When it is forced to close, as it pipelines while the close is announced.
    pub forced_at: Option<Nanos>,
    pub has_idle_fin: bool,
    pub body_since: Nanos,
    /// Bytes that count for the rate of the body, at least and at most: of a run that has read more
    /// than once, not all may.
    pub body_bytes: [u64; 2],
    pub body_is_slow: bool,
    /// Since when no response was sent while some were deferred.
    pub deferred_since: Nanos,
    pub told_deferred: bool,
}

impl Link {
    pub fn new(client: Client, bytes: Vec<u8>, requests: Vec<Sent>) -> Link {
        Link {
            random: Random::new(client.seed, 2),
            service: client.service,
            client,
            bytes,
            requests,
            begun: 0,
            waits_to_continue: false,
            sent: 0,
            arrived: 0,
            whole: 0,
            read: 0,
            last_arrival: 0,
            fin_sent: false,
            is_gone: false,
            fin_arrived: false,
            reset_arrived: false,
            eof_read: false,
            error_told: false,
            written: 0,
            delivered: 0,
            taken: 0,
            last_delivery: 0,
            reads_later: false,
            fin_written: None,
            fin_delivered: false,
            received: 0,
            stopped: false,
            output: Output::default(),
            number: 0,
            accepted: false,
            slot: None,
            state: StateName::Idle,
            since: 0,
            closed: None,
            dropped: false,
            blocked: false,
            refused: false,
            watched: false,
            in_edge: false,
            out_edge: false,
            has_event: false,
            pipelines: false,
            failed: false,
            judged: Judged::default(),
        }
    }

    /// Whether its responses are deferred although it has been forced to close.
    pub fn is_deferred_too_long(&self, now: Nanos) -> bool {
        let most = length(limits::DEFERRED_TIME_MAX + 2 * limits::DEFERRED_TIMEOUT);
        self.state == StateName::Deferred && now > self.judged.deferred_since + most
    }

    /// When a body of which so many bytes have come is too slow.
    pub fn body_due(&self, bytes: u64) -> Nanos {
        self.judged.body_since + length(limits::BODY_GRACE) + bytes * SECOND / limits::BODY_RATE_MIN
    }

    /// Bytes that a write may add.
    pub fn room(&self, buffer: usize) -> usize {
        (buffer + self.taken).saturating_sub(self.written)
    }

    /// Whether a read would find something: bytes, the FIN or an error.
    pub fn has_input(&self) -> bool {
        self.arrived > self.read || self.fin_arrived || self.reset_arrived
    }

    /// The events of all that has changed, which are told with that.
    pub fn take_events(&mut self, dialect: Dialect) -> [Option<Readiness>; 2] {
        let (has_in, has_out) = (self.in_edge, self.out_edge);
        (self.in_edge, self.out_edge) = (false, false);
        let reset = self.reset_arrived && !self.error_told;
        let input = Readiness {
            readable: self.has_input(),
            eof: self.fin_arrived || self.reset_arrived,
            failed: reset,
        };
        match dialect {
            Dialect::Epoll => [Some(input), None],
            Dialect::Kqueue => {
                let output = Readiness { readable: reset, eof: false, failed: reset };
                [has_in.then_some(input), (has_out || reset).then_some(output)]
            }
        }
    }
}
