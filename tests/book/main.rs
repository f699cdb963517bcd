//! The book: what it says is run.

#![allow(unreachable_pub)] // There is one crate, and modules are what is private.
#![cfg(target_os = "linux")]

#[path = "../shared/boxes.rs"]
#[allow(dead_code)] // The tour uses the rest.
mod boxes;
#[path = "../shared/built.rs"]
mod built;
mod calls;
mod exercises;
#[path = "../simulation/mutant.rs"]
#[allow(dead_code)] // The test of all mutations uses the rest.
mod mutant;
#[allow(dead_code)] // The command uses the rest.
mod page;
mod steps;
