//! `/loop`: how the loop is doing, on one screen, for curl and watch(1). What it did is told of the
//! last whole second and of the last minute, or of as much as there has been of it.
//!
//! The invariant: it fits on a terminal of 80 columns and 30 lines.

use std::fmt::Write;
use std::time::Duration;

use super::Observe;
use crate::event_loop::listeners::Service;
use crate::event_loop::observer::Budget;
use crate::event_loop::shutdown::Stage;
use crate::event_loop::state::StateName;
use crate::observe::units::{Count, Share, Span};
use crate::observe::window::Window;

/// A row of the first table: what it tells, and how.
type Row = (&'static str, fn(&Window) -> String);

const ROWS: &[Row] = &[
    ("ticks", |window| Count(window.ticks).to_string()),
    ("events per tick", |window| ratio(window.events, window.ticks)),
    ("busy", |window| share(window, window.busy)),
    ("spinning", |window| share(window, window.spun)),
    ("longest tick", |window| Span(window.longest).to_string()),
    ("requests", |window| Count(window.responses).to_string()),
    ("requests per second", |window| {
        Count(window.responses / window.seconds.max(1) as u64).to_string()
    }),
    ("service time p50", |window| quantile(window, 500)),
    ("             p90", |window| quantile(window, 900)),
    ("             p99", |window| quantile(window, 990)),
    ("             p99.9", |window| quantile(window, 999)),
    ("out of reads", |window| exhausted(window, Budget::Reads)),
    ("out of accepts", |window| exhausted(window, Budget::Accepts)),
    ("out of events", |window| exhausted(window, Budget::Events)),
    ("out of pages", |window| exhausted(window, Budget::Pages)),
];

/// How many of something there are for each of something else, to a tenth.
fn ratio(some: u64, each: u64) -> String {
    let tenths = (some * 10).checked_div(each).unwrap_or(0);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn share(window: &Window, part: Duration) -> String {
    Share(part, Duration::from_secs(window.seconds as u64)).to_string()
}

fn quantile(window: &Window, per_mille: u64) -> String {
    match window.service.is_empty() {
        true => "-".to_owned(),
        false => Span(window.service.quantile(per_mille)).to_string(),
    }
}

fn exhausted(window: &Window, budget: Budget) -> String {
    Count(window.exhausted[budget as usize]).to_string()
}

impl Observe {
    pub(super) fn overview(&self) -> String {
        let mut page = String::new();
        let up = Span(self.now - self.statistics.started());
        let tick = Count(self.recorder.tick().into());
        let stage = match self.stage {
            Stage::Serving => "serving".to_owned(),
            Stage::LameDuck(since) => format!("lame duck for {}", Span(self.now - since)),
            Stage::Draining(since) => format!("draining for {}", Span(self.now - since)),
        };
        let _ = writeln!(page, "onepoll {}, {stage}, up {up}, tick {tick}\n", self.version);
        let (second, minute) = (self.statistics.last(1), self.statistics.last(60));
        let minutes = format!("last {} s", minute.seconds);
        let _ = writeln!(page, "{:<20} {:>14} {minutes:>14}", "", "last second");
        for (name, cell) in ROWS {
            let _ = writeln!(page, "{name:<20} {:>14} {:>14}", cell(&second), cell(&minute));
        }
        self.by_state(&mut page);
        page
    }

    /// The table of connections by state, with the one that has been longest in each.
    fn by_state(&self, page: &mut String) {
        let _ = writeln!(
            page,
            "\n{:<20} {:>14} {:>14} {:>14}  connection",
            "connections", "main", "diag", "longest for"
        );
        let counts = self.connections();
        let [diag, main] = Service::ALL.map(|service| counts[service as usize]);
        for state in StateName::ALL {
            let (name, at) = (state.name(), state as usize);
            let _ = write!(page, "{name:<20} {:>14} {:>14}", Count(main[at]), Count(diag[at]));
            let here = self.slots.iter().flatten().filter(|(_, found)| *found == state);
            let longest = here.map(|(slot, _)| slot).min_by_key(|slot| slot.since);
            let _ = match longest {
                None => writeln!(page, " {:>14}", "-"),
                Some(slot) => {
                    let (time, number) = (Span(self.now - slot.since), slot.number);
                    writeln!(page, " {time:>14}  {number}")
                }
            };
        }
        let [main, diag] = [main, diag].map(|counts| Count(counts.iter().sum()));
        let _ = writeln!(page, "{:<20} {main:>14} {diag:>14}", "all");
    }

    /// How many connections each service has in each state, both at their indices.
    pub(super) fn connections(&self) -> [[u64; StateName::ALL.len()]; Service::ALL.len()] {
        let mut counts = [[0; StateName::ALL.len()]; Service::ALL.len()];
        for (slot, state) in self.slots.iter().flatten() {
            counts[slot.service as usize][state as usize] += 1;
        }
        counts
    }
}
