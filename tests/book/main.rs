//! The book: what it says is run.

mod boxes;
mod calls;
mod exercises;
#[path = "../simulation/mutant.rs"]
#[allow(dead_code)] // The test of all mutations uses the rest.
mod mutant;
mod page;
mod steps;
