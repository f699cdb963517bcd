//! The timers of all connections. Each state has one fixed timeout, so the order in which its
//! timers are armed is the order in which they expire: no heap and no wheel, nothing to be sorted.
//! It reads no clock; the caller says what time it is. For a shutdown, it also keeps the instant
//! from which a connection is forced to close.
//!
//! Each state is a ring of links that runs through an anchor of its own. All links lie in one
//! vector, the anchors first, and refer to each other by index:
//!
//! ```text
//!            ┌───────────────────────────────────────────────────────┐
//!            └─► anchor of Idle ◄──► slot 7 ◄──► slot 2 ◄──► slot 9 ◄─┘
//!                                    due first               just armed
//! ```
//!
//! The invariant: a slot is in one ring at most. One that is in none is a ring by itself, so that
//! unlinking needs no case for it. Nothing is due before `soonest`, so that most ticks look at that
//! alone.
//!
//! # Try it
//!
//! Two clients that send nothing, one after the other: the first one is idle for longest.
//!
//! ```sh
//! onepoll --log warn & server=$!; sleep 0.5
//! sleep 9 | curl -s telnet://localhost:8080 & sleep 0.5
//! sleep 9 | curl -s telnet://localhost:8080 & sleep 0.5
//! curl -s http://localhost:8081/loop # look for: longest for
//! kill $server; wait $server
//! ```

use std::ops::Range;
use std::time::Duration;

use super::clock::Instant;
use super::state::StateName;
use crate::limits::{self, TIMEOUT_PRECISION};

/// How long a connection may wait for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the first byte of a request.
    pub idle: Duration,
    /// For the rest of a head, from its first byte on.
    pub header: Duration,
    /// For more of a body.
    pub body: Duration,
    /// For room for output in the kernel's buffer.
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

/// The timers, at most one for each slot.
#[derive(Debug)]
pub struct Timers {
    links: Vec<Link>,
    /// No timer is due earlier. The earliest may be later, as a timer is disarmed without a look.
    soonest: Instant,
    /// The least and the most time until a timer is due, by state. They differ where timers are
    /// renewed.
    least: [Duration; StateName::ALL.len()],
    most: [Duration; StateName::ALL.len()],
    /// In a shutdown, when a client that pipelines is forced to close, by slot.
    force_close_at: Vec<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    /// When the timer is due; without meaning in an anchor.
    due: Instant,
}

impl Link {
    /// A ring by itself. It counts as due, so that [`Timers::renew`] will arm it.
    fn alone(at: usize) -> Link {
        Link { prev: index(at), next: index(at), due: Instant::FIRST }
    }
}

/// The anchors have the places ahead of that of the first slot.
const ANCHORS: usize = StateName::ALL.len();

impl Timers {
    /// No timers yet. A delayed response is due after `delay`.
    pub fn new(timeouts: &Timeouts, delay: Duration) -> Timers {
        let least = StateName::ALL.map(|state| match state {
            StateName::Idle => timeouts.idle,
            StateName::Head => timeouts.header,
            StateName::Body => timeouts.body,
            StateName::Delayed => delay,
            StateName::Deferred => limits::DEFERRED_TIMEOUT,
            StateName::Writing => timeouts.write,
            StateName::HalfClosed => limits::HALF_CLOSED_TIMEOUT,
            StateName::IdleClosed => limits::IDLE_CLOSED_TIMEOUT,
        });
        let most = StateName::ALL.map(|state| {
            let least = least[state as usize];
            if state.is_renewed_often() { least + least / TIMEOUT_PRECISION } else { least }
        });
        let (links, force_close_at) = (Vec::new(), Vec::new());
        let mut timers = Timers { links, soonest: Instant::NEVER, least, most, force_close_at };
        timers.grow(ANCHORS);
        timers
    }

    /// Reserves address space for the timers of so many slots.
    pub fn reserve_timers(&mut self, slots: usize) {
        self.links.reserve_exact(slots);
        self.force_close_at.reserve_exact(slots);
    }

    /// Arms the timer of a slot, in place of the one that it may have.
    pub fn arm(&mut self, slot: usize, state: StateName, now: Instant) {
        let at = slot + ANCHORS;
        if at >= self.links.len() {
            self.grow(at + 1);
        }
        self.unlink(at);
        let due = now + self.most[state as usize];
        let (anchor, last) = (state as usize, self.links[state as usize].prev);
        self.links[at] = Link { prev: last, next: index(anchor), due };
        self.links[last as usize].next = index(at);
        self.links[anchor].prev = index(at);
        self.soonest = self.soonest.min(due);
    }

    /// Has the timer of a slot begin anew in the same state. To move it for every request would be
    /// most of what it costs. So it is set late, by one of [`TIMEOUT_PRECISION`] parts of the
    /// timeout, and a renewal moves it only if it would be early otherwise.
    pub fn renew(&mut self, slot: usize, state: StateName, now: Instant) {
        if now + self.least[state as usize] > self.links[slot + ANCHORS].due {
            self.arm(slot, state, now);
        }
    }

    /// Disarms the timer of a slot, if it has one. Its next connection is not forced to close.
    pub fn disarm(&mut self, slot: usize) {
        if slot + ANCHORS < self.links.len() {
            self.unlink(slot + ANCHORS);
        }
        if let Some(at) = self.force_close_at.get_mut(slot) {
            *at = Instant::NEVER;
        }
    }

    /// All slots of which a timer has ever been armed.
    pub fn slots(&self) -> Range<usize> {
        0..self.links.len() - ANCHORS
    }

    /// Has a connection be closed from an instant on. An earlier one stays, unless time counts
    /// `anew`.
    pub fn force_close(&mut self, slot: usize, at: Instant, anew: bool) {
        if slot >= self.force_close_at.len() {
            self.force_close_at.resize(slot + 1, Instant::NEVER);
        }
        let earlier = if anew { Instant::NEVER } else { self.force_close_at[slot] };
        self.force_close_at[slot] = at.min(earlier);
    }

    /// Whether a connection is forced to close by now.
    pub fn is_forced_to_close(&self, slot: usize, now: Instant) -> bool {
        self.force_close_at.get(slot).is_some_and(|&at| at <= now)
    }

    /// No timer is due before this instant.
    pub fn next_due(&self) -> Instant {
        self.soonest
    }

    /// Disarms a timer that is due, and returns its slot; `None` once there is none.
    pub fn expired(&mut self, now: Instant) -> Option<usize> {
        if now < self.soonest {
            return None;
        }
        let first = |&state: &StateName| self.first(state);
        let due = StateName::ALL.iter().filter_map(first);
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

    fn first(&self, state: StateName) -> Option<usize> {
        let anchor = state as usize;
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
    u32::try_from(at).expect("slots are below CONNECTIONS_MAX")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn states_expire_in_the_order_of_their_timeouts() {
        let start = Instant::now();
        let mut timers = Timers::new(&Timeouts::default(), Duration::from_secs(3));
        for (slot, state) in StateName::ALL.into_iter().enumerate() {
            timers.arm(slot, state, start);
        }
        let mut order = Vec::new();
        while timers.next_due() < Instant::NEVER {
            order.extend(timers.expired(timers.next_due()));
        }
        let mut states = StateName::ALL;
        states.sort_by_key(|&state| timers.most[state as usize]);
        assert_eq!(order, states.map(|state| state as usize));
    }

    #[test]
    fn a_timer_is_due_at_its_instant_and_not_before() {
        let start = Instant::now();
        let mut timers = Timers::new(&Timeouts::default(), Duration::ZERO);
        timers.arm(3, StateName::Head, start);
        let due = start + limits::HEADER_TIMEOUT;
        assert_eq!(timers.next_due(), due);
        assert_eq!(timers.expired(due - Duration::from_nanos(1)), None);
        assert_eq!(timers.expired(due), Some(3));
        assert_eq!(timers.expired(due), None);
        assert_eq!(timers.next_due(), Instant::NEVER);
    }

    #[test]
    fn a_timeout_that_begins_anew_is_never_early_and_hardly_late() {
        let start = Instant::now();
        let mut timers = Timers::new(&Timeouts::default(), Duration::ZERO);
        timers.arm(3, StateName::Idle, start);
        let (state, mut now) = (limits::IDLE_TIMEOUT, start);
        let precision = state / TIMEOUT_PRECISION;
        for _ in 0..3 * TIMEOUT_PRECISION {
            now += precision / 2;
            timers.renew(3, StateName::Idle, now);
            let nearly = now + (state - Duration::from_nanos(1));
            assert_eq!(timers.expired(nearly), None, "it is never early");
        }
        assert_eq!(timers.expired(now + state + precision), Some(3));
    }

    #[test]
    fn a_connection_is_not_forced_to_close_because_of_the_one_before_it() {
        let start = Instant::now();
        let mut timers = Timers::new(&Timeouts::default(), Duration::ZERO);
        timers.arm(3, StateName::Idle, start);
        timers.force_close(3, start, false);
        assert!(timers.is_forced_to_close(3, start) && !timers.is_forced_to_close(2, start));
        timers.disarm(3);
        assert!(!timers.is_forced_to_close(3, start));
        assert_eq!(size_of::<Link>(), 16);
    }

    #[derive(Clone, Debug)]
    enum Act {
        Arm(usize, StateName),
        Disarm(usize),
        Wait(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let state = || prop::sample::select(&StateName::ALL[..]);
        let act = prop_oneof![
            4 => (0..12_usize, state()).prop_map(|(slot, state)| Act::Arm(slot, state)),
            2 => (0..12_usize).prop_map(Act::Disarm),
            2 => (0..20_000_u64).prop_map(Act::Wait),
        ];
        prop::collection::vec(act, 0..80)
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_in_the_order_of_arming(acts in acts()) {
            let mut now = Instant::now();
            let mut timers = Timers::new(&Timeouts::default(), Duration::from_secs(5));
            let mut model: Vec<(usize, StateName, Instant)> = Vec::new();
            for act in acts {
                match act {
                    Act::Arm(slot, state) => {
                        timers.arm(slot, state, now);
                        model.retain(|(armed, ..)| *armed != slot);
                        model.push((slot, state, now + timers.most[state as usize]));
                    }
                    Act::Disarm(slot) => {
                        timers.disarm(slot);
                        model.retain(|(armed, ..)| *armed != slot);
                    }
                    Act::Wait(millis) => {
                        now += Duration::from_millis(millis);
                        while let Some(slot) = timers.expired(now) {
                            let armed = model.iter().position(|(armed, ..)| *armed == slot);
                            let due = armed.map(|at| model.remove(at).2);
                            prop_assert!(due.is_some_and(|due| due <= now));
                        }
                        prop_assert!(model.iter().all(|(_, _, due)| *due > now));
                        prop_assert!(timers.next_due() > now, "the loop is not woken for nothing");
                    }
                }
                prop_assert!(model.iter().all(|(_, _, due)| *due >= timers.next_due()));
            }
        }
    }
}
