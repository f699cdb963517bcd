//! The server in a simulated world: lives of other seeds each time, lives that once failed, and
//! mutations of the source, all of which have to be found.

#![allow(unreachable_pub)] // There is one crate, and modules are what is private.

#[allow(dead_code)] // The exercises of the book use the rest.
mod mutant;
#[path = "../book/page.rs"]
#[allow(dead_code)] // The tests of the book use the rest.
mod page;
#[path = "mod.rs"]
mod simulation;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::mutant::{Mutant, Mutation, root};
use crate::page::exercises;
use crate::simulation::counts::{COVERS_ALL, Counts};
use crate::simulation::life::{Lives, report};
use crate::simulation::plan::{Faults, Plan};

/// Seeds of lives that have failed, and what was wrong with the server.
const FAILED: &[(u64, &str)] = &[
    (437, "an interrupted accept(2) counted as a client that was rejected"),
    (694_865, "in a drain, a request was lost that came while a page was waited for"),
    (
        50_106_726,
        "clients that had gone counted as in a row, although other errors came in between",
    ),
    (60_039_481, "a client that was forced to close got another second"),
];

/// Lives a life that has to hold.
fn live(all: &Lives, seed: u64, counts: &mut Counts) {
    let plan = all.plan(seed);
    if all.live(&plan, counts, false).is_err() {
        let shrunk = all.shrink(&plan);
        let failure = all.live(&shrunk, &mut Counts::default(), true);
        panic!("{}", report(&plan, &shrunk, &failure.expect_err("it failed before")));
    }
}

#[test]
fn lives_of_other_seeds_each_time_hold() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later");
    let first = since_1970.as_secs() << 20;
    let (all, mut counts, started) = (Lives::new(), Counts::default(), Instant::now());
    println!("the first seed is {first}");
    let mut seed = first;
    while started.elapsed() < Duration::from_secs(5) {
        live(&all, seed, &mut counts);
        seed += 1;
    }
    println!("{} lives with {} responses", counts.lives, counts.responses);
    assert_eq!(counts.lives, seed - first);
    assert!(counts.responses > counts.lives, "the clients are served");
}

#[test]
fn lives_that_once_failed_hold() {
    let all = Lives::new();
    for &(seed, what) in FAILED {
        println!("{seed}: {what}");
        live(&all, seed, &mut Counts::default());
    }
}

#[test]
fn a_life_is_the_same_each_time() {
    let calls = |seed| {
        let (all, mut counts) = (Lives::new(), Counts::default());
        let lived = all.live(&all.plan(seed), &mut counts, true);
        (lived.expect("it holds"), counts.ticks)
    };
    for seed in 1..=40 {
        let (first, ticks) = calls(seed);
        assert!(ticks > 0 && !first.is_empty());
        assert_eq!((first, ticks), calls(seed), "seed {seed}");
    }
    assert_ne!(calls(1), calls(2));
}

#[test]
fn a_life_without_a_client_or_a_fault_is_over_as_soon_as_it_can() {
    let all = Lives::new();
    for seed in 0..50 {
        let plan = Plan { clients: Vec::new(), faults: Faults::NONE, ..all.plan(seed) };
        let mut counts = Counts::default();
        assert!(all.live(&plan, &mut counts, false).is_ok(), "seed {seed}");
        assert!(counts.ticks < 20, "seed {seed}: {} ticks", counts.ticks);
    }
}

#[test]
#[ignore = "takes half a minute in a debug build"]
fn everything_happens_in_ten_thousand_lives() {
    let (all, mut counts) = (Lives::new(), Counts::default());
    for seed in 0..COVERS_ALL {
        live(&all, seed, &mut counts);
    }
    assert_eq!(counts.missing(), [""; 0], "these have to happen, too");
}

#[test]
fn every_mutation_fits_the_source() {
    for mutation in Mutation::all() {
        let source = fs::read_to_string(root().join(&mutation.file)).expect("text");
        let mutated = mutation.text().unwrap_or_else(|error| panic!("make it anew: {error}"));
        assert_ne!(source, mutated);
    }
}

#[test]
fn the_texts_know_how_many_mutations_there_are() {
    let text = |name| fs::read_to_string(root().join(name)).expect("text");
    let count = Mutation::all().len();
    assert!(count > 20);
    assert!(text("README.md").contains(&format!("Of {count} faults of one line")));
    assert!(text("src/simulation.md").contains(&format!("has {count} patches")));
}

#[test]
#[ignore = "builds the release"]
fn the_commands_of_the_chapter_run() {
    let chapter = fs::read_to_string(root().join("src/simulation.md")).expect("text");
    let commands = chapter.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let commands = commands.expect("a box");
    assert!(commands.lines().count() > 1);
    for command in commands.lines() {
        let output = Command::new("sh").args(["-c", command]).current_dir(root()).output();
        let output = output.expect("it runs");
        let says = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && says.contains(" lives per second"), "{command}: {says}");
    }
}

/// What the simulation prints of a mutation, which has to fail.
///
/// The simulation proves nothing that it cannot see, so it has to find each mutation in ten
/// thousand lives, or in the life of the seed that the patch names.
fn found(mutation: &Mutation) -> String {
    let lives = if mutation.seed.is_some() { 1 } else { COVERS_ALL };
    let seed = mutation.seed.as_deref().unwrap_or("1");
    let mutant = Mutant::new(mutation).expect("a copy");
    mutant.build().unwrap_or_else(|error| panic!("{}: {error}", mutation.name));
    let output = mutant.live(seed, lives).expect("it runs");
    let (name, text) = (&mutation.name, String::from_utf8_lossy(&output.stdout).into_owned());
    println!("{name}: {}", text.lines().find(|it| it.contains("fails")).unwrap_or_default());
    assert!(!output.status.success(), "{name} is not found");
    assert!(text.contains("seed ") && text.contains(" fails: "), "{name}: {text}");
    let is_shrunk = text.contains("It does so with ");
    assert!(is_shrunk || text.contains("panics"), "{name}: {text}");
    text
}

#[test]
#[ignore = "builds the source once for each mutation"]
fn every_mutation_is_found_as_the_book_says() {
    let (exercises, mut wrong, mut swaps) = (exercises(), Vec::new(), 0);
    let order = include_str!("../../src/book/order.md");
    for mutation in Mutation::all() {
        let text = found(&mutation);
        if let Some((_, row)) = order.split_once(&format!("`{}`: seed ", mutation.name)) {
            swaps += 1;
            let seed = row.split(')').next().unwrap_or_default();
            if !text.contains(&format!("seed {seed} fails: ")) {
                wrong.push(format!("{}: seed {seed}", mutation.name));
            }
        }
        for exercise in exercises.iter().filter(|it| it.mutation == mutation.name) {
            let seed = format!("seed {} fails: ", exercise.seed);
            let line = text.lines().find(|it| it.contains(" fails: ")).unwrap_or_default();
            if !line.starts_with(&seed) || !line.contains(&exercise.complaint) {
                wrong.push(format!("{}: {line}", mutation.name));
            }
        }
    }
    assert_eq!(swaps, 3, "the page about the order of the steps names three");
    assert!(wrong.is_empty(), "the book says something else:\n{}", wrong.join("\n"));
}
