//! What there is to be seen of the loop: the pages of the diagnostics listener that are written
//! anew for each request. Each is a function from what is there to a text.
//!
//! The invariant: to look changes nothing, and takes time for what is there, never for what has
//! been: a page is written between two turns, in a fraction of a millisecond.
//!
//! # See the loop
//!
//! Open `http://localhost:8081/` in a browser and run wrk. The page shows the tick as a ring of its
//! seven steps, the requests and service times as they come, and every connection as a dot; a click
//! on a dot shows the trace of its connection. The page is one file of 21 KiB, loads nothing from
//! other servers and requests its data twice a second. On the keyboard, Tab leads to the dots, the
//! arrow keys from one dot to the next, and Enter to the trace. The page says so when the server
//! stops, and when it has exited.
//!
//! For a terminal there are pages of text, rendered for each request:
//!
//! | path | shows |
//! |---|---|
//! | `/metrics` | everything that is counted, for Prometheus |
//! | `/loop` | the loop over the last second and the last minute, on one screen |
//! | `/trace` | the connections that changed last |
//! | `/trace?conn=N` | the trace of one connection; the log gives it the same number |
//! | `/trace?slot=N` | the trace of the connection in a slot of the table |
//! | `/trace?map` | a letter for each slot, from which the live page draws its dots |
//!
//! ```console
//! $ watch -n1 curl -s http://localhost:8081/loop
//! ```
//!
//! A recorder keeps the last 4,096 changes of all connections. A trace is what the recorder has of
//! one connection. Beside these columns it counts bytes and responses:
//!
//! ```console
//! $ curl -s 'http://localhost:8081/trace?conn=1' | cut -c1-44,76-
//! Connection 1
//!     after       tick      from -> to        what happened
//!      0 ns          1      door -> idle      it is accepted
//!  100.1 ms          3      idle -> head      it has sent the beginning of a head
//!  570.1 ms          4      head -> idle      it asks and is answered
//!  500.3 ms          5      idle -> head      it has sent the beginning of a head
//!  100.1 ms          6      head -> idle      it asks and is answered
//!  100.4 ms          7      idle -> lingering the last answer is out, and our FIN behind it
//!  800.4 ms         10 lingering -> gone      its FIN answers ours: it is gone
//! ```
//!
//! When a drain's deadline closes a connection, the log has its trace. `--log trace` logs the same
//! changes as they happen. `--log debug` has a line for each response, with the time since the last
//! byte of its request came, any delay included, and the reason if it is an error response:
//!
//! ```console
//! $ 2>debug.log target/release/onepoll --log debug &
//! $ grep connection debug.log | fold -sw 92
//! 2026-11-26T00:19:56.801Z DEBUG [main] 127.0.0.1:50980, connection 1: GET '/hello?a%23b'
//! 200, 129 bytes, 931 us
//! 2026-11-26T00:19:56.918Z DEBUG [main] 127.0.0.1:50990, connection 2: GET '/hello?a#b' 400,
//! 230 bytes, 34 us: a request target holds no # here; it is written %23
//! ```
//!
//! Two counters of `/metrics` tell requests apart: `onepoll_requests_total` by listener and status,
//! `onepoll_refusals_total` by the reason of an error response.
//!
//! # What a service time is
//!
//! The loop reads the clock twice in a tick and not for each request. So the service time of a
//! response is the time from the end of the wait to the end of its tick, which is never less than
//! the response took; with `--delay`, it is the delay. A step of the tick that seldom has work is
//! timed when it has, and the rest of the tick counts as that of its events. A page shows seconds
//! that are over; the first one is what was left of a second at the start.
//!
//! # What it costs
//!
//! All of this is always on. It costs about 140 instructions in user space for a request that comes
//! alone (callgrind). One run of three rounds under wrk took 4,830 ns of processor time for a
//! request, and 4,836 ns without all this, with 64 connections; in batches of 16 both took 332 ns.
//! That run is older than the change "Each request is parsed".
//!
//! The recorder takes 128 KiB of memory and the last minute 70 KiB, as they fill. With 10,000
//! connections open, a client on the same machine gets `/metrics` in 76 µs and the map in 90 µs
//! (the medians of 50). Beside four clients that request both pages a hundred times a second, the
//! longest of 3,000 requests took 0.3 ms, and 0.2 ms without them.
//!
//! # Which client can read the pages
//!
//! Every client that reaches the diagnostics port can read them, and they show the addresses of
//! clients.

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
