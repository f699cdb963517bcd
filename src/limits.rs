//! Every number in the program, each with its reason. Other modules name a limit and never
//! write one down, so that this page is the whole answer to "how much" and "how long".
//! Relations between limits are asserted here, by the compiler.

use std::time::Duration;

// What one request may cost.

/// Longest request head: request line, fields and the empty line that ends them. A partial
/// head is what a connection stores of its input, unless answers have to wait: then it is an
/// inbox full of requests at most. RFC 9112, section 3 asks for
/// request lines of 8,000 bytes at least.
pub const HEAD_MAX: usize = 8 * 1024;

/// Most header fields in one head. Browsers send about twenty.
pub const FIELDS_MAX: usize = 100;

/// Empty lines that are skipped ahead of a request line: old clients end a body with one
/// too many (RFC 9112, section 2.2). Not counting them would let a peer talk for ever
/// without ever asking anything.
pub const EMPTY_LINES_MAX: usize = 2;

/// Longest line that gives a chunk's size, with its extensions, which nobody here reads.
pub const CHUNK_LINE_MAX: usize = 256;

/// Longest trailer section behind a chunked body; it is skipped like the body.
pub const TRAILERS_MAX: usize = 4 * 1024;

// What the loop lends to a connection for a turn.

/// The inbox: what one read may bring, together with the part of a head that was carried.
pub const INBOX: usize = 16 * 1024;

/// The outbox: room for the answers to an inbox full of `/hello`, several times over. What does
/// not fit has its turn when the outbox has been sent. Pages of memory that are never written
/// to cost nothing.
pub const OUTBOX: usize = 256 * 1024;

/// Longest body that is copied into the outbox. A longer one is sent from where it is, and the
/// answer behind it has to wait.
pub const BODY_COPIED_MAX: usize = 4 * 1024;

/// Longest answer in the outbox, with its head.
pub const ANSWER_MAX: usize = BODY_COPIED_MAX + 256;

/// Longest text of a page that is written anew for each request. It has the outbox for itself.
pub const TEXT_MAX: usize = 128 * 1024;

/// Longest request body, with the lines of its chunks, that such a page takes: it is skipped when
/// all of it is here.
pub const PAGE_BODY_MAX: usize = 4 * 1024;

/// Changes that are remembered of all connections together, for those who look back.
pub const RECORDS_MAX: usize = 4096;

/// Most lines of the story of a connection that is cut, in the log.
pub const STORY_MAX: usize = 16;

/// Most lines of such a story on a page.
pub const ROWS_MAX: usize = 500;

/// Connections that `/trace` shows, the latest: as many as fit on a screen.
pub const LATEST_MAX: usize = 40;

/// Most that is withheld from one connection in a stop: a few hundred answers. Behind deeper
/// windows than that, the close may come while requests are still on their way.
pub const WITHHELD_MAX: usize = 64 * 1024;

/// Longest body that `--body-size` takes; the length of one that is sent fits into 32 bits.
pub const BODY_SIZE_MAX: usize = 64 * 1024 * 1024;

// How much is done before somebody else gets a turn.

/// A turn ends after this many steps, so that one eager pipeliner cannot starve the rest.
pub const STEPS_PER_TURN: usize = 4;

/// Connections accepted from one listener in one tick: present clients go first.
pub const ACCEPTS_PER_TICK: usize = 64;

/// Events taken from the kernel at once; what is left comes with the next wait.
pub const EVENTS_PER_TICK: usize = 1024;

/// Pages that are written in one tick, each in a fraction of a millisecond; others wait for the
/// next one.
pub const PAGES_PER_TICK: usize = 4;

/// Connections open at once on both listeners together; more wait in the kernel's queue.
/// The limit on descriptors (`ulimit -n`) is usually met first.
pub const CONNECTIONS_MAX: usize = 1 << 20;

/// Descriptors that connections to main leave free, so that diagnostics answers while main has
/// used up the rest; half of them where there are not twice as many.
pub const DESCRIPTORS_RESERVED: usize = 16;

/// Slots that `/trace?map` shows, as a page has a size.
pub const MAP_SLOTS_MAX: usize = 65_536;

/// Connections that the kernel keeps ready for each listener; it silently cuts this to
/// `net.core.somaxconn` (listen(2)).
pub const BACKLOG: i32 = 4096;

// How long a connection may stay where it is.

/// Idle: no byte of the next request has come, unless `--idle-timeout` says otherwise. Load
/// balancers keep idle connections for 60 s. The side that closes first has to be theirs: a
/// request that crosses our FIN is answered with a 502 there.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Head: from its first byte to its last, however slowly it comes, unless `--header-timeout`
/// says otherwise.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Body: between two reads that bring some of it, unless `--body-timeout` says otherwise.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Least rate of a body, in bytes per second on average since its first byte. Below it, a client
/// that sends a byte at a time would keep its connection for ever.
pub const BODY_RATE_MIN: u64 = 240;

/// How long a body may take before [`BODY_RATE_MIN`] applies.
pub const BODY_GRACE: Duration = Duration::from_secs(5);

/// Delayed: until an answer is given, unless `--delay` says otherwise.
pub const DELAY: Duration = Duration::ZERO;

/// Held: in a stop, until the last of several answers is given, which announces the close. A
/// client that does not wait for answers may have sent more, which is still on its way.
pub const HELD_PATIENCE: Duration = Duration::from_millis(200);

/// How long that may go on if there is always more.
pub const HELD_MAX: Duration = Duration::from_secs(1);

/// Writing: until the peer has taken some of the answers that the kernel could not. Generous, as
/// the kernel reports room only once about a third of its buffer, megabytes perhaps, is
/// free again: a slow but honest reader shows no progress for a long time.
/// `--write-timeout` may say otherwise.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Lingering: for the peer's FIN after ours and the last answer.
pub const LINGERING_PATIENCE: Duration = Duration::from_secs(1);

/// How often that patience may begin anew for a peer that goes on sending: many clients read
/// their answer only when they have sent all of a request, even one that was refused.
pub const LINGERINGS_MAX: u8 = 30;

/// A timeout that begins anew in the same phase, as for every request of a busy client, is late
/// by one part of so many at most, and never early.
pub const TIMEOUT_PRECISION: u32 = 64;

/// Farewell: for the FIN of a peer that was idle when the grace ended. Short, as nothing is at
/// stake and the whole stop waits for it; long for a client that watches its connections.
pub const FAREWELL_PATIENCE: Duration = Duration::from_millis(100);

/// How long a door stays open after newcomers have been shut out, for those whose connection
/// has begun and is not in the queue yet.
pub const HANDSHAKE_PATIENCE: Duration = Duration::from_millis(10);

/// Pause in accepting when the process is out of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// How much of the log is kept while standard error does not take it.

/// Log held in memory; once there is so much, further lines are dropped and counted. In
/// general it is held for a tick only, or until there is so much.
pub const LOG_BUFFER_MAX: usize = 64 * 1024;

/// No log line is longer: it tells a request target, which is cut off at [`HEAD_MAX`], with a time
/// and a few words.
pub const LOG_LINE_MAX: usize = HEAD_MAX + 1024;

/// Most bytes of a head that is refused which the log shows.
pub const LOGGED_MAX: usize = 256;

/// Pause between attempts to hand on what standard error does not take.
pub const LOG_PAUSE: Duration = Duration::from_millis(100);

/// Bytes written to standard error at once: a pipe that has room at all takes that many
/// without waiting, and does not mix them with others' (pipe(7), `PIPE_BUF`).
pub const PIPE_WRITE: usize = 4096;

/// The same for a terminal that cannot be opened once more. That it has room does not say for
/// how much, only that one byte will find it. So few of them are slow, but then a terminal
/// is read by people.
pub const TERMINAL_WRITE: usize = 1;

/// How long standard error may take at the end to make room for the last lines, each time.
pub const LOG_EXIT_TIMEOUT: Duration = Duration::from_millis(100);

/// How many times that may be. A reader that takes something each time gets all of it.
pub const LOG_EXIT_WRITES_MAX: usize = 64;

// How long a stop may take, unless options say otherwise.

/// From SIGTERM to the drain: how long to go on serving while telling that this will end.
pub const LAME_DUCK: Duration = Duration::ZERO;

/// From the beginning of the drain to the moment at which what is left is cut.
pub const DRAIN: Duration = Duration::from_secs(5);

/// From the beginning of the drain to the moment at which idle and silent connections are
/// closed.
pub const IDLE_GRACE: Duration = Duration::from_millis(250);

/// Machines send the same signal twice, or one for another: timeout(1) to a process and to its
/// group, wrappers that pass on what the terminal has sent as well. A SIGINT that comes so much
/// later than the first signal is a person's.
pub const SIGNAL_REPEAT: Duration = Duration::from_millis(100);

/// What a supervisor may take to be told something, as the loop waits for that.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_millis(100);

/// What a probe may take, from connecting to the head of the answer.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest duration that an option takes: a day, far from any clock's overflow.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Most memory that is allocated at start, beside the body. It is asked for and given
/// back first: a lack of memory can be told then, and ends the process later.
pub const START_MEMORY: usize = 1024 * 1024;

/// Longest version text, so that the page that carries it stays within [`ANSWER_MAX`].
pub const VERSION_MAX: usize = 64;

const _: () = assert!(
    HEAD_MAX + PAGE_BODY_MAX < INBOX,
    "a carried head and body must leave room to read"
);
const _: () = assert!(TEXT_MAX + ANSWER_MAX < OUTBOX, "a text must fit");
const _: () = assert!(
    MAP_SLOTS_MAX + MAP_SLOTS_MAX / 64 + 512 < TEXT_MAX,
    "a map must fit"
);
const _: () = assert!(
    2 * (OUTBOX + INBOX) < START_MEMORY,
    "and as much for all else"
);
const _: () = assert!(ANSWER_MAX < OUTBOX, "an answer must fit");
const _: () = assert!(BODY_SIZE_MAX as u64 <= u32::MAX as u64);
const _: () = assert!(
    (LOG_BUFFER_MAX + LOG_LINE_MAX) / PIPE_WRITE < LOG_EXIT_WRITES_MAX,
    "a slow reader must be able to take the whole buffer"
);
const _: () = assert!(
    IDLE_GRACE.as_millis() < DRAIN.as_millis(),
    "an idle grace fits in a drain"
);
