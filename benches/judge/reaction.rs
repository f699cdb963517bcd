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
    /// A request behind one that asks for the close (RFC 9112, 9.6).
    ServedAfterClose,
    /// The connection is not made.
    NotConnected(Lost),
    Status,
    /// The connection stays open although it has to end.
    Open,
    Silent,
    /// The connection ends although the server has to wait for more.
    Closed,
    /// A 1xx in HTTP/1.0.
    Interim,
    /// The reaction to a head depends on where the input is cut.
    Cut,
    Died(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Fault::Desync(what) => write!(f, "desync: {what}"),
            Fault::ServedAfterClose => f.write_str("a request behind the close is served"),
            Fault::NotConnected(lost) => lost.fmt(f),
            Fault::Status => f.write_str("wrong status"),
            Fault::Open => f.write_str("the connection stays open"),
            Fault::Closed => f.write_str("the connection is closed"),
            Fault::Silent => f.write_str("no response"),
            Fault::Interim => f.write_str("an interim response to HTTP/1.0"),
            Fault::Cut => f.write_str("it depends on where the input is cut"),
            Fault::Died(how) => f.write_str(how),
        }
    }
}

impl Reaction {
    fn is_closed(&self) -> bool {
        matches!(self.end, Lost::Closed | Lost::Reset)
    }

    /// Which requests were understood. A reset may destroy the response to a rejected one.
    fn understood(&self) -> Vec<bool> {
        let all: Vec<bool> = self.statuses.iter().map(|status| is_understood(*status)).collect();
        if all.is_empty() && self.is_closed() { vec![false] } else { all }
    }

    /// Whether another reaction to the same bytes understands a request that this one does not, or
    /// the other way round. Either may end the connection sooner.
    pub(crate) fn contradicts(&self, other: &Reaction) -> bool {
        self.understood().into_iter().zip(other.understood()).any(|(one, other)| one != other)
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
            Lost::TooMuch => "too much",
        };
        let statuses = if statuses.is_empty() { "nothing".to_owned() } else { statuses.join(" ") };
        write!(f, "{statuses}, {end}")
    }
}

/// Whether a server has understood a request, whatever it thinks of it.
pub(crate) fn is_understood(status: u16) -> bool {
    // What does not depend on the syntax of the head, as an unknown method, another host or the
    // kind of the content (RFC 9110, 15.5 and 15.6).
    matches!(status, 200..=399 | 401..=407 | 409..=412 | 415 | 416 | 421..=429 | 451 | 501 | 503)
}

/// Whether a server has rejected the request as it has to, where it has to. A target that is not
/// valid may be redirected to one that is (RFC 9112, 3).
fn is_rejection(status: u16, level: Level) -> bool {
    matches!(status, 400 | 411 | 413 | 414 | 417 | 431 | 501 | 505)
        || level != Level::Must && matches!(status, 301 | 402 | 407..=409 | 411..=499)
}

/// The first thing that is wrong, if no allowed outcome fits.
pub(crate) fn fault(conversation: &Conversation, reaction: &Reaction) -> Option<Fault> {
    let Conversation { level, sends, statuses, others } = conversation;
    let mut outcomes = [*statuses].into_iter().chain(others.iter().copied());
    if outcomes.any(|outcome| fits(outcome, conversation, reaction)) {
        return None;
    }
    let words: Vec<&str> = statuses.split(' ').filter(|word| word.len() > 1).collect();
    let is_valid = |at: usize| matches!(words.get(at), Some(&"200" | &"404"));
    let came = &reaction.statuses;
    let understood = |at: usize| came.get(at).is_some_and(|status| is_understood(*status));
    let in_doubt = *level == Level::Must && has_body(sends) && !is_valid(0) && understood(0);
    Some(if reaction.interim > 0 && is_old(sends) {
        Fault::Interim
    } else if words.is_empty() {
        match came[..] {
            [] if reaction.is_closed() => Fault::Closed,
            [status] if is_understood(status) => {
                Fault::Desync("a response to a head that is not whole")
            }
            [] => Fault::Silent,
            _ => Fault::Status,
        }
    } else if came.len() > words.len() && says(sends, "connection: close") {
        Fault::ServedAfterClose
    } else if came.len() > words.len() {
        Fault::Desync("more responses than requests")
    } else if (1..came.len()).any(|at| is_valid(at) && !understood(at)) {
        Fault::Desync("a request behind another one is misread")
    } else if in_doubt && reaction.goes_on {
        Fault::Desync("a request whose end is in doubt is served, and one behind it")
    } else if came.len() < words.len() && reaction.end == Lost::Silent {
        Fault::Silent
    } else if (0..came.len()).all(|at| is_valid(at) == understood(at))
        && reaction.end == Lost::Silent
    {
        Fault::Open
    } else {
        Fault::Status
    })
}

/// Whether the head has a field that tells how long the body is, or one that looks like it.
pub(crate) fn has_body(sends: &[u8]) -> bool {
    says(sends, "content-length") || says(sends, "transfer-encoding")
}

/// Whether a conversation holds these words, in any case.
fn says(sends: &[u8], words: &str) -> bool {
    String::from_utf8_lossy(sends).to_ascii_lowercase().contains(words)
}

/// Whether the first request is HTTP/1.0.
fn is_old(sends: &[u8]) -> bool {
    sends.split(|byte| *byte == b'\n').next().is_some_and(|line| says(line, "http/1.0"))
}

/// Whether a reaction is one of the allowed outcomes.
fn fits(outcome: &str, conversation: &Conversation, reaction: &Reaction) -> bool {
    let Conversation { level, sends, .. } = conversation;
    if reaction.interim > 0 && is_old(sends) {
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
        // The client holds the body back until the server says that it wants it.
        let is_continued = reaction.interim > 0 || !says(sends, "100-continue");
        return reaction.is_closed() == must_close && (is_continued || must_close || is_old(sends));
    }
    for (at, word) in words.iter().enumerate() {
        let is_tunnel = at == 0 && sends.starts_with(b"CONNECT ") && came.first() == Some(&200);
        let fits = match (*word, came.get(at)) {
            ("200" | "404", Some(status)) => is_understood(*status) && !is_tunnel,
            // A server may end a connection at any time (RFC 9112, 9.5).
            ("200" | "404", None) => return at > 0 && reaction.is_closed(),
            (_, Some(status)) => is_rejection(*status, *level),
            (_, None) => reaction.is_closed(),
        };
        if !fits {
            return false;
        }
    }
    // Behind a rejection the server may stay, unless the body is in doubt (RFC 9112, 6.3).
    let is_rejected = !matches!(words.last(), Some(&"200" | &"404"));
    let may_stay = is_rejected && !(*level == Level::Must && has_body(sends));
    !must_close || may_stay || reaction.is_closed()
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
