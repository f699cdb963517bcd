//! What a server did in one conversation, and whether that is allowed: a function of the
//! conversation and of what came, without a socket.

use std::fmt;

use super::client::Lost;
use super::table::{Conversation, Level};

/// What a server did in one conversation.
#[derive(Clone, Debug)]
pub(crate) struct Reaction {
    pub statuses: Vec<u16>,
    pub interim: usize,
    /// How it ended; `Silent` is an open connection.
    pub end: Lost,
    /// Whether one more request was served on a connection that should have ended.
    pub goes_on: bool,
    /// The first bytes of what came.
    pub bytes: Vec<u8>,
}

/// What is wrong with a reaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The server has lost track of where requests begin and end.
    Desync(&'static str),
    Status,
    /// The connection stays open although it has to end.
    Open,
    Silent,
    /// The connection ends although the server has to wait for more.
    Closed,
    /// A 100 where none may come.
    Interim,
    /// The reaction to a head depends on where the input is cut.
    Cut,
    Died(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Fault::Desync(what) => write!(f, "desync: {what}"),
            Fault::Status => f.write_str("wrong status"),
            Fault::Open => f.write_str("the connection stays open"),
            Fault::Closed => f.write_str("the connection is closed"),
            Fault::Silent => f.write_str("no response"),
            Fault::Interim => f.write_str("an interim response that the client cannot expect"),
            Fault::Cut => f.write_str("it depends on where the input is cut"),
            Fault::Died(how) => f.write_str(how),
        }
    }
}

impl Reaction {
    fn is_closed(&self) -> bool {
        matches!(self.end, Lost::Closed | Lost::Reset)
    }

    /// What does not depend on where the input is cut: which requests were understood. A reset may
    /// destroy the response to a rejected request.
    pub(crate) fn kind(&self) -> Vec<bool> {
        let kind: Vec<bool> = self.statuses.iter().map(|status| is_understood(*status)).collect();
        if kind.is_empty() && self.is_closed() { vec![false] } else { kind }
    }
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let statuses: Vec<String> = self.statuses.iter().map(u16::to_string).collect();
        let end = match self.end {
            Lost::Silent => "open",
            Lost::Closed => "closed",
            Lost::Reset => "reset",
            Lost::Refused => "refused",
            Lost::NotHttp => "not HTTP/1",
        };
        let statuses = if statuses.is_empty() { "nothing".to_owned() } else { statuses.join(" ") };
        write!(f, "{statuses}, {end}")
    }
}

/// Whether a server has understood a request, whatever it thinks of it.
fn is_understood(status: u16) -> bool {
    // A method may be unknown, a length be asked for, and another host meant (RFC 9110, 15.6.2,
    // 15.5.12 and 15.5.20).
    matches!(status, 200..=399 | 401 | 403..=406 | 410 | 411 | 421 | 501)
}

/// Whether a server has rejected the request. A target that is not valid may be redirected to one
/// that is (RFC 9112, 3).
fn is_rejection(status: u16) -> bool {
    matches!(status, 301 | 400 | 402 | 407..=409 | 411..=499 | 501 | 505)
}

/// The first thing that is wrong, if no allowed outcome fits.
pub(crate) fn fault(conversation: &Conversation, reaction: &Reaction) -> Option<Fault> {
    let Conversation { level, sends, statuses, others } = conversation;
    let goes_on = reaction.goes_on;
    let mut outcomes = [*statuses].into_iter().chain(others.iter().copied());
    if outcomes.any(|outcome| fits(outcome, sends, reaction)) {
        return None;
    }
    let words: Vec<&str> = statuses.split(' ').filter(|word| word.len() > 1).collect();
    let is_valid = |at: usize| matches!(words.get(at), Some(&"200" | &"404"));
    let came = &reaction.statuses;
    let understood = |at: usize| came.get(at).is_some_and(|status| is_understood(*status));
    Some(if reaction.interim > 0 && !may_continue(sends) {
        Fault::Interim
    } else if came.len() > words.len() && !words.is_empty() {
        Fault::Desync("more responses than requests")
    } else if words.is_empty() && understood(0) {
        Fault::Desync("a response to a head that is not whole")
    } else if (1..came.len()).any(|at| is_valid(at) && !understood(at)) {
        Fault::Desync("a request behind another one is misread")
    } else if !is_valid(0) && understood(0) && has_body(sends) && *level == Level::Must && goes_on {
        Fault::Desync("a request whose end is in doubt is served, and one behind it")
    } else if came.len() < words.len() && reaction.end == Lost::Silent {
        Fault::Silent
    } else if words.is_empty() && came.is_empty() && reaction.is_closed() {
        Fault::Closed
    } else if (0..words.len()).all(|at| is_valid(at) && understood(at)) {
        Fault::Open
    } else {
        Fault::Status
    })
}

/// Whether the head has a field that tells how long the body is, or one that looks like it.
pub(crate) fn has_body(sends: &[u8]) -> bool {
    let text = String::from_utf8_lossy(sends).to_ascii_lowercase();
    text.contains("content-length") || text.contains("transfer-encoding")
}

/// Whether the client can expect an interim response (RFC 9110, 10.1.1).
fn may_continue(sends: &[u8]) -> bool {
    let text = String::from_utf8_lossy(sends).to_ascii_lowercase();
    text.contains("expect: 100-continue") && text.contains("http/1.1")
}

/// Whether a reaction is one of the allowed outcomes.
fn fits(outcome: &str, sends: &[u8], reaction: &Reaction) -> bool {
    if reaction.interim > 0 && !may_continue(sends) {
        return false;
    }
    let (statuses, must_close) = match outcome {
        "?" => return reaction.end == Lost::NotHttp,
        "x" => ("", true),
        _ => outcome.strip_suffix(" x").map_or((outcome, false), |statuses| (statuses, true)),
    };
    let words: Vec<&str> = statuses.split(' ').filter(|word| !word.is_empty()).collect();
    let came = &reaction.statuses;
    if came.len() > words.len() || reaction.end == Lost::NotHttp {
        return false;
    }
    if words.is_empty() {
        return reaction.is_closed() == must_close;
    }
    for (at, word) in words.iter().enumerate() {
        let fits = match (*word, came.get(at)) {
            ("200" | "404", Some(status)) => is_understood(*status),
            // A server may end a connection at any time (RFC 9112, 9.5).
            ("200" | "404", None) => return at > 0 && reaction.is_closed(),
            (_, Some(status)) => is_rejection(*status),
            (_, None) => reaction.is_closed(),
        };
        if !fits {
            return false;
        }
    }
    // Whether a rejection ends the connection is left to the server, if nothing follows.
    let is_rejected = !matches!(words.last(), Some(&"200" | &"404"));
    !must_close || is_rejected || reaction.is_closed()
}

/// What may come of a conversation, in words.
pub(crate) fn allowed(conversation: &Conversation) -> String {
    let outcomes = [conversation.statuses].into_iter().chain(conversation.others.iter().copied());
    let words = outcomes.map(|outcome| match outcome {
        "" => "to wait for more".to_owned(),
        "x" => "a close".to_owned(),
        "?" => "another protocol".to_owned(),
        _ => {
            let words = outcome.split(' ').map(|word| match word {
                "x" => "the close",
                "200" | "404" => "any response to a valid request",
                _ => "an error or a close",
            });
            let mut words: Vec<&str> = words.collect();
            // An error may end the connection or not.
            if words.len() > 1 && words[words.len() - 2].starts_with("an error") {
                words.pop();
            }
            words.join(", then ")
        }
    });
    words.collect::<Vec<_>>().join("; or ")
}
