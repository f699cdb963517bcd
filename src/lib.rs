//! A tiny HTTP/1.1 server: one process, one thread, one poll loop, a clean stop.

pub mod address;
pub mod connection;
pub mod deadlines;
pub mod http;
pub mod limits;
pub mod options;
pub mod stop;
