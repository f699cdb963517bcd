//! What there is to be seen of the loop: the pages of the diagnostics listener that are written
//! anew for each request. Each is a function from what is there to a text.
//!
//! The invariant: to look changes nothing, and takes time for what is there, never for what has
//! been: a page is written between two turns, in a fraction of a millisecond.

use std::fmt::Display;

use crate::event_loop::clock::Moment;
use crate::event_loop::connections::Table;
use crate::event_loop::shutdown::Stage;
use crate::event_loop::stream::Socket;
use crate::http::{Status, TEXT, TEXT_NOT_SNIFFED, Text};
use crate::observe::statistics::Meter;

pub mod counters;
mod exposition;
pub mod histogram;
pub mod live;
mod metrics;
mod overview;
mod process;
pub mod recorder;
pub mod statistics;
pub mod timeline;
mod traces;
pub mod units;
pub mod window;

/// Everything that there is to be seen at one moment.
pub struct View<'a, S> {
    /// Who is connected.
    pub table: &'a Table<S>,
    /// How the loop is doing.
    pub meter: &'a Meter,
    /// How far a stop has come.
    pub stage: Stage,
    /// The moment.
    pub now: Moment,
}

impl<S: Socket> View<'_, S> {
    /// Writes the page at a path.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn write(&self, path: &str, query: &str) -> Text {
        match path {
            "/metrics" => found(
                "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n",
                self.metrics(),
            ),
            "/loop" => found(TEXT, self.overview()),
            "/trace" => self.trace(query),
            _ => unreachable!("there is no live page at {path}"),
        }
    }
}

fn found(fields: &'static str, body: String) -> Text {
    Text {
        status: Status::OK,
        fields,
        body: body.into(),
    }
}

/// A line that says why there is nothing to be seen.
fn nothing(status: Status, why: impl Display) -> Text {
    Text {
        status,
        fields: TEXT_NOT_SNIFFED,
        body: format!("{why}\n").into(),
    }
}
