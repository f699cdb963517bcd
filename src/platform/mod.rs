//! What Linux has and other systems lack. Each file has one subject: a function for Linux, and
//! beside it one for the other systems, or one that says that there is none. No file here knows the
//! loop, a connection or the protocol.
//!
//! The invariant: the program asks nowhere else on which system it runs.
//!
//! | subject | on Linux | what a user loses elsewhere |
//! |---|---|---|
//! | [`abstract_name`] | a supervisor's socket without a path | that supervisor is not notified |
//! | [`accept`] | accept(2) leaves a client for whom there is no descriptor | that client (macOS) |
//! | | a socket says whether it listens | macOS: the error comes with the first accept(2) |
//! | [`descriptors`] | `/proc/self/fd` | the metric of open descriptors (FreeBSD) |
//! | | a pipe can be opened again | another process can fill the pipe, and the loop waits |
//! | | a file can be opened again | a line that another process has left is not ended |
//! | [`last_write`] | `MSG_MORE` | a segment more for each short connection |
//! | [`memory`] | `/proc/self/statm` | the metrics of memory |
//! | | huge pages, which have to be disabled | nothing |
//! | [`memory_file`] | `memfd_create(2)`, as on FreeBSD | macOS: 82 KiB of a disk |
//! | [`reuse_port`] | `SO_REUSEPORT` balances | FreeBSD: nothing; macOS: the option is refused |
//! | | `SO_INCOMING_CPU` | copies that are pinned get connections of all processors |
//! | [`syn_filter`] | `SO_ATTACH_FILTER` | clients that a closing listener has not accepted |
//!
//! What is built, run and type-checked on which system is a table in the README.

pub mod abstract_name;
pub mod accept;
pub mod descriptors;
pub mod last_write;
pub mod memory;
pub mod memory_file;
pub mod reuse_port;
pub mod syn_filter;
