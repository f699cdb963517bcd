//! The book: what it says is run.

mod boxes;
mod calls;
mod steps;
