//! What can be set of a server. It knows nothing of the command line.

use std::time::Duration;

use super::shutdown::Schedule;
use super::timers::Timeouts;
use crate::limits::{DELAY, SPIN};

/// How the server treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a connection may wait for its peer.
    pub timeouts: Timeouts,
    /// How long a delayed response waits.
    pub delay: Duration,
    /// How long each stage of a shutdown takes.
    pub schedule: Schedule,
    /// How many connections main may have at once; `None` for as many as there are descriptors.
    pub max_connections: Option<usize>,
    /// How long the loop polls without sleeping after an event.
    pub spin: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            timeouts: Timeouts::default(),
            delay: DELAY,
            schedule: Schedule::default(),
            max_connections: None,
            spin: SPIN,
        }
    }
}
