//! What is known of the connection in each slot: which one it is, where its peer is, what it waits
//! for and since when.
//!
//! The invariant: a slot is as small as it can be, as there is one for every connection.

use std::net::{Ipv6Addr, SocketAddr};
use std::ops::{Index, IndexMut};

use super::recorder::Number;
use crate::event_loop::clock::Instant;
use crate::event_loop::listeners::Service;
use crate::event_loop::listening::canonical;
use crate::event_loop::state::StateName;

/// The facts about one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Since when it is in its state.
    pub(super) since: Instant,
    pub(super) number: Number,
    /// Its state; `None` if the slot is free.
    pub(super) state: Option<StateName>,
    pub(super) service: Service,
    port: u16,
    ip: Ipv6Addr,
}

impl Slot {
    const FREE: Slot = Slot {
        since: Instant::FIRST,
        number: 0,
        state: None,
        service: Service::Main,
        port: 0,
        ip: Ipv6Addr::UNSPECIFIED,
    };

    /// The address of the peer.
    pub(super) fn peer(&self) -> SocketAddr {
        canonical((self.ip, self.port).into())
    }
}

/// All slots that have ever been used.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    last_number: Number,
}

impl Slots {
    /// Reserves address space for so many slots.
    pub(super) fn reserve_slots(&mut self, slots: usize) {
        self.slots.reserve_exact(slots);
    }

    /// Fills a slot with a connection that has just been accepted, and gives that a number. After
    /// four thousand million connections the numbers begin anew.
    pub(super) fn fill(
        &mut self,
        slot: usize,
        service: Service,
        peer: SocketAddr,
        now: Instant,
    ) -> Number {
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, Slot::FREE);
        }
        self.last_number = self.last_number.wrapping_add(1);
        self.slots[slot] = Slot {
            since: now,
            number: self.last_number,
            state: Some(StateName::Idle),
            service,
            port: peer.port(),
            ip: match peer {
                SocketAddr::V4(peer) => peer.ip().to_ipv6_mapped(),
                SocketAddr::V6(peer) => *peer.ip(),
            },
        };
        self.last_number
    }

    /// All slots, free ones included, each with the state of its connection.
    pub(super) fn iter(&self) -> impl Iterator<Item = Option<(&Slot, StateName)>> {
        self.slots.iter().map(|slot| Some((slot, slot.state?)))
    }

    /// The connection with this number, and its state.
    pub(super) fn find(&self, number: Number) -> Option<(&Slot, StateName)> {
        self.iter().flatten().find(|(slot, _)| slot.number == number)
    }
}

impl Index<usize> for Slots {
    type Output = Slot;

    fn index(&self, slot: usize) -> &Slot {
        &self.slots[slot]
    }
}

impl IndexMut<usize> for Slots {
    fn index_mut(&mut self, slot: usize) -> &mut Slot {
        &mut self.slots[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small_and_knows_its_peer() {
        assert!(size_of::<Slot>() <= 32, "{}", size_of::<Slot>());
        let mut slots = Slots::default();
        for (slot, peer) in ["127.0.0.1:80", "[::1]:80", "[2001:db8::1]:1"].into_iter().enumerate()
        {
            let address = peer.parse().expect("an address");
            let number = slots.fill(slot, Service::Main, address, Instant::FIRST);
            let (found, state) = slots.find(number).expect("it is there");
            assert_eq!((found.peer().to_string(), state), (peer.to_owned(), StateName::Idle));
        }
    }
}
