//! The table of connections, from a thousand to a million, over sockets that make no system call.
//! Run it with `cargo bench --bench scale`. It prints a table without an observer and one with that
//! of the program, and writes them to `target/scale.md`. The last column is the ratio of the last
//! count to the first. The rounds alternate between the counts, with a process for each, so that
//! none uses the memory of another. A result is the least of the rounds: what else the machine does
//! adds to some, and can double them.
//!
//! - Bytes are those of memory that the process has touched, by the kernel's exact count
//!   (`Anonymous` in `/proc/self/smaps_rollup`, proc(5)). The allocator would count address space.
//!   The recorder is full before.
//! - To accept is to add a connection and to find that it has sent nothing yet.
//! - An event is a request in and its response out. Time passes as at 100,000 requests per second,
//!   so with a million connections each event moves a timer, and with a thousand one in a hundred.
//! - To expire is all that a timeout leads to, with a last read and the close.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs};

use onepoll::event_loop::clock::Instant;
use onepoll::event_loop::connections::Connections;
use onepoll::event_loop::kernel::{Readiness, Socket};
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::observer::Observer;
use onepoll::event_loop::state::StateName;
use onepoll::event_loop::timers::{Timeouts, Timers};
use onepoll::http::{Route, Routes};
use onepoll::limits::{CONNECTIONS_MAX, EVENTS_PER_TICK, IDLE_TIMEOUT, RECORDS_MAX};
use onepoll::observe::{Hooks, Observe};

const COUNTS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// How long a full tick takes at 100,000 requests per second.
const TICK: Duration = Duration::from_micros(10 * EVENTS_PER_TICK as u64);
/// Whether clients send requests.
static SENDS: AtomicBool = AtomicBool::new(false);

/// A socket of the size of a descriptor. A read returns a request, a write takes everything.
struct Scripted(#[allow(dead_code)] i32);

impl Read for Scripted {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if !SENDS.load(Ordering::Relaxed) {
            return Err(ErrorKind::WouldBlock.into());
        }
        space[..REQUEST.len()].copy_from_slice(REQUEST);
        Ok(REQUEST.len())
    }
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"), "it is worth nothing otherwise");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Scripted {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Table<O> = Connections<Scripted, O>;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let block = Duration::ZERO;
    let hooks = Hooks { before_wait: || None, stopping: || {}, dropped: || 0, block };
    match words[..] {
        ["none", count] => measure((), count.parse().expect("a number")),
        ["observe", count] => measure(Observe::new("1", hooks), count.parse().expect("a number")),
        // `cargo test --benches` only wants to know whether this still works.
        _ if words.contains(&"--bench") => compare(7, &COUNTS),
        _ => compare(1, &COUNTS[..1]),
    }
}

/// Measures with each count in each round, and writes the tables.
fn compare(rounds: usize, counts: &[usize]) {
    let mut text = String::new();
    for (observer, title) in [("none", "no observer"), ("observe", "`onepoll::observe`")] {
        let round = |_| counts.iter().map(|&count| measure_apart(observer, count)).collect();
        let rounds: Vec<Vec<Measures>> = (0..rounds).map(round).collect();
        text += &table(title, counts, &rounds);
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    fs::write(target.join("scale.md"), &text).expect("a file");
    println!("{text}The tables are in {}/scale.md.", target.display());
}

/// What was measured, and each result.
type Measures = Vec<(String, f64)>;

/// Measures in a process of its own.
fn measure_apart(observer: &str, count: usize) -> Measures {
    let mut command = Command::new(env::current_exe().expect("this one"));
    let output = command.args([observer, &count.to_string()]).output().expect("it can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, result)| (name.to_owned(), result.parse().expect("a number"))).collect()
}

fn measure(observer: impl Observer, count: usize) {
    let routes = [vec![], vec![Route::new("/hello", "Hello world.")]].map(Routes::new);
    let timeouts = Timeouts::default();
    let mut table = Connections::new(routes, &timeouts, Duration::ZERO, observer);
    table.reserve(CONNECTIONS_MAX);
    let (mut now, rounds) = (Instant::now(), (200_000 / count).max(1));
    // The buffers and the recorder take their memory.
    add(&mut table, 0);
    events(&mut table, (0..2 * RECORDS_MAX).map(|_| 0), &mut now);
    expire(&mut table, &mut now);

    let before = touched();
    let added = (0..count).map(|at| nanos(|| add(&mut table, at)));
    let (accepting, longest) = added.fold((0, 0), |(sum, max), it| (sum + it, max.max(it)));
    let bytes = touched() - before;
    let expiring = expire(&mut table, &mut now);

    (0..count).for_each(|at| add(&mut table, at));
    let slots = shuffled(count);
    let in_order = (0..rounds).flat_map(|_| 0..count);
    let in_order = nanos(|| events(&mut table, in_order, &mut now));
    // The first pass gives the timers this order.
    let at_random = || (0..rounds).flat_map(|_| slots.iter().map(|&slot| slot as usize));
    events(&mut table, at_random(), &mut now);
    let at_random = nanos(|| events(&mut table, at_random(), &mut now));
    let expiring_at_random = expire(&mut table, &mut now);

    let mut timers = Timers::new(&timeouts, Duration::ZERO);
    let mut arm = || (0..count).for_each(|slot| timers.arm(slot, StateName::Idle, now));
    arm();
    let arming = nanos(|| (0..rounds).for_each(|_| arm()));
    for (name, sum, times) in [
        ("bytes per connection", bytes, count),
        ("ns to accept", accepting, count),
        ("µs for the longest add", longest, 1000),
        ("ns to expire, in slot order", expiring, count),
        ("ns to expire, in random order", expiring_at_random, count),
        ("ns per event, in slot order", in_order, rounds * count),
        ("ns per event, in random order", at_random, rounds * count),
        ("ns to arm a timer", arming, rounds * count),
    ] {
        println!("{name}: {}", sum as f64 / times as f64);
    }
}

fn add(table: &mut Table<impl Observer>, at: usize) {
    let [.., a, b, c] = at.to_be_bytes();
    table.add(Service::Main, Scripted(0), ([10, a, b, c], 1).into());
}

/// Events of connections, in ticks.
fn events(table: &mut Table<impl Observer>, slots: impl Iterator<Item = usize>, now: &mut Instant) {
    SENDS.store(true, Ordering::Relaxed);
    for (at, slot) in slots.enumerate() {
        if at % EVENTS_PER_TICK == 0 {
            *now += TICK;
            table.begin_tick(*now);
        }
        table.on_event(slot, Readiness::READABLE);
    }
    SENDS.store(false, Ordering::Relaxed);
}

/// Lets all connections time out.
fn expire(table: &mut Table<impl Observer>, now: &mut Instant) -> u64 {
    *now += 2 * IDLE_TIMEOUT;
    table.begin_tick(*now);
    let time = nanos(|| table.expire());
    assert!(table.is_empty());
    time
}

/// All slots, in an order that is random and the same in each run.
fn shuffled(count: usize) -> Vec<u32> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut slots: Vec<u32> = (0..).take(count).collect();
    slots.sort_by_cached_key(|slot| hasher.hash_one(slot));
    slots
}

fn nanos(act: impl FnOnce()) -> u64 {
    let start = Instant::now();
    act();
    Instant::now().nanos_since(start)
}

/// The bytes of memory that this process has touched.
fn touched() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux 4.14 or later");
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("a number") * 1024
}

fn table(title: &str, counts: &[usize], rounds: &[Vec<Measures>]) -> String {
    let heads: String = counts.iter().map(|count| format!(" {count} |")).collect();
    let mut text =
        format!("| {title} |{heads} ratio |\n|---|{}--:|\n", "--:|".repeat(counts.len()));
    for (at, (name, _)) in rounds[0][0].iter().enumerate() {
        let least = |count: usize| {
            rounds.iter().map(|round| round[count][at].1).fold(f64::INFINITY, f64::min)
        };
        let results: Vec<f64> = (0..counts.len()).map(least).collect();
        let cells: String = results.iter().map(|result| format!(" {result:.1} |")).collect();
        let ratio = results[results.len() - 1] / results[0];
        text += &format!("| {name} |{cells} {ratio:.2} |\n");
    }
    text + "\n"
}
