//! The book: from a server that blocks to this one, for a reader who knows Rust and has never seen
//! epoll(7). Everything in it can be run. It takes about three hours.
//!
//! All boxes of commands need this first, in the folder of the project and in each new terminal:
//!
//! ```text
//! cargo build --release && cargo build --examples
//! PATH=$PWD/target/release:$PWD/target/debug/examples:$PATH
//! mkdir -p target/try && cd target/try
//! ```
//!
//! They are for bash, and need curl, strace and wrk, which Debian has. The ports 8080, 8081 and
//! 9000 have to be free. strace attaches to a process as root, or where the kernel has
//! `kernel.yama.ptrace_scope=0`.
//!
//! 1. Seven steps, each a program of its own. From the second one on, each page has a command at
//!    which the step before fails: [`step_1`] accept and respond, [`step_2`] one poll for many
//!    clients, [`step_3`] edges, [`step_4`] output that the kernel does not take, [`step_5`]
//!    timeouts, [`step_6`] budgets, [`step_7`] the graceful stop.
//! 2. The chapters, in the order of the source. [`event_loop`](crate::event_loop): what a tick is.
//!    [`order`]: why its steps stand in this order. [`readiness`](crate::readiness): epoll(7) and
//!    kqueue(2), event by event. [`state`](crate::event_loop::state): the table of states.
//!    [`timers`](crate::event_loop::timers): nothing has to be sorted. [`http`](crate::http): the
//!    protocol as a function. [`shutdown`](crate::event_loop::shutdown): the stop.
//!    [`simulation`](crate::simulation): lives of the loop from a seed.
//! 3. [`calls`]: strace beside the source, for a request, a batch, a slow reader and a SIGTERM.
//! 4. [`replay`]: recordings of the loop, event by event.
//! 5. [`exercises`]: twelve lines that are wrong, and what happens.
//! 6. [`load_generator`]: whether wrk, ab and oha tell the truth.
//! 7. [`others`]: the same ideas in redis, nginx, libuv, hyper, lwan and HAProxy.
//!
//! # Try it
//!
//! The rule of all loops: never block. `--block` sleeps in the loop where `--delay` waits with a
//! timer. Run the first two lines with `-d60s`, and open `http://localhost:8081/`. End both by
//! `kill $server $client`, and do the same with `--delay 100ms` in place of `--block 100ms`. The
//! ring is the tick, and there is a dot for each connection: these and the p99 show the difference.
//! With `--block`, even the page that blocks nothing has to wait:
//!
//! ```sh
//! onepoll --log warn --block 100ms & server=$!; sleep 0.5
//! wrk -t1 -c8 -d6s http://localhost:8080/hello & client=$!; sleep 0.5
//! for i in 1 2 3 4 5; do
//!     curl -s -o ready.txt -w '%{time_total}\n' http://localhost:8081/ready
//! done | sort -rn | head -1 | tee time.txt
//! awk '{ print ($1 > 0.1 ? "ready waits" : "ready is quick") }' time.txt # look for: ready waits
//! kill $server; wait $server $client
//! ```

#[doc(hidden)]
macro_rules! step {
    ($name:ident, $number:literal, $next:literal) => {
        #[doc = include_str!(concat!("step_", $number, ".md"))]
        #[doc = "```diff"]
        #[doc = include_str!(concat!("../../tests/book/steps/step_", $number, ".diff"))]
        #[doc = "```\n\n<details><summary>The whole program</summary>\n"]
        #[doc = concat!("`tests/book/steps/step_", $number, ".rs`:\n\n```rust,ignore")]
        #[doc = include_str!(concat!("../../tests/book/steps/step_", $number, ".rs"))]
        #[doc = concat!("```\n\n</details>\n\nNext: ", $next)]
        pub mod $name {}
    };
}

#[doc = include_str!("step_1.md")]
#[doc = "```rust,ignore"]
#[doc = include_str!("../../tests/book/steps/step_1.rs")]
#[doc = "```\n\nNext: [`step_2`]"]
pub mod step_1 {}

step!(step_2, "2", "[`step_3`]");
step!(step_3, "3", "[`step_4`]");
step!(step_4, "4", "[`step_5`]");
step!(step_5, "5", "[`step_6`]");
step!(step_6, "6", "[`step_7`]");
step!(step_7, "7", "[`event_loop`](crate::event_loop), and then [the rest](crate::book)");

#[doc = include_str!("order.md")]
#[doc = "\nNext: [`readiness`](crate::readiness)"]
pub mod order {}

#[doc = include_str!("calls.md")]
#[doc = "\nNext: [`replay`]"]
pub mod calls {}

#[doc = include_str!("replay.md")]
#[doc = "\nNext: [`exercises`]"]
pub mod replay {}

#[doc = include_str!("exercises.md")]
#[doc = "\nNext: [`load_generator`]"]
pub mod exercises {}

#[doc = include_str!("load_generator.md")]
#[doc = "\nNext: [`others`]"]
pub mod load_generator {}

#[doc = include_str!("others.md")]
pub mod others {}
