//! Every limit of the program, each with its reason: how much, how many, how long. Other modules
//! name a limit and never write a number.
//!
//! The invariant: the compiler asserts the relations between limits, at the end of this file.

use std::time::Duration;

// The size of a request.

/// Longest request head: request line, fields and the empty line that ends them. Of its input, a
/// connection stores a partial head at most, with the body if a page waits for it, or up to
/// [`INPUT`] while a response has to wait. RFC
/// 9112, section 3 recommends at least 8,000 bytes for a request line.
pub const HEAD_MAX: usize = 8 * 1024;

/// Most header fields in one head. Browsers send about twenty.
pub const FIELDS_MAX: usize = 100;

/// Header fields that a head has room for at first. One with more of them is parsed again with room
/// for [`FIELDS_MAX`], as to prepare the room takes time for each field.
pub const FIELDS_USUAL: usize = 24;

/// Most empty lines before a request line. Old clients send one after a body (RFC 9112, section
/// 2.2). Without a limit, a client could send empty lines for ever and never a request.
pub const EMPTY_LINES_MAX: usize = 2;

/// Longest line with the size of a chunk, and with chunk extensions, which are ignored.
pub const CHUNK_LINE_MAX: usize = 256;

/// Longest trailer section after a chunked body. It is skipped like the body.
pub const TRAILERS_MAX: usize = 4 * 1024;

// Buffers, which all connections share, and what fits into them.

/// Size of the read buffer: unparsed input of earlier reads, and the bytes of one recv(2).
pub const INPUT: usize = 16 * 1024;

/// Size of the write buffer: several times the responses to a read buffer full of `/hello`. Further
/// responses are written after it has been sent. Memory that is never written to costs nothing.
pub const OUTPUT: usize = 256 * 1024;

/// Longest body that is copied into the write buffer. A longer one is sent from where it is, and
/// the next response waits until it has been sent.
pub const BODY_COPIED_MAX: usize = 4 * 1024;

/// Longest response in the write buffer, head and body.
pub const RESPONSE_MAX: usize = BODY_COPIED_MAX + 256;

/// Longest body of a dynamic page, which is rendered per request and is alone in the write buffer.
pub const PAGE_MAX: usize = 128 * 1024;

/// Longest request body for a dynamic page, with the lines of its chunks. It is skipped once all of
/// it has been received.
pub const PAGE_REQUEST_BODY_MAX: usize = 4 * 1024;

/// Records of state changes in the recorder's ring, of all connections together.
pub const RECORDS_MAX: usize = 4096;

/// Most lines in the log for the trace of a connection that the shutdown closes at its deadline.
pub const TRACE_LOG_LINES_MAX: usize = 16;

/// Most lines of a trace on `/trace`.
pub const TRACE_LINES_MAX: usize = 500;

/// Most recent connections that `/trace` shows: as many as fit on a screen.
pub const TRACE_LATEST_MAX: usize = 40;

/// Most bytes of deferred responses of one connection in a shutdown: a few hundred responses, or
/// one that is longer. With more requests in flight, the earlier responses are sent, and the
/// client goes on.
pub const DEFERRED_MAX: usize = 64 * 1024;

/// Longest body that `--body-size` accepts, in bytes. The length of an unsent body is a `u32`.
pub const BODY_SIZE_MAX: usize = 64 * 1024 * 1024;

// Budgets: how much work is done before other work gets its share.

/// How often a connection reads or writes in one run, so that a client that pipelines cannot delay
/// all others.
pub const READS_PER_RUN: usize = 4;

/// Connections accepted from one listener in one tick, and run once: open connections go first.
pub const ACCEPTS_PER_TICK: usize = 64;

/// Events that one `epoll_wait(2)` returns at most. The next one returns the rest.
pub const EVENTS_PER_TICK: usize = 1024;

/// Dynamic pages that are rendered in one tick, each in a fraction of a millisecond. Further ones
/// wait for the next tick.
pub const PAGES_PER_TICK: usize = 4;

/// Connections open at once on both listeners together. Further ones wait in the kernel's queue.
/// The limit on descriptors (`ulimit -n`) is usually lower.
pub const CONNECTIONS_MAX: usize = 1 << 20;

/// Descriptors that connections to main leave free, so that diagnostics still accepts connections
/// when main has reached its maximum. If fewer than twice as many are left, it is half of those.
pub const DESCRIPTORS_RESERVED: usize = 16;

/// Slots that `/trace?map` shows, so that it fits into [`PAGE_MAX`].
pub const MAP_SLOTS_MAX: usize = 65_536;

/// Connections in the accept queue of each listener. The kernel silently lowers this to a limit of
/// its own: `net.core.somaxconn` (listen(2)), 4,096 on Linux, or `kern.ipc.somaxconn`, 128 on macOS
/// and FreeBSD.
pub const BACKLOG: i32 = 4096;

// Timeouts: how long a connection may stay in one state.

/// Idle, until the first byte of the next request; the default of `--idle-timeout`. Load balancers
/// keep idle connections for 60 s. They have to close first: if a request crosses our FIN, they
/// respond with a 502.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Head, from its first byte to its last; the default of `--header-timeout`. Progress does not
/// extend it.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Body, between two reads that return some of it; the default of `--body-timeout`.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Lowest rate of a body in bytes per second: each of them extends its time by as much. Without it,
/// a client that sends single bytes could keep its connection for ever.
pub const BODY_RATE_MIN: u64 = 240;

/// Time that a body has beside what [`BODY_RATE_MIN`] allows it.
pub const BODY_GRACE: Duration = Duration::from_secs(5);

/// Delayed, from a request to its response; the default of `--delay`.
pub const DELAY: Duration = Duration::ZERO;

/// Deferred, in a shutdown: how long the connection of a client that pipelines has to be quiet
/// before its last response is sent with `Connection: close`. Further requests may be in flight.
pub const DEFERRED_TIMEOUT: Duration = Duration::from_millis(200);

/// How long responses are deferred in all, if the client keeps sending requests. Those that have
/// been read by then still wait for their delays. Until it ends, it begins anew when some of the
/// responses are sent for lack of room. Long bodies are sent all the time, and have it once.
pub const DEFERRED_TIME_MAX: Duration = Duration::from_secs(1);

/// Writing, between two writes of which the kernel takes some bytes; the default of
/// `--write-timeout`. It is long because the kernel reports a socket as writable only once about a
/// third of its buffer is free, which may be megabytes. Until then, a slow peer makes no progress
/// that is visible here.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Half-closed after the last response, until the peer's FIN (RFC 9112, section 9.6).
pub const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(1);

/// How often that timeout starts again for a peer that keeps sending. Many clients do not read the
/// response before they have sent the whole request, even if it is an error response.
pub const HALF_CLOSED_ROUNDS_MAX: u8 = 30;

/// A timeout that starts again in the same state, as at every request of a busy client, is late by
/// one part in this many at most, and never early.
pub const TIMEOUT_PRECISION: u32 = 64;

/// Half-closed at the end of the idle grace, until the FIN of an idle peer. It is short because no
/// response is at stake and the whole shutdown waits. It is long enough for a client that polls its
/// idle connections.
pub const IDLE_CLOSED_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a listener stays open after its SYNs are filtered out, so that handshakes that have
/// begun can still reach the accept queue.
pub const HANDSHAKE_TIME: Duration = Duration::from_millis(10);

/// Pause before the next accept(2) when the process is out of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the loop polls without sleeping after an event; the default of `--spin`.
pub const SPIN: Duration = Duration::ZERO;

// The log.

/// Bytes of the log in memory. Beyond that, lines are dropped and counted. In general, the log is
/// flushed once per tick.
pub const LOG_BUFFER_MAX: usize = 64 * 1024;

/// Longest log line: a request target, which is cut off at [`HEAD_MAX`], and up to 1 KiB of other
/// text.
pub const LOG_LINE_MAX: usize = HEAD_MAX + 1024;

/// Most bytes that the log shows of a request head with an error.
pub const LOGGED_INPUT_MAX: usize = 256;

/// Pause between two flushes while standard error takes nothing.
pub const LOG_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of one write to standard error. A writable pipe takes that many without blocking on Linux,
/// and does not interleave them with the bytes of other processes (`PIPE_BUF`, pipe(7)). On macOS
/// and FreeBSD a pipe does so for 512 bytes, and gets no more.
pub const PIPE_WRITE: usize = 4096;

/// The same for a terminal that cannot be opened again. A writable terminal takes one byte without
/// blocking, and more is not certain. Single bytes are slow, but fast enough for a user who reads
/// them.
pub const TERMINAL_WRITE: usize = 1;

/// How long the process waits at exit for standard error to become writable, before each write.
pub const LOG_EXIT_TIMEOUT: Duration = Duration::from_millis(100);

/// How often it waits. A reader that reads something each time gets the whole log.
pub const LOG_EXIT_WRITES_MAX: usize = 64;

// The shutdown, the supervisor and the probe.

/// From SIGTERM or SIGHUP to the drain; the default of `--lame-duck`. Every client is served, but
/// `/ready` responds with 503, and responses on main announce the close.
pub const LAME_DUCK: Duration = Duration::ZERO;

/// From the start of the drain until the remaining connections are aborted; the default of
/// `--drain`.
pub const DRAIN: Duration = Duration::from_secs(5);

/// From the start of the drain until idle connections are closed, also those that have not sent a
/// byte yet; the default of `--idle-grace`.
pub const IDLE_GRACE: Duration = Duration::from_millis(250);

/// Time after the first signal from which a SIGINT means that a user wants the process to exit at
/// once. Programs repeat signals sooner: timeout(1) sends to a process and to its group, and
/// wrappers pass on what the terminal has sent as well.
pub const SIGNAL_REPEAT: Duration = Duration::from_millis(100);

/// How long a notification may wait for a supervisor that does not read. The event loop is blocked
/// meanwhile.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_millis(100);

/// Time for a probe, from connect(2) to the end of the response head.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest duration that an option accepts: a day, far from the overflow of any clock.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Most memory that the process allocates at start, apart from the body. It is allocated and
/// freed first: then, a lack of memory is an error message, and later it aborts the process.
pub const START_MEMORY: usize = 1024 * 1024;

/// Most bytes of a connection in all tables that have a place for each. Address space for as many
/// connections as there may be is reserved at start, so the tables never move.
pub const CONNECTION_BYTES: usize = 144;

/// Address space that this must leave for everything else. If it does not, the tables grow as they
/// need to. glibc would take larger pieces than before from its heap if less than 32 MiB were freed
/// (mallopt(3), `M_MMAP_THRESHOLD`).
pub const ADDRESS_SPACE_LEFT: usize = 64 * 1024 * 1024;

/// Longest version text, so that a response with it stays within [`RESPONSE_MAX`].
pub const VERSION_MAX: usize = 64;

const _: () = assert!(
    HEAD_MAX + PAGE_REQUEST_BODY_MAX < INPUT,
    "an unparsed head and body must leave room to read"
);
const _: () = assert!(PAGE_MAX + RESPONSE_MAX < OUTPUT, "a dynamic page must fit");
const _: () = assert!(MAP_SLOTS_MAX + MAP_SLOTS_MAX / 64 + 512 < PAGE_MAX, "a map must fit");
const _: () = assert!(
    2 * (OUTPUT + INPUT) < START_MEMORY,
    "the buffers must leave as much for everything else"
);
const _: () = assert!(RESPONSE_MAX < OUTPUT, "a response must fit");
const _: () = assert!(BODY_SIZE_MAX as u64 <= u32::MAX as u64);
const _: () = assert!(
    (LOG_BUFFER_MAX + LOG_LINE_MAX) / PIPE_WRITE < LOG_EXIT_WRITES_MAX,
    "a slow reader must be able to take the whole buffer"
);
const _: () =
    assert!(IDLE_GRACE.as_millis() < DRAIN.as_millis(), "an idle grace must fit in a drain");
