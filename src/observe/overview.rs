//! `/loop`: how the loop is doing, on one screen, for curl and watch(1). What it did is told of the
//! last whole second and of the last minute, or of as much as there has been of it.
//!
//! The invariant: it fits on a terminal of 80 columns and 30 lines.

use std::fmt::Write;
use std::time::Duration;

use super::View;
use crate::event_loop::budget::Budget;
use crate::event_loop::shutdown::Stage;
use crate::event_loop::stream::Socket;
use crate::event_loop::timers::Lane;
use crate::observe::units::{Count, Share, Span};
use crate::observe::window::Window;
use crate::services::{Service, VERSION};

/// A row of the first table: what it tells, and how.
type Row = (&'static str, fn(&Window) -> String);

const ROWS: &[Row] = &[
    ("ticks", |window| Count(window.ticks).to_string()),
    ("events per tick", |window| {
        ratio(window.events, window.ticks)
    }),
    ("busy", |window| {
        let whole = Duration::from_secs(window.seconds as u64);
        Share(window.busy, whole).to_string()
    }),
    ("longest tick", |window| Span(window.longest).to_string()),
    ("requests", |window| Count(window.answers).to_string()),
    ("requests per second", |window| {
        Count(window.answers / window.seconds.max(1) as u64).to_string()
    }),
    ("service time p50", |window| quantile(window, 500)),
    ("             p90", |window| quantile(window, 900)),
    ("             p99", |window| quantile(window, 990)),
    ("             p99.9", |window| quantile(window, 999)),
    ("out of steps", |window| exhausted(window, Budget::Steps)),
    ("out of accepts", |window| {
        exhausted(window, Budget::Accepts)
    }),
    ("out of events", |window| exhausted(window, Budget::Events)),
    ("out of pages", |window| exhausted(window, Budget::Pages)),
];

/// How many of something there are for each of something else, to a tenth.
fn ratio(some: u64, each: u64) -> String {
    let tenths = (some * 10).checked_div(each).unwrap_or(0);
    format!("{}.{}", tenths / 10, tenths % 10)
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

impl<S: Socket> View<'_, S> {
    pub(super) fn overview(&self) -> String {
        let mut page = String::new();
        let up = Span(self.now - self.meter.started());
        let tick = Count(self.table.recorder().tick().into());
        let stage = match self.stage {
            Stage::Serving => "serving".to_owned(),
            Stage::LameDuck(since) => format!("lame duck for {}", Span(self.now - since)),
            Stage::Draining(since) => format!("draining for {}", Span(self.now - since)),
        };
        let _ = writeln!(page, "onepoll {VERSION}, {stage}, up {up}, tick {tick}\n");
        let (second, minute) = (self.meter.last(1), self.meter.last(60));
        let minutes = format!("last {} s", minute.seconds);
        let _ = writeln!(page, "{:<20} {:>14} {minutes:>14}", "", "last second");
        for (name, cell) in ROWS {
            let _ = writeln!(
                page,
                "{name:<20} {:>14} {:>14}",
                cell(&second),
                cell(&minute)
            );
        }
        self.by_phase(&mut page);
        page
    }

    /// The table of connections by phase, with whoever is due next in each.
    fn by_phase(&self, page: &mut String) {
        let crowd = self.crowd();
        let [main, diag] = [Service::Main, Service::Diag].map(|service| crowd[service as usize]);
        let _ = writeln!(
            page,
            "\n{:<20} {:>14} {:>14} {:>14}  connection",
            "connections", "main", "diag", "next due in"
        );
        let (mut mains, mut diags) = (0, 0);
        for (at, lane) in Lane::ALL.into_iter().enumerate() {
            let (name, main, diag) = (lane.name(), Count(main[at]), Count(diag[at]));
            let _ = write!(page, "{name:<20} {main:>14} {diag:>14}");
            let _ = match self.table.first_due(lane) {
                Some((number, due)) => {
                    writeln!(page, " {:>14}  {number}", Span(due - self.now))
                }
                None => writeln!(page, " {:>14}", "-"),
            };
            mains += main.0;
            diags += diag.0;
        }
        let (main, diag) = (Count(mains), Count(diags));
        let _ = writeln!(page, "{:<20} {main:>14} {diag:>14}", "all");
    }

    /// How many connections each service has in each phase, both at their indices.
    pub(super) fn crowd(&self) -> [[u64; Lane::ALL.len()]; Service::ALL.len()] {
        let mut crowd = [[0; Lane::ALL.len()]; Service::ALL.len()];
        for guest in self.table.slots().flatten() {
            crowd[guest.service as usize][guest.connection.lane() as usize] += 1;
        }
        crowd
    }
}
