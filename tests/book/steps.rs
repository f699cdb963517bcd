//! The seven steps: each breaks as its next page says, and is mended there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::boxes::Box;

/// How much longer than the last one a step may be.
const LINES_MORE_MAX: usize = 60;

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("text")
}

fn page(step: usize) -> String {
    text(&format!("src/book/step_{step}.md"))
}

/// A box shows on its own step what it says, and none of it on the step before.
fn breaks_the_step_before(step: usize) {
    let (found, program) = (Box::of(&page(step)), format!("step_{step}"));
    let shown = found.run(&program, true);
    let expected: Vec<&str> = found.expected().collect();
    assert!(!expected.is_empty());
    for text in &expected {
        assert!(shown.contains(text), "{program}: no {text:?} in {shown:?}");
    }
    if step > 1 {
        let before = format!("step_{}", step - 1);
        let shown = found.run(&before, false);
        for text in expected {
            assert!(!shown.contains(text), "{before} shows {text:?}: {shown:?}");
        }
    }
}

#[test]
fn step_1_responds() {
    breaks_the_step_before(1);
}

#[test]
fn a_silent_client_stops_step_1_and_not_step_2() {
    breaks_the_step_before(2);
}

#[test]
fn a_long_head_hangs_step_2_and_not_step_3() {
    breaks_the_step_before(3);
}

#[test]
fn a_slow_reader_stops_step_3_and_not_step_4() {
    breaks_the_step_before(4);
}

#[test]
fn half_a_request_stays_in_step_4_and_not_in_step_5() {
    breaks_the_step_before(5);
}

#[test]
fn a_long_batch_goes_first_in_step_5_and_not_in_step_6() {
    breaks_the_step_before(6);
}

#[test]
fn a_signal_loses_a_request_of_step_6_and_not_of_step_7() {
    breaks_the_step_before(7);
}

#[test]
fn each_step_is_a_little_longer_and_its_page_has_the_difference() {
    let lines = |step| text(&format!("tests/book/steps/step_{step}.rs")).lines().count();
    for step in 2..=7 {
        let more = lines(step) - lines(step - 1);
        assert!(more <= LINES_MORE_MAX, "step {step} has {more} lines more");
        let (before, after) = (format!("step_{}.rs", step - 1), format!("step_{step}.rs"));
        let mut diff = Command::new("diff");
        diff.args(["-U2", "--label", &before, "--label", &after, &before, &after]);
        diff.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/book/steps"));
        let output = diff.output().expect("diffutils");
        let shown = text(&format!("tests/book/steps/step_{step}.diff"));
        let is_same = String::from_utf8_lossy(&output.stdout) == shown;
        assert!(is_same, "step_{step}.diff is not what this prints: {diff:?}");
    }
}

#[test]
fn the_protocol_is_the_same_in_all_steps() {
    let protocol = |step| {
        let program = text(&format!("tests/book/steps/step_{step}.rs"));
        program.split_once("/// Takes a whole request").expect("a function").1.to_owned()
    };
    for step in 2..=7 {
        assert_eq!(protocol(step), protocol(1), "step {step}");
    }
}
