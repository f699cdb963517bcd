//! The exercises: each has what it needs, and the command shows it. That each mutation does what
//! its solution says is a test of the simulation, which builds all of them.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::built::example;
use crate::mutant::{Mutant, Mutation, root};
use crate::page::{Exercise, exercises};

/// Runs the command, in a folder below the project.
fn exercise(arguments: &[&str]) -> Output {
    let mut command = Command::new(example("exercise"));
    command.args(arguments).current_dir(root().join("src")).stdin(Stdio::null());
    command.output().expect("it runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn there_are_twelve_and_each_has_a_mutation_of_its_own() {
    let exercises = exercises();
    let numbers: Vec<usize> = exercises.iter().map(|it| it.number).collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    let mutations: HashSet<&str> = exercises.iter().map(|it| it.mutation.as_str()).collect();
    assert_eq!(mutations.len(), exercises.len());
    for Exercise { mutation, diff, question, solution, complaint, .. } in &exercises {
        let patch = Mutation::named(mutation).expect("it is there");
        assert_eq!(*diff, patch.changed, "{mutation}");
        assert_eq!(patch.seed, None, "{mutation} is not found from seed 1 on");
        assert!(question.contains('?'), "{mutation} asks for nothing");
        assert!(!question.contains(complaint.as_str()), "{mutation} says what it asks for");
        assert!(solution.lines().count() > 3 && !complaint.is_empty(), "{mutation}");
    }
}

#[test]
fn each_names_the_chapter_of_the_file_that_changes() {
    for exercise in exercises() {
        let file = Mutation::named(&exercise.mutation).expect("it is there").file;
        let module = file.strip_prefix("src/").and_then(|it| it.strip_suffix(".rs"));
        let module = module.expect("a module").replace('/', "::").replace("::mod", "");
        let link = format!("](crate::{module})");
        assert!(exercise.source.contains(&link), "{}: {link}", exercise.title);
    }
}

#[test]
#[ignore = "builds the tests with each mutation"]
fn the_tests_that_they_name_fail() {
    let mut unit_tests = String::new();
    read(&root().join("src"), &mut unit_tests);
    for exercise in exercises() {
        let mutant = Mutant::new(&Mutation::named(&exercise.mutation).expect("it is there"));
        let mutant = mutant.expect("it fits");
        if exercise.solution.contains("No unit test fails") {
            assert!(mutant.test("--lib", "").expect("cargo runs").status.success());
        }
        let mut named = 0;
        for name in exercise.tests() {
            let is_unit_test = unit_tests.contains(&format!("fn {name}()"));
            let target = if is_unit_test { "--lib" } else { "--test it" };
            let output = mutant.test(target, name).expect("cargo runs");
            let shown = [text(&output.stdout), text(&output.stderr)].concat();
            let failed = format!("{name} ... FAILED\n");
            assert!(shown.contains(&failed), "{name} does not fail: {shown}");
            named += 1;
        }
        assert!(named > 0, "{} names no test", exercise.title);
    }
}

/// Appends all Rust files below a folder.
fn read(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            read(&path, code);
        } else if path.extension().is_some_and(|it| it == "rs") {
            code.push_str(&fs::read_to_string(&path).expect("text"));
        }
    }
}

#[test]
fn the_command_lists_them_and_refuses_what_is_none() {
    for arguments in [&[][..], &["--help"]] {
        let output = exercise(arguments);
        assert!(output.status.success());
        for Exercise { number, title, .. } in exercises() {
            let row = format!("  {number:>2}  {title}\n");
            assert!(text(&output.stdout).contains(&row), "there is no {row:?}");
        }
        assert!(text(&output.stdout).contains("cargo run --example exercise -- 1\n"));
    }
    for arguments in [&["0"][..], &["13"], &["4x"], &[""], &["04"], &["--all"], &["4", "5 6"]] {
        let output = exercise(arguments);
        let (last, says) = (arguments[arguments.len() - 1], text(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{says}");
        assert!(says.starts_with(&format!("exercise: {last:?} is ")), "{says}");
        assert!(says.ends_with(": it takes one number from 1 to 12\n"), "{says}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
#[ignore = "builds the source with a mutation"]
fn the_command_asks_and_shows_what_happens_and_then_the_solution() {
    let exercise_4 = exercises().remove(3);
    let before = Mutation::named(&exercise_4.mutation).expect("it is there").text();
    let panics = exercise(&["6"]);
    let at = "panicked at src/event_loop/connections.rs:";
    assert!(text(&panics.stdout).contains(at), "{}", text(&panics.stdout));
    let output = exercise(&["4"]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    let question = exercise_4.question.lines().last().expect("a line");
    let fails = format!("\nseed {} fails: ", exercise_4.seed);
    let parts =
        [&exercise_4.diff, question, &fails, "waits for", "\nSolution\n", "the judge says:"];
    let mut rest = shown;
    for part in parts {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("no {part:?} in {rest}")).1;
    }
    assert!(!shown.contains("](crate::"), "links are for a browser: {shown}");
    assert_eq!(Mutation::named(&exercise_4.mutation).expect("it is there").text(), before);
}
