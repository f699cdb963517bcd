//! What a connection's turn came to: all that its table has to know of it.

use std::fmt;
use std::io::ErrorKind;

use crate::deadlines::Lane;

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// The connection lives on.
    Open {
        /// The lane that it entered, perhaps anew, and whose patience begins now.
        entered: Option<Lane>,
        /// It ran out of steps and wants another turn, for which no event will come.
        unfinished: bool,
    },
    /// The connection is of no more use.
    Over(Reason),
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
            Reason::Cut => out.write_str("cut at the deadline"),
        }
    }
}
