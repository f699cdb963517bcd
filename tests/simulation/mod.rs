//! The simulation, for the programs that run it. Cargo has no crate for what they share.

pub mod client;
pub mod counts;
pub mod judge;
pub mod judge_connection;
pub mod judge_counters;
pub mod judge_responses;
pub mod judge_stop;
pub mod kernel;
pub mod life;
pub mod link;
pub mod memory;
pub mod observer;
pub mod plan;
pub mod random;
pub mod requests;
pub mod time;
pub mod world;
