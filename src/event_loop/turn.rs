//! What a connection's turn came to: all that its table has to know of it. A turn consists of
//! steps, and what it means for the deadline is what the most telling of them does.

use std::fmt;
use std::io::ErrorKind;

use crate::event_loop::timers::Lane;

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// The connection lives on.
    Open {
        /// What this means for its deadline.
        change: Change,
        /// It ran out of steps and wants another turn, for which no event will come.
        unfinished: bool,
    },
    /// The connection is of no more use.
    Over(Reason),
}

impl Turn {
    /// The lane that the connection has left and come back to, if nothing more is to be done.
    pub fn came_back_to(&self) -> Option<Lane> {
        match *self {
            Turn::Open {
                change: Change::Again(lane),
                unfinished: false,
            } => Some(lane),
            _ => None,
        }
    }

    /// Whether it ran out of steps.
    pub fn is_unfinished(&self) -> bool {
        matches!(self, Turn::Open { unfinished, .. } if *unfinished)
    }

    /// Whether the connection is open and where it was before.
    pub fn is_without_change(&self) -> bool {
        let change = Change::None;
        matches!(self, Turn::Open { change: found, .. } if *found == change)
    }
}

/// How a step of a turn ended.
#[derive(Debug)]
pub enum Step {
    /// There may be more to do.
    Done(Change),
    /// Nothing can be done until the kernel reports a change, or time passes.
    Blocked,
    /// The connection is of no more use.
    Over(Reason),
}

/// What a turn means for the deadline of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It is still in this lane, whose patience begins anew, as some of what it waited for
    /// has come.
    Progress(Lane),
    /// It has left this lane and is there once more, so that its patience begins anew.
    Again(Lane),
    /// It has entered this lane, and its patience begins.
    Entered(Lane),
}

impl Change {
    /// What this and then `next` come to.
    pub fn then(self, next: Change) -> Change {
        match (self, next) {
            (Change::None, _) | (_, Change::Entered(_)) => next,
            _ => self,
        }
    }
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The peer closed it between requests, or after the last answer.
    Finished,
    /// The peer closed it in the middle of a request.
    Truncated,
    /// The kernel reported an error.
    Failed(ErrorKind),
    /// The lane's patience ended.
    Overdue,
    /// It was open when the drain's deadline passed.
    Cut,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Reason::Finished => out.write_str("its peer closed it"),
            Reason::Truncated => out.write_str("its peer closed it in the middle of a request"),
            Reason::Failed(kind) => kind.fmt(out),
            Reason::Overdue => out.write_str("overdue"),
            Reason::Cut => out.write_str("cut by the stop"),
        }
    }
}
