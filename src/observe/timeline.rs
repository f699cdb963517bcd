//! What happened to one connection, as a story: a line for each change that is remembered, from
//! the first to the last.
//!
//! The invariant: columns have fixed widths, so that stories can be laid beside each other.

use std::fmt::Write;

use crate::event_loop::timers::Lane;
use crate::event_loop::turn::Reason;
use crate::observe::recorder::{Number, Place, Record, Recorder};
use crate::observe::units::{Bytes, Span};

/// The story of a connection, of which no more than the last `lines` changes are told; `None` if
/// nothing is remembered of it.
pub fn timeline(recorder: &Recorder, number: Number, lines: usize) -> Option<String> {
    let records = || {
        recorder
            .latest_first()
            .filter(|record| record.number == number)
    };
    let count = records().count();
    let mut told: Vec<&Record> = records().take(lines).collect();
    told.reverse();
    let first = *told.first()?;
    let mut text = String::new();
    if count > told.len() {
        let _ = writeln!(text, "{} earlier changes are left out", count - told.len());
    }
    let _ = writeln!(
        text,
        "{:>9} {:>10} {:>9} -> {:<9} {:>10} {:>10} {:>7}  what happened",
        "after", "tick", "from", "to", "received", "sent", "answers"
    );
    let mut before = first.at;
    for record in told {
        let _ = writeln!(
            text,
            "{:>9} {:>10} {:>9} -> {:<9} {:>10} {:>10} {:>7}  {}",
            Span(record.at - before),
            record.tick,
            record.from.map_or("door", Lane::name),
            record.to.name(),
            Bytes(record.received.into()),
            Bytes(record.sent.into()),
            record.answers,
            story(record)
        );
        before = record.at;
    }
    Some(text)
}

/// What a change means.
pub fn story(record: &Record) -> &'static str {
    let Some(from) = record.from else {
        return "it is accepted";
    };
    match record.to {
        Place::In(to) => stays(from, to, record.answers),
        Place::Gone(reason) => leaves(from, reason),
    }
}

fn stays(from: Lane, to: Lane, answers: u32) -> &'static str {
    match (from, to) {
        (Lane::Delayed, Lane::Delayed) => {
            "the delay is over: it is answered, and the next one waits"
        }
        (Lane::Delayed, Lane::Idle) => "the delay is over: it is answered",
        (Lane::Idle, Lane::Idle) if answers > 1 => "it sends a batch of requests and is answered",
        (_, Lane::Idle) if answers > 0 => "it asks and is answered",
        (Lane::Writing, Lane::Idle) => "it has taken its answers",
        (_, Lane::Idle) => "nothing is left of its request",
        (Lane::Head, Lane::Head) => "it is answered, and begins to ask again",
        (_, Lane::Head) => "it has sent the beginning of a head",
        (_, Lane::Body) => "it has sent a head and a part of the body",
        (_, Lane::Delayed) => "it has asked, and the answer waits for its time",
        (_, Lane::Held) => "in a stop, answers are withheld: more requests may follow",
        (_, Lane::Writing) => "an answer waits for its page or for room in the kernel",
        (Lane::Head | Lane::Body, Lane::Lingering) => "it has its last answer; our FIN is sent",
        (_, Lane::Lingering) => "the last answer is out, and our FIN behind it",
        (_, Lane::Farewell) => "it was idle at the end of the idle grace: our FIN is sent",
    }
}

fn leaves(from: Lane, reason: Reason) -> &'static str {
    match (reason, from) {
        (Reason::Finished, Lane::Lingering | Lane::Farewell) => "its FIN answers ours: it is gone",
        (Reason::Finished, _) => "its peer closes it",
        (Reason::Truncated, _) => "its peer closes it in the middle of a request",
        (Reason::Failed(_), _) => "the kernel reports an error: it is closed",
        (Reason::Overdue, _) => "its patience has ended: it is closed",
        (Reason::Cut, _) => "the stop has no more time: it is cut",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event_loop::clock::Moment;
    use crate::services::Service;

    #[test]
    fn a_timeline_is_aligned_and_reads_like_a_story() {
        let mut recorder = Recorder::new();
        let start = Moment::FIRST;
        let micros = |micros| start + Duration::from_micros(micros);
        let (idle, cut) = (Place::In(Lane::Idle), Place::Gone(Reason::Cut));
        for (at, tick, number, from, to, [answers, received, sent]) in [
            (start, 0, 7, None, idle, [0, 0, 0]),
            (start, 0, 8, None, idle, [0, 0, 0]),
            (micros(21), 1, 7, Some(Lane::Idle), idle, [1, 34, 148]),
            (micros(1_500_021), 2, 7, Some(Lane::Idle), cut, [0, 0, 0]),
        ] {
            recorder.note(Record {
                at,
                tick,
                number,
                service: Service::Main,
                from,
                to,
                answers,
                received,
                sent,
            });
        }
        let text = timeline(&recorder, 7, 9).expect("it is remembered");
        let expected = [
            "    after       tick      from -> to          received       sent answers  what",
            "     0 ns          0      door -> idle             0 B        0 B       0  it",
            "  21.0 us          1      idle -> idle            34 B      148 B       1  it asks",
            "    1.5 s          2      idle -> gone             0 B        0 B       0  the",
        ];
        for (line, expected) in text.lines().zip(expected) {
            assert!(line.starts_with(expected), "{line}");
        }
        assert_eq!(text.lines().count(), expected.len());
        let short = timeline(&recorder, 7, 1).expect("it is remembered");
        assert!(
            short.starts_with("2 earlier changes are left out\n"),
            "{short}"
        );
        assert_eq!(short.lines().count(), 3);
        assert_eq!(timeline(&recorder, 9, 9), None);
    }
}
