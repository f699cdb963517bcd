//! What the server does so that it can be watched: it measures its ticks, and has pages written for
//! those who ask how it is doing.
//!
//! The invariant: none of it changes what anybody else is answered.

use mio::Events;

use super::Server;
use crate::event_loop::budget::Budget;
use crate::event_loop::clock::Moment;
use crate::limits::PAGES_PER_TICK;
use crate::observe::View;
use crate::observe::statistics::Step;

impl Server {
    /// Charges a step with the time since it has begun.
    pub(super) fn charge(&mut self, step: Step, since: Moment) {
        let time = Moment::now().nanos_since(since);
        self.meter.charge(step, time);
    }

    /// A tick is over.
    pub(super) fn read_meter(&mut self, events: &Events) {
        let counters = self.table.counters();
        let busy = Moment::now().nanos_since(self.now);
        let found = events.iter().count();
        self.meter.end_tick(busy, found, counters.answered());
    }

    /// Answers those who wait for a page.
    pub(super) fn write_pages(&mut self) {
        for _ in 0..PAGES_PER_TICK {
            let Some((key, path, query)) = self.table.next_reader() else {
                break;
            };
            let (table, meter, stage) = (&self.table, &self.meter, self.stop.stage());
            let view = View {
                table,
                meter,
                stage,
                now: self.now,
            };
            let text = view.write(&path, &query);
            self.table.hand_over(key, text, self.now);
        }
        self.meter
            .exhaust(Budget::Pages, u64::from(self.table.has_readers()));
    }
}
