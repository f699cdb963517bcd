//! The recorder: the last [`RECORDS_MAX`] changes of all connections, in a ring. Like the recorder
//! of an aeroplane it is always on, costs next to nothing, and is read when one wants to know what
//! happened.
//!
//! The invariant: to record allocates nothing and never fails; the oldest record makes room.
//!
//! # Try it
//!
//! ```sh
//! onepoll --log trace & server=$!
//! curl -s http://localhost:8080/hello http://localhost:8080/nowhere
//! curl -s http://localhost:8081/trace # look for: its peer closes it
//! curl -s 'http://localhost:8081/trace?conn=1' # look for: it asks and is answered
//! kill $server
//! ```

use std::fmt;

use log::trace;

use crate::event_loop::clock::Moment;
use crate::event_loop::timers::Lane;
use crate::event_loop::turn::Reason;
use crate::limits::RECORDS_MAX;
use crate::observe::units::Bytes;
use crate::services::Service;

/// The number of a connection, from the first one's, which is 1, on.
pub type Number = u32;

/// A change: one connection has gone from one phase to another, or came back to where it was by
/// answering requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it happened: when its tick began.
    pub at: Moment,
    /// In which tick.
    pub tick: u32,
    /// To which connection.
    pub number: Number,
    /// The service that it came to.
    pub service: Service,
    /// Where it was; `None` if it has just been accepted.
    pub from: Option<Lane>,
    /// Where it is now.
    pub to: Place,
    /// Answers given in the turn that led to this.
    pub answers: u32,
    /// Bytes read in that turn.
    pub received: u32,
    /// Bytes that the kernel took in that turn.
    pub sent: u32,
}

/// Where a connection can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is open, and waits for this.
    In(Lane),
    /// It has been closed.
    Gone(Reason),
}

/// The ring.
#[derive(Debug)]
pub struct Recorder {
    /// Once it is full, the oldest record is at `written` modulo its length.
    ring: Vec<Record>,
    written: usize,
    tick: u32,
}

const _: () = assert!(
    RECORDS_MAX.is_power_of_two(),
    "so that a mask finds the place"
);

impl Recorder {
    /// An empty ring. It takes address space at once and memory as it fills.
    pub fn new() -> Recorder {
        Recorder {
            ring: Vec::with_capacity(RECORDS_MAX),
            written: 0,
            tick: 0,
        }
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
    pub fn note(&mut self, record: Record) {
        trace!(target: record.service.name(), "{record}");
        match self.ring.get_mut(self.written & (RECORDS_MAX - 1)) {
            Some(oldest) => *oldest = record,
            None => self.ring.push(record),
        }
        self.written += 1;
    }

    /// What is remembered, the latest first.
    pub fn latest_first(&self) -> impl Iterator<Item = &Record> {
        let oldest = self.written % self.ring.len().max(1);
        let (newer, older) = self.ring.split_at(oldest);
        // In a ring that is not full, the oldest is where it begins.
        newer.iter().rev().chain(older.iter().rev())
    }

    /// How many changes there have been.
    pub fn written(&self) -> usize {
        self.written
    }
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder::new()
    }
}

impl Place {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Place::In(lane) => lane.name(),
            Place::Gone(_) => "gone",
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let from = self.from.map_or("door", Lane::name);
        let (received, sent) = (Bytes(self.received.into()), Bytes(self.sent.into()));
        let Record {
            number,
            tick,
            to,
            answers,
            ..
        } = self;
        write!(
            out,
            "Connection {number} from {from} to {}, tick {tick}",
            to.name()
        )?;
        write!(out, ", answers {answers}, received {received}, sent {sent}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_the_latest_comes_first() {
        let mut recorder = Recorder::new();
        assert_eq!(recorder.latest_first().count(), 0);
        for number in 1..=u32::try_from(RECORDS_MAX).expect("few") + 7 {
            recorder.begin_tick();
            recorder.note(Record {
                at: Moment::FIRST,
                tick: recorder.tick(),
                number,
                service: Service::Main,
                from: None,
                to: Place::In(Lane::Idle),
                answers: 0,
                received: 0,
                sent: 0,
            });
            let latest: Vec<_> = recorder.latest_first().take(2).collect();
            assert_eq!((latest[0].number, latest[0].tick), (number, number));
            assert!(latest.len() == 1 || latest[1].number == number - 1);
        }
        let numbers: Vec<_> = recorder
            .latest_first()
            .map(|record| record.number)
            .collect();
        assert_eq!((numbers.len(), numbers[RECORDS_MAX - 1]), (RECORDS_MAX, 8));
        assert!(numbers.is_sorted_by(|later, earlier| later > earlier));
    }

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<Record>() <= 32, "{}", size_of::<Record>());
    }
}
