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

use super::clock::Instant;
use crate::limits::{self, TIMEOUT_PRECISION};

/// What a connection waits for, and so for how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// The moment at which its answer is given.
    Delayed,
    /// Another request, before the answer to the last one announces the close.
    Deferred,
    /// Room for an answer in the kernel's buffer.
    Writing,
    /// The peer's FIN after ours, which followed the last answer.
    HalfClosed,
    /// The peer's FIN after ours, which came at the end of the idle grace and followed nothing.
    IdleClosed,
}

impl Timeout {
    /// All lanes. Each is at the index that it converts to.
    pub const ALL: [Timeout; 8] = [
        Timeout::Idle,
        Timeout::Head,
        Timeout::Body,
        Timeout::Delayed,
        Timeout::Deferred,
        Timeout::Writing,
        Timeout::HalfClosed,
        Timeout::IdleClosed,
    ];

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Timeout::Idle => "idle",
            Timeout::Head => "head",
            Timeout::Body => "body",
            Timeout::Delayed => "delayed",
            Timeout::Deferred => "deferred",
            Timeout::Writing => "writing",
            Timeout::HalfClosed => "half_closed",
            Timeout::IdleClosed => "idle_closed",
        }
    }

    /// Whether it begins anew with each part of what it waits for.
    pub const fn is_renewed_by_traffic(self) -> bool {
        matches!(self, Timeout::Body | Timeout::Deferred | Timeout::Writing)
    }

    /// Whether it may begin anew in the same state.
    const fn is_renewed(self) -> bool {
        self.is_renewed_by_traffic() || matches!(self, Timeout::Idle)
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

/// The timers of all connections, at most one for each key.
#[derive(Debug)]
pub struct Timers {
    links: Vec<Link>,
    /// No deadline is earlier; the earliest may be later, as those who leave do not say so.
    soonest: Instant,
    /// The least and the most time until a deadline, by lane. They differ where timeouts are
    /// renewed.
    least: [Duration; Timeout::ALL.len()],
    most: [Duration; Timeout::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    /// When the patience ends; without meaning in an anchor.
    due: Instant,
}

impl Link {
    /// A ring by itself. It counts as due, so that [`Timers::renew`] will arm it.
    fn alone(at: usize) -> Link {
        Link { prev: index(at), next: index(at), due: Instant::FIRST }
    }
}

/// The anchors take the places before the first key's.
const ANCHORS: usize = Timeout::ALL.len();

impl Timers {
    /// No timers yet. An answer that is delayed is due after `delay`.
    pub fn new(timeouts: &Timeouts, delay: Duration) -> Timers {
        let least = Timeout::ALL.map(|lane| match lane {
            Timeout::Idle => timeouts.idle,
            Timeout::Head => timeouts.header,
            Timeout::Body => timeouts.body,
            Timeout::Delayed => delay,
            Timeout::Deferred => limits::DEFERRED_TIMEOUT,
            Timeout::Writing => timeouts.write,
            Timeout::HalfClosed => limits::HALF_CLOSED_TIMEOUT,
            Timeout::IdleClosed => limits::IDLE_CLOSED_TIMEOUT,
        });
        let most = Timeout::ALL.map(|lane| {
            let least = least[lane as usize];
            if lane.is_renewed() { least + least / TIMEOUT_PRECISION } else { least }
        });
        let mut timers = Timers { links: Vec::new(), soonest: Instant::NEVER, least, most };
        timers.grow(ANCHORS);
        timers
    }

    /// Gives `key` the deadline of `lane`, in place of the one that it may have.
    pub fn arm(&mut self, key: usize, lane: Timeout, now: Instant) {
        let at = key + ANCHORS;
        if at >= self.links.len() {
            self.grow(at + 1);
        }
        self.unlink(at);
        let due = now + self.most[lane as usize];
        let (anchor, last) = (lane as usize, self.links[lane as usize].prev);
        self.links[at] = Link { prev: last, next: index(anchor), due };
        self.links[last as usize].next = index(at);
        self.links[anchor].prev = index(at);
        self.soonest = self.soonest.min(due);
    }

    /// Has the timeout of `key`, which is in `lane`, begin anew. To move the deadline for every
    /// request would be most of what it costs, so each is set late by one of
    /// [`TIMEOUT_PRECISION`] parts, and stays where it is for as long as that is not early.
    pub fn renew(&mut self, key: usize, lane: Timeout, now: Instant) {
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
    pub fn next(&self) -> Instant {
        self.soonest
    }

    /// Takes away a deadline that has passed and returns its key; `None` once there is none.
    pub fn expired(&mut self, now: Instant) -> Option<usize> {
        if now < self.soonest {
            return None;
        }
        let first = |&lane: &Timeout| self.first(lane);
        let due = Timeout::ALL.iter().filter_map(first);
        let Some(at) = due.min_by_key(|&at| self.links[at].due) else {
            self.soonest = Instant::NEVER;
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
    pub fn pop(&mut self, lane: Timeout) -> Option<usize> {
        let at = self.first(lane)?;
        self.unlink(at);
        Some(at - ANCHORS)
    }

    /// The key that is due first in a lane, and when that is.
    pub fn earliest(&self, lane: Timeout) -> Option<(usize, Instant)> {
        let at = self.first(lane)?;
        Some((at - ANCHORS, self.links[at].due))
    }

    fn first(&self, lane: Timeout) -> Option<usize> {
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
        let start = Instant::now();
        let mut timers = Timers::new(&Timeouts::default(), Duration::from_secs(3));
        for (key, lane) in Timeout::ALL.into_iter().enumerate() {
            timers.arm(key, lane, start);
        }
        let mut order = Vec::new();
        while timers.next() < Instant::NEVER {
            order.extend(timers.expired(timers.next()));
        }
        let mut lanes = Timeout::ALL;
        lanes.sort_by_key(|&lane| timers.most[lane as usize]);
        assert_eq!(order, lanes.map(|lane| lane as usize));
    }

    #[test]
    fn a_deadline_is_due_at_its_moment_and_not_before() {
        let start = Instant::now();
        let mut timers = Timers::new(&Timeouts::default(), Duration::ZERO);
        timers.arm(3, Timeout::Head, start);
        let due = start + limits::HEADER_TIMEOUT;
        assert_eq!(timers.next(), due);
        assert_eq!(timers.expired(due - Duration::from_nanos(1)), None);
        assert_eq!(timers.expired(due), Some(3));
        assert_eq!(timers.expired(due), None);
        assert_eq!(timers.next(), Instant::NEVER);
    }

    #[test]
    fn a_timeout_that_begins_anew_is_never_early_and_hardly_late() {
        let start = Instant::now();
        let mut timers = Timers::new(&Timeouts::default(), Duration::ZERO);
        timers.arm(3, Timeout::Idle, start);
        let (timeout, mut now) = (limits::IDLE_TIMEOUT, start);
        let precision = timeout / TIMEOUT_PRECISION;
        for _ in 0..3 * TIMEOUT_PRECISION {
            now += precision / 2;
            timers.renew(3, Timeout::Idle, now);
            let nearly = now + (timeout - Duration::from_nanos(1));
            assert_eq!(timers.expired(nearly), None, "it is never early");
        }
        assert_eq!(timers.expired(now + timeout + precision), Some(3));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Arm(usize, Timeout),
        Disarm(usize),
        Pop(Timeout),
        Wait(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let lane = || prop::sample::select(&Timeout::ALL[..]);
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
            let mut now = Instant::now();
            let mut timers = Timers::new(&Timeouts::default(), Duration::from_secs(5));
            let mut model: Vec<(usize, Timeout, Instant)> = Vec::new();
            for act in acts {
                match act {
                    Act::Arm(key, lane) => {
                        timers.arm(key, lane, now);
                        model.retain(|(armed, ..)| *armed != key);
                        model.push((key, lane, now + timers.most[lane as usize]));
                    }
                    Act::Disarm(key) => {
                        timers.disarm(key);
                        model.retain(|(armed, ..)| *armed != key);
                    }
                    Act::Pop(lane) => {
                        let first = model.iter().position(|(_, armed, _)| *armed == lane);
                        let first = first.map(|at| model.remove(at).0);
                        prop_assert_eq!(timers.pop(lane), first);
                    }
                    Act::Wait(millis) => {
                        now += Duration::from_millis(millis);
                        while let Some(key) = timers.expired(now) {
                            let armed = model.iter().position(|(armed, ..)| *armed == key);
                            let due = armed.map(|at| model.remove(at).2);
                            prop_assert!(due.is_some_and(|due| due <= now));
                        }
                        prop_assert!(model.iter().all(|(_, _, due)| *due > now));
                        prop_assert!(timers.next() > now, "nobody is woken for nothing");
                    }
                }
                prop_assert!(model.iter().all(|(_, _, due)| *due >= timers.next()));
            }
        }
    }
}
