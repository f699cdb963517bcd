//! The core as a whole: bytes in, bytes out, whole or cut into pieces.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::limits::{
    EMPTY_LINES_MAX, FIELDS_MAX, HEAD_MAX, INBOX, OUTBOX, REQUEST_MIN, RESPONSE_MAX,
};

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn site() -> Site {
    let mut site = Site::new(
        "main",
        &[Route {
            path: "/hello",
            body: "Hello world.".into(),
        }],
    );
    site.stamp(784_111_777);
    site
}

/// Serves the pieces one after the other, as a connection does: what is not consumed comes
/// again ahead of the next piece. Returns all that was sent, and what would come next.
fn converse(pieces: &[&[u8]], last: bool) -> (String, Next) {
    let (site, mut carry, mut next, mut out) = (site(), Vec::new(), Next::Head, Vec::new());
    for piece in pieces {
        let unread = match next {
            Next::Head => None,
            Next::Body(unread) => Some(unread),
            Next::Close => break,
        };
        carry.extend_from_slice(piece);
        let served = serve(&site, unread, &carry, last, &mut out);
        carry.drain(..served.consumed);
        next = served.next;
    }
    (String::from_utf8(out).expect("answers are ASCII"), next)
}

fn replies(input: &str) -> String {
    converse(&[input.as_bytes()], false).0
}

/// The status codes of the answers to `input`, and an `x` if the connection ends with them.
fn statuses(input: &str) -> String {
    let (out, next) = converse(&[input.as_bytes()], false);
    // Every answer has one date, and nothing like a status line between that and its own.
    let heads = out.match_indices("\r\nDate: ").map(|(at, _)| &out[..at]);
    let codes = heads.filter_map(|head| head.rfind("HTTP/1.").map(|at| &head[at + 9..at + 12]));
    let end = (next == Next::Close).then_some("x");
    codes.chain(end).collect::<Vec<_>>().join(" ")
}

#[test]
fn answers_are_whole_to_the_byte() {
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
    for (request, reply) in [
        (HELLO, &ok),
        (
            "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            &closing,
        ),
        (
            "GET /hello HTTP/1.0\r\n\r\n",
            &closing.replace("HTTP/1.1", "HTTP/1.0"),
        ),
        (
            "GET /hello HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
            &old.replace("12\r\n", "12\r\nConnection: keep-alive\r\n"),
        ),
        (
            "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n",
            &ok.replace("Hello world.", ""),
        ),
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", &not_found),
        (
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            &not_found.replace("404 page not found\n", ""),
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            &format!("HTTP/1.1 200 OK\r\nDate: {DATE}\r\nContent-Length: 0\r\n\r\n"),
        ),
        (
            "GET /hello HTTP/1.1\r\n\r\n",
            &format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 X-Content-Type-Options: nosniff\r\nDate: {DATE}\r\nContent-Length: 38\r\n\
                 Connection: close\r\n\r\nHTTP/1.1 wants exactly one Host field\n"
            ),
        ),
    ] {
        assert_eq!(&replies(request), reply, "{request:?}");
    }
}

#[test]
fn refusals_of_head_requests_have_no_body_either() {
    let body = "POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n";
    for (request, ends_with) in [
        ("HEAD /hello HTTP/1.1\r\n\r\n", "\r\n\r\n"),
        ("\r\nHEAD /hello HTTP/3.0\r\n\r\n", "\r\n\r\n"),
        (&body.replace("POST", "HEAD"), "\r\n\r\n"),
        (body, "\r\n\r\nmalformed chunked body\n"),
    ] {
        assert!(replies(request).ends_with(ends_with), "{request:?}");
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
        ("%2Fhello", "404"),
        ("/h%zzello", "404"),
        ("/hello%", "404"),
        ("/hello/", "404"),
        ("/hell", "404"),
        ("/hello/x", "404"),
        ("//hello", "404"),
        ("/a/../hello", "404"),
        ("/HELLO", "404"),
        ("/", "404"),
        ("*", "404"),
        ("hello", "404"),
        ("http://example.org", "404"),
        ("/x?http://y/hello", "404"),
        ("/ready", "404"),
    ] {
        for method in ["GET", "HEAD", "POST", "BREW", "!#$%&'*+-.^_`|~0aZ"] {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(statuses(&request), status, "{request:?}");
        }
    }
}

/// Conversations, and the statuses that they come to; an `x` is the connection's end.
const CONVERSATIONS: &[(&str, &str)] = &[
    ("", ""),
    (HELLO, "200"),
    ("GET /hello HTTP/1.1\r\nHost: a\r\n\r", ""),
    (
        "GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\nGE",
        "200 404",
    ),
    // Who wants to go on (RFC 9112, section 9.3).
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "404 x",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nconnection: foo ,CLOSE\r\n\r\n",
        "404 x",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
        "404 x",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: closed, not-close\r\n\r\n",
        "404",
    ),
    ("GET / HTTP/1.0\r\n\r\n", "404 x"),
    (
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "404 404 x",
    ),
    (
        "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
        "404 x",
    ),
    // Empty lines between requests (section 2.2).
    (
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "404 404",
    ),
    ("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 x"),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 x"),
    ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 x"),
    // Line ends (section 2.2).
    ("GET / HTTP/1.1\nHost: a\r\n\r\n", "400 x"),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", "400 x"),
    ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "400 x"),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", "400 x"),
    ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "400 x"),
    ("GET / HTTP/1.0\n\r\n", "400 x"),
    ("GET / HTTP/1.0\r\n\n", "400 x"),
    // Request lines (section 3) and versions (section 2.5).
    ("garbage\r\n\r\n", "400 x"),
    ("GET /\r\n\r\n", "400 x"),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400 x"),
    ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "400 x"),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 x"),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400 x"),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", "400 x"),
    ("GET / HTTP/1.11\r\nHost: a\r\n\r\n", "400 x"),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505 x"),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505 x"),
    ("GET / HTTP/0.9\r\n\r\n", "505 x"),
    ("GET / HTTP/11\r\nHost: a\r\n\r\n", "400 x"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 x"),
    ("\x16\x03\x01\x02", "400 x"),
    // Fields (section 5).
    ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", "400 x"),
    ("GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", "400 x"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", "400 x"),
    ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "400 x"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", "400 x"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{fc}\r\n\r\n", "404"),
    // Hosts (section 3.2).
    ("GET / HTTP/1.1\r\n\r\n", "400 x"),
    ("GET / HTTP/1.1\r\nHost: a\r\nHOST: a\r\n\r\n", "400 x"),
    ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "400 x"),
    ("G / HTTP/1.1\r\nHost:\r\n\r\n", "404"),
    // Bodies that are counted (section 6.2).
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nGETGET / HTTP/1.0\r\n\r\n",
        "404 404 x",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "404 404 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET",
        "",
    ),
    ("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nGET", "404 x"),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\nx",
        "",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\nx",
        "400 x",
    ),
    // Bodies in chunks (section 7.1), and both ways at once (section 6.3).
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
         3\r\nabc\r\n0010;x=\"y\"\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "404 404 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r",
        "",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\n\
         Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
        "400 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "501 x",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "501 x",
    ),
    (
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "400 x",
    ),
    // Expectations (RFC 9110, section 10.1.1).
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n\
         GET / HTTP/1.0\r\n\r\n",
        "404 x",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "404",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n",
        "417 x",
    ),
    (
        "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx",
        "404 x",
    ),
];

#[test]
fn conversations_come_to_their_statuses() {
    for (input, expected) in CONVERSATIONS {
        assert_eq!(&statuses(input), expected, "{input:?}");
    }
}

#[test]
fn where_the_input_is_cut_changes_nothing() {
    for (input, _) in CONVERSATIONS {
        let whole = converse(&[input.as_bytes()], false);
        for (first, rest) in (0..=input.len()).map(|cut| input.as_bytes().split_at(cut)) {
            for (second, third) in (0..=rest.len()).map(|cut| rest.split_at(cut)) {
                let pieces = [first, second, third];
                assert_eq!(converse(&pieces, false), whole, "{input:?} as {pieces:?}");
            }
        }
    }
}

#[test]
fn the_last_answer_announces_the_close() {
    let twice = HELLO.repeat(2);
    let post = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for (input, closes) in [
        (HELLO, "close"),
        (&twice, "keep close"),
        (post, "close"),
        (&[post, HELLO].concat(), "keep close"),
        (&[HELLO, "\r\n"].concat(), "close"),
        // A request that has begun is still to be answered, so there will be a later last.
        (&[HELLO, "GE"].concat(), "keep"),
        (&[HELLO, &post[..post.len() - 1]].concat(), "keep"),
    ] {
        let (out, next) = converse(&[input.as_bytes()], true);
        let answers = out.split_terminator("Hello world.");
        let said = answers.map(|head| {
            if head.contains("n: close\r\n") {
                "close"
            } else {
                "keep"
            }
        });
        assert_eq!(said.collect::<Vec<_>>().join(" "), closes, "{input:?}");
        assert_eq!(next == Next::Close, closes.ends_with("close"), "{input:?}");
    }
}

#[test]
fn heads_and_lines_have_limits_to_the_byte() {
    let padded = |len: usize, start: &str, end: &str| {
        [start, &"x".repeat(len - start.len() - end.len()), end].concat()
    };
    let head = |len| padded(len, "GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n");
    let line = |len| padded(len, "GET /", "");
    let fields = |count| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count - 1)
        )
    };
    for (input, expected) in [
        (head(HEAD_MAX), "404"),
        (head(HEAD_MAX + 1), "431 x"),
        (head(HEAD_MAX + 1)[..HEAD_MAX].to_owned(), "431 x"),
        (head(HEAD_MAX)[..HEAD_MAX - 1].to_owned(), ""),
        (line(HEAD_MAX - 1), ""),
        (line(HEAD_MAX), "414 x"),
        (fields(FIELDS_MAX), "404"),
        (fields(FIELDS_MAX + 1), "431 x"),
        (
            ["\r\n".repeat(EMPTY_LINES_MAX), head(HEAD_MAX)].concat(),
            "404",
        ),
    ] {
        assert_eq!(statuses(&input), expected, "{} bytes", input.len());
        let whole = converse(&[input.as_bytes()], false);
        for cut in (0..input.len()).step_by(7).chain([input.len() - 1]) {
            let (first, second) = input.as_bytes().split_at(cut);
            assert_eq!(
                converse(&[first, second], false),
                whole,
                "cut at {cut} of {}",
                input.len()
            );
        }
    }
}

#[test]
fn the_outbox_holds_the_answers_to_a_full_inbox() {
    let shortest = "G / HTTP/1.1\r\nHost:\r\n\r\n";
    assert!(shortest.len() >= REQUEST_MIN);
    let mut input = shortest.repeat(INBOX / shortest.len());
    input.replace_range(input.len() - shortest.len().., "POST / HTTP/1.1\r\n\r\n");
    let mut out = Vec::with_capacity(OUTBOX);
    let served = serve(&site(), None, input.as_bytes(), false, &mut out);
    assert_eq!((served.answered, served.next), (712, Next::Close));
    assert_eq!(out.capacity(), OUTBOX, "the outbox must not have grown");
}

#[test]
fn no_answer_is_longer_than_the_longest() {
    let version = "v".repeat(crate::limits::VERSION_MAX);
    let site = Site::new(
        "diag",
        &[Route {
            path: "/ready",
            body: format!("Version: {version}"),
        }],
    );
    for target in ["/ready", "/x"] {
        for rest in [
            "1\r\nHost: a\r\n",
            "1\r\nHost: a\r\nConnection: close\r\n",
            "0\r\nConnection: keep-alive\r\n",
        ] {
            let mut out = Vec::new();
            let request = format!("GET {target} HTTP/1.{rest}\r\n");
            assert_eq!(
                serve(&site, None, request.as_bytes(), false, &mut out).answered,
                1
            );
            assert!(
                out.len() <= RESPONSE_MAX,
                "{} bytes for {request:?}",
                out.len()
            );
        }
    }
    for (input, statuses) in CONVERSATIONS
        .iter()
        .filter(|(_, statuses)| statuses.len() == 5)
    {
        assert!(
            replies(input).len() <= RESPONSE_MAX,
            "{statuses} for {input:?}"
        );
    }
}

#[test]
fn stray_line_ends_begin_nothing() {
    for (rest, begun) in [("", false), ("\r\n\r", false), ("\r\nG", true)] {
        assert_eq!(Head::begins_in(rest.as_bytes()), begun, "{rest:?}");
    }
}

/// A request that is in order, with or without a body.
fn request() -> impl Strategy<Value = String> {
    let chunks = prop::collection::vec(1..200_usize, 0..4);
    let body = prop_oneof![
        Just("\r\n".to_owned()),
        (0..300_usize).prop_map(|len| format!("Content-Length: {len}\r\n\r\n{}", "\n".repeat(len))),
        chunks.prop_map(|chunks| {
            let mut body = "Transfer-Encoding: chunked\r\n\r\n".to_owned();
            for len in chunks {
                write!(body, "{len:x}\r\n{}\r\n", "\r".repeat(len)).expect("a string");
            }
            body + "0\r\n\r\n"
        }),
    ];
    (prop::sample::select(vec!["/hello", "/", "/%68ello"]), body)
        .prop_map(|(target, body)| format!("POST {target} HTTP/1.1\r\nHost: a\r\n{body}"))
}

proptest! {
    #[test]
    fn requests_in_any_cut_get_an_answer_each(
        requests in prop::collection::vec(request(), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let input = requests.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
        let (out, next) = converse(&pieces, false);
        prop_assert_eq!(&out, &requests.iter().map(|request| replies(request)).collect::<String>());
        prop_assert_eq!(out.matches("HTTP/1.1 ").count(), requests.len());
        prop_assert_eq!(next, Next::Head);
    }

    #[test]
    fn bytes_of_any_kind_are_survived(
        requests in prop::collection::vec(request(), 1..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut input = requests.concat().into_bytes();
        for (at, byte) in changes {
            let at = at.index(input.len());
            input[at] = byte;
        }
        let mut out = Vec::new();
        let served = serve(&site(), None, &input, false, &mut out);
        prop_assert!(served.consumed <= input.len());
        prop_assert!(served.next != Next::Close || served.consumed == input.len());
        let answers = String::from_utf8_lossy(&out).matches("\r\nDate: ").count();
        prop_assert_eq!(answers as u64, served.answered);
    }
}
