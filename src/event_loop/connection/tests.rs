//! What a connection does when bytes, time and the stop come as a test wants them.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::mem;
use std::rc::Rc;

use super::*;
use crate::event_loop::script::{Act, Kernel, Script};
use crate::http::{Route, Status, Text};
use crate::limits::INBOX;

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
fn each_part_of_an_answer_that_is_taken_renews_the_timeout() {
    let mut stage = Stage::with_writes([Act::Take(3), full()]);
    assert_eq!(stage.readable([give(HELLO)]), entered(Lane::Writing));
    let slow = [Act::Take(1), full(), full()];
    stage.kernel.borrow_mut().writes.extend(slow);
    let progress = open(Change::Progress(Lane::Writing), false);
    assert_eq!(stage.turn(), progress, "the kernel has taken some");
    assert_eq!(stage.turn(), STILL, "it has taken nothing");
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
        assert_eq!(stage.desk.moved.answers, 1);
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

#[test]
fn a_request_for_a_live_page_waits_for_its_text() {
    let mut stage = Stage::new();
    stage.site = Site::new(
        "diag",
        vec![Route::live("/loop"), Route::new("/hello", "Hello.")],
    );
    let ask = HELLO.replace("/hello", "/l%6Fop?x");
    assert_eq!(
        stage.readable([give(&[&ask, HELLO].concat())]),
        entered(Lane::Writing)
    );
    assert_eq!(
        stage.connection.awaits_page(&stage.site),
        Some(("/loop", "x".to_owned()))
    );
    // Nothing is read meanwhile, and a turn does no harm.
    stage.calls();
    assert_eq!(stage.readable([give(HELLO)]), STILL);
    assert_eq!(
        (stage.calls(), stage.sent()),
        (String::new(), String::new())
    );
    stage.site.put(Text {
        status: Status::OK,
        fields: "",
        body: "Now.".into(),
    });
    stage.turn();
    assert!(!stage.connection.is_unwritten());
    let sent = stage.sent();
    assert_eq!(
        (sent.matches("Now.").count(), sent.matches("Hello.").count()),
        (1, 2)
    );
}
