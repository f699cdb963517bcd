//! The recorder: the last [`RECORDS_MAX`] changes of all connections, in a ring. It is always on,
//! costs next to nothing, and shows what has happened to a connection as a trace: a line for each
//! change that is recorded, from the first to the last.
//!
//! The invariant: to record allocates nothing and never fails; the oldest record makes room.
//!
//! # Try it
//!
//! ```sh
//! onepoll --log trace & server=$!; sleep 0.5
//! curl -s http://localhost:8080/hello http://localhost:8080/nowhere
//! curl -s http://localhost:8081/trace # look for: the peer closes it
//! curl -s 'http://localhost:8081/trace?conn=1' # look for: a response is sent
//! kill $server; wait $server
//! ```

use std::fmt::{self, Write};

use log::trace;

use super::units::{Bytes, Span};
use crate::event_loop::clock::Instant;
use crate::event_loop::listeners::Service;
use crate::event_loop::observer::CloseReason;
use crate::event_loop::state::StateName;
use crate::limits::RECORDS_MAX;

/// The number of a connection. The first one is 1.
pub type Number = u32;

/// A change of one connection: to another state, or to the same by a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When its tick began.
    pub at: Instant,
    /// The number of that tick.
    pub tick: u32,
    /// The connection.
    pub number: Number,
    /// The listener that accepted it.
    pub service: Service,
    /// The state before; `None` if it has just been accepted.
    pub from: Option<StateName>,
    /// The state since, or why it was closed.
    pub to: Result<StateName, CloseReason>,
    /// Responses in the run that led to this.
    pub responses: u32,
    /// Bytes read in that run.
    pub received: u32,
    /// Bytes that the kernel took in that run.
    pub sent: u32,
}

/// The ring.
#[derive(Debug)]
pub struct Recorder {
    /// Once it is full, the oldest record is at `written` modulo its length.
    ring: Vec<Record>,
    written: usize,
    tick: u32,
}

const _: () = assert!(RECORDS_MAX.is_power_of_two(), "so that a mask finds the place");

impl Recorder {
    /// An empty ring. It takes address space at once and memory as it fills.
    pub fn new() -> Recorder {
        Recorder { ring: Vec::with_capacity(RECORDS_MAX), written: 0, tick: 0 }
    }

    /// Another tick begins.
    pub fn begin_tick(&mut self) {
        self.tick = self.tick.wrapping_add(1);
    }

    /// The number of the present tick; after four thousand million of them it begins anew.
    pub fn tick(&self) -> u32 {
        self.tick
    }

    /// Records a change.
    #[inline]
    pub fn push(&mut self, record: Record) {
        trace!(target: record.service.name(), "{record}");
        match self.ring.get_mut(self.written & (RECORDS_MAX - 1)) {
            Some(oldest) => *oldest = record,
            None => self.ring.push(record),
        }
        self.written += 1;
    }

    /// What is recorded, the latest first.
    pub fn latest_first(&self) -> impl Iterator<Item = &Record> {
        let oldest = self.written % self.ring.len().max(1);
        let (newer, older) = self.ring.split_at(oldest);
        // In a ring that is not full, the oldest is at its beginning.
        newer.iter().rev().chain(older.iter().rev())
    }

    /// How many changes there have been.
    pub fn written(&self) -> usize {
        self.written
    }

    /// The trace of a connection, with no more than its last `lines` changes; `None` if nothing is
    /// recorded of it. Columns have fixed widths, so that traces can be laid beside each other.
    pub fn trace(&self, number: Number, lines: usize) -> Option<String> {
        let records = || self.latest_first().filter(|record| record.number == number);
        let count = records().count();
        let mut shown: Vec<&Record> = records().take(lines).collect();
        shown.reverse();
        let first = *shown.first()?;
        let mut text = String::new();
        if count > shown.len() {
            let _ = writeln!(text, "{} earlier changes are left out", count - shown.len());
        }
        let _ = writeln!(
            text,
            "{:>9} {:>10} {:>11} -> {:<11} {:>10} {:>10} {:>9}  what happened",
            "after", "tick", "from", "to", "received", "sent", "responses"
        );
        let mut before = first.at;
        for record in shown {
            let _ = writeln!(
                text,
                "{:>9} {:>10} {:>11} -> {:<11} {:>10} {:>10} {:>9}  {}",
                Span(record.at - before),
                record.tick,
                record.name_before(),
                record.name_since(),
                Bytes(record.received.into()),
                Bytes(record.sent.into()),
                record.responses,
                record.explain()
            );
            before = record.at;
        }
        Some(text)
    }
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder::new()
    }
}

impl Record {
    fn name_before(&self) -> &'static str {
        self.from.map_or("-", StateName::name)
    }

    /// The name of the state since.
    pub fn name_since(&self) -> &'static str {
        self.to.map_or("closed", StateName::name)
    }

    /// What the change means.
    pub fn explain(&self) -> &'static str {
        match (self.from, self.to) {
            (None, _) => "accepted",
            (Some(from), Err(reason)) => explain(from, reason),
            (Some(from), Ok(to)) => explain_state(from, to, self.responses),
        }
    }
}

fn explain_state(from: StateName, to: StateName, responses: u32) -> &'static str {
    match (from, to) {
        (StateName::Delayed, StateName::Delayed) => {
            "a delayed response is sent, and the next request waits"
        }
        (StateName::Delayed, StateName::Idle) => "a delayed response is sent",
        (_, StateName::Idle) if responses > 1 => "the responses to a batch are sent",
        (_, StateName::Idle) if responses > 0 => "a response is sent",
        (StateName::Writing, StateName::Idle) => "the rest of the output is sent",
        (_, StateName::Idle) => "nothing is left of its request",
        (StateName::Head, StateName::Head) => "a response is sent, and the next head has begun",
        (_, StateName::Head) => "the beginning of a head has come",
        (_, StateName::Body) => "a head and a part of its body have come",
        (_, StateName::Delayed) => "a request has come, and its response is delayed",
        (_, StateName::Deferred) => {
            "in a shutdown, responses are deferred: more requests may follow"
        }
        (_, StateName::Writing) => "output waits for room in the kernel, or for its page",
        (_, StateName::HalfClosed) => "the last response and a FIN are sent",
        (_, StateName::IdleClosed) => "idle at the end of the grace: a FIN is sent",
    }
}

/// Why a connection was closed.
pub(super) fn explain(from: StateName, reason: CloseReason) -> &'static str {
    match (reason, from) {
        (CloseReason::Finished, StateName::HalfClosed | StateName::IdleClosed) => {
            "the peer's FIN has come"
        }
        (CloseReason::Finished, _) => "the peer closes it",
        (CloseReason::Requested, _) => "its response is sent: the client asked for the close",
        (CloseReason::Truncated, _) => "the peer closes it in the middle of a request",
        (CloseReason::Failed(_), _) => "the kernel reports an error",
        (CloseReason::TimedOut, _) => "its timeout has passed",
        (CloseReason::Aborted, _) => "aborted at the drain's deadline",
        (CloseReason::DrainOver, _) => "half-closed at the drain's deadline",
    }
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let (received, sent) = (Bytes(self.received.into()), Bytes(self.sent.into()));
        let Record { number, tick, responses, .. } = self;
        let (from, to) = (self.name_before(), self.name_since());
        write!(out, "Connection {number} from {from} to {to}, tick {tick}")?;
        write!(out, ", responses {responses}, received {received}, sent {sent}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_makes_room_and_the_latest_comes_first() {
        let mut recorder = Recorder::new();
        assert_eq!(recorder.latest_first().count(), 0);
        for number in 1..=u32::try_from(RECORDS_MAX).expect("few") + 7 {
            recorder.begin_tick();
            recorder.push(Record {
                at: Instant::FIRST,
                tick: recorder.tick(),
                number,
                service: Service::Main,
                from: None,
                to: Ok(StateName::Idle),
                responses: 0,
                received: 0,
                sent: 0,
            });
            let latest: Vec<_> = recorder.latest_first().take(2).collect();
            assert_eq!((latest[0].number, latest[0].tick), (number, number));
            assert!(latest.len() == 1 || latest[1].number == number - 1);
        }
        let numbers: Vec<_> = recorder.latest_first().map(|record| record.number).collect();
        assert_eq!((numbers.len(), numbers[RECORDS_MAX - 1]), (RECORDS_MAX, 8));
        assert!(numbers.is_sorted_by(|later, earlier| later > earlier));
    }

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<Record>() <= 32, "{}", size_of::<Record>());
    }

    #[test]
    fn a_trace_is_aligned() {
        let mut recorder = Recorder::new();
        let start = Instant::FIRST;
        let micros = |micros| start + Duration::from_micros(micros);
        let (idle, cut) = (Ok(StateName::Idle), Err(CloseReason::Aborted));
        for (at, tick, number, from, to, [responses, received, sent]) in [
            (start, 0, 7, None, idle, [0, 0, 0]),
            (start, 0, 8, None, idle, [0, 0, 0]),
            (micros(21), 1, 7, Some(StateName::Idle), idle, [1, 34, 148]),
            (micros(1_500_021), 2, 7, Some(StateName::Idle), cut, [0, 0, 0]),
        ] {
            recorder.push(Record {
                at,
                tick,
                number,
                service: Service::Main,
                from,
                to,
                responses,
                received,
                sent,
            });
        }
        let text = recorder.trace(7, 9).expect("it is recorded");
        let expected = [
            "    after       tick        from -> to            received       sent responses  what",
            "     0 ns          0           - -> idle               0 B        0 B         0  acc",
            "  21.0 us          1        idle -> idle              34 B      148 B         1  a r",
            "    1.5 s          2        idle -> closed             0 B        0 B         0  abo",
        ];
        for (line, expected) in text.lines().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
        }
        assert_eq!(text.lines().count(), expected.len());
        let short = recorder.trace(7, 1).expect("it is recorded");
        assert!(short.starts_with("2 earlier changes are left out\n"), "{short}");
        assert_eq!(short.lines().count(), 3);
        assert_eq!(recorder.trace(9, 9), None);
    }
}
