//! The protocol as a whole: bytes in, bytes out, whole or cut into pieces.

use std::fmt::Write;

use proptest::prelude::*;

use super::rules::{Conversation, Level, RULES, Rule};
use super::*;
use crate::limits::{
    BODY_COPIED_MAX, EMPTY_LINES_MAX, FIELDS_MAX, FIELDS_USUAL, HEAD_MAX, OUTPUT, PAGE_MAX,
    PAGE_REQUEST_BODY_MAX, RESPONSE_MAX,
};

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn routes() -> Routes {
    routes_with(Route::new("/hello", "Hello world."))
}

fn routes_with(route: Route) -> Routes {
    let mut routes = Routes::new(vec![route]);
    routes.set_date(784_111_777);
    routes
}

fn output() -> Output {
    Output { bytes: Vec::with_capacity(OUTPUT), pages: usize::MAX }
}

/// Serves an input from the beginning of a request on.
fn serve_once(routes: &Routes, input: &str, output: &mut Output) -> Served {
    serve(routes, &mut (), Next::Head, input.as_bytes(), output)
}

/// Serves the pieces one after the other, as a connection does: what is not consumed comes
/// again ahead of the next piece. Returns all that was sent, and what would come next.
fn converse(pieces: &[&[u8]]) -> (String, Next) {
    converse_with(&routes(), &mut (), pieces)
}

fn converse_with(routes: &Routes, handler: &mut impl Handler, pieces: &[&[u8]]) -> (String, Next) {
    let (mut unparsed, mut next, mut sent) = (Vec::new(), Next::Head, Vec::new());
    for piece in pieces {
        if next.closes() {
            break;
        }
        unparsed.extend_from_slice(piece);
        loop {
            let mut output = output();
            let served = serve(routes, handler, next, &unparsed, &mut output);
            sent.append(&mut output.bytes);
            sent.extend_from_slice(routes.unsent(served.body));
            unparsed.drain(..served.consumed);
            next = served.next;
            if !matches!(next, Next::Full | Next::Delayed(_)) {
                break;
            }
        }
    }
    // Where the input is cut, a client has not been seen to send on.
    let next = if next.closes() { Next::Close } else { next };
    (String::from_utf8(sent).expect("responses are ASCII"), next)
}

fn responses_to(input: &str) -> String {
    converse(&[input.as_bytes()]).0
}

/// The status codes of the responses to `input`, and an `x` if the connection ends with them.
fn statuses(input: &[u8]) -> String {
    let (out, next) = converse(&[input]);
    // Every response has one date, and nothing like a status line between its own and the date.
    let heads = out.match_indices("\r\nDate: ").map(|(at, _)| &out[..at]);
    let codes = heads.filter_map(|head| head.rfind("HTTP/1.").map(|at| &head[at + 9..at + 12]));
    let end = next.closes().then_some("x");
    codes.chain(end).collect::<Vec<_>>().join(" ")
}

#[test]
fn responses_are_whole_to_the_byte() {
    let ok = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: {DATE}\r\n\
         Content-Length: 12\r\n\r\nHello world."
    );
    let closing = ok.replace("12\r\n", "12\r\nConnection: close\r\n");
    let old = ok.replace("HTTP/1.1", "HTTP/1.0");
    let not_found = format!(
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n\
         X-Content-Type-Options: nosniff\r\nDate: {DATE}\r\nContent-Length: 19\r\n\r\n\
         404 page not found\n"
    );
    for (request, response) in [
        (HELLO, &ok),
        ("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &closing),
        ("GET /hello HTTP/1.0\r\n\r\n", &closing.replace("HTTP/1.1", "HTTP/1.0")),
        (
            "GET /hello HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
            &old.replace("12\r\n", "12\r\nConnection: keep-alive\r\n"),
        ),
        ("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n", &ok.replace("Hello world.", "")),
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", &not_found),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &not_found.replace("404 page not found\n", "")),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            &format!("HTTP/1.1 200 OK\r\nDate: {DATE}\r\nContent-Length: 0\r\n\r\n"),
        ),
        (
            "GET /hello HTTP/1.1\r\n\r\n",
            &format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 X-Content-Type-Options: nosniff\r\nDate: {DATE}\r\nContent-Length: 59\r\n\
                 Connection: close\r\n\r\nthere has to be one Host field, empty or with a valid \
                 host\n"
            ),
        ),
    ] {
        assert_eq!(&responses_to(request), response, "{request:?}");
    }
}

#[test]
fn error_responses_to_head_requests_have_no_body_either() {
    let body = "POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n";
    for (request, ends_with) in [
        ("HEAD /hello HTTP/1.1\r\n\r\n", "\r\n\r\n"),
        ("\r\nHEAD /hello HTTP/3.0\r\n\r\n", "\r\n\r\n"),
        (&body.replace("POST", "HEAD"), "\r\n\r\n"),
        (body, "\r\n\r\nmalformed chunked body\n"),
    ] {
        assert!(responses_to(request).ends_with(ends_with), "{request:?}");
    }
}

#[test]
fn paths_lead_to_pages_whatever_the_method() {
    let absolute = "http://example.org:8080/hello";
    for (target, status) in [
        ("/hello", "200"),
        ("/hello?x=1", "200"),
        ("/hello?", "200"),
        ("/hello?x=/../y", "200"),
        ("/%68ello", "200"),
        ("/%68%65%6c%6C%6f", "200"),
        (absolute, "200"),
        ("https://[::1]/%68ello?x", "200"),
        ("/hello%3Fx", "404"),
        ("/hello%2F", "404"),
        ("/%2Fhello", "404"),
        ("/hello/", "404"),
        ("/hell", "404"),
        ("/hello/x", "404"),
        ("//hello", "404"),
        ("/a/../hello", "404"),
        ("/HELLO", "404"),
        ("/", "404"),
        ("http://example.org?x", "404"),
        ("/x?http://y/hello", "404"),
        ("/ready", "404"),
    ] {
        for method in ["GET", "HEAD", "POST", "BREW", "!#$%&'*+-.^_`|~0aZ"] {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(statuses(request.as_bytes()), status, "{request:?}");
        }
    }
}

#[test]
fn rules_are_kept() {
    for rule in RULES {
        for conversation in rule.conversations() {
            let sample = conversation.sends.escape_ascii();
            let came = statuses(&conversation.sends);
            assert_eq!(came, conversation.statuses, "{}: {sample}", rule.says);
        }
    }
}

#[test]
fn what_the_rfcs_leave_open_is_said_at_its_level() {
    for rule in RULES {
        assert!(rule.says.contains('(') && !rule.name.is_empty(), "{}", rule.says);
        let has_must = rule.conversations().any(|it| it.level == Level::Must);
        assert!(rule.stands.is_empty() || has_must, "{}", rule.stands);
        for conversation in rule.conversations().filter(|it| it.level == Level::May) {
            let sample = conversation.sends.escape_ascii();
            assert!(!conversation.others.is_empty(), "{}: {sample}", rule.name);
        }
    }
}

/// How far apart second cuts are: under qemu, which takes forty times as long, not each is tried.
fn cut_distance() -> usize {
    let program = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    if program.starts_with("qemu-") { 7 } else { 1 }
}

#[test]
fn where_the_input_is_cut_changes_nothing() {
    let distance = cut_distance();
    for input in RULES.iter().flat_map(Rule::conversations).map(|it| it.sends) {
        // Whether a client waits for this depends on where its input ends.
        let without_interim = |(sent, next): (String, Next)| {
            (sent.replace("HTTP/1.1 100 Continue\r\n\r\n", ""), next)
        };
        let whole = without_interim(converse(&[&input]));
        for (first, rest) in (0..=input.len()).map(|cut| input.split_at(cut)) {
            let second_cuts = (0..=rest.len()).step_by(distance);
            for (second, third) in second_cuts.map(|cut| rest.split_at(cut)) {
                let pieces = [first, second, third];
                let sample = input.escape_ascii();
                let converted = without_interim(converse(&pieces));
                assert_eq!(converted, whole, "{sample} as {pieces:?}");
            }
        }
    }
}

#[test]
fn the_last_response_can_announce_the_close() {
    let old = "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let head = HELLO.replace("GET", "HEAD");
    for (input, responses) in [
        (HELLO, 1),
        (&*HELLO.repeat(3), 3),
        (old, 1),
        (&[HELLO, old].concat(), 2),
        (&[old, HELLO].concat(), 2),
        (&[HELLO, &head].concat(), 2),
        (&[HELLO, &HELLO.replace("/hello", "/nowhere")].concat(), 2),
    ] {
        for ahead in ["", "bytes ahead"] {
            let (routes, mut output) = (routes(), output());
            let served = serve_once(&routes, input, &mut output);
            assert_eq!((served.responses, served.next), (responses, Next::Head), "{input:?}");
            let before = [ahead.as_bytes(), &output.bytes].concat();
            let mut after = before.clone();
            let last = served.last + ahead.len();
            announce_close(&mut after, last);
            let (before, after) =
                [before, after].map(|bytes| String::from_utf8(bytes).expect("text")).into();
            let (start, last) = before.split_at(last);
            let expected = last.replace("Connection: keep-alive\r\n", "").replacen(
                "\r\n\r\n",
                "\r\nConnection: close\r\n\r\n",
                1,
            );
            assert_eq!(after, [start, &expected].concat(), "{input:?}");
        }
    }
}

#[test]
fn heads_and_lines_have_limits_to_the_byte() {
    let padded = |len: usize, start: &str, end: &str| {
        [start, &"x".repeat(len - start.len() - end.len()), end].concat()
    };
    let head = |len| padded(len, "GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n");
    let line = |len| padded(len, "GET /", "");
    let fields =
        |count| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    for (input, expected) in [
        (head(HEAD_MAX), "404"),
        (head(HEAD_MAX + 1), "431 x"),
        (head(HEAD_MAX + 1)[..HEAD_MAX].to_owned(), "431 x"),
        (head(HEAD_MAX)[..HEAD_MAX - 1].to_owned(), ""),
        (line(HEAD_MAX - 1), ""),
        (line(HEAD_MAX), "414 x"),
        (padded(HEAD_MAX, "GET /", " "), "414 x"),
        (padded(HEAD_MAX, "GET /", " HTTP"), "414 x"),
        (padded(HEAD_MAX, "GET /", " HTTP/1."), "414 x"),
        (padded(HEAD_MAX, "GET /", " HTTP/1.1"), "414 x"),
        (padded(HEAD_MAX, "GET /", " HTTP/1.1\r"), "414 x"),
        (padded(HEAD_MAX, "GET /", " HTTP/2"), "400 x"),
        (padded(HEAD_MAX - 1, "", ""), ""),
        (padded(HEAD_MAX, "", ""), "400 x"),
        (padded(HEAD_MAX - 1, "GET / ", ""), ""),
        (padded(HEAD_MAX, "GET / ", ""), "400 x"),
        (fields(FIELDS_USUAL), "404"),
        (fields(FIELDS_USUAL + 1), "404"),
        (fields(FIELDS_MAX), "404"),
        (fields(FIELDS_MAX + 1), "431 x"),
        (["\r\n".repeat(EMPTY_LINES_MAX), head(HEAD_MAX)].concat(), "404"),
    ] {
        assert_eq!(statuses(input.as_bytes()), expected, "{} bytes", input.len());
        let whole = converse(&[input.as_bytes()]);
        for cut in (0..input.len()).step_by(29).chain([input.len() - 1]) {
            let (first, second) = input.as_bytes().split_at(cut);
            assert_eq!(converse(&[first, second]), whole, "cut at {cut} of {}", input.len());
        }
    }
}

#[test]
fn the_output_holds_what_it_can_and_the_rest_waits() {
    let routes = routes_with(Route::new("/hello", "x".repeat(BODY_COPIED_MAX)));
    let input = HELLO.repeat(100);
    let mut output = output();
    let served = serve_once(&routes, &input, &mut output);
    assert_eq!(served.next, Next::Full);
    assert!(output.bytes.len() > OUTPUT - RESPONSE_MAX);
    assert_eq!(served.consumed, served.responses as usize * HELLO.len());
    assert_eq!(output.bytes.capacity(), OUTPUT, "the output must not have grown");
    let (sent, next) = converse_with(&routes, &mut (), &[input.as_bytes()]);
    assert_eq!((sent.matches("HTTP/1.1 200").count(), next), (100, Next::Head));
}

#[test]
fn no_response_is_longer_than_the_longest() {
    let routes = routes_with(Route::new("/hello", "x".repeat(BODY_COPIED_MAX)));
    for rest in [
        "1\r\nHost: a\r\n",
        "1\r\nHost: a\r\nConnection: close\r\n",
        "0\r\nConnection: keep-alive\r\n",
    ] {
        let request = format!("GET /hello HTTP/1.{rest}\r\n");
        let mut output = output();
        let served = serve_once(&routes, &request, &mut output);
        assert_eq!((served.responses, served.body), (1, UnsentBody::NONE));
        let len = output.bytes.len();
        assert!(len <= RESPONSE_MAX, "{len} bytes");
    }
    let conversations = RULES.iter().flat_map(Rule::conversations);
    for Conversation { sends, statuses, .. } in conversations.filter(|it| it.statuses.len() == 5) {
        let len = converse(&[&sends]).0.len();
        let words = sends.escape_ascii();
        assert!(len <= RESPONSE_MAX, "{len} bytes, {statuses}: {words}");
    }
}

#[test]
fn a_long_body_is_one_for_all_and_comes_behind_its_head() {
    let body = "x".repeat(BODY_COPIED_MAX + 1);
    let routes = routes_with(Route::new("/hello", body.clone()));
    let head = HELLO.replace("GET", "HEAD");
    let close = HELLO.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let input = [HELLO, &head, HELLO, &close].concat();
    let mut output = output();
    let served = serve_once(&routes, &input, &mut output);
    let expected = (1, Next::Full, HELLO.len());
    assert_eq!((served.responses, served.next, served.consumed), expected);
    assert!(output.bytes.ends_with(b"\r\n\r\n") && routes.unsent(served.body) == body.as_bytes());
    let (sent, next) = converse_with(&routes, &mut (), &[input.as_bytes()]);
    assert_eq!(next, Next::Close);
    let lengths = format!("Content-Length: {}\r\n", body.len());
    assert_eq!(sent.matches(&lengths).count(), 4);
    assert_eq!(sent.matches(&body).count(), 3, "none for HEAD");
    assert!(sent.ends_with(&body));
}

#[test]
fn a_client_that_asks_for_the_close_is_known_by_what_it_sends() {
    let close = HELLO.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let post = close.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx");
    let (short, long) = (routes(), routes_with(Route::new("/hello", "x".repeat(5000))));
    for (routes, input, next) in [
        (&short, &*close, Next::CloseRequested),
        (&short, "GET /hello HTTP/1.0\r\n\r\n", Next::CloseRequested),
        // Old clients send a line end behind a body.
        (&short, &post, Next::Close),
        // Two responses may take longer than one to reach it.
        (&short, &[HELLO, &close].concat(), Next::Close),
        // It does not keep to what it says, so it may send more.
        (&short, &[&close, HELLO].concat(), Next::Close),
        (&short, &[&post, "\r\n"].concat(), Next::Close),
        // It takes time to read this, and may send something meanwhile.
        (&long, &close, Next::Close),
        (&long, &close.replace("GET", "HEAD"), Next::CloseRequested),
        (&short, "nonsense\r\n\r\n", Next::Close),
    ] {
        assert_eq!(serve_once(routes, input, &mut output()).next, next, "{input:?}");
    }
}

#[test]
fn a_delayed_response_comes_in_its_order() {
    let routes = routes_with(Route { is_delayed: true, ..Route::new("/hello", "Hello world.") });
    let post = HELLO.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx");
    let other = HELLO.replace("/hello", "/other");
    let input = [&post, &other, HELLO, HELLO].concat();
    let mut output = output();
    let served = serve_once(&routes, &input, &mut output);
    assert!(matches!(served.next, Next::Delayed(_)) && output.bytes.is_empty());
    assert_eq!(served.consumed, post.len());
    let rest = &input.as_bytes()[served.consumed..];
    let served = serve(&routes, &mut (), served.next, rest, &mut output);
    assert!(matches!(served.next, Next::Delayed(_)));
    let left = rest.len() - served.consumed;
    assert_eq!((served.responses, left), (2, HELLO.len()));
    let (sent, next) = converse_with(&routes, &mut (), &[input.as_bytes()]);
    assert_eq!(next, Next::Head);
    let codes = sent.match_indices("HTTP/1.1 ").map(|(at, _)| &sent[at + 9..at + 12]);
    assert_eq!(codes.collect::<Vec<_>>(), ["200", "404", "200", "200"]);
}

#[test]
fn stray_line_ends_begin_nothing() {
    for (rest, begun) in [("", false), ("\r\n\r", false), ("\r\nG", true)] {
        assert_eq!(Head::begins_in(rest.as_bytes()), begun, "{rest:?}");
    }
}

/// A body that is in order, with the fields and the empty line ahead of it.
fn body() -> impl Strategy<Value = String> {
    let chunk = (1..200_usize, prop::sample::select(vec!["", ";a", " ; a = \"b;\\\"\";c=d"]));
    let trailers = prop::sample::select(vec!["", "T: v\r\n", "Content-Length: 9\r\nT:\r\n"]);
    let chunks = (prop::collection::vec(chunk, 0..4), trailers);
    prop_oneof![
        Just("\r\n".to_owned()),
        (0..300_usize).prop_map(|len| format!("Content-Length: {len}\r\n\r\n{}", "\n".repeat(len))),
        chunks.prop_map(|(chunks, trailers)| {
            let mut body = "Transfer-Encoding: chunked\r\n\r\n".to_owned();
            for (len, extension) in chunks {
                write!(body, "{len:x}{extension}\r\n{}\r\n", "\r".repeat(len)).expect("a string");
            }
            body + "0\r\n" + trailers + "\r\n"
        }),
    ]
}

/// A request that is in order and does not end its connection.
fn request() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "BREW"]);
    let target = prop::sample::select(vec![
        "/hello",
        "/",
        "/%68ello?x=/y",
        "http://a.b:80/hello",
        "https://[::1]",
    ]);
    let field = prop::sample::select(vec![
        "X: \u{e9}\t~\r\n",
        "Accept:\r\n",
        "Connection: x, keep-alive\r\n",
        "Expect:\r\n",
    ]);
    let fields = prop::collection::vec(field, 0..4).prop_map(|fields| fields.concat());
    let new =
        (method, target, fields.clone(), body()).prop_map(|(method, target, fields, body)| {
            format!("{method} {target} HTTP/1.1\r\nHost: [::1]:80\r\n{fields}{body}")
        });
    let old = fields.prop_map(|fields| {
        let end = "Connection: Keep-Alive\r\nContent-Length: 3\r\n\r\nGET";
        format!("GET /hello HTTP/1.0\r\n{fields}{end}")
    });
    prop_oneof![9 => new, 1 => old, 1 => Just("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned())]
}

/// Places to cut an input at.
fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..8)
}

fn cut<'a>(input: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = at.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.extend([0, input.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect()
}

/// Damage to an input.
#[derive(Clone, Debug)]
enum Damage {
    Replace(u8),
    Insert(u8),
    Remove,
    /// The same bytes once more, as many as this.
    Repeat(usize),
}

fn damage() -> impl Strategy<Value = (prop::sample::Index, Damage)> {
    let telling = prop::sample::select(&b"\r\n \t:;,=\"0159aAfF/%*\0\x7f\xff"[..]);
    let byte = || prop_oneof![telling.clone(), any::<u8>()];
    let damage = prop_oneof![
        byte().prop_map(Damage::Replace),
        byte().prop_map(Damage::Insert),
        Just(Damage::Remove),
        (1..40_usize).prop_map(Damage::Repeat),
    ];
    (any::<prop::sample::Index>(), damage)
}

fn do_damage(input: &mut Vec<u8>, at: prop::sample::Index, damage: &Damage) {
    let at = at.index(input.len());
    match damage {
        Damage::Replace(byte) => input[at] = *byte,
        Damage::Insert(byte) => input.insert(at, *byte),
        Damage::Remove => drop(input.remove(at)),
        Damage::Repeat(len) => {
            let again = input[at..input.len().min(at + len)].to_vec();
            input.splice(at..at, again);
        }
    }
}

proptest! {
    #[test]
    fn requests_in_any_cut_get_a_response_each(
        requests in prop::collection::vec(request(), 1..6),
        at in cuts(),
    ) {
        let input = requests.concat().into_bytes();
        let (out, next) = converse(&cut(&input, &at));
        let expected: String = requests.iter().map(|request| responses_to(request)).collect();
        prop_assert_eq!(&out, &expected);
        prop_assert_eq!(out.matches("\r\nDate: ").count(), requests.len());
        prop_assert_eq!(next, Next::Head);
    }

    #[test]
    fn damaged_input_has_one_meaning(
        requests in prop::collection::vec(request(), 1..4),
        damages in prop::collection::vec(damage(), 1..4),
        at in cuts(),
    ) {
        let mut input = requests.concat().into_bytes();
        for (at, damage) in damages {
            do_damage(&mut input, at, &damage);
        }
        let (mut output, routes) = (output(), routes());
        let served = serve(&routes, &mut (), Next::Head, &input, &mut output);
        let out = output.bytes;
        prop_assert!(served.consumed <= input.len());
        prop_assert!(!served.next.closes() || served.consumed == input.len());
        // One response for each request line, and one for the input that is none.
        let responses = String::from_utf8_lossy(&out).matches("\r\nDate: ").count();
        prop_assert_eq!(responses, served.responses as usize);
        let lines = String::from_utf8_lossy(&input).matches(" HTTP/1.").count();
        prop_assert!(responses <= lines + 1, "{responses} responses to {lines} requests");
        prop_assert_eq!(converse(&cut(&input, &at)), converse(&[&input]));
    }
}

/// A handler that renders a page, and counts what it is told.
#[derive(Default)]
struct Pages {
    rendered: Vec<String>,
    responses: [usize; Status::COUNT],
}

impl Handler for Pages {
    fn on_response(&mut self, status: Status, _bytes: usize) {
        self.responses[status.index()] += 1;
    }

    fn on_error(&mut self, error: Error, _text: &str, _input: &[u8], _bytes: usize) {
        self.responses[error.status().index()] += 1;
    }

    fn render(&mut self, path: &str, query: &[u8]) -> Page {
        self.rendered.push(format!("{path} {}", query.escape_ascii()));
        Page {
            status: Status::OK,
            fields: TEXT,
            body: format!("page {}", self.rendered.len()).into(),
        }
    }
}

#[test]
fn a_dynamic_page_is_rendered_for_each_request() {
    let (routes, mut pages) = (routes_with(Route::dynamic("/hello")), Pages::default());
    let ask = HELLO.replace("/hello", "/h%65llo?x=1");
    let head = HELLO.replace("GET", "HEAD");
    let input = [&*ask, &head, HELLO].concat();
    let (sent, next) = converse_with(&routes, &mut pages, &[input.as_bytes()]);
    let start = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: {DATE}\r\n\
         Content-Length: 6\r\n\r\n"
    );
    assert_eq!(sent, format!("{start}page 1{start}{start}page 3"));
    assert_eq!((next, pages.responses[Status::OK.index()]), (Next::Head, 3));
    assert_eq!(pages.rendered, ["/hello x=1", "/hello ", "/hello "]);
}

#[test]
fn a_dynamic_page_waits_for_room_and_for_its_budget() {
    let (routes, mut pages) = (routes_with(Route::dynamic("/hello")), Pages::default());
    let mut none = Output { pages: 0, ..output() };
    let served = serve(&routes, &mut pages, Next::Head, HELLO.as_bytes(), &mut none);
    assert_eq!((served.consumed, served.next), (0, Next::Full));
    let mut filled = output();
    filled.bytes.resize(OUTPUT - PAGE_MAX, 0);
    let served = serve(&routes, &mut pages, Next::Head, HELLO.as_bytes(), &mut filled);
    assert_eq!((served.consumed, served.next), (0, Next::Full));
    assert!(pages.rendered.is_empty());
}

#[test]
fn a_dynamic_page_takes_a_small_body_and_no_other() {
    let chunked = |len: usize| format!("{len:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(len));
    let counted = |len: usize| (format!("Content-Length: {len}"), "x".repeat(len));
    let chunks = |len: usize| ("Transfer-Encoding: chunked".to_owned(), chunked(len));
    let empty = ("Transfer-Encoding: chunked".to_owned(), "0\r\n\r\n".to_owned());
    let frame = chunked(0x100).len() - 0x100;
    for ((field, body), is_small) in [
        (counted(1), true),
        (counted(PAGE_REQUEST_BODY_MAX), true),
        (counted(PAGE_REQUEST_BODY_MAX + 1), false),
        (empty, true),
        (chunks(2), true),
        (chunks(PAGE_REQUEST_BODY_MAX - frame), true),
        (chunks(PAGE_REQUEST_BODY_MAX), false),
    ] {
        let head = HELLO.replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"));
        let input = [&*head, &body].concat();
        for cut in [1, head.len(), head.len() + 1, input.len()] {
            let (routes, mut pages) = (routes_with(Route::dynamic("/hello")), Pages::default());
            let (first, second) = input.as_bytes().split_at(cut);
            converse_with(&routes, &mut pages, &[first, second]);
            let count = |status: Status| pages.responses[status.index()];
            let found = (count(Status::OK), count(Status::CONTENT_TOO_LARGE));
            assert_eq!(found, (is_small.into(), (!is_small).into()), "{field} cut at {cut}");
        }
    }
}

#[test]
fn a_client_that_waits_for_the_interim_response_gets_it_once() {
    let field = "Content-Length: 3\r\nExpect: 100-continue";
    let head = HELLO.replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"));
    let interim = |pieces: &[&str]| {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let (sent, next) = converse(&pieces);
        assert_eq!(next, Next::Head, "the connection lives");
        assert!(!sent.contains("close") && sent.ends_with("\r\n\r\nHello world."), "{sent}");
        sent.matches("HTTP/1.1 100 Continue\r\n\r\n").count()
    };
    assert_eq!(interim(&[&head, "a", "bc"]), 1, "it waits");
    assert_eq!(interim(&[HELLO, &head, "abc", HELLO]), 1, "in the order of the responses");
    assert_eq!(interim(&[&head, "abc", &head, "abc"]), 2, "each time");
    assert_eq!(interim(&[&[&*head, "abc"].concat()]), 0, "it does not wait");
    assert_eq!(interim(&[&head.replace(": 3", ": 0")]), 0, "there is no body");
    let old = head.replace("1.1", "1.0\r\nConnection: keep-alive");
    assert_eq!(interim(&[&old, "abc"]), 0, "HTTP/1.0 does not know it");
}

#[test]
fn the_error_response_to_a_target_names_the_byte() {
    for (target, says) in [
        ("/hello?a#b", "a request target holds no # here; it is written %23"),
        ("/[x]", "a request target holds no [ here; it is written %5B"),
        ("/hello?a b", "a request target holds no blank; it is written %20"),
        ("/\u{fc}", "a request target holds no byte 0xc3 here; it is written %C3"),
        ("/a\u{7f}", "a request target holds no byte 0x7f here; it is written %7F"),
        ("/a\u{1}", "a request target holds no byte 0x01 here; it is written %01"),
        ("/%zz", "in a request target, two hexadecimal digits follow a percent sign"),
        ("hello", "not a request target that goes with the method"),
    ] {
        let sent = responses_to(&HELLO.replace("/hello", target));
        assert!(sent.starts_with("HTTP/1.1 400 "), "{target:?}");
        assert!(sent.ends_with(&format!("\r\n\r\n{says}\n")), "{target:?}: {sent}");
    }
}
