//! A tiny HTTP/1.1 server: one process, one thread, one poll loop, a clean stop.

pub mod address;
pub mod connection;
pub mod deadlines;
pub mod http;
pub mod journal;
pub mod limits;
pub mod listener;
pub mod options;
pub mod server;
pub mod service;
pub mod signals;
pub mod stop;
pub mod table;
