//! `/trace?recording`: all that the recorder holds, for programs. The live page replays it, and a
//! file of it can be replayed without a server.
//!
//! Lines that begin with `# ` come first, and have a key and a value. Then there is a line for each
//! change, the oldest first, with seven fields. One of them has a letter for the listener, one for
//! the state before and one for the state since:
//!
//! ```text
//!   ┌ microseconds since the change before; 0 in the first line
//!   │   ┌ ticks since then; in the first line, the number of its tick
//!   │   │ ┌ connection
//!   │   │ │  ┌ listener, state before, state since
//!   │   │ │  │  ┌ responses
//!   │   │ │  │  │ ┌ bytes received
//!   │   │ │  │  │ │  ┌ bytes sent
//!   570 1 7 mhi 1 34 148
//! ```
//!
//! The invariant: a recording is no longer than `PAGE_MAX`. The oldest changes are left out.

use std::fmt::Write;

use super::Observe;
use super::recorder::Record;
use super::trace::letter;
use crate::event_loop::clock::Instant;
use crate::event_loop::listeners::Service;
use crate::event_loop::observer::CloseReason;
use crate::limits::PAGE_MAX;

/// The longest line: twenty digits, then five times ten, three letters, and what is between them.
const LINE_MAX: usize = 80;

impl Observe {
    /// The recording.
    pub fn recording(&self) -> String {
        let mut page = self.preamble();
        // From the end, so that the oldest are left out. A number is easy to write in that order.
        let (mut lines, space) = (Vec::new(), PAGE_MAX - page.len());
        let mut records = self.recorder.latest_first().peekable();
        while let Some(record) = records.next() {
            let has_room = lines.len() + 2 * LINE_MAX <= space;
            let before = records.peek().filter(|_| has_room);
            push_backward(&mut lines, record, before.copied());
            if before.is_none() {
                break;
            }
        }
        lines.reverse();
        page.push_str(&String::from_utf8_lossy(&lines));
        page
    }

    /// What is known of the recording as a whole. A stage of the shutdown has the number of the
    /// tick in which it began, whichever step that was.
    fn preamble(&self) -> String {
        let mut lines = format!("# format: onepoll recording 1\n# version: {}\n", self.version);
        for (stage, tick) in ["lame duck", "draining"].into_iter().zip(self.stage_ticks) {
            if let Some(tick) = tick {
                let _ = writeln!(lines, "# {stage}: {tick}");
            }
        }
        lines
    }
}

/// Writes the line of a record, from its end to its beginning.
fn push_backward(line: &mut Vec<u8>, record: &Record, before: Option<&Record>) {
    let micros = |instant: Instant| instant.nanos_since(Instant::FIRST) / 1000;
    // Of rounded instants, so that the times of all lines together are right.
    let time = before.map_or(0, |before| micros(record.at) - micros(before.at));
    let ticks = record.tick.wrapping_sub(before.map_or(0, |before| before.tick));
    for (end, number) in [(b'\n', record.sent), (b' ', record.received), (b' ', record.responses)] {
        push_number(line, end, number.into());
    }
    let states = [record.from.map_or('-', letter), record.to.map_or_else(reason, letter)];
    line.extend([b' ', states[1] as u8, states[0] as u8, listener(record.service)]);
    push_number(line, b' ', record.number.into());
    push_number(line, b' ', ticks.into());
    push_number(line, b' ', time);
}

/// The digits of a number, the last one first, behind what ends it.
#[inline(never)] // Six copies of it would take a KiB.
fn push_number(line: &mut Vec<u8>, end: u8, mut number: u64) {
    line.push(end);
    loop {
        line.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            return;
        }
    }
}

fn listener(service: Service) -> u8 {
    match service {
        Service::Main => b'm',
        Service::Diag => b'd',
    }
}

/// What stands for the reason of a close: a capital, as letters are for states.
fn reason(reason: CloseReason) -> char {
    match reason {
        CloseReason::Finished => 'F',
        CloseReason::Requested => 'R',
        CloseReason::Truncated => 'T',
        CloseReason::Failed(_) => 'E',
        CloseReason::TimedOut => 'O',
        CloseReason::Aborted => 'A',
        CloseReason::DrainOver => 'D',
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use super::*;
    use crate::event_loop::observer::Observer;
    use crate::event_loop::shutdown::Stage;
    use crate::event_loop::state::StateName;
    use crate::limits::{INPUT, READS_PER_RUN, RECORDS_MAX};
    use crate::observe::Hooks;
    use crate::observe::live::PAGE;

    fn observe() -> Observe {
        let block = Duration::ZERO;
        let hooks = Hooks { before_wait: || None, stopping: || {}, dropped: || 0, block };
        Observe::since(Instant::FIRST, Duration::ZERO, "1.2", hooks)
    }

    /// A record with round numbers.
    fn record(nanos: u64, tick: u32, number: u32) -> Record {
        Record {
            at: Instant::FIRST + Duration::from_nanos(nanos),
            tick,
            number,
            service: Service::Main,
            from: Some(StateName::Idle),
            to: Ok(StateName::Idle),
            responses: 1,
            received: 34,
            sent: 148,
        }
    }

    /// The lines of a recording that are about changes.
    fn changes(observe: &Observe) -> Vec<String> {
        let text = observe.recording();
        assert!(text.starts_with("# format: onepoll recording 1\n# version: 1.2\n"));
        assert!(text.ends_with('\n') && text.len() <= PAGE_MAX, "{}", text.len());
        let lines = text.lines().filter(|line| !line.starts_with("# "));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn a_recording_has_a_line_for_each_change() {
        let mut observe = observe();
        assert_eq!(changes(&observe), [""; 0]);
        let accepted = Record { from: None, responses: 0, received: 0, sent: 0, ..record(0, 0, 0) };
        let closed = |reason| (Some(StateName::HalfClosed), Err(reason));
        for (at, tick, number, (from, to)) in [
            (5_000_999, 7, 1, (None, Ok(StateName::Idle))),
            (5_000_999, 7, 20, (None, Ok(StateName::Idle))),
            (5_001_001, 8, 1, (Some(StateName::Idle), Ok(StateName::Head))),
            (5_002_000, 9, 1, (Some(StateName::Body), Ok(StateName::Delayed))),
            (5_003_000, 9, 1, (Some(StateName::Deferred), Ok(StateName::Writing))),
            (7_003_000, 1009, 1, closed(CloseReason::Finished)),
            (7_003_000, 1009, 1, closed(CloseReason::Requested)),
            (7_003_000, 1009, 1, closed(CloseReason::Truncated)),
            (7_003_000, 1009, 1, closed(CloseReason::Failed(ErrorKind::Other))),
            (7_003_000, 1009, 1, closed(CloseReason::TimedOut)),
            (7_003_000, 1009, 1, (Some(StateName::IdleClosed), Err(CloseReason::Aborted))),
            (7_003_000, 1009, 1, closed(CloseReason::DrainOver)),
        ] {
            let at = Instant::FIRST + Duration::from_nanos(at);
            observe.recorder.push(Record { at, tick, number, from, to, ..accepted });
        }
        let diag = Record { service: Service::Diag, ..record(9_003_000, 1010, u32::MAX) };
        observe.recorder.push(diag);
        assert_eq!(
            changes(&observe),
            [
                "0 7 1 m-i 0 0 0",
                "0 0 20 m-i 0 0 0",
                "1 1 1 mih 0 0 0",
                "1 1 1 mbd 0 0 0",
                "1 0 1 mew 0 0 0",
                "2000 1000 1 maF 0 0 0",
                "0 0 1 maR 0 0 0",
                "0 0 1 maT 0 0 0",
                "0 0 1 maE 0 0 0",
                "0 0 1 maO 0 0 0",
                "0 0 1 mlA 0 0 0",
                "0 0 1 maD 0 0 0",
                "2000 1 4294967295 dii 1 34 148",
            ]
        );
    }

    #[test]
    fn a_recording_has_the_ticks_in_which_the_stages_of_a_stop_begin() {
        let mut observe = observe();
        let stages = |observe: &Observe| {
            let text = observe.recording();
            text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(stages(&observe), [""; 0]);
        observe.tick_begins(Instant::FIRST);
        observe.shutdown_changed(Stage::LameDuck(Instant::FIRST));
        assert_eq!(stages(&observe), ["# lame duck: 1"]);
        observe.tick_begins(Instant::FIRST);
        observe.shutdown_changed(Stage::Draining(Instant::FIRST));
        assert_eq!(stages(&observe), ["# lame duck: 1", "# draining: 2"]);
    }

    #[test]
    fn the_replay_has_the_same_words() {
        let reasons = [
            CloseReason::Finished,
            CloseReason::Requested,
            CloseReason::Truncated,
            CloseReason::Failed(ErrorKind::Other),
            CloseReason::TimedOut,
            CloseReason::Aborted,
            CloseReason::DrainOver,
        ];
        // The rows of the page, of which the first one that fits counts.
        let rows = PAGE.split_once("const CHANGES = [").and_then(|it| it.1.split_once("]];"));
        let rows = rows.expect("a table").0.split("\n  [").skip(1).map(|row| {
            let row = row.replacen('\'', "", 1).replacen("', '", "|", 1).replacen("', ", "|", 1);
            let (states, words) = row.split_once(", ").expect("words");
            let quote = &words[..1];
            let words = words[1..].split(quote).next().expect("words").to_owned();
            let mut parts = states.split('|').map(str::to_owned);
            let mut part = || parts.next().expect("a part");
            (part(), part(), part().parse::<u32>().expect("a number"), words)
        });
        let rows: Vec<_> = rows.collect();
        let before = StateName::ALL.map(Some).into_iter();
        let since = StateName::ALL.map(Ok).into_iter().chain(reasons.map(Err));
        for (from, to) in before.flat_map(|from| since.clone().map(move |to| (from, to))) {
            for responses in 0..3 {
                let words = Record { from, to, responses, ..record(0, 0, 0) }.explain();
                let before = from.map_or('-', letter);
                let since = to.map_or_else(reason, letter).to_string();
                let row = rows.iter().find(|(from, to, least, _)| {
                    (from.is_empty() || from.contains(before))
                        && *to == since
                        && *least <= responses
                });
                let row = row.unwrap_or_else(|| panic!("{words} has no row"));
                assert_eq!(row.3, words, "{before}{since} {responses}");
            }
        }
        let letters: String = StateName::ALL.map(letter).into_iter().collect();
        assert!(PAGE.contains(&format!("STATE_LETTERS = '{letters}'")));
        let letters: String = reasons.map(reason).into_iter().collect();
        assert!(PAGE.contains(&format!("CLOSED = '{letters}'")));
        let reads = READS_PER_RUN * INPUT;
        assert!(PAGE.contains(&format!("const READS = {reads};")), "as much as a run reads");
    }

    #[test]
    fn the_numbers_of_ticks_begin_anew() {
        let mut observe = observe();
        observe.recorder.push(record(0, u32::MAX, 1));
        observe.recorder.push(record(0, 1, 1));
        assert_eq!(changes(&observe), ["0 4294967295 1 mii 1 34 148", "0 2 1 mii 1 34 148"]);
    }

    #[test]
    fn the_usual_lines_of_a_whole_ring_fit() {
        let mut observe = observe();
        for at in 1..=u32::try_from(RECORDS_MAX + 10).expect("few") {
            observe.recorder.push(record(u64::from(at) * 100_000, at, 1_000_000 + at));
        }
        let lines = changes(&observe);
        assert_eq!(lines.len(), RECORDS_MAX);
        assert_eq!(lines[0], "0 11 1000011 mii 1 34 148", "the first ten have made room");
        assert_eq!(lines[RECORDS_MAX - 1], "100 1 1004106 mii 1 34 148");
    }

    #[test]
    fn of_lines_that_do_not_fit_the_oldest_are_left_out() {
        let mut observe = observe();
        let long =
            Record { responses: u32::MAX, received: u32::MAX, sent: u32::MAX, ..record(0, 0, 0) };
        let (mut at, mut tick) = (Instant::FIRST, 0u32);
        for _ in 0..RECORDS_MAX {
            at += Duration::from_secs(1_000_000);
            tick = tick.wrapping_add(3_000_000_000);
            observe.recorder.push(Record { at, tick, number: u32::MAX, ..long });
        }
        let (lines, len) = (changes(&observe), observe.recording().len());
        assert!(len > PAGE_MAX - 2 * LINE_MAX, "{len} bytes, so there is no room for another one");
        assert!(lines.len() < RECORDS_MAX && lines[0].starts_with("0 "), "{}", lines[0]);
        let rest = " 4294967295 mii 4294967295 4294967295 4294967295";
        assert!(lines.iter().all(|line| line.ends_with(rest)));
        assert!(lines[1..].iter().all(|line| line.starts_with("1000000000000 ")));
        // The first line tells the tick of the oldest one that is there, and the rest follows.
        let ticks = lines.iter().map(|line| line.split(' ').nth(1).expect("a field"));
        let ticks = ticks.map(|ticks| ticks.parse::<u32>().expect("a number"));
        assert_eq!(ticks.fold(0, u32::wrapping_add), tick);
    }
}
