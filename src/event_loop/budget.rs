//! What there is only so much of, so that nobody has to wait for long: when it is used up, the rest
//! has its turn in a later tick. How much that is, [`limits`](crate::limits) says.
//!
//! The invariant: nothing is lost by it.

/// Something of which there is only so much in one turn or in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// Steps of a connection in a turn.
    Steps,
    /// Connections accepted in a tick.
    Accepts,
    /// Events taken in a tick.
    Events,
    /// Pages written in a tick.
    Pages,
}

impl Budget {
    /// All budgets. Each is at the index that it converts to.
    pub const ALL: [Budget; 4] = [
        Budget::Steps,
        Budget::Accepts,
        Budget::Events,
        Budget::Pages,
    ];

    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Budget::Steps => "steps",
            Budget::Accepts => "accepts",
            Budget::Events => "events",
            Budget::Pages => "pages",
        }
    }
}
