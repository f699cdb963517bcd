//! What a life consists of, drawn from its seed: how the server is set, which faults there are,
//! when signals come, and which clients. The plan of a client does not depend on the others.

use std::time::Duration;

use onepoll::event_loop::Config;
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::shutdown::Schedule;
use onepoll::event_loop::signals::Signal;
use onepoll::event_loop::timers::Timeouts;

use onepoll::limits::EVENTS_PER_TICK;

use super::random::Random;
use super::requests::BODIES;
use super::time::{MICRO, MILLI, Nanos, SECOND, length};

/// When a life begins, by the clock that cannot be set.
pub const START: Nanos = SECOND;

/// Which events there are, and what a kernel cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// One event for all that has changed on a socket. SYNs can be ignored.
    Epoll,
    /// An event for each direction, also about room for which no output waits. SYNs cannot be
    /// ignored, and a connection that finds no descriptor is lost.
    Kqueue,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    ShortWrite,
    SmallBuffer,
    Interrupted,
    EarlyWake,
    Oversleep,
    SpuriousEvent,
    LateEvent,
    FewEvents,
    Pause,
    DateJump,
    NoDescriptor,
    NoMemory,
    FailedConnection,
    FailedListener,
    FailedWatch,
    BlockedLog,
    Reset,
    Silence,
    SecondSignal,
}

impl Fault {
    pub const ALL: [Fault; 19] = [
        Fault::ShortWrite,
        Fault::SmallBuffer,
        Fault::Interrupted,
        Fault::EarlyWake,
        Fault::Oversleep,
        Fault::SpuriousEvent,
        Fault::LateEvent,
        Fault::FewEvents,
        Fault::Pause,
        Fault::DateJump,
        Fault::NoDescriptor,
        Fault::NoMemory,
        Fault::FailedConnection,
        Fault::FailedListener,
        Fault::FailedWatch,
        Fault::BlockedLog,
        Fault::Reset,
        Fault::Silence,
        Fault::SecondSignal,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::ShortWrite => "short write",
            Fault::SmallBuffer => "small buffer",
            Fault::Interrupted => "interrupted call",
            Fault::EarlyWake => "early wake",
            Fault::Oversleep => "oversleep",
            Fault::SpuriousEvent => "spurious event",
            Fault::LateEvent => "late event",
            Fault::FewEvents => "few events",
            Fault::Pause => "pause",
            Fault::DateJump => "date jump",
            Fault::NoDescriptor => "no descriptor",
            Fault::NoMemory => "no memory",
            Fault::FailedConnection => "failed connection",
            Fault::FailedListener => "failed listener",
            Fault::FailedWatch => "failed watch",
            Fault::BlockedLog => "blocked log",
            Fault::Reset => "reset",
            Fault::Silence => "silence",
            Fault::SecondSignal => "second signal",
        }
    }
}

/// Some of the faults. A life has few kinds of them: one that has all would never get anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults(u32);

impl Faults {
    pub const NONE: Faults = Faults(0);

    pub fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u32 != 0
    }

    pub fn with(self, fault: Fault) -> Faults {
        Faults(self.0 | 1 << fault as u32)
    }

    pub fn without(self, fault: Fault) -> Faults {
        Faults(self.0 & !(1 << fault as u32))
    }

    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |&fault| self.has(fault))
    }

    fn draw(random: &mut Random) -> Faults {
        let rarity = random.of(&[2, 5, 12, 40]);
        let mut faults = Faults::NONE;
        for fault in Fault::ALL {
            let rarity = match fault {
                Fault::FailedListener => 10 * rarity,
                Fault::SecondSignal => 3,
                _ => rarity,
            };
            if random.one_in(rarity) {
                faults = faults.with(fault);
            }
        }
        faults
    }
}

/// How the server is set, and what its kernel is like.
#[derive(Clone, Debug)]
pub struct Settings {
    pub dialect: Dialect,
    pub config: Config,
    pub connections_max: usize,
    /// Sockets that connections may have at once.
    pub descriptors: usize,
    /// Events that a wait finds at most.
    pub events_max: usize,
    /// Bytes that the kernel takes of a connection before the client has read some.
    pub buffer: usize,
    /// What a call takes.
    pub call_time: Nanos,
    /// In how many calls the process is paused once, if it is paused at all.
    pub pause_in: usize,
    /// Other processes hold the listening sockets, too.
    pub inherited: bool,
    /// The date at the start, in nanoseconds since 1970.
    pub date: Nanos,
}

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    AtOnce,
    /// So many bytes at once, with so much time in between.
    Slowly(usize, Nanos),
    Never,
}

/// How a client comes to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It closes when it has its last response.
    Close,
    /// It sends a FIN behind its last request, and reads on.
    HalfClose,
    /// It stays until the server closes.
    Stay,
    /// It connects and closes.
    Leave,
    /// It resets the connection after so long.
    Reset(Nanos),
    /// It closes after so long, whatever is on its way.
    Abandon(Nanos),
    /// After so long it does nothing any more.
    Silence(Nanos),
}

/// What a client is going to do.
#[derive(Clone, Debug)]
pub struct Client {
    /// When it begins to connect.
    pub at: Nanos,
    pub service: Service,
    /// Its requests, by their place in the catalog.
    pub requests: Vec<usize>,
    /// How long its packets take.
    pub latency: Nanos,
    /// How many requests it sends ahead of their responses.
    pub window: usize,
    /// How long it waits from a response to the next request.
    pub think: Nanos,
    /// Into how many parts a request is cut at most, and how far they are apart.
    pub parts: usize,
    pub gap: Nanos,
    /// The parts are of one length. Else most of a request comes in the first ones.
    pub is_even: bool,
    pub reading: Reading,
    pub ending: Ending,
    /// It stops sending, and closes, when a response announces the close.
    pub obeys: bool,
    /// How long it takes to close after the server; `None` if it never does.
    pub closes_after: Option<Nanos>,
    pub seed: u64,
}

/// A whole life, before it is lived.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub settings: Settings,
    /// The length of the body of main, by its place in [`BODIES`].
    pub body: usize,
    pub faults: Faults,
    pub clients: Vec<Client>,
    pub signals: Vec<(Nanos, Signal)>,
    /// How long it takes until all clients have come.
    pub span: Nanos,
}

impl Plan {
    /// The life of a seed. The catalogs have so many requests to main and to diagnostics.
    pub fn draw(seed: u64, main: usize, diag: usize) -> Plan {
        let mut random = Random::new(seed, 0);
        let body = random.of(&[0, 0, 0, 1, 1, 2, 3]);
        let faults = Faults::draw(&mut random);
        let settings = Settings::draw(&mut random, faults, BODIES[body]);
        let span = random.time(MILLI, 8 * SECOND);
        let mut plan =
            Plan { seed, settings, body, faults, clients: Vec::new(), signals: Vec::new(), span };
        plan.draw_signals(&mut random);
        let count = match random.below(1_000) {
            0 => EVENTS_PER_TICK + 100 + random.below(300),
            1..20 => 100 + random.below(200),
            20..250 => 10 + random.below(40),
            _ => 1 + random.below(12),
        };
        let mut habits = Habits::draw(&mut random, &plan);
        match random.below(64) {
            0..2 => plan.send_batches(&mut habits, false),
            2..4 => plan.send_batches(&mut habits, true),
            4 => plan.send_behind_the_close(&mut habits),
            _ => {}
        }
        for _ in 0..count {
            plan.clients.push(habits.client(random.seed(), &plan, main, diag));
        }
        if count > EVENTS_PER_TICK {
            plan.gather_a_crowd();
        }
        plan.clients.sort_by_key(|client| client.at);
        plan
    }

    /// More clients come than a tick takes events, and the process is paused among them.
    fn gather_a_crowd(&mut self) {
        self.faults = Faults::NONE.with(Fault::Pause);
        self.settings.connections_max = 2_000;
        (self.settings.descriptors, self.settings.events_max) = (usize::MAX, EVENTS_PER_TICK);
        self.settings.pause_in = 4_000;
        self.signals[0].0 = self.signals[0].0.max(START + SECOND);
        for client in &mut self.clients {
            (client.at, client.latency) = (START, client.latency.min(MILLI));
            (client.service, client.requests) = (Service::Main, vec![0; 12]);
            (client.window, client.think, client.parts) = (1, 10 * MILLI, 1);
            (client.reading, client.ending) = (Reading::AtOnce, Ending::Stay);
        }
    }

    /// In a drain, more responses are deferred than there is room for, or clients send on and on.
    fn send_batches(&mut self, habits: &mut Habits, is_slow: bool) {
        (self.body, self.faults) = (1, self.faults.with(Fault::ShortWrite));
        self.signals[0].0 = START + MICRO;
        (habits.windows, habits.requests_max, habits.latency) = (vec![100], 70, MILLI);
        (habits.parts, habits.usual_only) = (if is_slow { 80 } else { 4 }, true);
    }

    /// Clients send on and on behind the last response.
    fn send_behind_the_close(&mut self, habits: &mut Habits) {
        self.signals[0].0 = START + 100 * SECOND;
        (habits.windows, habits.requests_max, habits.usual_only) = (vec![100], 70, false);
        (habits.parts, habits.is_even) = (100, true);
    }

    fn draw_signals(&mut self, random: &mut Random) {
        use Signal::{Hangup, Interrupt, Terminate, User1, User2};
        let first = match random.below(8) {
            0 => START,
            1 => START + 60 * self.span.max(2 * SECOND),
            2 => START + 2 * self.span,
            _ => START + random.time(MILLI, self.span),
        };
        self.signals
            .push((first, random.of(&[Terminate, Terminate, Terminate, Interrupt, Hangup])));
        if random.one_in(10) {
            self.signals.push((START + random.time(MILLI, self.span), random.of(&[User1, User2])));
        }
        while random.one_in(2) {
            let signal = random.of(&[Terminate, Interrupt, Interrupt, Hangup]);
            self.signals.push((first + random.time(MICRO, 6 * SECOND), signal));
        }
        if !self.faults.has(Fault::SecondSignal) {
            self.signals.retain(|&(at, signal)| at <= first || matches!(signal, User1 | User2));
        }
    }
}

fn duration(nanos: Nanos) -> Duration {
    Duration::from_nanos(nanos)
}

impl Settings {
    fn draw(random: &mut Random, faults: Faults, body: usize) -> Settings {
        let share = random.of(&[1, 1, 10, 100]);
        let default = Timeouts::default();
        let timeouts = Timeouts {
            idle: default.idle / share,
            header: default.header / share,
            body: default.body / share,
            write: default.write / share,
        };
        let drain = random.of(&[0, 50 * MILLI, SECOND, 5 * SECOND, 5 * SECOND, 30 * SECOND]);
        let schedule = Schedule {
            lame_duck: duration(random.of(&[0, 0, 300 * MILLI, 3 * SECOND])),
            drain: duration(drain),
            idle_grace: duration(random.of(&[0, 20 * MILLI, 250 * MILLI, 250 * MILLI]).min(drain)),
        };
        let delay = random.of(&[0, 0, 0, MILLI, 300 * MILLI, 2 * SECOND]);
        let is_few = faults.has(Fault::NoDescriptor);
        // A body takes some twenty writes.
        let least = [1, 90, 700].map(|bytes| bytes.max(body / 20));
        Settings {
            dialect: random.of(&[Dialect::Epoll, Dialect::Epoll, Dialect::Kqueue]),
            config: Config { timeouts, schedule, delay: duration(delay), ..Config::default() },
            connections_max: random.of(&[1, 4, 30, 2_000, 2_000, 2_000]),
            descriptors: if is_few { 1 + random.below(12) } else { usize::MAX },
            events_max: if faults.has(Fault::FewEvents) {
                random.of(&[1, 2, 7])
            } else {
                EVENTS_PER_TICK
            },
            buffer: if faults.has(Fault::SmallBuffer) { random.of(&least) } else { 80_000 },
            call_time: random.of(&[200, MICRO, 20 * MICRO]),
            pause_in: random.of(&[30, 300, 3_000]),
            inherited: random.one_in(6),
            date: 1_700_000_000 * SECOND + random.time(MILLI, SECOND),
        }
    }
}

/// What the clients of one life have in common: lives in which all clients do everything are all
/// the same.
#[derive(Debug)]
struct Habits {
    windows: Vec<usize>,
    thinks: Vec<Nanos>,
    endings: Vec<usize>,
    readings: Vec<usize>,
    requests_max: usize,
    usual_only: bool,
    parts: usize,
    is_even: bool,
    latency: Nanos,
    diag_in: usize,
}

impl Habits {
    fn draw(random: &mut Random, plan: &Plan) -> Habits {
        let some = |random: &mut Random, choices: &[usize]| -> Vec<usize> {
            (0..1 + random.below(3)).map(|_| random.of(choices)).collect()
        };
        let idle = length(plan.settings.config.timeouts.idle);
        let thinks = [0, 0, 0, MILLI, 30 * MILLI, SECOND, idle - MILLI, idle + MILLI];
        Habits {
            windows: some(random, &[1, 1, 2, 4, 16, 100]),
            thinks: (0..1 + random.below(3)).map(|_| random.of(&thinks)).collect(),
            endings: some(random, &[0, 0, 0, 1, 2, 2, 3, 4, 5, 6]),
            readings: some(random, &[0, 0, 0, 0, 1, 2]),
            requests_max: random.of(&[1, 4, 12, 12, 30, 70, 70]),
            usual_only: random.one_in(2),
            parts: random.of(&[1, 1, 2, 4]),
            is_even: false,
            latency: random.time(10 * MICRO, 100 * MILLI),
            diag_in: random.of(&[2, 6, 6, 50]),
        }
    }

    fn client(&self, seed: u64, plan: &Plan, main: usize, diag: usize) -> Client {
        let random = &mut Random::new(seed, 1);
        let service = if random.one_in(self.diag_in) { Service::Diag } else { Service::Main };
        let kinds = if service == Service::Main { main } else { diag };
        let count = 1 + random.below(self.requests_max);
        let kind = |random: &mut Random| match service {
            Service::Main if self.usual_only => 0,
            _ if random.one_in(3) => 0,
            _ => random.below(kinds),
        };
        let ending = match random.of(&self.endings) {
            0 => Ending::Close,
            1 => Ending::HalfClose,
            2 => Ending::Stay,
            3 => Ending::Leave,
            4 if plan.faults.has(Fault::Reset) => Ending::Reset(random.time(MICRO, plan.span)),
            6 if plan.faults.has(Fault::Silence) => Ending::Silence(random.time(MICRO, plan.span)),
            _ if random.one_in(2) => Ending::Close,
            _ => Ending::Abandon(random.time(MICRO, plan.span)),
        };
        let reading = match random.of(&self.readings) {
            1 => Reading::Slowly(1 + random.below(2_000), random.time(MILLI, SECOND)),
            2 if plan.faults.has(Fault::Silence) => Reading::Never,
            _ => Reading::AtOnce,
        };
        Client {
            at: START + random.time(MICRO, plan.span) - MICRO,
            service,
            requests: (0..count).map(|_| kind(random)).collect(),
            latency: random.time(10 * MICRO, self.latency),
            window: random.of(&self.windows),
            think: random.of(&self.thinks),
            parts: self.parts,
            is_even: self.is_even,
            gap: self.gap(random, plan),
            reading,
            ending,
            obeys: !random.one_in(8),
            closes_after: (!random.one_in(8)).then(|| random.time(MICRO, 300 * MILLI)),
            seed: random.seed(),
        }
    }

    /// How far the parts of a request are apart. Some clients take longer for all of them than its
    /// timeout.
    fn gap(&self, random: &mut Random, plan: &Plan) -> Nanos {
        if self.parts > 4 {
            return random.time(20 * MILLI, 800 * MILLI);
        }
        let most = if plan.seed.is_multiple_of(3) { 12 * SECOND } else { 20 * MILLI };
        random.time(MICRO, most)
    }
}
