//! Who is waiting, and until when. Every lane has one fixed patience, so the order of
//! arming is the order of expiry, and the head of a lane is due first: no heap, no wheel
//! and no timer per connection. Reads no clock; callers say what time it is.
//!
//! Each lane is a ring of links that runs through an anchor of its own. All links lie in one
//! vector, the anchors first, and refer to each other by index:
//!
//! ```text
//!            ┌────────────────────────────────────────────────────┐
//!            └─► anchor of Idle ◄──► key 7 ◄──► key 2 ◄──► key 9 ◄─┘
//!                                    due first             just armed
//! ```
//!
//! The invariant: a key is in one ring at most; one that is in none is a ring by itself, so
//! that unlinking needs no case for it. And nothing is due before `soonest`, so that most
//! ticks look at that alone.
//!
//! # Try it
//!
//! Two clients that say nothing, one after the other, are due in the same order.
//!
//! ```sh
//! onepoll --log warn & server=$!
//! sleep 9 | curl -s telnet://localhost:8080 & sleep 0.5
//! sleep 9 | curl -s telnet://localhost:8080 & sleep 0.5
//! curl -s http://localhost:8081/loop # look for: next due in
//! kill $server; kill %1 %2
//! ```

use std::time::Duration;

use crate::event_loop::clock::Moment;
use crate::limits::{self, TIMEOUT_PRECISION};

/// What a connection waits for, and so for how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// The moment at which its answer is given.
    Delayed,
    /// Another request, before the answer to the last one announces the close.
    Held,
    /// Room for an answer in the kernel's buffer.
    Writing,
    /// The peer's FIN after ours, which followed the last answer.
    Lingering,
    /// The peer's FIN after ours, which came at the end of the idle grace and followed nothing.
    Farewell,
}

impl Lane {
    /// All lanes. Each is at the index that it converts to.
    pub const ALL: [Lane; 8] = [
        Lane::Idle,
        Lane::Head,
        Lane::Body,
        Lane::Delayed,
        Lane::Held,
        Lane::Writing,
        Lane::Lingering,
        Lane::Farewell,
    ];

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Lane::Idle => "idle",
            Lane::Head => "head",
            Lane::Body => "body",
            Lane::Delayed => "delayed",
            Lane::Held => "held",
            Lane::Writing => "writing",
            Lane::Lingering => "lingering",
            Lane::Farewell => "farewell",
        }
    }

    /// Whether its timeout begins anew as the peer makes progress.
    const fn is_renewed(self) -> bool {
        matches!(self, Lane::Idle | Lane::Body | Lane::Held | Lane::Writing)
    }
}

/// How long a connection may wait for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the first byte of a request.
    pub idle: Duration,
    /// For the rest of a head, from its first byte on.
    pub header: Duration,
    /// For more of a body.
    pub body: Duration,
    /// For room for an answer in the kernel's buffer.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            idle: limits::IDLE_TIMEOUT,
            header: limits::HEADER_TIMEOUT,
            body: limits::BODY_TIMEOUT,
            write: limits::WRITE_TIMEOUT,
        }
    }
}

/// The deadlines of all connections, at most one for each key.
#[derive(Debug)]
pub struct Deadlines {
    links: Vec<Link>,
    /// No deadline is earlier; the earliest may be later, as those who leave do not say so.
    soonest: Moment,
    /// The least and the most time until a deadline, by lane. They differ where timeouts are
    /// renewed.
    least: [Duration; Lane::ALL.len()],
    most: [Duration; Lane::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    /// When the patience ends; without meaning in an anchor.
    due: Moment,
}

impl Link {
    /// A ring by itself. It counts as due, so that [`Deadlines::renew`] will arm it.
    fn alone(at: usize) -> Link {
        Link {
            prev: index(at),
            next: index(at),
            due: Moment::FIRST,
        }
    }
}

/// The anchors take the places before the first key's.
const ANCHORS: usize = Lane::ALL.len();

impl Deadlines {
    /// No deadlines yet. An answer that is delayed is due after `delay`.
    pub fn new(timeouts: &Timeouts, delay: Duration) -> Deadlines {
        let least = Lane::ALL.map(|lane| match lane {
            Lane::Idle => timeouts.idle,
            Lane::Head => timeouts.header,
            Lane::Body => timeouts.body,
            Lane::Delayed => delay,
            Lane::Held => limits::HELD_PATIENCE,
            Lane::Writing => timeouts.write,
            Lane::Lingering => limits::LINGERING_PATIENCE,
            Lane::Farewell => limits::FAREWELL_PATIENCE,
        });
        let most = Lane::ALL.map(|lane| {
            let least = least[lane as usize];
            if lane.is_renewed() {
                least + least / TIMEOUT_PRECISION
            } else {
                least
            }
        });
        let mut deadlines = Deadlines {
            links: Vec::new(),
            soonest: Moment::NEVER,
            least,
            most,
        };
        deadlines.grow(ANCHORS);
        deadlines
    }

    /// Gives `key` the deadline of `lane`, in place of the one that it may have.
    pub fn arm(&mut self, key: usize, lane: Lane, now: Moment) {
        let at = key + ANCHORS;
        if at >= self.links.len() {
            self.grow(at + 1);
        }
        self.unlink(at);
        let due = now + self.most[lane as usize];
        let (anchor, last) = (lane as usize, self.links[lane as usize].prev);
        self.links[at] = Link {
            prev: last,
            next: index(anchor),
            due,
        };
        self.links[last as usize].next = index(at);
        self.links[anchor].prev = index(at);
        self.soonest = self.soonest.min(due);
    }

    /// Has the timeout of `key`, which is in `lane`, begin anew. To move the deadline for every
    /// request would be most of what it costs, so each is set late by one of
    /// [`TIMEOUT_PRECISION`] parts, and stays where it is for as long as that is not early.
    pub fn renew(&mut self, key: usize, lane: Lane, now: Moment) {
        if now + self.least[lane as usize] > self.links[key + ANCHORS].due {
            self.arm(key, lane, now);
        }
    }

    /// Takes away the deadline of `key`, if it has one.
    pub fn disarm(&mut self, key: usize) {
        if key + ANCHORS < self.links.len() {
            self.unlink(key + ANCHORS);
        }
    }

    /// A moment before which none is due.
    pub fn next(&self) -> Moment {
        self.soonest
    }

    /// Takes away a deadline that has passed and returns its key; `None` once there is none.
    pub fn expired(&mut self, now: Moment) -> Option<usize> {
        if now < self.soonest {
            return None;
        }
        let first = |&lane: &Lane| self.first(lane);
        let due = Lane::ALL.iter().filter_map(first);
        let Some(at) = due.min_by_key(|&at| self.links[at].due) else {
            self.soonest = Moment::NEVER;
            return None;
        };
        self.soonest = self.links[at].due;
        if now < self.soonest {
            return None;
        }
        self.unlink(at);
        Some(at - ANCHORS)
    }

    /// Takes away the earliest deadline in `lane`, passed or not, and returns its key.
    pub fn pop(&mut self, lane: Lane) -> Option<usize> {
        let at = self.first(lane)?;
        self.unlink(at);
        Some(at - ANCHORS)
    }

    /// The key that is due first in a lane, and when that is.
    pub fn earliest(&self, lane: Lane) -> Option<(usize, Moment)> {
        let at = self.first(lane)?;
        Some((at - ANCHORS, self.links[at].due))
    }

    fn first(&self, lane: Lane) -> Option<usize> {
        let anchor = lane as usize;
        let first = self.links[anchor].next as usize;
        (first != anchor).then_some(first)
    }

    fn unlink(&mut self, at: usize) {
        let Link { prev, next, .. } = self.links[at];
        self.links[prev as usize].next = next;
        self.links[next as usize].prev = prev;
        self.links[at] = Link::alone(at);
    }

    fn grow(&mut self, len: usize) {
        self.links.extend((self.links.len()..len).map(Link::alone));
    }
}

/// Links refer to each other in half the bytes that a `usize` would take.
fn index(at: usize) -> u32 {
    u32::try_from(at).expect("keys are below CONNECTIONS_MAX")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lanes_expire_in_the_order_of_their_patience() {
        let start = Moment::now();
        let mut deadlines = Deadlines::new(&Timeouts::default(), Duration::from_secs(3));
        for (key, lane) in Lane::ALL.into_iter().enumerate() {
            deadlines.arm(key, lane, start);
        }
        let mut order = Vec::new();
        while deadlines.next() < Moment::NEVER {
            order.extend(deadlines.expired(deadlines.next()));
        }
        let mut lanes = Lane::ALL;
        lanes.sort_by_key(|&lane| deadlines.most[lane as usize]);
        assert_eq!(order, lanes.map(|lane| lane as usize));
    }

    #[test]
    fn a_deadline_is_due_at_its_moment_and_not_before() {
        let start = Moment::now();
        let mut deadlines = Deadlines::new(&Timeouts::default(), Duration::ZERO);
        deadlines.arm(3, Lane::Head, start);
        let due = start + limits::HEADER_TIMEOUT;
        assert_eq!(deadlines.next(), due);
        assert_eq!(deadlines.expired(due - Duration::from_nanos(1)), None);
        assert_eq!(deadlines.expired(due), Some(3));
        assert_eq!(deadlines.expired(due), None);
        assert_eq!(deadlines.next(), Moment::NEVER);
    }

    #[test]
    fn a_timeout_that_begins_anew_is_never_early_and_hardly_late() {
        let start = Moment::now();
        let mut deadlines = Deadlines::new(&Timeouts::default(), Duration::ZERO);
        deadlines.arm(3, Lane::Idle, start);
        let (timeout, mut now) = (limits::IDLE_TIMEOUT, start);
        let precision = timeout / TIMEOUT_PRECISION;
        for _ in 0..3 * TIMEOUT_PRECISION {
            now += precision / 2;
            deadlines.renew(3, Lane::Idle, now);
            let nearly = now + (timeout - Duration::from_nanos(1));
            assert_eq!(deadlines.expired(nearly), None, "it is never early");
        }
        assert_eq!(deadlines.expired(now + timeout + precision), Some(3));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Arm(usize, Lane),
        Disarm(usize),
        Pop(Lane),
        Wait(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let lane = || prop::sample::select(&Lane::ALL[..]);
        let act = prop_oneof![
            4 => (0..12_usize, lane()).prop_map(|(key, lane)| Act::Arm(key, lane)),
            2 => (0..12_usize).prop_map(Act::Disarm),
            1 => lane().prop_map(Act::Pop),
            2 => (0..20_000_u64).prop_map(Act::Wait),
        ];
        prop::collection::vec(act, 0..80)
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_in_the_order_of_arming(acts in acts()) {
            let mut now = Moment::now();
            let mut deadlines = Deadlines::new(&Timeouts::default(), Duration::from_secs(5));
            let mut model: Vec<(usize, Lane, Moment)> = Vec::new();
            for act in acts {
                match act {
                    Act::Arm(key, lane) => {
                        deadlines.arm(key, lane, now);
                        model.retain(|(armed, ..)| *armed != key);
                        model.push((key, lane, now + deadlines.most[lane as usize]));
                    }
                    Act::Disarm(key) => {
                        deadlines.disarm(key);
                        model.retain(|(armed, ..)| *armed != key);
                    }
                    Act::Pop(lane) => {
                        let first = model.iter().position(|(_, armed, _)| *armed == lane);
                        let first = first.map(|at| model.remove(at).0);
                        prop_assert_eq!(deadlines.pop(lane), first);
                    }
                    Act::Wait(millis) => {
                        now += Duration::from_millis(millis);
                        while let Some(key) = deadlines.expired(now) {
                            let armed = model.iter().position(|(armed, ..)| *armed == key);
                            let due = armed.map(|at| model.remove(at).2);
                            prop_assert!(due.is_some_and(|due| due <= now));
                        }
                        prop_assert!(model.iter().all(|(_, _, due)| *due > now));
                        prop_assert!(deadlines.next() > now, "nobody is woken for nothing");
                    }
                }
                prop_assert!(model.iter().all(|(_, _, due)| *due >= deadlines.next()));
            }
        }
    }
}
