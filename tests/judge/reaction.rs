//! What the bench allows a server to do in a conversation, and what it calls a fault.

use crate::judge::client::Lost;
use crate::judge::reaction::{Fault, Reaction, allowed, fault};
use crate::judge::table::{Conversation, Level};

fn conversation(sends: &str, outcomes: &'static str) -> Conversation {
    let mut outcomes = outcomes.split('|');
    let statuses = outcomes.next().expect("ours");
    let (level, sends) = (Level::Must, sends.as_bytes().to_vec());
    Conversation { level, sends, statuses, others: outcomes.collect() }
}

/// A reaction in the words of its `Display`; a plus says that one more request was served, and
/// a star that there was a 100.
fn reaction(text: &str) -> Reaction {
    let (statuses, end) = text.split_once(", ").expect("an end");
    let end = [Lost::Silent, Lost::Closed, Lost::Reset, Lost::NotHttp].into_iter().find(|it| {
        let shown = Reaction { end: *it, ..reaction_of(&[]) }.to_string();
        shown.ends_with(&format!(", {}", end.trim_end_matches(['+', '*'])))
    });
    let statuses = statuses.split(' ').filter_map(|status| status.parse().ok());
    Reaction {
        statuses: statuses.collect(),
        end: end.expect("an end"),
        goes_on: text.ends_with('+'),
        interim: usize::from(text.ends_with('*')),
        bytes: Vec::new(),
    }
}

fn reaction_of(statuses: &[u16]) -> Reaction {
    let (statuses, end) = (statuses.to_vec(), Lost::Silent);
    Reaction { statuses, interim: 0, end, goes_on: false, bytes: Vec::new() }
}

#[test]
fn a_desync_is_told_apart_from_a_wrong_status() {
    let desync = |what| Some(Fault::Desync(what));
    for (sends, outcomes, came, expected) in [
        ("GET /", "404", "200, open", None),
        ("GET /", "404", "405, closed", None),
        ("GET /", "404", "400, open", Some(Fault::Status)),
        ("GET /", "404", "502, open", Some(Fault::Status)),
        ("GET /", "404", "nothing, open", Some(Fault::Silent)),
        ("GET /", "404", "nothing, closed", Some(Fault::Status)),
        ("GET /", "404", "nothing, not HTTP/1", Some(Fault::Status)),
        ("GET /", "404", "404 404, open", desync("more responses than requests")),
        ("GET /", "404 x", "404, closed", None),
        ("GET /", "404 x", "404, reset", None),
        ("GET /", "404 x", "404, open", Some(Fault::Open)),
        ("GET /", "404 404 x", "200 200, closed", None),
        ("GET /", "404 404 x", "200, closed", None),
        ("GET /", "404 404 x", "200, open", Some(Fault::Silent)),
        ("", "404 404", "200 400, closed", desync("a request behind another one is misread")),
        ("GET /", "400 x", "431, open", None),
        ("GET /", "400 x", "505, closed", None),
        ("Content-Length: x", "400 x", "400, closed", None),
        ("Content-Length: x", "400 x", "400, open", Some(Fault::Open)),
        ("GET /", "400 x", "301, closed", Some(Fault::Status)),
        ("GET /", "400 x", "421, closed", Some(Fault::Status)),
        ("POST /", "404", "415, open", None),
        ("BREW /", "404", "501, closed", None),
        ("GET /", "404", "500, closed", Some(Fault::Status)),
        ("CONNECT a:80", "501 x|404 404 x|400 404 x", "400 200, closed", None),
        ("CONNECT a:80", "501 x|404 404 x", "405, closed", None),
        ("CONNECT a:80", "501 x|404 404 x", "200, open", Some(Fault::Status)),
        ("Connection: close", "404 x", "404 404, closed", Some(Fault::ServedAfterClose)),
        ("GET /", "400 x", "nothing, closed", None),
        ("GET /", "400 x", "200, closed", Some(Fault::Status)),
        ("GET /", "400 x", "404, open+", Some(Fault::Status)),
        ("Content-Length: x", "400 x", "404, closed", Some(Fault::Status)),
        (
            "Content-Length: x",
            "400 x",
            "404, open+",
            desync("a request whose end is in doubt is served, and one behind it"),
        ),
        ("Content-Length: 1", "400 x|404 x", "404, closed", None),
        ("GE", "", "nothing, open", None),
        ("GE", "", "400, closed", Some(Fault::Status)),
        ("HTTP/1.1 Expect: 100-continue", "|404", "nothing, open*", None),
        ("HTTP/1.1 Expect: 100-continue", "|404", "nothing, open", Some(Fault::Silent)),
        ("HTTP/1.0 Expect: 100-continue", "|404", "nothing, open", None),
        ("GE", "", "nothing, closed", Some(Fault::Closed)),
        ("GE", "", "200, open", desync("a response to a head that is not whole")),
        ("PRI", "400 x||x|?", "nothing, not HTTP/1", None),
        ("PRI", "400 x||x", "nothing, closed", None),
        ("PRI", "400 x|", "nothing, open", None),
        ("HTTP/1.1 Expect: 100-continue", "404", "404, open*", None),
        ("HTTP/1.0 Expect: 100-continue", "404", "404, open*", Some(Fault::Interim)),
        ("HTTP/1.1 Expect: 100-continue\nGET / HTTP/1.0", "404", "404, open*", None),
    ] {
        let fault = fault(&conversation(sends, outcomes), &reaction(came));
        assert_eq!(fault, expected, "{sends:?} may come to {outcomes:?}, came to {came}");
    }
}

#[test]
fn what_is_allowed_is_said_in_words() {
    for (outcomes, words) in [
        ("404 x", "any response to a valid request, then the close"),
        ("400 x|", "an error or a close; or to wait for more"),
        ("200 404", "any response to a valid request, then any response to a valid request"),
        ("|x|?", "to wait for more; or a close; or another protocol"),
    ] {
        assert_eq!(allowed(&conversation("", outcomes)), words, "{outcomes:?}");
    }
}

#[test]
fn where_the_input_is_cut_must_not_decide_what_is_understood() {
    for (whole, cut, contradicts) in [
        ("404 404, closed", "404 404, closed", false),
        ("404 404, closed", "404, closed", false),
        ("404 404, closed", "404 400, closed", true),
        ("404, open", "400, closed", true),
        ("400, closed", "nothing, reset", false),
        ("404, open", "nothing, closed", true),
    ] {
        assert_eq!(reaction(whole).contradicts(&reaction(cut)), contradicts, "{whole}; {cut}");
    }
}
