//! One connection on a scripted socket, with input, timeouts and a shutdown in any order.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::mem;
use std::rc::Rc;

use super::*;
use crate::event_loop::script::{Act, Script, Scripted};
use crate::http::{Handler, Page, Route, Routes, Status};
use crate::limits::{DEFERRED_MAX, INPUT};

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";

/// A connection with the kernel behind its socket and the state that connections share.
struct Stage {
    connection: Connection<Scripted>,
    kernel: Rc<RefCell<Script>>,
    shared: Shared<()>,
}

/// The outcome of a run.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nothing has changed.
    Still,
    /// The state is the same, and its timeout begins anew.
    Renewed(StateName),
    /// The state has changed, or a response has led back to it.
    Entered(StateName),
    /// There is more to do.
    HasWork(StateName),
    Closed(CloseReason),
}

use End::{Closed, Entered, HasWork, Renewed, Still};

impl Stage {
    fn new() -> Stage {
        Stage::with_writes([])
    }

    /// A stage whose first writes follow `acts`.
    fn with_writes<const N: usize>(acts: [Act; N]) -> Stage {
        let kernel = Rc::new(RefCell::new(Script { writes: acts.into(), ..Script::default() }));
        let routes = || Routes::new(vec![Route::new("/hello", "Hello world.")]);
        Stage {
            connection: Connection::new(Service::Main, Scripted(Rc::clone(&kernel))),
            kernel,
            shared: Shared::new([routes(), routes()], ()),
        }
    }

    /// A readable event, after which `acts` are waiting.
    fn event<const N: usize>(&mut self, acts: [Act; N]) {
        self.kernel.borrow_mut().reads.extend(acts);
        self.connection.set_ready(Readiness::READABLE);
    }

    /// A readable event and the run that follows it.
    fn readable<const N: usize>(&mut self, acts: [Act; N]) -> End {
        self.event(acts);
        self.run()
    }

    /// The same, with the peer's FIN on the same event.
    fn readable_with_fin<const N: usize>(&mut self, acts: [Act; N]) -> End {
        self.event(acts);
        self.connection.set_ready(Readiness::EOF);
        self.run()
    }

    fn run(&mut self) -> End {
        let before = self.connection.state_name();
        let run = self.connection.run(&mut self.shared);
        self.end(before, run)
    }

    fn run_in_shutdown(&mut self) -> End {
        self.shared.announces_close = [true; 2];
        self.run()
    }

    fn time_out(&mut self) -> End {
        let before = self.connection.state_name();
        let run = self.connection.on_timeout(&mut self.shared);
        self.end(before, run)
    }

    fn end(&mut self, before: StateName, run: RunEnd) -> End {
        let traffic = mem::take(&mut self.shared.traffic);
        let moved = traffic.received > 0 || traffic.sent > 0;
        let after = self.connection.state_name();
        match run {
            RunEnd::Closed(reason) => Closed(reason),
            RunEnd::HasWork | RunEnd::OutOf(_) => HasWork(after),
            RunEnd::Waits if before != after || traffic.responses > 0 => Entered(after),
            RunEnd::Waits if moved && after.is_renewed_by_traffic() => Renewed(after),
            RunEnd::Waits => Still,
        }
    }

    /// The calls since the last time, in their order.
    fn calls(&self) -> String {
        mem::take(&mut self.kernel.borrow_mut().calls).join(" ")
    }

    fn sent(&self) -> String {
        String::from_utf8(self.kernel.borrow().sent.clone()).expect("responses are ASCII")
    }

    fn responses(&self) -> usize {
        self.sent().matches("Hello world.").count()
    }
}

fn give(text: &str) -> Act {
    Act::Give(text.as_bytes().to_vec())
}

fn full() -> Act {
    Act::Fail(ErrorKind::WouldBlock)
}

#[test]
fn a_batch_takes_one_read_and_one_write() {
    for depth in [1, 2, 16, 300] {
        let mut stage = Stage::new();
        assert_eq!(stage.readable([give(&HELLO.repeat(depth))]), Entered(StateName::Idle));
        assert_eq!(stage.calls(), "recv send", "depth {depth}");
        assert_eq!(stage.responses(), depth);
        assert_eq!(stage.run(), Still);
        assert_eq!(stage.calls(), "", "the kernel is not asked for what is known");
    }
}

#[test]
fn a_new_connection_costs_nothing_until_it_sends() {
    let mut stage = Stage::new();
    assert_eq!(stage.run(), Still);
    assert_eq!(stage.calls(), "");
    assert_eq!(stage.readable([]), Still);
    assert_eq!(stage.calls(), "recv");
}

#[test]
fn a_fin_on_the_same_event_is_read_after_the_response() {
    let mut stage = Stage::new();
    let end = stage.readable_with_fin([give(HELLO), Act::Eof]);
    assert_eq!(end, Closed(CloseReason::Finished));
    assert_eq!(stage.calls(), "recv send recv");
    assert_eq!(stage.responses(), 1);
}

#[test]
fn a_fin_in_the_middle_of_a_request_ends_it() {
    for part in [&HELLO[..9], POST, &HELLO[..HELLO.len() - 1]] {
        let mut stage = Stage::new();
        let end = stage.readable_with_fin([give(part), Act::Eof]);
        assert_eq!(end, Closed(CloseReason::Truncated), "{part:?}");
        assert_eq!(stage.sent(), "");
    }
}

#[test]
fn an_interrupted_call_is_made_again() {
    let mut stage = Stage::with_writes([Act::Fail(ErrorKind::Interrupted)]);
    let end = stage.readable([Act::Fail(ErrorKind::Interrupted), give(HELLO)]);
    assert_eq!(end, Entered(StateName::Idle));
    assert_eq!(stage.calls(), "recv recv send send");
    assert_eq!(stage.responses(), 1);
}

#[test]
fn errors_of_the_socket_end_the_connection() {
    let reset = || Act::Fail(ErrorKind::ConnectionReset);
    let over = |kind| Closed(CloseReason::Failed(kind));
    let end = Stage::new().readable([reset()]);
    assert_eq!(end, over(ErrorKind::ConnectionReset), "while reading");
    let end = Stage::with_writes([reset()]).readable([give(HELLO)]);
    assert_eq!(end, over(ErrorKind::ConnectionReset), "while sending");
    let end = Stage::with_writes([Act::Take(1), reset()]).readable([give(HELLO)]);
    assert_eq!(end, over(ErrorKind::ConnectionReset), "while flushing");
    let end = Stage::with_writes([Act::Take(0)]).readable([give(HELLO)]);
    assert_eq!(end, over(ErrorKind::WriteZero), "without any progress");
}

#[test]
fn a_dribbled_head_keeps_the_deadline_of_its_first_byte() {
    let mut stage = Stage::new();
    let (first, rest) = HELLO.split_at(1);
    assert_eq!(stage.readable([give(first)]), Entered(StateName::Head));
    let (rest, last) = rest.split_at(rest.len() - 1);
    for byte in rest.chars() {
        assert_eq!(stage.readable([give(&byte.to_string())]), Still);
    }
    assert_eq!(*stage.connection.unparsed, HELLO.as_bytes()[..HELLO.len() - 1]);
    assert_eq!(stage.readable([give(last)]), Entered(StateName::Idle));
    assert_eq!(stage.responses(), 1);
    assert_eq!(stage.connection.unparsed.len(), 0, "idle connections own no memory");
}

#[test]
fn what_can_be_no_head_is_refused_wherever_it_was_cut() {
    for input in ["G(T / HTTP/1.1", "GET / HTTP/1.1\r\nX Y: b", "GET / HTTP/1.1\r\n\0"] {
        for (first, rest) in (1..input.len()).map(|cut| input.split_at(cut)) {
            let mut stage = Stage::new();
            stage.readable([give(first)]);
            stage.readable([give(rest)]);
            assert!(stage.sent().starts_with("HTTP/1.1 400 "), "{first:?} and {rest:?}");
        }
    }
}

#[test]
fn a_response_gives_the_next_request_a_deadline_of_its_own() {
    let mut stage = Stage::new();
    assert_eq!(stage.readable([give("GET")]), Entered(StateName::Head));
    let rest = [&HELLO[3..], "GET"].concat();
    assert_eq!(stage.readable([give(&rest)]), Entered(StateName::Head));
    assert_eq!(stage.responses(), 1);
}

#[test]
fn stray_line_ends_are_not_a_request() {
    let mut stage = Stage::new();
    stage.event([give(HELLO), give("\r\n")]);
    assert_eq!(stage.run(), Entered(StateName::Idle));
    assert_eq!(stage.readable([]), Still);
    assert_eq!(stage.connection.state_name(), StateName::Idle);
    assert_eq!(stage.readable([give(HELLO)]), Entered(StateName::Idle));
    assert_eq!(stage.responses(), 2);
}

#[test]
fn bodies_are_skipped_and_each_read_of_one_is_progress() {
    let mut stage = Stage::new();
    assert_eq!(stage.readable([give(POST)]), Entered(StateName::Body));
    let progress = Renewed(StateName::Body);
    assert_eq!(stage.readable([give("GET / ")]), progress);
    assert_eq!(stage.connection.unparsed.len(), 0, "bodies are not stored");
    assert_eq!(stage.sent(), "");
    let rest = ["HTT", HELLO].concat();
    assert_eq!(stage.readable([give(&rest)]), Entered(StateName::Idle));
    assert_eq!(stage.responses(), 2);
}

#[test]
fn a_client_that_does_not_take_responses_is_not_read() {
    let mut stage = Stage::with_writes([Act::Take(3), full()]);
    let end = stage.readable_with_fin([give(HELLO), give(HELLO), Act::Eof]);
    assert_eq!(end, Entered(StateName::Writing));
    assert_eq!(stage.calls(), "recv send send");
    assert!(stage.connection.stream.unsent_len() > 0);

    stage.kernel.borrow_mut().writes.push_back(full());
    assert_eq!(stage.run(), Still);
    assert_eq!(stage.calls(), "send", "nothing is read while responses are unsent");

    // Once everything is sent, the remembered readiness leads on to the next read.
    assert_eq!(stage.run(), Closed(CloseReason::Finished));
    assert_eq!(stage.calls(), "send recv send recv");
    assert_eq!(stage.responses(), 2);
    assert_eq!(stage.connection.stream.unsent_len(), 0);
}

#[test]
fn a_last_response_that_is_stuck_is_still_the_last() {
    let mut stage = Stage::with_writes([Act::Take(9), full()]);
    let request = HELLO.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    assert_eq!(stage.readable([give(&request)]), Entered(StateName::Writing));
    assert_eq!(stage.calls(), "recv send_last send_last");
    // The client was slow to read, so it may still send something until it has read the rest.
    assert_eq!(stage.run(), Entered(StateName::HalfClosed));
    assert_eq!(stage.calls(), "send_last shutdown");
}

#[test]
fn a_client_that_asks_for_the_close_gets_it_with_the_response() {
    let close = HELLO.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    for request in [&*close, "GET /hello HTTP/1.0\r\n\r\n"] {
        let mut stage = Stage::new();
        assert_eq!(stage.readable([give(request)]), Closed(CloseReason::Requested), "{request}");
        assert_eq!(stage.calls(), "recv send_last shutdown", "{request}");
        // A FIN or more input may be unread, and has to be: else the response could be lost.
        let mut stage = Stage::new();
        let end = stage.readable_with_fin([give(request), Act::Eof]);
        assert_eq!(end, Closed(CloseReason::Finished), "{request}");
        assert_eq!(stage.calls(), "recv send_last shutdown recv", "{request}");
        // In a shutdown the process would exit before the client has the response.
        let mut stage = Stage::new();
        stage.shared.announces_close[Service::Main as usize] = true;
        let end = stage.readable([give(request)]);
        assert_eq!(end, Entered(StateName::HalfClosed), "{request}");
        assert_eq!(stage.calls(), "recv send_last shutdown", "{request}");
    }
    // So is a read that has filled the buffer: the socket may hold more.
    let filler = HELLO.repeat(INPUT / HELLO.len() - 3);
    let padding = "x".repeat(INPUT - filler.len() - close.len() - "X: \r\n".len());
    let last = close.replace("\r\n\r\n", &format!("\r\nX: {padding}\r\n\r\n"));
    let mut stage = Stage::new();
    let end = stage.readable([give(&(filler + &last))]);
    assert_eq!(end, Entered(StateName::HalfClosed));
}

#[test]
fn after_the_last_response_input_is_discarded_until_the_fin() {
    let mut stage = Stage::new();
    assert_eq!(stage.readable([give("nonsense\r\n\r\n")]), Entered(StateName::HalfClosed));
    assert_eq!(stage.calls(), "recv send_last shutdown");
    assert_eq!(stage.readable([give(HELLO)]), Still);
    assert_eq!(stage.calls(), "recv", "nothing is served any more");
    assert_eq!(stage.readable([Act::Eof]), Closed(CloseReason::Finished));
}

#[test]
fn an_eager_client_gets_no_more_than_a_run() {
    let mut stage = Stage::new();
    let eager = HELLO.repeat(2 * READS_PER_RUN * INPUT / HELLO.len());
    let again = HasWork(StateName::Idle);
    assert_eq!(stage.readable([give(&eager)]), again);
    assert_eq!(stage.calls(), ["recv send"; READS_PER_RUN].join(" "));
    while stage.run() == again {}
    assert_eq!(stage.responses(), eager.len() / HELLO.len());
}

/// The number of sent responses that announce the close, and whether the last one does.
fn closes(stage: &Stage) -> (usize, bool) {
    let sent = stage.sent();
    let last = sent.rfind("Connection: close") > sent.rfind("Date: ");
    (sent.matches("Connection: close").count(), last)
}

#[test]
fn in_a_stop_a_client_that_waits_for_its_response_gets_the_close_at_once() {
    let mut stage = Stage::new();
    stage.event([give(HELLO)]);
    assert_eq!(stage.run_in_shutdown(), Entered(StateName::HalfClosed));
    assert_eq!((stage.responses(), closes(&stage)), (1, (1, true)));

    // A request that has begun before is finished.
    let mut stage = Stage::new();
    assert_eq!(stage.readable([give(&HELLO[..9])]), Entered(StateName::Head));
    stage.event([give(&HELLO[9..])]);
    assert_eq!(stage.run_in_shutdown(), Entered(StateName::HalfClosed));
    assert_eq!((stage.responses(), closes(&stage)), (1, (1, true)));
}

/// A stage in a stop, with deferred responses to a batch.
fn deferred(depth: usize) -> Stage {
    let mut stage = Stage::new();
    stage.event([give(&HELLO.repeat(depth))]);
    assert_eq!(stage.run_in_shutdown(), Entered(StateName::Deferred));
    assert_eq!((stage.responses(), closes(&stage).0), (0, 0));
    stage
}

/// Whether responses go on being deferred.
fn stays_deferred(end: &End) -> bool {
    matches!(end, Renewed(StateName::Deferred) | Entered(StateName::Deferred))
}

#[test]
fn in_a_stop_a_batch_waits_for_more_of_it() {
    // Nothing more comes, and the timeout ends.
    let mut stage = deferred(300);
    assert_eq!(stage.time_out(), HasWork(StateName::HalfClosed));
    assert_eq!((stage.responses(), closes(&stage)), (300, (1, true)));
    assert_eq!(stage.connection.stream.unsent_len(), 0);
    // The peer's FIN says that nothing more will come.
    let mut stage = deferred(300);
    let end = stage.readable_with_fin([Act::Eof, Act::Eof]);
    assert_eq!(end, Closed(CloseReason::Finished));
    assert_eq!((stage.responses(), closes(&stage)), (300, (1, true)));
    // A client may keep a number of requests on their way and send another one for each response.
    // Neither whole requests nor parts of them release a response, which would keep it going.
    let mut stage = deferred(3);
    let post = POST.to_owned() + "123456789";
    let (first, second) = post.split_at(POST.len() + 4);
    for piece in [HELLO, &HELLO[..9], &HELLO[9..], first, second, &HELLO[..9]] {
        assert!(stays_deferred(&stage.readable([give(piece)])), "{piece:?}");
        assert_eq!(stage.responses(), 0, "{piece:?}");
    }
    // It stops in the middle of a request, so it may be waiting for responses.
    assert_eq!(stage.time_out(), HasWork(StateName::Head));
    assert_eq!((stage.responses(), closes(&stage).0), (6, 0));
    stage.shared.force_close = true;
    let rest = [&HELLO[9..], &HELLO[..9]].concat();
    assert_eq!(stage.readable([give(&rest)]), Entered(StateName::HalfClosed));
    assert_eq!((stage.responses(), closes(&stage)), (7, (1, true)));
}

#[test]
fn in_a_stop_a_fin_within_a_request_releases_the_deferred_responses() {
    let mut stage = deferred(3);
    assert!(stays_deferred(&stage.readable([give(&HELLO[..9])])));
    let end = stage.readable_with_fin([Act::Eof, Act::Eof]);
    assert_eq!(end, Closed(CloseReason::Finished));
    assert_eq!((stage.responses(), closes(&stage).0), (3, 0));
}

#[test]
fn in_a_stop_a_forced_close_comes_with_the_last_whole_request() {
    for rest in ["", &HELLO[..9], &POST[..9], "\r\n"] {
        let mut stage = deferred(3);
        assert!(stays_deferred(&stage.readable([give(&HELLO[..9])])));
        stage.shared.force_close = true;
        let input = [&HELLO[9..], HELLO, rest].concat();
        let end = stage.readable([give(&input)]);
        assert_eq!(end, Entered(StateName::HalfClosed), "{rest:?}");
        assert_eq!((stage.responses(), closes(&stage)), (5, (1, true)), "{rest:?}");
    }
}

#[test]
fn in_a_stop_one_request_and_part_of_another_are_a_batch() {
    for part in [HELLO, POST] {
        let mut stage = Stage::new();
        let (part, rest) = part.split_at(9);
        stage.readable([give(&[HELLO, part].concat())]);
        assert_eq!(stage.responses(), 1);
        let rest = [rest, if rest.contains("Length") { "123456789" } else { "" }].concat();
        stage.event([give(&rest)]);
        assert_eq!(stage.run_in_shutdown(), Entered(StateName::Deferred));
        assert_eq!((stage.responses(), closes(&stage).0), (1, 0), "there may be more");
    }
}

#[test]
fn in_a_stop_a_batch_that_fills_the_read_buffer_gets_the_close_too() {
    let mut stage = Stage::new();
    let depth = INPUT / HELLO.len();
    stage.event([give(&HELLO.repeat(depth))]);
    assert_eq!(stage.run_in_shutdown(), Entered(StateName::Deferred));
    stage.time_out();
    assert_eq!((stage.responses(), closes(&stage)), (depth, (1, true)));
}

#[test]
fn in_a_stop_deferred_responses_wait_for_room_as_others_do() {
    let mut stage = deferred(3);
    assert!(stays_deferred(&stage.readable([give(&HELLO[..9])])));
    let writes = [Act::Take(9), full()];
    stage.kernel.borrow_mut().writes.extend(writes);
    assert_eq!(stage.time_out(), HasWork(StateName::Writing));
    assert_eq!(stage.run(), Still, "there is no room");
    assert_eq!(stage.run(), Entered(StateName::Head), "the rest has been taken");
    assert_eq!((stage.responses(), closes(&stage).0), (3, 0));
}

#[test]
fn in_a_stop_of_a_batch_that_leaves_no_room_only_the_last_response_is_deferred() {
    let mut stage = Stage::new();
    let depth = INPUT / HELLO.len();
    stage.event([give(&HELLO.repeat(depth))]);
    assert_eq!(stage.run_in_shutdown(), Entered(StateName::Deferred));
    assert_eq!((stage.responses(), closes(&stage).0), (depth - 1, 0));
    assert!(stays_deferred(&stage.readable([give("\r\n")])), "no request, but no silence");
    let one = stage.sent().len() / (depth - 1);
    assert_eq!(stage.connection.stream.unsent_len(), one);
    assert!(stays_deferred(&stage.readable([give(&HELLO[..9])])));
    assert_eq!(stage.time_out(), HasWork(StateName::Head));
    assert_eq!((stage.responses(), closes(&stage).0), (depth, 0));
}

#[test]
fn in_a_stop_no_more_is_deferred_than_there_is_room_for() {
    let depth = 7 * INPUT / HELLO.len();
    let mut stage = Stage::new();
    stage.event([give(&HELLO.repeat(depth))]);
    let mut end = stage.run_in_shutdown();
    while matches!(end, HasWork(_)) {
        assert!(stage.connection.stream.unsent_len() <= DEFERRED_MAX);
        end = stage.run();
    }
    assert!(stage.responses() > 0 && closes(&stage).0 == 0);
    stage.time_out();
    assert_eq!((stage.responses(), closes(&stage)), (depth, (1, true)));
}

#[test]
fn a_closed_idle_connection_is_half_closed_and_not_served_any_more() {
    let mut stage = Stage::new();
    assert_eq!(stage.connection.close_idle(), RunEnd::Waits);
    assert_eq!(stage.connection.state_name(), StateName::IdleClosed);
    assert_eq!(stage.readable([give(HELLO)]), Still);
    assert_eq!(stage.calls(), "shutdown recv");
    assert_eq!(stage.readable([Act::Eof]), Closed(CloseReason::Finished));
}

#[test]
fn each_part_of_a_response_that_is_taken_renews_the_timeout() {
    let mut stage = Stage::with_writes([Act::Take(3), full()]);
    assert_eq!(stage.readable([give(HELLO)]), Entered(StateName::Writing));
    let slow = [Act::Take(1), full(), full()];
    stage.kernel.borrow_mut().writes.extend(slow);
    let progress = Renewed(StateName::Writing);
    assert_eq!(stage.run(), progress, "the kernel has taken some");
    assert_eq!(stage.run(), Still, "it has taken nothing");
}

#[test]
fn a_408_to_a_head_request_has_no_body_and_leaves_no_input() {
    for (input, rest) in [
        ("HEAD /hel", "\r\n\r\n"),
        ("GET /hel", "did not arrive in time\n"),
        (&POST.replace("POST", "HEAD"), "\r\n\r\n"),
        (POST, "did not arrive in time\n"),
    ] {
        let mut stage = Stage::new();
        stage.readable([give(input)]);
        stage.time_out();
        assert!(stage.sent().ends_with(rest), "{input:?}: {:?}", stage.sent());
        assert_eq!(stage.connection.unparsed.len(), 0);
    }
}

#[test]
fn each_half_closed_round_needs_new_input() {
    let mut stage = Stage::new();
    stage.readable([give("nonsense\r\n\r\n")]);
    assert!(!stage.connection.renew_half_closed(), "nothing has come");
    stage.readable([give("more")]);
    assert!(stage.connection.renew_half_closed());
    assert!(!stage.connection.renew_half_closed(), "nothing has come since");
}

#[test]
fn requests_that_time_out_get_a_408_and_other_connections_are_closed() {
    assert_eq!(Stage::new().time_out(), Closed(CloseReason::TimedOut));
    for part in [&HELLO[..9], POST] {
        let mut stage = Stage::new();
        stage.readable([give(part)]);
        assert_eq!(stage.time_out(), HasWork(StateName::HalfClosed), "{part:?}");
        assert!(stage.sent().starts_with("HTTP/1.1 408 Request Timeout\r\n"));
        let end = stage.time_out();
        assert_eq!(end, Closed(CloseReason::TimedOut), "the half-closed state ends, too");
    }
    let mut stage = Stage::with_writes([Act::Take(1), full()]);
    assert_eq!(stage.readable([give(HELLO)]), Entered(StateName::Writing));
    assert_eq!(stage.time_out(), Closed(CloseReason::TimedOut));
}

/// A stage that serves one route.
fn stage_with(route: Route) -> Stage {
    let mut stage = Stage::new();
    stage.shared.routes[Service::Main as usize] = Routes::new(vec![route]);
    stage
}

#[test]
fn a_long_body_is_sent_from_where_it_is_as_the_kernel_takes_it() {
    let body = "x".repeat(5000);
    let mut stage = stage_with(Route::new("/hello", body.clone()));
    let head = HELLO.replace("GET", "HEAD");
    let input = [HELLO, &head, HELLO].concat();
    // The writes end in the first head, between it and its body, and in the body.
    let acts = [Act::Take(9), full(), Act::Take(100), full(), Act::Take(100), full()];
    stage.kernel.borrow_mut().writes.extend(acts);
    assert_eq!(stage.readable([give(&input)]), Entered(StateName::Writing));
    let progress = Renewed(StateName::Writing);
    assert_eq!(stage.run(), progress);
    assert_eq!(stage.run(), progress, "it may take long");
    assert!(stage.connection.stream.unsent_len() < 100, "no body is copied");
    assert_eq!(stage.calls(), "recv writev writev writev writev writev writev");
    assert_eq!(stage.run(), Entered(StateName::Idle));
    assert_eq!(stage.calls(), "writev writev", "the response to HEAD goes with the last");
    let sent = stage.sent();
    assert_eq!((sent.matches("HTTP/1.1 200").count(), sent.matches(&body).count()), (3, 2));
    assert!(sent.ends_with(&body));
    assert_eq!(stage.connection.stream.unsent_len(), 0);
}

#[test]
fn a_write_may_end_in_a_long_body_at_once() {
    let mut stage = stage_with(Route::new("/hello", "x".repeat(5000)));
    let acts = [Act::Take(1000), full()];
    stage.kernel.borrow_mut().writes.extend(acts);
    assert_eq!(stage.readable([give(HELLO)]), Entered(StateName::Writing));
    assert_eq!(stage.run(), Entered(StateName::Idle));
    assert_eq!(stage.sent().matches('x').count(), 5001, "one is in text/plain");
}

#[test]
fn in_a_stop_a_long_body_comes_after_the_deferred_responses() {
    let mut stage = stage_with(Route::new("/hello", "x".repeat(5000)));
    let other = HELLO.replace("/hello", "/other");
    stage.event([give(&[&other, &other, HELLO].concat())]);
    assert_eq!(stage.run_in_shutdown(), Entered(StateName::Deferred));
    assert_eq!(stage.sent(), "");
    assert_eq!(stage.time_out(), HasWork(StateName::HalfClosed));
    assert_eq!((stage.sent().matches("HTTP/1.1 404").count(), closes(&stage)), (2, (1, true)));
    assert!(stage.sent().ends_with(&"x".repeat(5000)));
}

#[test]
fn a_reset_ends_a_delayed_connection_and_a_fin_does_not() {
    for (readiness, expected) in [
        (Readiness::EOF, Still),
        (
            Readiness { failed: true, ..Readiness::READABLE },
            Closed(CloseReason::Failed(ErrorKind::ConnectionReset)),
        ),
    ] {
        let mut stage =
            stage_with(Route { is_delayed: true, ..Route::new("/hello", "Hello world.") });
        assert_eq!(stage.readable([give(HELLO)]), Entered(StateName::Delayed));
        stage.connection.set_ready(readiness);
        assert_eq!(stage.run(), expected);
    }
}

#[test]
fn long_bodies_for_a_deep_batch_take_several_runs() {
    let mut stage = stage_with(Route::new("/hello", "x".repeat(5000)));
    stage.event([give(&HELLO.repeat(9))]);
    let mut runs = 1;
    while matches!(stage.run(), HasWork(_)) {
        runs += 1;
    }
    assert!(runs > 1 && stage.connection.state_name() == StateName::Idle);
    assert_eq!(stage.sent().matches("HTTP/1.1 200").count(), 9);
}

#[test]
fn delayed_responses_come_at_their_time_and_in_their_order() {
    let mut stage = stage_with(Route { is_delayed: true, ..Route::new("/hello", "Hello world.") });
    let other = HELLO.replace("/hello", "/other");
    let input = [HELLO, &other, HELLO].concat();
    assert_eq!(stage.readable([give(&input)]), Entered(StateName::Delayed));
    assert_eq!(stage.readable([give(HELLO)]), Still, "nothing is read meanwhile");
    assert_eq!((stage.calls(), stage.sent()), ("recv".to_owned(), String::new()));
    assert_eq!(stage.time_out(), HasWork(StateName::Delayed));
    assert_eq!(stage.sent().matches("HTTP/1.1 ").count(), 2);
    // In a stop, the request that is read last is the last.
    assert_eq!(stage.run_in_shutdown(), Still);
    assert_eq!(stage.time_out(), HasWork(StateName::Delayed), "one has come meanwhile");
    assert_eq!(stage.responses(), 1, "more requests may come, but do not wait for a response");
    assert_eq!(stage.time_out(), HasWork(StateName::Deferred));
    assert_eq!(stage.time_out(), HasWork(StateName::HalfClosed));
    assert_eq!((stage.responses(), closes(&stage)), (3, (1, true)));
}

/// A handler that counts the pages that it renders.
#[derive(Default)]
struct Pages(usize);

impl Handler for Pages {
    fn render(&mut self, path: &str, query: &[u8]) -> Page {
        self.0 += 1;
        let query = String::from_utf8_lossy(query);
        Page {
            status: Status::OK,
            fields: "",
            body: format!("{path}?{query}, page {}", self.0).into(),
        }
    }
}

impl Observer for Pages {}

#[test]
fn a_request_for_a_page_waits_until_that_may_be_rendered() {
    let kernel = Rc::new(RefCell::new(Script::default()));
    let mut connection = Connection::new(Service::Diag, Scripted(Rc::clone(&kernel)));
    let routes = || Routes::new(vec![Route::dynamic("/loop"), Route::new("/hello", "Hello.")]);
    let mut shared = Shared::new([routes(), routes()], Pages::default());
    let request = HELLO.replace("/hello", "/l%6Fop?x");
    let input = [&*request.repeat(3), HELLO].concat();
    kernel.borrow_mut().reads.push_back(give(&input));
    connection.set_ready(Readiness::READABLE);
    let sent = |text: &str| {
        let sent = String::from_utf8(kernel.borrow().sent.clone()).expect("text");
        sent.matches(text).count()
    };
    for pages in 1..=2 {
        shared.output.pages = 1;
        let run = connection.run(&mut shared);
        assert_eq!(run, RunEnd::OutOf(Budget::Pages));
        assert_eq!((shared.observer.0, sent("/loop?x, page ")), (pages, pages));
        // Nothing is read meanwhile, and another run does no harm.
        kernel.borrow_mut().calls.clear();
        assert_eq!(connection.run(&mut shared), RunEnd::OutOf(Budget::Pages));
        assert!(kernel.borrow().calls.is_empty());
    }
    shared.output.pages = 1;
    assert_eq!(connection.run(&mut shared), RunEnd::Waits);
    assert_eq!((sent("/loop?x, page "), sent("Hello.")), (3, 1));
    assert_eq!(connection.state_name(), StateName::Idle);
}
