//! What a stop asks of the connections: to hear of it, to leave if they are idle, and at its
//! deadline to leave in any case.
//!
//! The invariant: whoever loses by it is named in the log, with its story.

use std::time::Duration;

use log::{debug, warn};

use super::Table;
use crate::event_loop::clock::Moment;
use crate::event_loop::shutdown::Tally;
use crate::event_loop::stream::Socket;
use crate::event_loop::timers::Lane;
use crate::event_loop::turn::Reason;
use crate::limits::{HELD_MAX, STORY_MAX};
use crate::observe::timeline::timeline;
use crate::services::Service;

impl<S: Socket> Table<S> {
    /// Says on every page that is there for it that the server will end.
    pub fn retire(&mut self) {
        for service in Service::ALL {
            service.retire(&mut self.house.sites[service as usize]);
        }
    }

    /// From now on, the last answer that a client of `service` gets announces the close.
    pub fn announce_close(&mut self, service: Service, now: Moment) {
        self.house.sites[service as usize].announce_close();
        self.house.hurry = self.house.hurry.min(now + HELD_MAX);
    }

    /// Dismisses the connections to `service` that are idle at the end of its idle grace. Closing
    /// a socket that holds a request would answer that with an RST.
    pub fn dismiss_idle(&mut self, service: Service, now: Moment, tally: &mut Tally) {
        let mut others = Vec::new();
        for _ in 0..self.guests.len() {
            let Some(key) = self.deadlines.pop(Lane::Idle) else {
                break;
            };
            if self.guests[key].service != service {
                others.push(key);
                continue;
            }
            let guest = &mut self.guests[key];
            let mut turn = guest.look_once_more(&mut self.house, now);
            if turn.is_without_change() {
                debug!(target: "onepoll", "Connection {} is idle", guest.number);
                turn = guest.connection.dismiss();
                tally.idle += 1;
            }
            self.settle(key, &turn, now);
        }
        for key in others {
            self.deadlines.arm(key, Lane::Idle, now);
        }
    }

    /// Closes everything that is left at the drain's deadline, and names whoever loses by it.
    /// Those that have had their last answer, or have been dismissed, do not.
    pub fn cut(&mut self, now: Moment, tally: &mut Tally) {
        // Nothing more can be waited for: these answers are the last.
        while let Some(key) = self.deadlines.pop(Lane::Held) {
            let guest = &mut self.guests[key];
            let entered = guest.entered;
            guest.connection.hurry();
            let mut turn = guest.look_once_more(&mut self.house, now);
            if guest.connection.lane() == Lane::Held {
                turn = guest.expire(&mut self.house, now);
            }
            // What is closed with something unread in it is reset.
            let is_lost = guest.connection.has_unread();
            self.settle(key, &turn, now);
            if is_lost && self.guests.contains(key) {
                self.lose(key, Lane::Held, now - entered, now, tally);
            }
        }
        for key in 0..self.guests.capacity() {
            let Some(guest) = self.guests.get(key) else {
                continue;
            };
            match guest.connection.lane() {
                Lane::Lingering | Lane::Farewell => self.close(key, Reason::Cut, now),
                lane => self.lose(key, lane, now - guest.entered, now, tally),
            }
        }
    }

    /// Closes a connection that loses by it, and tells its story.
    fn lose(&mut self, key: usize, lane: Lane, time: Duration, now: Moment, tally: &mut Tally) {
        let guest = &mut self.guests[key];
        let (number, service) = (guest.number, guest.service);
        let site = &self.house.sites[service as usize];
        guest.connection.hand_out(&mut self.house.desk, site);
        let peer = guest.connection.peer();
        let peer = peer.map_or_else(|| "a peer".to_owned(), |peer| peer.to_string());
        let (time, phase) = (time.as_millis(), lane.name());
        warn!(
            target: service.name(),
            "Connection {number} from {peer} is cut, after {time} ms in {phase}"
        );
        tally.cut += 1;
        self.close(key, Reason::Cut, now);
        let story = timeline(&self.house.recorder, number, STORY_MAX);
        for line in story.iter().flat_map(|story| story.lines()) {
            warn!(target: service.name(), "{line}");
        }
    }
}
