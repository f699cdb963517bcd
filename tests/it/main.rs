//! The real binary over real sockets. Nothing here waits for time to pass: tests wait for
//! bytes, for the end of a stream, for a log line or for the process to exit. The tests look into
//! `/proc` and use a pidfd, so they need Linux.

#![cfg(target_os = "linux")]

#[path = "../shared/boxes.rs"]
mod boxes;
mod browser;
#[path = "../shared/built.rs"]
mod built;
mod core;
mod harness;
mod hostile;
mod inherited;
mod live;
mod load;
mod log;
mod pipelining;
mod program;
mod readme;
mod requests;
mod settings;
mod shutdown;
mod supervisor;
mod systemd;
mod tidy;
mod tour;
mod view;
mod words;
