//! What has happened in lives: for the line of progress, and to know that everything has.

use onepoll::event_loop::observer::Budget;
use onepoll::event_loop::state::{StateName, TRANSITIONS};

use super::plan::Fault;

/// What accept(2) has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    Connection,
    Empty,
    FailedConnection,
    WithoutCode,
    NoDescriptor,
    NoMemory,
    FailedListener,
    LostItsMode,
}

/// What a shutdown does, as it can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    AnnouncesOnMain,
    AnnouncesOnDiag,
    IgnoresSyns,
    ClosesRoughly,
    LeavesInherited,
    ClosesIdleOnMain,
    ClosesIdleOnDiag,
    Aborts,
    RejectsQueue,
    Drained,
    Aborted,
    Failed,
    Interrupted,
}

/// In so many lives, everything has to happen.
pub const COVERS_ALL: u64 = 10_000;

/// How often each thing has happened.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub lives: u64,
    pub ticks: u64,
    /// Requests that have come whole, and responses that were written whole.
    pub requests: u64,
    pub responses: u64,
    pub connections: u64,
    pub faults: [u64; Fault::ALL.len()],
    pub transitions: [[u64; StateName::ALL.len()]; StateName::ALL.len()],
    /// Closed from each state.
    pub closed: [u64; StateName::ALL.len()],
    pub accepts: [u64; Accept::ALL.len()],
    pub effects: [u64; Effect::ALL.len()],
    /// Budgets that were used up.
    pub budgets: [u64; Budget::ALL.len()],
}

impl Accept {
    pub const ALL: [Accept; 8] = [
        Accept::Connection,
        Accept::Empty,
        Accept::FailedConnection,
        Accept::WithoutCode,
        Accept::NoDescriptor,
        Accept::NoMemory,
        Accept::FailedListener,
        Accept::LostItsMode,
    ];
}

impl Effect {
    pub const ALL: [Effect; 13] = [
        Effect::AnnouncesOnMain,
        Effect::AnnouncesOnDiag,
        Effect::IgnoresSyns,
        Effect::ClosesRoughly,
        Effect::LeavesInherited,
        Effect::ClosesIdleOnMain,
        Effect::ClosesIdleOnDiag,
        Effect::Aborts,
        Effect::RejectsQueue,
        Effect::Drained,
        Effect::Aborted,
        Effect::Failed,
        Effect::Interrupted,
    ];
}

impl Counts {
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    pub fn accept(&mut self, accept: Accept) {
        self.accepts[accept as usize] += 1;
    }

    pub fn effect(&mut self, effect: Effect) {
        self.effects[effect as usize] += 1;
    }

    pub fn add(&mut self, other: &Counts) {
        let add = |to: &mut [u64], from: &[u64]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        };
        self.lives += other.lives;
        self.ticks += other.ticks;
        self.requests += other.requests;
        self.responses += other.responses;
        self.connections += other.connections;
        add(&mut self.faults, &other.faults);
        add(&mut self.closed, &other.closed);
        add(&mut self.accepts, &other.accepts);
        add(&mut self.effects, &other.effects);
        add(&mut self.budgets, &other.budgets);
        for (to, from) in self.transitions.iter_mut().zip(&other.transitions) {
            add(to, from);
        }
    }

    /// What has never happened, of all that has to in ten thousand lives.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (from, to) in TRANSITIONS {
            let counts = &self.transitions[from as usize];
            let never = to.iter().filter(|&&to| counts[to as usize] == 0);
            missing.extend(never.map(|to| format!("{} to {}", from.name(), to.name())));
        }
        let from = StateName::ALL.iter().filter(|&&state| self.closed[state as usize] == 0);
        missing.extend(from.map(|state| format!("{} to closed", state.name())));
        let never = Accept::ALL.iter().filter(|&&it| self.accepts[it as usize] == 0);
        missing.extend(never.map(|it| format!("accept(2): {it:?}")));
        let never = Effect::ALL.iter().filter(|&&it| self.effects[it as usize] == 0);
        missing.extend(never.map(|it| format!("shutdown: {it:?}")));
        let never = Budget::ALL.iter().filter(|&&it| self.budgets[it as usize] == 0);
        missing.extend(never.map(|it| format!("budget: {}", it.name())));
        let never = Fault::ALL.iter().filter(|&&it| self.faults[it as usize] == 0);
        missing.extend(never.map(|it| format!("fault: {}", it.name())));
        missing
    }
}
