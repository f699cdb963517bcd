//! One peer: where its conversation stands, what it has sent too little of and what it has
//! taken too little of. Knows no poll and no clock. Its [phases](crate::phase) have a page of
//! their own, with a picture; here are the steps that lead from one to the next because
//! something has come or gone out. What time does is in [`patience`].
//!
//! The invariant: between turns a connection holds only what it could not finish, which is
//! usually nothing. An idle one owns no memory but itself.

pub mod patience;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::deadlines::Lane;
use crate::desk::Desk;
use crate::http::{Behind, Head, Next, Served, Site, Tail, serve};
use crate::limits::STEPS_PER_TURN;
use crate::outgoing::{Outgoing, Sent};
use crate::phase::Phase;
use crate::turn::{Change, Reason, Step, Turn};
use crate::wire::{Edge, Received, Socket, Wire};

/// One connection.
#[derive(Debug)]
pub struct Connection<S> {
    wire: Wire<S>,
    phase: Phase,
    /// Input that has been read and not been served: in general the beginning of a head whose
    /// end has not come, and whole requests only behind one whose answer has to wait.
    carry: Box<[u8]>,
    outgoing: Outgoing,
    /// What is to be expected behind whatever has come. A peer that has been seen to send a
    /// request without waiting for the answer to another may do so again.
    behind: Behind,
    /// In a stop, it has been given a long body, which cannot be withheld.
    takes_long: bool,
}

impl<S: Socket> Connection<S> {
    /// A connection on which nothing has been said yet.
    pub fn new(socket: S) -> Connection<S> {
        Connection {
            wire: Wire::new(socket),
            phase: Phase::Idle,
            carry: Box::default(),
            outgoing: Outgoing::default(),
            behind: Behind::Nothing,
            takes_long: false,
        }
    }

    /// Remembers what an event reported, for the next turn.
    pub fn note(&mut self, edge: Edge) {
        self.wire.note(edge);
    }

    /// The lane that goes with the present phase.
    pub fn lane(&self) -> Lane {
        self.phase.lane()
    }

    /// Where its peer is, for the log.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.wire.peer()
    }

    /// Gives the connection a turn: it goes on until it would have to wait, but for at most
    /// [`STEPS_PER_TURN`] steps. A turn with nothing to do does no harm, so nobody has to
    /// prove that one is due.
    pub fn advance(&mut self, desk: &mut Desk, site: &mut Site) -> Turn {
        let mut change = Change::None;
        for _ in 0..STEPS_PER_TURN {
            let step = match self.phase {
                Phase::Idle | Phase::Head | Phase::Body(_) | Phase::Held(_) => {
                    if !self.wire.is_readable() {
                        return open(change, false);
                    }
                    self.converse(desk, site)
                }
                Phase::Queued => self.go_on(desk, site),
                Phase::Writing(next) => self.flush(next, site),
                // Who has reset the connection waits for nothing; a FIN may be half of a close.
                Phase::Delayed(_) if self.wire.is_broken() => {
                    Ok(Step::Over(Reason::Failed(ErrorKind::ConnectionReset)))
                }
                Phase::Delayed(_) => Ok(Step::Blocked),
                Phase::Lingering { .. } | Phase::Farewell => self.discard(desk),
            };
            match step {
                Ok(Step::Done(next)) => change = change.then(next),
                Ok(Step::Blocked) => return open(change, false),
                Ok(Step::Over(reason)) => return Turn::Over(reason),
                Err(error) => return Turn::Over(Reason::Failed(error.kind())),
            }
        }
        open(change, true)
    }

    /// Whether it has been given a long body in a stop, and so a reason to ask for another one.
    pub fn takes_long(&self) -> bool {
        self.takes_long
    }

    /// Whether the peer has sent something that was not read, as far as is known.
    pub fn has_unread(&self) -> bool {
        self.wire.is_readable()
    }

    /// Carry in, read, serve, carry out, send: one recv(2) and one send(2), however many
    /// requests they hold.
    fn converse(&mut self, desk: &mut Desk, site: &mut Site) -> io::Result<Step> {
        let held = self.carry_in(desk);
        let len = match self.wire.receive(&mut desk.inbox[held..])? {
            Received::Bytes(len) => held + len,
            Received::Nothing => return Ok(Step::Blocked),
            Received::Eof => return self.end(desk, site),
        };
        let is_more = len == desk.inbox.len() && self.behind == Behind::Nothing;
        let behind = if is_more {
            Behind::Perhaps
        } else {
            self.behind
        };
        self.respond(len, behind, desk, site)
    }

    /// The same without reading: goes on with what has been read already.
    fn go_on(&mut self, desk: &mut Desk, site: &mut Site) -> io::Result<Step> {
        let held = self.carry_in(desk);
        self.respond(held, self.behind, desk, site)
    }

    /// Answers what the first `len` bytes of the inbox ask for.
    fn respond(
        &mut self,
        len: usize,
        behind: Behind,
        desk: &mut Desk,
        site: &mut Site,
    ) -> io::Result<Step> {
        let input = &desk.inbox[..len];
        let unread = match self.phase {
            Phase::Body(unread) | Phase::Delayed(unread) => Some(unread),
            Phase::Held(next) => next.unread(),
            _ => None,
        };
        let before = self.lane();
        desk.outbox.clear();
        let served = serve(site, unread, input, behind, &mut desk.outbox);
        let rest = &input[served.consumed..];
        let has_begun = || served.next.unread().is_some() || Head::begins_in(rest);
        if served.answered > 1 || served.answered == 1 && has_begun() {
            self.behind = self.behind.max(Behind::Perhaps);
        }
        self.carry_out(rest);
        desk.counters.answered += served.answered;
        if site.is_closing() && self.has_to_withhold(&served) {
            self.withhold(&desk.outbox, served.next, site)?;
        } else {
            self.send(&desk.outbox, served.tail, served.next, site)?;
        }
        let (lane, answered) = (self.lane(), served.answered > 0);
        Ok(Step::Done(match lane {
            // What the wait is for may come in pieces, and each is progress.
            Lane::Held if before == lane => Change::Progress(lane),
            Lane::Body if before == lane && !answered => Change::Progress(lane),
            Lane::Idle if before == lane && answered => Change::Again(lane),
            // A head has its patience from its first byte on, however it dribbles.
            _ if before == lane && !answered => Change::None,
            _ => Change::Entered(lane),
        }))
    }

    /// Meets the peer's FIN.
    fn end(&mut self, desk: &mut Desk, site: &mut Site) -> io::Result<Step> {
        match self.phase {
            Phase::Idle => Ok(Step::Over(Reason::Finished)),
            Phase::Held(Next::Held(_)) => self.respond(0, Behind::Nothing, desk, site),
            Phase::Held(_) => self.release(Next::Close, site),
            _ => Ok(Step::Over(Reason::Truncated)),
        }
    }

    /// Puts what was carried along into the inbox, and says how long that is.
    fn carry_in(&self, desk: &mut Desk) -> usize {
        if !self.carry.is_empty() {
            desk.inbox[..self.carry.len()].copy_from_slice(&self.carry);
        }
        self.carry.len()
    }

    /// Keeps the beginning of a head for the next read. Between requests there is none, and
    /// the connection gives back its memory.
    fn carry_out(&mut self, rest: &[u8]) {
        if !rest.is_empty() || !self.carry.is_empty() {
            self.carry = rest.into();
        }
    }

    /// Whether answers are to be withheld in a stop. They are for as long as nobody knows which
    /// of them is the last: a client that has a certain number of requests on their way sends
    /// no more until it is answered.
    fn has_to_withhold(&mut self, served: &Served) -> bool {
        self.takes_long |= !served.tail.is_over();
        match served.next {
            Next::Held(_) => true,
            Next::Head | Next::Body(_) | Next::Delayed(_) => {
                let began = served.answered > 0 || matches!(self.phase, Phase::Held(_));
                began && self.behind == Behind::Perhaps
            }
            // Long bodies are not copied, and so not withheld.
            Next::Queued | Next::Close => false,
        }
    }

    /// Withholds answers, or sends all of them where there is no room.
    fn withhold(&mut self, answers: &[u8], next: Next, site: &Site) -> io::Result<()> {
        if !self.outgoing.has_room_for(answers.len()) {
            return self.send(answers, Tail::NONE, next, site);
        }
        self.outgoing.withhold(answers);
        self.phase = match next {
            Next::Delayed(unread) => Phase::Delayed(unread),
            _ => Phase::Held(next),
        };
        Ok(())
    }

    /// Sends what was withheld.
    fn release(&mut self, next: Next, site: &Site) -> io::Result<Step> {
        self.send(&[], Tail::NONE, next, site)?;
        Ok(self.entered())
    }

    /// Sends answers and goes on as `next` says; or has it wait for the kernel.
    fn send(&mut self, answers: &[u8], tail: Tail, next: Next, site: &Site) -> io::Result<()> {
        match self.outgoing.send(answers, tail, site, &mut self.wire)? {
            Sent::All => return self.proceed(next),
            Sent::Some | Sent::None => self.phase = Phase::Writing(next),
        }
        Ok(())
    }

    fn flush(&mut self, next: Next, site: &Site) -> io::Result<Step> {
        match self.outgoing.flush(site, &mut self.wire)? {
            Sent::All => self.proceed(next).map(|()| self.entered()),
            // A long body may take long; all else has one patience, however it dribbles.
            Sent::Some if self.outgoing.has_tail() => {
                Ok(Step::Done(Change::Progress(Lane::Writing)))
            }
            Sent::Some => Ok(Step::Done(Change::None)),
            Sent::None => Ok(Step::Blocked),
        }
    }

    fn discard(&mut self, desk: &mut Desk) -> io::Result<Step> {
        Ok(match self.wire.receive(&mut desk.inbox)? {
            Received::Bytes(_) => {
                self.phase.hear();
                Step::Done(Change::None)
            }
            Received::Nothing => Step::Blocked,
            Received::Eof => Step::Over(Reason::Finished),
        })
    }

    fn entered(&self) -> Step {
        Step::Done(Change::Entered(self.lane()))
    }

    /// Enters the phase in which the bytes after the last answer are met.
    fn proceed(&mut self, next: Next) -> io::Result<()> {
        // Nearly always, and worth a shorter way.
        if next == Next::Head && self.carry.is_empty() {
            self.phase = Phase::Idle;
            return Ok(());
        }
        self.phase = match next {
            Next::Head if Head::begins_in(&self.carry) => Phase::Head,
            Next::Head => Phase::Idle,
            Next::Body(unread) => Phase::Body(unread),
            Next::Delayed(unread) => Phase::Delayed(unread),
            Next::Queued => Phase::Queued,
            Next::Held(_) => Phase::Held(next),
            Next::Close => {
                self.wire.finish()?;
                Phase::LINGERING
            }
        };
        Ok(())
    }
}

fn open(change: Change, unfinished: bool) -> Turn {
    Turn::Open { change, unfinished }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::ErrorKind;
    use std::mem;
    use std::rc::Rc;

    use super::*;
    use crate::http::Route;
    use crate::limits::INBOX;
    use crate::script::{Act, Kernel, Script};

    const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";

    /// A connection to which events and time come as a test wants them.
    struct Stage {
        connection: Connection<Script>,
        kernel: Rc<RefCell<Kernel>>,
        desk: Desk,
        site: Site,
    }

    impl Stage {
        fn new() -> Stage {
            Stage::with_writes([])
        }

        /// A stage on which the first writes go as `acts` say.
        fn with_writes<const N: usize>(acts: [Act; N]) -> Stage {
            let kernel = Rc::new(RefCell::new(Kernel {
                writes: acts.into(),
                ..Kernel::default()
            }));
            Stage {
                connection: Connection::new(Script(Rc::clone(&kernel))),
                kernel,
                desk: Desk::new(),
                site: Site::new("main", vec![Route::new("/hello", "Hello world.")]),
            }
        }

        /// A readable edge, behind which `acts` are waiting.
        fn edge<const N: usize>(&mut self, acts: [Act; N]) {
            self.kernel.borrow_mut().reads.extend(acts);
            self.connection.note(Edge::READABLE);
        }

        /// A readable edge and the turn that follows it.
        fn readable<const N: usize>(&mut self, acts: [Act; N]) -> Turn {
            self.edge(acts);
            self.turn()
        }

        /// The same, with the peer's FIN on the same edge.
        fn readable_with_fin<const N: usize>(&mut self, acts: [Act; N]) -> Turn {
            self.edge(acts);
            self.connection.note(Edge::FIN);
            self.turn()
        }

        fn turn(&mut self) -> Turn {
            self.connection.advance(&mut self.desk, &mut self.site)
        }

        fn draining_turn(&mut self) -> Turn {
            self.site.announce_close();
            self.turn()
        }

        fn expire(&mut self) -> Turn {
            self.connection.expire(&mut self.desk, &mut self.site)
        }

        /// The calls since the last time, in their order.
        fn calls(&self) -> String {
            mem::take(&mut self.kernel.borrow_mut().calls).join(" ")
        }

        fn sent(&self) -> String {
            String::from_utf8(self.kernel.borrow().sent.clone()).expect("answers are ASCII")
        }

        fn answers(&self) -> usize {
            self.sent().matches("Hello world.").count()
        }
    }

    fn give(text: &str) -> Act {
        Act::Give(text.as_bytes().to_vec())
    }

    fn full() -> Act {
        Act::Fail(ErrorKind::WouldBlock)
    }

    /// The end of a turn that began and ended between requests.
    const AGAIN: Turn = Turn::Open {
        change: Change::Again(Lane::Idle),
        unfinished: false,
    };

    const STILL: Turn = Turn::Open {
        change: Change::None,
        unfinished: false,
    };

    fn entered(lane: Lane) -> Turn {
        open(Change::Entered(lane), false)
    }

    fn unfinished(lane: Lane) -> Turn {
        open(Change::Entered(lane), true)
    }

    #[test]
    fn a_batch_takes_one_read_and_one_write() {
        for depth in [1, 2, 16, 300] {
            let mut stage = Stage::new();
            assert_eq!(stage.readable([give(&HELLO.repeat(depth))]), AGAIN);
            assert_eq!(stage.calls(), "recv send", "depth {depth}");
            assert_eq!(stage.answers(), depth);
            assert_eq!(stage.turn(), STILL);
            assert_eq!(stage.calls(), "", "nothing is asked that is known");
        }
    }

    #[test]
    fn a_new_connection_costs_nothing_until_it_speaks() {
        let mut stage = Stage::new();
        assert_eq!(stage.turn(), STILL);
        assert_eq!(stage.calls(), "");
        assert_eq!(stage.readable([]), STILL);
        assert_eq!(stage.calls(), "recv");
    }

    #[test]
    fn a_fin_on_the_same_edge_is_met_behind_the_answer() {
        let mut stage = Stage::new();
        let turn = stage.readable_with_fin([give(HELLO), Act::Eof]);
        assert_eq!(turn, Turn::Over(Reason::Finished));
        assert_eq!(stage.calls(), "recv send recv");
        assert_eq!(stage.answers(), 1);
    }

    #[test]
    fn a_fin_in_the_middle_of_a_request_ends_it() {
        for part in [&HELLO[..9], POST, &HELLO[..HELLO.len() - 1]] {
            let mut stage = Stage::new();
            let turn = stage.readable_with_fin([give(part), Act::Eof]);
            assert_eq!(turn, Turn::Over(Reason::Truncated), "{part:?}");
            assert_eq!(stage.sent(), "");
        }
    }

    #[test]
    fn an_interrupted_call_is_made_again() {
        let mut stage = Stage::with_writes([Act::Fail(ErrorKind::Interrupted)]);
        let turn = stage.readable([Act::Fail(ErrorKind::Interrupted), give(HELLO)]);
        assert_eq!(turn, AGAIN);
        assert_eq!(stage.calls(), "recv recv send send");
        assert_eq!(stage.answers(), 1);
    }

    #[test]
    fn errors_of_the_socket_end_the_connection() {
        let reset = || Act::Fail(ErrorKind::ConnectionReset);
        let over = |kind| Turn::Over(Reason::Failed(kind));
        let turn = Stage::new().readable([reset()]);
        assert_eq!(turn, over(ErrorKind::ConnectionReset), "while reading");
        let turn = Stage::with_writes([reset()]).readable([give(HELLO)]);
        assert_eq!(turn, over(ErrorKind::ConnectionReset), "while sending");
        let turn = Stage::with_writes([Act::Take(1), reset()]).readable([give(HELLO)]);
        assert_eq!(turn, over(ErrorKind::ConnectionReset), "while flushing");
        let turn = Stage::with_writes([Act::Take(0)]).readable([give(HELLO)]);
        assert_eq!(turn, over(ErrorKind::WriteZero), "without any progress");
    }

    #[test]
    fn a_dribbled_head_keeps_the_deadline_of_its_first_byte() {
        let mut stage = Stage::new();
        let (first, rest) = HELLO.split_at(1);
        assert_eq!(stage.readable([give(first)]), entered(Lane::Head));
        let (rest, last) = rest.split_at(rest.len() - 1);
        for byte in rest.chars() {
            assert_eq!(stage.readable([give(&byte.to_string())]), STILL);
        }
        assert_eq!(*stage.connection.carry, HELLO.as_bytes()[..HELLO.len() - 1]);
        assert_eq!(stage.readable([give(last)]), entered(Lane::Idle));
        assert_eq!(stage.answers(), 1);
        assert_eq!(
            stage.connection.carry.len(),
            0,
            "idle connections own no memory"
        );
    }

    #[test]
    fn what_can_be_no_head_is_refused_wherever_it_was_cut() {
        for input in [
            "G(T / HTTP/1.1",
            "GET / HTTP/1.1\r\nX Y: b",
            "GET / HTTP/1.1\r\n\0",
        ] {
            for (first, rest) in (1..input.len()).map(|cut| input.split_at(cut)) {
                let mut stage = Stage::new();
                stage.readable([give(first)]);
                stage.readable([give(rest)]);
                assert!(
                    stage.sent().starts_with("HTTP/1.1 400 "),
                    "{first:?} and {rest:?}"
                );
            }
        }
    }

    #[test]
    fn answering_a_request_gives_the_next_one_a_deadline_of_its_own() {
        let mut stage = Stage::new();
        assert_eq!(stage.readable([give("GET")]), entered(Lane::Head));
        let rest = [&HELLO[3..], "GET"].concat();
        assert_eq!(stage.readable([give(&rest)]), entered(Lane::Head));
        assert_eq!(stage.answers(), 1);
    }

    #[test]
    fn stray_line_ends_are_not_a_request() {
        let mut stage = Stage::new();
        stage.edge([give(HELLO), give("\r\n")]);
        assert_eq!(stage.turn(), AGAIN);
        assert_eq!(stage.readable([]), STILL);
        assert_eq!(stage.connection.lane(), Lane::Idle);
        assert_eq!(stage.readable([give(HELLO)]), AGAIN);
        assert_eq!(stage.answers(), 2);
    }

    #[test]
    fn bodies_are_skipped_and_each_read_of_one_is_progress() {
        let mut stage = Stage::new();
        assert_eq!(stage.readable([give(POST)]), entered(Lane::Body));
        let progress = open(Change::Progress(Lane::Body), false);
        assert_eq!(stage.readable([give("GET / ")]), progress);
        assert_eq!(stage.connection.carry.len(), 0, "bodies are not stored");
        assert_eq!(stage.sent(), "");
        let rest = ["HTT", HELLO].concat();
        assert_eq!(stage.readable([give(&rest)]), entered(Lane::Idle));
        assert_eq!(stage.answers(), 2);
    }

    #[test]
    fn who_does_not_take_answers_is_not_asked_for_more() {
        let mut stage = Stage::with_writes([Act::Take(3), full()]);
        let turn = stage.readable_with_fin([give(HELLO), give(HELLO), Act::Eof]);
        assert_eq!(turn, entered(Lane::Writing));
        assert_eq!(stage.calls(), "recv send send");
        assert!(!stage.connection.outgoing.is_empty());

        stage.kernel.borrow_mut().writes.push_back(full());
        assert_eq!(stage.turn(), STILL);
        assert_eq!(
            stage.calls(),
            "send",
            "nothing is read while answers are unsent"
        );

        // With everything sent, the memory of the edge leads on through the conversation.
        assert_eq!(stage.turn(), Turn::Over(Reason::Finished));
        assert_eq!(stage.calls(), "send recv send recv");
        assert_eq!(stage.answers(), 2);
        assert_eq!(stage.connection.outgoing.len(), 0);
    }

    #[test]
    fn a_last_answer_that_is_stuck_is_still_the_last() {
        let mut stage = Stage::with_writes([Act::Take(9), full()]);
        let request = HELLO.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        assert_eq!(stage.readable([give(&request)]), entered(Lane::Writing));
        assert_eq!(stage.calls(), "recv send send");
        assert_eq!(stage.turn(), entered(Lane::Lingering));
        assert_eq!(stage.calls(), "send finish");
    }

    #[test]
    fn after_the_last_answer_input_is_thrown_away_until_the_fin() {
        let mut stage = Stage::new();
        assert_eq!(
            stage.readable([give("nonsense\r\n\r\n")]),
            entered(Lane::Lingering)
        );
        assert_eq!(stage.calls(), "recv send finish");
        assert_eq!(stage.readable([give(HELLO)]), STILL);
        assert_eq!(stage.calls(), "recv", "nothing is answered any more");
        assert_eq!(stage.readable([Act::Eof]), Turn::Over(Reason::Finished));
    }

    #[test]
    fn an_eager_client_gets_no_more_than_a_turn() {
        let mut stage = Stage::new();
        let eager = HELLO.repeat(2 * STEPS_PER_TURN * INBOX / HELLO.len());
        let again = open(Change::Again(Lane::Idle), true);
        assert_eq!(stage.readable([give(&eager)]), again);
        assert_eq!(stage.calls(), ["recv send"; STEPS_PER_TURN].join(" "));
        while stage.turn() == again {}
        assert_eq!(stage.answers(), eager.len() / HELLO.len());
    }

    /// Whether one answer of all that were sent announces the close, and which one that is.
    fn closes(stage: &Stage) -> (usize, bool) {
        let sent = stage.sent();
        let last = sent.rfind("Connection: close") > sent.rfind("Date: ");
        (sent.matches("Connection: close").count(), last)
    }

    #[test]
    fn in_a_stop_a_client_that_waits_for_its_answer_is_told_at_once() {
        let mut stage = Stage::new();
        stage.edge([give(HELLO)]);
        assert_eq!(stage.draining_turn(), entered(Lane::Lingering));
        assert_eq!((stage.answers(), closes(&stage)), (1, (1, true)));

        // What was begun before is finished now.
        let mut stage = Stage::new();
        assert_eq!(stage.readable([give(&HELLO[..9])]), entered(Lane::Head));
        stage.edge([give(&HELLO[9..])]);
        assert_eq!(stage.draining_turn(), entered(Lane::Lingering));
        assert_eq!((stage.answers(), closes(&stage)), (1, (1, true)));
    }

    /// A stage in a stop, where the answers to a batch are withheld.
    fn held(depth: usize) -> Stage {
        let mut stage = Stage::new();
        stage.edge([give(&HELLO.repeat(depth))]);
        assert_eq!(stage.draining_turn(), entered(Lane::Held));
        assert_eq!((stage.answers(), closes(&stage).0), (0, 0));
        stage
    }

    const PROGRESS: Turn = Turn::Open {
        change: Change::Progress(Lane::Held),
        unfinished: false,
    };

    #[test]
    fn in_a_stop_a_batch_waits_for_more_of_it() {
        // Nothing more comes, and its time ends.
        let mut stage = held(300);
        assert_eq!(stage.expire(), unfinished(Lane::Lingering));
        assert_eq!((stage.answers(), closes(&stage)), (300, (1, true)));
        assert_eq!(stage.connection.outgoing.len(), 0);
        // The peer says that nothing more will come.
        let mut stage = held(300);
        let turn = stage.readable_with_fin([Act::Eof, Act::Eof]);
        assert_eq!(turn, Turn::Over(Reason::Finished));
        assert_eq!((stage.answers(), closes(&stage)), (300, (1, true)));
        // A client that has a number of requests on their way, and sends another one with each
        // answer, must not be kept going: neither by whole requests nor by parts of them.
        let mut stage = held(3);
        let post = POST.to_owned() + "123456789";
        let (first, second) = post.split_at(POST.len() + 4);
        for piece in [HELLO, &HELLO[..9], &HELLO[9..], first, second, &HELLO[..9]] {
            assert_eq!(stage.readable([give(piece)]), PROGRESS, "{piece:?}");
            assert_eq!(stage.answers(), 0, "{piece:?}");
        }
        // It stops in the middle of a request, and so it may be waiting for answers.
        assert_eq!(stage.expire(), unfinished(Lane::Head));
        assert_eq!((stage.answers(), closes(&stage).0), (6, 0));
        let rest = [&HELLO[9..], &HELLO[..9]].concat();
        assert_eq!(stage.readable([give(&rest)]), entered(Lane::Lingering));
        assert_eq!((stage.answers(), closes(&stage)), (7, (1, true)));
    }

    #[test]
    fn in_a_stop_the_peers_end_in_a_request_is_no_reason_to_withhold_the_others() {
        let mut stage = held(3);
        assert_eq!(stage.readable([give(&HELLO[..9])]), PROGRESS);
        let turn = stage.readable_with_fin([Act::Eof, Act::Eof]);
        assert_eq!(turn, Turn::Over(Reason::Finished));
        assert_eq!((stage.answers(), closes(&stage).0), (3, 0));
    }

    #[test]
    fn in_a_stop_who_is_hurried_is_told_with_the_last_whole_request() {
        for rest in ["", &HELLO[..9], &POST[..9], "\r\n"] {
            let mut stage = held(3);
            assert_eq!(stage.readable([give(&HELLO[..9])]), PROGRESS);
            stage.connection.hurry();
            let input = [&HELLO[9..], HELLO, rest].concat();
            let turn = stage.readable([give(&input)]);
            assert_eq!(turn, entered(Lane::Lingering), "{rest:?}");
            assert_eq!(
                (stage.answers(), closes(&stage)),
                (5, (1, true)),
                "{rest:?}"
            );
        }
    }

    #[test]
    fn in_a_stop_one_request_and_part_of_another_are_a_batch() {
        for part in [HELLO, POST] {
            let mut stage = Stage::new();
            let (part, rest) = part.split_at(9);
            stage.readable([give(&[HELLO, part].concat())]);
            assert_eq!(stage.answers(), 1);
            let rest = [
                rest,
                if rest.contains("Length") {
                    "123456789"
                } else {
                    ""
                },
            ]
            .concat();
            stage.edge([give(&rest)]);
            assert_eq!(stage.draining_turn(), entered(Lane::Held));
            assert_eq!(
                (stage.answers(), closes(&stage).0),
                (1, 0),
                "there may be more"
            );
        }
    }

    #[test]
    fn in_a_stop_a_batch_that_fills_the_inbox_to_the_byte_is_told_too() {
        let mut stage = Stage::new();
        let depth = INBOX / HELLO.len();
        stage.edge([give(&HELLO.repeat(depth))]);
        assert_eq!(stage.draining_turn(), entered(Lane::Held));
        stage.expire();
        assert_eq!((stage.answers(), closes(&stage)), (depth, (1, true)));
    }

    #[test]
    fn in_a_stop_who_does_not_take_what_was_withheld_is_waited_for_as_ever() {
        let mut stage = held(3);
        assert_eq!(stage.readable([give(&HELLO[..9])]), PROGRESS);
        let writes = [Act::Take(9), full()];
        stage.kernel.borrow_mut().writes.extend(writes);
        assert_eq!(stage.expire(), unfinished(Lane::Writing));
        assert_eq!(stage.turn(), STILL, "there is no room");
        assert_eq!(stage.turn(), entered(Lane::Head), "the rest has been taken");
        assert_eq!((stage.answers(), closes(&stage).0), (3, 0));
    }

    #[test]
    fn in_a_stop_a_batch_that_leaves_no_room_is_sent_and_only_its_last_answer_held() {
        let mut stage = Stage::new();
        let depth = INBOX / HELLO.len();
        stage.edge([give(&HELLO.repeat(depth))]);
        assert_eq!(stage.draining_turn(), entered(Lane::Held));
        assert_eq!((stage.answers(), closes(&stage).0), (depth - 1, 0));
        assert_eq!(
            stage.readable([give("\r\n")]),
            PROGRESS,
            "no request, but no silence"
        );
        assert_eq!(stage.connection.outgoing.len(), 0);
        assert_eq!(stage.readable([give(&HELLO[..9])]), PROGRESS);
        assert_eq!(stage.expire(), unfinished(Lane::Head));
        assert_eq!((stage.answers(), closes(&stage).0), (depth, 0));
    }

    #[test]
    fn in_a_stop_no_more_is_withheld_than_there_is_room_for() {
        let depth = 7 * INBOX / HELLO.len();
        let mut stage = Stage::new();
        stage.edge([give(&HELLO.repeat(depth))]);
        let mut turn = stage.draining_turn();
        while let Turn::Open { unfinished, .. } = turn
            && unfinished
        {
            assert!(stage.connection.outgoing.has_room_for(0));
            turn = stage.turn();
        }
        assert!(stage.answers() > 0 && closes(&stage).0 == 0);
        stage.expire();
        assert_eq!((stage.answers(), closes(&stage)), (depth, (1, true)));
    }

    #[test]
    fn who_is_dismissed_is_half_closed_and_not_answered_any_more() {
        let mut stage = Stage::new();
        assert_eq!(stage.connection.dismiss(), entered(Lane::Farewell));
        assert_eq!(stage.readable([give(HELLO)]), STILL);
        assert_eq!(stage.calls(), "finish recv");
        assert_eq!(stage.readable([Act::Eof]), Turn::Over(Reason::Finished));
    }

    #[test]
    fn who_takes_answers_slowly_has_one_patience_for_all_of_them() {
        let mut stage = Stage::with_writes([Act::Take(3), full()]);
        assert_eq!(stage.readable([give(HELLO)]), entered(Lane::Writing));
        let slow = [Act::Take(1), Act::Take(1), full()];
        stage.kernel.borrow_mut().writes.extend(slow);
        assert_eq!(
            stage.turn(),
            STILL,
            "a byte now and then is no answer taken"
        );
    }

    #[test]
    fn an_overdue_answer_to_head_has_no_body_and_leaves_nothing_behind() {
        for (input, rest) in [
            ("HEAD /hel", "\r\n\r\n"),
            ("GET /hel", "did not arrive in time\n"),
            (&POST.replace("POST", "HEAD"), "\r\n\r\n"),
            (POST, "did not arrive in time\n"),
        ] {
            let mut stage = Stage::new();
            stage.readable([give(input)]);
            stage.expire();
            assert!(
                stage.sent().ends_with(rest),
                "{input:?}: {:?}",
                stage.sent()
            );
            assert_eq!(stage.connection.carry.len(), 0);
        }
    }

    #[test]
    fn each_round_of_lingering_has_to_hear_something_new() {
        let mut stage = Stage::new();
        stage.readable([give("nonsense\r\n\r\n")]);
        assert!(!stage.connection.lingers_on(), "nothing has come");
        stage.readable([give("more")]);
        assert!(stage.connection.lingers_on());
        assert!(!stage.connection.lingers_on(), "nothing has come since");
    }

    #[test]
    fn overdue_requests_are_told_and_others_are_closed() {
        assert_eq!(Stage::new().expire(), Turn::Over(Reason::Overdue));
        for part in [&HELLO[..9], POST] {
            let mut stage = Stage::new();
            stage.readable([give(part)]);
            assert_eq!(stage.expire(), unfinished(Lane::Lingering), "{part:?}");
            assert!(stage.sent().starts_with("HTTP/1.1 408 Request Timeout\r\n"));
            assert_eq!(stage.desk.counters.answered, 1);
            let turn = stage.expire();
            assert_eq!(turn, Turn::Over(Reason::Overdue), "lingering ends, too");
        }
        let mut stage = Stage::with_writes([Act::Take(1), full()]);
        assert_eq!(stage.readable([give(HELLO)]), entered(Lane::Writing));
        assert_eq!(stage.expire(), Turn::Over(Reason::Overdue));
    }

    /// A stage where `/hello` has such a page.
    fn stage_with(route: Route) -> Stage {
        let mut stage = Stage::new();
        stage.site = Site::new("main", vec![route]);
        stage
    }

    #[test]
    fn a_long_body_is_sent_from_where_it_is_as_the_kernel_takes_it() {
        let body = "x".repeat(5000);
        let mut stage = stage_with(Route::new("/hello", body.clone()));
        let head = HELLO.replace("GET", "HEAD");
        let input = [HELLO, &head, HELLO].concat();
        // In the first head, between it and its body, and in the body.
        let acts = [
            Act::Take(9),
            full(),
            Act::Take(100),
            full(),
            Act::Take(100),
            full(),
        ];
        stage.kernel.borrow_mut().writes.extend(acts);
        assert_eq!(stage.readable([give(&input)]), entered(Lane::Writing));
        let progress = open(Change::Progress(Lane::Writing), false);
        assert_eq!(stage.turn(), progress);
        assert_eq!(stage.turn(), progress, "it may take long");
        assert!(stage.connection.outgoing.len() < 100, "no body is copied");
        assert_eq!(
            stage.calls(),
            "recv writev writev writev writev writev writev"
        );
        assert_eq!(stage.turn(), entered(Lane::Idle));
        assert_eq!(
            stage.calls(),
            "writev writev",
            "the answer to HEAD goes with the last"
        );
        let sent = stage.sent();
        assert_eq!(
            (
                sent.matches("HTTP/1.1 200").count(),
                sent.matches(&body).count()
            ),
            (3, 2)
        );
        assert!(sent.ends_with(&body));
        assert_eq!(stage.connection.outgoing.len(), 0);
    }

    #[test]
    fn a_write_may_end_in_a_long_body_at_once() {
        let mut stage = stage_with(Route::new("/hello", "x".repeat(5000)));
        let acts = [Act::Take(1000), full()];
        stage.kernel.borrow_mut().writes.extend(acts);
        assert_eq!(stage.readable([give(HELLO)]), entered(Lane::Writing));
        assert_eq!(stage.turn(), entered(Lane::Idle));
        assert_eq!(
            stage.sent().matches('x').count(),
            5001,
            "one is in text/plain"
        );
    }

    #[test]
    fn in_a_stop_a_long_body_comes_behind_what_was_withheld() {
        let mut stage = stage_with(Route::new("/hello", "x".repeat(5000)));
        let other = HELLO.replace("/hello", "/other");
        stage.edge([give(&[&other, &other, HELLO].concat())]);
        assert_eq!(stage.draining_turn(), entered(Lane::Held));
        assert_eq!(stage.sent(), "");
        assert_eq!(stage.expire(), unfinished(Lane::Lingering));
        assert_eq!(
            (stage.sent().matches("HTTP/1.1 404").count(), closes(&stage)),
            (2, (1, true))
        );
        assert!(stage.sent().ends_with(&"x".repeat(5000)));
    }

    #[test]
    fn who_resets_is_not_waited_for_with_an_answer() {
        for (edge, expected) in [
            (Edge::FIN, STILL),
            (
                Edge {
                    broken: true,
                    ..Edge::READABLE
                },
                Turn::Over(Reason::Failed(ErrorKind::ConnectionReset)),
            ),
        ] {
            let mut stage = stage_with(Route {
                is_delayed: true,
                ..Route::new("/hello", "Hello world.")
            });
            assert_eq!(stage.readable([give(HELLO)]), entered(Lane::Delayed));
            stage.connection.note(edge);
            assert_eq!(stage.turn(), expected);
        }
    }

    #[test]
    fn long_bodies_for_a_deep_batch_take_turns() {
        let mut stage = stage_with(Route::new("/hello", "x".repeat(5000)));
        stage.edge([give(&HELLO.repeat(9))]);
        let mut turns = 1;
        while let Turn::Open {
            unfinished: true, ..
        } = stage.turn()
        {
            turns += 1;
        }
        assert!(turns > 1 && stage.connection.lane() == Lane::Idle);
        assert_eq!(stage.sent().matches("HTTP/1.1 200").count(), 9);
    }

    #[test]
    fn delayed_answers_come_when_their_time_does_and_in_their_order() {
        let mut stage = stage_with(Route {
            is_delayed: true,
            ..Route::new("/hello", "Hello world.")
        });
        let other = HELLO.replace("/hello", "/other");
        let input = [HELLO, &other, HELLO].concat();
        assert_eq!(stage.readable([give(&input)]), entered(Lane::Delayed));
        assert_eq!(
            stage.readable([give(HELLO)]),
            STILL,
            "nothing is read meanwhile"
        );
        assert_eq!(
            (stage.calls(), stage.sent()),
            ("recv".to_owned(), String::new())
        );
        assert_eq!(stage.expire(), unfinished(Lane::Delayed));
        assert_eq!(stage.sent().matches("HTTP/1.1 ").count(), 2);
        // In a stop, the one that is read last is the last.
        assert_eq!(stage.draining_turn(), STILL);
        assert_eq!(
            stage.expire(),
            unfinished(Lane::Delayed),
            "one has come meanwhile"
        );
        assert_eq!(
            stage.answers(),
            1,
            "and more may come, but not for an answer"
        );
        assert_eq!(stage.expire(), unfinished(Lane::Held));
        assert_eq!(stage.expire(), unfinished(Lane::Lingering));
        assert_eq!((stage.answers(), closes(&stage)), (3, (1, true)));
    }
}
