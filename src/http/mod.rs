//! The protocol: a function from bytes to bytes. It knows no socket, no clock and no
//! waiting; where a request is cut between two calls, the caller keeps the remainder.
//!
//! The invariant: however a stream of requests is cut into inputs, the answers are the same
//! bytes in the same order; but for `100 Continue`, which a client gets that waits for it.
//!
//! ```text
//!  input ──► Head::parse ──► Site::answer ──► Body::skip ──► Site::reply ──► out
//!        │       │  one head      the page        what is not      the finished
//!        │       ▼  or none yet   it asks for     wanted of it     bytes
//!        │    Refusal ───────────────────────────────────────────► out, and the end
//! ```

use std::mem;

use crate::limits::{ANSWER_MAX, OUTBOX, PAGE_BODY_MAX};

mod answer;
mod body;
mod date;
mod fields;
mod grammar;
mod head;
mod page;
mod refusal;
mod site;
mod status;
mod target;

pub use answer::{Answer, Given, Response, Tail};
pub use body::{Body, Chunked};
pub use date::{DATE_LEN, imf_fixdate};
pub use grammar::is_plain_path;
pub use head::{Head, Version};
pub use page::{Route, TEXT, TEXT_NOT_SNIFFED, Text};
pub use refusal::Refusal;
pub use site::Site;
pub use status::Status;
pub use target::Resource;

/// What [`serve`] did with its input.
#[derive(Debug, PartialEq, Eq)]
pub struct Served {
    /// Bytes that need not be seen again; the rest is the beginning of a head, or comes behind
    /// an answer that has to wait.
    pub consumed: usize,
    /// Answers appended to the output, refusals included.
    pub answered: u32,
    /// What belongs behind the output, and was too long to be copied there.
    pub tail: Tail,
    /// What the bytes after these will be.
    pub next: Next,
}

/// What a connection's next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A head, or the rest of one.
    Head,
    /// The rest of a body.
    Body(Unread),
    /// The rest of a small body for a live page, whose head comes again ahead of it.
    PageBody,
    /// Not wanted yet: there is an answer to be given after a while.
    Delayed(Unread),
    /// Not wanted yet: there are whole requests, which wait for room to answer them.
    Queued,
    /// Not wanted yet: the next request asks for a page that is written anew each time. Once the
    /// site [has the text](Site::put), it can be answered.
    Unwritten,
    /// Another request, or nothing: then the answer that is held was the last one. What was
    /// answered before it had better wait, too: a client that is told something may go on.
    Held(Unread),
    /// Nothing that matters: the last answer has been given.
    Close,
}

/// What is known of the bytes behind an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behind {
    /// The client waits for its answers before it sends more.
    Nothing,
    /// The client does not wait, so there may be more on its way.
    Perhaps,
    /// Whatever it is, there is no time to wait for it.
    TooLate,
}

impl Next {
    /// The request of which a part has come, or all but the answer's time.
    pub fn unread(self) -> Option<Unread> {
        match self {
            Next::Body(unread) | Next::Held(unread) | Next::Delayed(unread) => Some(unread),
            Next::Head | Next::PageBody | Next::Queued | Next::Unwritten | Next::Close => None,
        }
    }
}

/// A request whose head has been understood, and whose answer waits: for the end of the body,
/// as a request may turn out to be malformed until then; for its time, or because it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    body: Body,
    answer: Answer,
}

/// Answers every request that `input` completes, in order, onto the end of `out`, for as long
/// as there is room in an outbox.
///
/// The input begins with the rest of `unread`'s body, if there is one, and else with a
/// head. Where the site announces the close, it does so in the last answer. Whether that is
/// the one to the last request in the input depends on what is `behind` it; if that cannot
/// be known, as with a client that has sent several requests at once, the answer is held; but
/// not that with a live page, which is given without any announcement.
pub fn serve(
    site: &mut Site,
    unread: Option<Unread>,
    input: &[u8],
    behind: Behind,
    out: &mut Vec<u8>,
) -> Served {
    let (mut rest, mut unread) = (input, unread);
    let (mut answered, mut tail) = (0, Tail::NONE);
    let next = loop {
        let progress = match unread.take() {
            Some(unread) => unread.finish(&mut rest),
            None if rest.is_empty() => break Next::Head,
            None if !tail.is_over() || out.len() > OUTBOX - ANSWER_MAX => break Next::Queued,
            None => begin(site, &mut rest, out),
        };
        match progress {
            Ok(Progress::Head) => break Next::Head,
            Ok(Progress::PageBody) => break Next::PageBody,
            Ok(Progress::Unwritten) => break Next::Unwritten,
            Ok(Progress::Body(unread)) => break Next::Body(unread),
            Ok(Progress::Whole(mut answer)) => {
                if mem::take(&mut answer.is_delayed) {
                    break Next::Delayed(answer.into());
                }
                if site.is_closing() && answer.persists && is_last(rest, behind) {
                    answer.persists = is_in_doubt(behind, answered);
                    // A text that was written for now cannot be held.
                    if answer.persists && !site.writes(&answer) {
                        break Next::Held(answer.into());
                    }
                }
                site.give(&answer, out);
                answered += 1;
                tail = site.tail_of(&answer);
                if !answer.persists {
                    break Next::Close;
                }
            }
            Err(Refused { why, fields_only }) => {
                site.refuse(why, fields_only, rest, out);
                answered += 1;
                break Next::Close;
            }
        }
    };
    let left = if next == Next::Close { 0 } else { rest.len() };
    Served {
        consumed: input.len() - left,
        answered,
        tail,
        next,
    }
}

/// Whether no other request is to be answered behind the one that is followed by `rest`.
fn is_last(rest: &[u8], behind: Behind) -> bool {
    let is_whole = || !matches!(Head::parse(rest), Ok(None));
    !Head::begins_in(rest) || behind == Behind::TooLate && !is_whole()
}

/// Whether nobody can know if the last request that has come is the last one that will.
fn is_in_doubt(behind: Behind, answered: u32) -> bool {
    match behind {
        Behind::Nothing => answered > 0,
        Behind::Perhaps => true,
        Behind::TooLate => false,
    }
}

/// How far the next request has come.
enum Progress {
    Head,
    /// A whole head has come, and a small body has not.
    PageBody,
    /// A whole head has come, and its answer has to be written first.
    Unwritten,
    Body(Unread),
    Whole(Answer),
}

/// A request that gets a [`Refusal`] for an answer, with or without its text.
struct Refused {
    why: Refusal,
    fields_only: bool,
}

/// Takes the next request off the front of `rest`.
fn begin(site: &mut Site, rest: &mut &[u8], out: &mut Vec<u8>) -> Result<Progress, Refused> {
    let refused = |why| Refused {
        why,
        fields_only: Head::asks_for_fields_only(rest),
    };
    let Some((head, len)) = Head::parse(rest).map_err(refused)? else {
        return Ok(Progress::Head);
    };
    let page = site.page(&head);
    let (mut body, mut behind) = (head.body, &rest[len..]);
    let mut is_over = body.is_over();
    if !is_over {
        let expects = head.expects_continue && behind.is_empty();
        let begun = begin_body(expects, site.is_live(page), &mut body, &mut behind, out);
        if !begun.map_err(refused)? {
            return Ok(Progress::PageBody);
        }
        is_over = body.is_over();
    }
    if site.is_unwritten(page) {
        return Ok(Progress::Unwritten);
    }
    let answer = site.answer(page, &head);
    *rest = behind;
    Ok(if is_over {
        Progress::Whole(answer)
    } else {
        Progress::Body(Unread { body, answer })
    })
}

/// Takes what has come of a request's body off the front of `rest`. A live page is not written,
/// nor its head let go, ahead of all of the body, which has to be small; says whether there is more
/// to wait for.
#[cold]
fn begin_body(
    expects: bool,
    is_live: bool,
    body: &mut Body,
    rest: &mut &[u8],
    out: &mut Vec<u8>,
) -> Result<bool, Refusal> {
    let is_long = matches!(*body, Body::Counted(len) if len > PAGE_BODY_MAX as u64);
    let most = if is_live { PAGE_BODY_MAX } else { usize::MAX };
    let window = &rest[..rest.len().min(most)];
    let skipped = body.skip(window)?;
    if is_live && (is_long || !body.is_over() && window.len() == most) {
        return Err(Refusal::Content);
    }
    // Where some of the body has come, the client does not wait (RFC 9110, section 10.1.1). A
    // final answer instead would spare it the body, but there are clients that wait for this one.
    if expects {
        out.extend_from_slice(CONTINUE);
    }
    *rest = &rest[skipped..];
    Ok(!is_live || body.is_over())
}

/// The interim answer to a client that waits for it before it sends a body (RFC 9110, section
/// 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Unread {
    /// Takes as much of the body off the front of `rest` as there is.
    fn finish(mut self, rest: &mut &[u8]) -> Result<Progress, Refused> {
        let fields_only = self.asks_for_fields_only();
        let skipped = self
            .body
            .skip(rest)
            .map_err(|why| Refused { why, fields_only })?;
        *rest = &rest[skipped..];
        Ok(if self.body.is_over() {
            Progress::Whole(self.answer)
        } else {
            Progress::Body(self)
        })
    }

    /// Whether the request is a `HEAD`, whose answer has no body.
    pub fn asks_for_fields_only(&self) -> bool {
        self.answer.fields_only
    }
}

impl From<Answer> for Unread {
    fn from(answer: Answer) -> Unread {
        Unread {
            body: Body::NONE,
            answer,
        }
    }
}

#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
