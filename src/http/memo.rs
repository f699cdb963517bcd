//! The head that was understood last, and what that came to. A client asks for the same thing
//! with the same head, byte for byte, as long as its connection lasts; and so do many others. To
//! see that it is the same costs a tenth of understanding it anew.
//!
//! The invariant: it speaks only for bytes that have passed every rule, and says what they came
//! to then. As the verdict on a head depends on its bytes alone, nobody can tell the difference.

use std::ops::Range;

use super::Answer;
use crate::limits::MEMO_MAX;

/// A memory of one head.
#[derive(Debug)]
pub(super) struct Memo {
    /// From the first byte to the empty line.
    head: Vec<u8>,
    /// Where in it the target is, if the log is to tell of the request.
    target: Option<Range<usize>>,
    /// What it came to; `None` if nothing is remembered.
    answer: Option<Answer>,
}

impl Memo {
    /// A memory of nothing.
    pub(super) fn new() -> Memo {
        Memo {
            head: Vec::with_capacity(MEMO_MAX),
            target: None,
            answer: None,
        }
    }

    /// The head that is remembered, and what it came to.
    pub(super) fn recall(&self) -> Option<(&[u8], Answer)> {
        Some((&self.head, self.answer?))
    }

    /// What the request was for, if the log is to tell of it.
    pub(super) fn target(&self) -> Option<&[u8]> {
        self.head.get(self.target.clone()?)
    }

    /// Remembers a head that nothing follows, unless it is too long. The `target` is in it.
    pub(super) fn remember(&mut self, head: &[u8], answer: Answer, target: Option<&[u8]>) {
        if head.len() > MEMO_MAX {
            return;
        }
        self.head.clear();
        self.head.extend_from_slice(head);
        self.answer = Some(answer);
        self.target = target.map(|target| {
            let start = target.as_ptr().addr() - head.as_ptr().addr();
            start..start + target.len()
        });
    }

    /// Forgets it, as it may come to something else by now.
    pub(super) fn forget(&mut self) {
        self.answer = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Head, Route, Site};

    #[test]
    fn what_is_too_long_is_not_remembered() {
        let mut site = Site::new("main", vec![Route::new("/hello", "Hello world.")]);
        let request = |len: usize| {
            let start = "GET /hello HTTP/1.1\r\nHost: a\r\nX: ";
            let end = "\r\n\r\n";
            [start, &"x".repeat(len - start.len() - end.len()), end].concat()
        };
        for (len, is_kept) in [(MEMO_MAX, true), (MEMO_MAX + 1, false)] {
            let input = request(len);
            let (head, len) = Head::parse(input.as_bytes()).expect("fine").expect("whole");
            let page = site.page(&head);
            let answer = site.answer(page, &head, &input.as_bytes()[..len]);
            let mut memo = Memo::new();
            memo.remember(input.as_bytes(), answer, Some(head.target));
            assert_eq!(memo.recall().is_some(), is_kept);
            assert_eq!(memo.target(), Some(&b"/hello"[..]).filter(|_| is_kept));
            assert!(memo.head.capacity() <= MEMO_MAX);
        }
    }
}
