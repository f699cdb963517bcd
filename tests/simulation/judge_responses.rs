//! What has to be true of the bytes that are written to a connection: each request gets its
//! response, once, in order and byte for byte, and the last one alone announces the close.

use std::rc::Rc;

use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::observer::Traffic;
use onepoll::http::{DATE_LEN, imf_fixdate};
use onepoll::limits;

use super::counts::Effect;
use super::link::Sent;
use super::requests::{CLOSE, CONTINUE, Response, contains, find};
use super::time::length;
use super::world::World;

/// What has been written to a connection.
#[derive(Debug, Default)]
pub struct Output {
    /// Responses that have been written to their last byte.
    pub whole: usize,
    /// The beginning of a head.
    head: Vec<u8>,
    /// How many bytes of the body are written, and are to be, once its head is.
    body: Option<(usize, usize)>,
    /// Where each response ends, and whether it announces the close.
    pub ends: Vec<(usize, bool)>,
    /// Where each `100 Continue` ends.
    pub continues: Vec<usize>,
    /// A response that announces the close has begun.
    pub closes: bool,
    /// Bytes and responses that the loop has told of.
    pub told: Traffic,
}

impl Output {
    /// Whether no response is written in part.
    pub fn is_between(&self) -> bool {
        self.head.is_empty() && self.body.is_none()
    }
}

impl World {
    /// Bytes are written to a connection.
    pub fn judge_write(&mut self, at: usize, mut bytes: &[u8]) {
        if self.links[at].fin_written.is_some() {
            self.fail_on(at, "bytes are written behind the FIN");
        }
        self.links[at].judged.writes_in_run += 1;
        // A body is a part of its own.
        if self.links[at].judged.writes_in_run > 2 * (limits::READS_PER_RUN + 1) {
            self.fail_on(at, "it writes more often in a run than its budget has");
        }
        while !bytes.is_empty() && self.judge.failure.is_none() {
            bytes = match self.links[at].output.body {
                None => self.judge_head(at, bytes),
                Some((from, len)) => self.judge_body(at, bytes, from, len),
            };
        }
    }

    fn judge_body<'a>(&mut self, at: usize, bytes: &'a [u8], from: usize, len: usize) -> &'a [u8] {
        let (part, rest) = bytes.split_at(bytes.len().min(len - from));
        let catalog = Rc::clone(&self.catalog);
        let link = &mut self.links[at];
        let kind = &catalog.kinds(link.service)[link.requests[link.output.whole].kind];
        link.written += part.len();
        link.output.body = Some((from + part.len(), len));
        if let Response::Fixed { body, .. } = &kind.response
            && !link.judged.timed_out
            && body[from..from + part.len()] != *part
        {
            self.fail_on(at, &format!("the body for {} is not what it should be", kind.name));
        }
        self.judge_whole(at);
        rest
    }

    /// A response may be whole now.
    fn judge_whole(&mut self, at: usize) {
        let output = &mut self.links[at].output;
        if output.body.is_some_and(|(from, len)| from == len) {
            let closes = output.closes;
            output.body = None;
            output.whole += 1;
            let link = &mut self.links[at];
            link.output.ends.push((link.written, closes));
        }
    }

    fn judge_head<'a>(&mut self, at: usize, bytes: &'a [u8]) -> &'a [u8] {
        let catalog = Rc::clone(&self.catalog);
        let link = &mut self.links[at];
        let Some(request) = link.requests.get(link.output.whole) else {
            self.fail_on(at, "a response to a client that has sent no request for it");
            return &[];
        };
        let kind = &catalog.kinds(link.service)[request.kind];
        if let Response::Fixed { before, after, body, .. } = &kind.response
            && link.output.head.is_empty()
            && let Some((head, rest)) =
                bytes.split_at_checked(before.len() + DATE_LEN + after.len())
            && head.starts_with(&before[..])
            && head.ends_with(&after[..])
        {
            link.written += head.len();
            self.judge_date(at, &head[before.len()..][..DATE_LEN]);
            self.judge_begins(at, kind.closes, false, body.len());
            return rest;
        }
        // A head that comes in parts is looked at when all of it is there.
        let output = &mut link.output;
        let had = output.head.len();
        output.head.extend_from_slice(bytes);
        let from = had.saturating_sub(3);
        let Some(end) = find(&output.head[from..], b"\r\n\r\n").map(|end| from + end + 4) else {
            link.written += bytes.len();
            return &[];
        };
        output.head.truncate(end);
        let head = std::mem::take(&mut output.head);
        link.written += end - had;
        if head == CONTINUE && kind.expects_at.is_some() {
            link.output.continues.push(link.written);
        } else {
            self.judge_whole_head(at, &head);
        }
        &bytes[end - had..]
    }

    fn judge_whole_head(&mut self, at: usize, head: &[u8]) {
        let catalog = Rc::clone(&self.catalog);
        let link = &self.links[at];
        let kind = &catalog.kinds(link.service)[link.requests[link.output.whole].kind];
        let date = find(head, b"Date: ").map_or(0, |at| at + 6);
        if date + DATE_LEN > head.len() {
            self.fail_on(at, "a response without a date");
            return;
        }
        let (before, (date, after)) = (&head[..date], head[date..].split_at(DATE_LEN));
        self.judge_date(at, date);
        let closes = contains(after, CLOSE);
        let length = find(after, b"Content-Length: ").map_or(0, |at| at + 16);
        let digits = after[length..].split(|&byte| byte == b'\r').next().unwrap_or_default();
        let length = String::from_utf8_lossy(digits).parse().unwrap_or(usize::MAX);
        match &kind.response {
            _ if self.links[at].judged.timed_out
                && before.starts_with(b"HTTP/1.1 408 ")
                && closes =>
            {
                let link = &self.links[at];
                let whole = link.output.whole.checked_sub(1);
                let begun = whole.map_or(0, |last| link.requests[last].end);
                let is_head = link.bytes[begun..link.read].starts_with(b"HEAD ");
                self.judge_begins(at, true, false, if is_head { 0 } else { length });
            }
            Response::Page if before.starts_with(b"HTTP/1.1 ") && length <= limits::PAGE_MAX => {
                let status = &before[9..12];
                if ![&b"200"[..], b"404", b"503"].contains(&status) {
                    self.fail_on(at, "a page has another status");
                }
                self.judge_begins(at, closes, closes && !kind.closes, length);
            }
            Response::Fixed { before: expected, announced, body, .. }
                if before == expected && after == announced =>
            {
                self.judge_begins(at, true, !kind.closes, body.len());
            }
            Response::Fixed { before: expected, after: rest, body, .. }
                if before == expected && after == rest =>
            {
                self.judge_begins(at, kind.closes, false, body.len());
            }
            _ => {
                let text = String::from_utf8_lossy(head);
                self.fail_on(at, &format!("{} gets another response: {text:?}", kind.name));
            }
        }
    }

    /// A date is one that the kernel has given.
    fn judge_date(&mut self, at: usize, date: &[u8]) {
        let is_given = |&seconds: &u64| imf_fixdate(seconds) == date;
        if !self.judge.dates.iter().rev().any(is_given) {
            self.fail_on(at, "a response has a date that never was");
        }
    }

    /// A response begins, of which the head is whole.
    fn judge_begins(&mut self, at: usize, closes: bool, is_announced: bool, body: usize) {
        let catalog = Rc::clone(&self.catalog);
        let (tick, delay) = (self.judge.tick, self.judge.delay);
        let link = &mut self.links[at];
        let index = link.output.whole;
        let (request, kind) = (link.requests[index], link.requests[index].kind);
        let kind = &catalog.kinds(link.service)[kind];
        let begun = index.checked_sub(1).map_or(0, |before| link.requests[before].end);
        let was_closed = link.output.closes;
        link.output.closes |= closes;
        let has_come = if kind.is_error || link.judged.timed_out {
            link.read > begun
        } else {
            link.read >= request.end
        };
        link.output.body = Some((0, body));
        let is_early = kind.is_delayed
            && !link.judged.timed_out
            && tick < request.read_at + delay
            && !self.judge.is_aborting();
        if was_closed {
            self.fail_on(at, "a response behind the announced close");
        } else if !has_come {
            self.fail_on(at, "a response ahead of its request");
        } else if is_early {
            self.fail_on(at, "a delayed response comes early");
        }
        let link = &self.links[at];
        let is_new = request.read_at == tick || self.judge.announces_at.is_none();
        if is_new && !link.refused && tick >= self.judge.date_due {
            self.fail_on(at, "the date of a response is over");
        }
        if is_announced {
            self.judge_announces(at);
        } else if !closes && self.has_to_announce(at, &request) {
            self.fail_on(at, "the close is not announced");
        }
        self.judge_whole(at);
    }

    /// Whether a response goes to a client that waits, of a service that announces the close.
    fn has_to_announce(&self, at: usize, request: &Sent) -> bool {
        let link = &self.links[at];
        let since = match link.service {
            Service::Main => self.judge.announces_at,
            Service::Diag => self.judge.main_empty_at.map(|since| since + 1),
        };
        let waits = !link.pipelines && link.sent == request.end && !link.refused;
        waits && since.is_some_and(|since| request.read_at >= since)
    }

    /// A response announces the close by the will of the server.
    fn judge_announces(&mut self, at: usize) {
        let service = self.links[at].service;
        let Some(since) = self.announces_since(service) else {
            self.fail_on(at, "the close is announced while the server goes on");
            return;
        };
        self.counts.effect(match service {
            Service::Main => Effect::AnnouncesOnMain,
            Service::Diag => Effect::AnnouncesOnDiag,
        });
        let link = &self.links[at];
        // A client that pipelines on and on is forced to close.
        let is_over = self.judge.tick >= since + length(limits::DEFERRED_TIME_MAX);
        let is_forced = link.pipelines && (link.judged.was_deferred || is_over);
        let index = link.output.whole + 1;
        if is_forced || self.judge.is_aborting() || link.eof_read {
            return;
        }
        let behind = &link.bytes[link.requests[index - 1].end.min(link.read)..link.read];
        let begins = behind.iter().any(|byte| !b"\r\n".contains(byte));
        if self.is_due(at, index) {
            self.fail_on(at, "the close is announced ahead of a request that has come");
        } else if begins && index < link.requests.len() {
            self.fail_on(at, "the close is announced ahead of a request that has begun");
        }
    }

    /// Whether a request has come whole by the beginning of the tick, so that it gets a response.
    pub fn is_due(&self, at: usize, index: usize) -> bool {
        let link = &self.links[at];
        let kinds = self.catalog.kinds(link.service);
        let Some(request) = link.requests.get(index) else { return false };
        let closed_before = link.requests[..index].iter().any(|request| kinds[request.kind].closes);
        let has_come = request.whole_at <= self.judge.tick && !link.refused;
        !closed_before && (has_come || link.read >= request.end)
    }
}

impl Output {
    /// The loop tells what a run has moved.
    pub fn add(&mut self, traffic: Traffic) {
        self.told.received += traffic.received;
        self.told.sent += traffic.sent;
        self.told.responses += traffic.responses;
    }
}
