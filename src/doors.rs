//! The doors: a listener for each service, until a drain has let in everybody who waited
//! there. Knows when it makes sense to accept, and when it does not.
//!
//! The invariant: a lack of descriptors or memory concerns the whole process. So both doors
//! pause together, one warning tells of it, and it has gone when nobody is left waiting.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use log::{info, warn};
use mio::{Registry, Token};

use crate::address::Address;
use crate::limits::ACCEPT_PAUSE;
use crate::listener::{Accepted, Bound, Listener};
use crate::service::Service;

// What belongs to a service stands at its index, in arrays that are written out here.
const _: () = assert!(Service::Diag as usize == 0 && Service::Main as usize == 1);

/// Both listeners.
#[derive(Debug)]
pub struct Doors {
    listeners: [Option<Listener>; Service::ALL.len()],
    /// Where they listen, or have listened.
    addresses: [SocketAddr; Service::ALL.len()],
    /// They close once nobody waits there.
    closing: bool,
    /// Until when they pause.
    paused: Option<Instant>,
    /// That the process lacks something has been told, and has not ended since.
    starved: bool,
}

impl Doors {
    /// Opens both. Neither listens before both are bound, so if one of them cannot be, nobody
    /// has connected to the other yet. Their tokens are `first` and the one after it.
    ///
    /// # Errors
    /// What the kernel says; the message names the service and the address.
    pub fn open(
        registry: &Registry,
        first: Token,
        [diag, main]: [Address; Service::ALL.len()],
    ) -> io::Result<Doors> {
        let diag = Bound::new(Service::Diag, diag)?;
        let main = Bound::new(Service::Main, main)?;
        let addresses = [diag.address(), main.address()];
        let token = |service| Token(first.0 + service as usize);
        let listeners = [
            Some(diag.listen(registry, token(Service::Diag))?),
            Some(main.listen(registry, token(Service::Main))?),
        ];
        for (service, address) in Service::ALL.iter().zip(addresses) {
            info!(target: service.name(), "Starting {} on {address}", service.title());
        }
        Ok(Doors {
            listeners,
            addresses,
            closing: false,
            paused: None,
            starved: false,
        })
    }

    /// Where a service listens, with the port that the kernel has picked for port 0.
    pub fn address(&self, service: Service) -> SocketAddr {
        self.addresses[service as usize]
    }

    /// Remembers that somebody may be waiting at the door with this index.
    pub fn note(&mut self, index: usize) {
        if let Some(listener) = &mut self.listeners[index] {
            listener.note();
        }
    }

    /// Ends a pause early: something has been closed, and its descriptor is free again.
    pub fn resume(&mut self) {
        self.paused = None;
    }

    /// When the next attempt to accept makes sense; `None` while nobody waits.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let mut listeners = self.listeners.iter().flatten();
        let waiting = listeners.any(Listener::is_ready);
        waiting.then(|| self.paused.unwrap_or(now))
    }

    /// Accepts one connection, if somebody may be waiting and this is no pause.
    pub fn accept(&mut self, service: Service, now: Instant) -> Accepted {
        if self.paused.is_some_and(|until| now < until) {
            return Accepted::Nobody;
        }
        let slot = &mut self.listeners[service as usize];
        let Some(listener) = slot.as_mut().filter(|listener| listener.is_ready()) else {
            return Accepted::Nobody;
        };
        let accepted = listener.accept();
        match &accepted {
            Accepted::Stream(..) | Accepted::Lost => {}
            Accepted::Nobody => {
                if self.closing {
                    *slot = None;
                }
                self.starved &= self.next(now).is_some();
            }
            Accepted::Starved(error) => {
                if !self.starved {
                    warn!(target: service.name(), "{} pauses accepting: {error}", service.title());
                }
                (self.starved, self.paused) = (true, Some(now + ACCEPT_PAUSE));
            }
            Accepted::Failed => *slot = None,
        }
        accepted
    }

    /// Has them close once nobody waits there any more. The kernel has let in whoever is in a
    /// queue by now, and the edge that tells of the last of them may not have been taken yet.
    pub fn close(&mut self) {
        self.closing = true;
        for listener in self.listeners.iter_mut().flatten() {
            listener.note();
        }
    }

    /// Closes them at once, and says how many were still waiting there.
    pub fn turn_away(&mut self) -> usize {
        let listeners = self.listeners.iter_mut().filter_map(Option::take);
        listeners.map(Listener::turn_away).sum()
    }

    /// Whether there is no door any more.
    pub fn are_closed(&self) -> bool {
        self.listeners.iter().all(Option::is_none)
    }
}
