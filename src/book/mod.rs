//! The book: from a server that blocks to this one, for a reader who knows Rust and has never seen
//! epoll(7).
