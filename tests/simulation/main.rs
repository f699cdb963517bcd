//! The server in a simulated world: lives of other seeds each time, lives that once failed, and
//! mutations of the source, all of which have to be found.

#![allow(unreachable_pub)] // There is one crate, and modules are what is private.

mod client;
mod counts;
mod judge;
mod judge_connection;
mod judge_counters;
mod judge_responses;
mod judge_stop;
mod kernel;
mod life;
mod link;
mod memory;
mod observer;
mod plan;
mod random;
mod requests;
mod time;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, process};

use crate::counts::{COVERS_ALL, Counts};
use crate::life::{Lives, report};
use crate::plan::{Faults, Plan};

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

/// A copy of the source with a mutation: a fault of the kind that has sunk servers, in one line or
/// two. The simulation proves nothing that it cannot see, so it has to find each of them in ten
/// thousand lives, or in the life of the seed that the patch names.
struct Mutant {
    folder: PathBuf,
}

impl Mutant {
    /// Applies a patch.
    fn new(patch: &Path) -> Mutant {
        let folder = env::temp_dir().join(format!("onepoll-mutant-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        for name in ["Cargo.toml", "Cargo.lock", "src", "tests", "benches"] {
            copy(&root().join(name), &folder.join(name));
        }
        let (file, text) = mutated(patch);
        fs::write(folder.join(file), text).expect("it is written");
        Mutant { folder }
    }

    /// Lives so many lives. It is built without what makes a build slow.
    fn live(&self, seed: &str, lives: u64) -> Output {
        let cargo = || {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.current_dir(&self.folder);
            cargo.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants"));
            cargo.env("CARGO_PROFILE_RELEASE_LTO", "off");
            cargo.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            cargo
        };
        let options = ["--release", "--quiet", "--locked", "--example", "simulate"];
        let built = cargo().arg("build").args(options).output().expect("cargo runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let mut run = cargo();
        run.arg("run").args(options).args(["--", "--seed", seed, "--lives", &lives.to_string()]);
        run.output().expect("it runs")
    }
}

impl Drop for Mutant {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).expect("a copy");
        return;
    }
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        // The fuzz targets are built beside their sources.
        if name != "target" {
            copy(&from.join(&name), &to.join(&name));
        }
    }
}

/// All patches, in their order.
fn mutations() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("tests/simulation/mutations")).expect("a folder");
    let mut patches: Vec<PathBuf> = folder.map(|it| it.expect("an entry").path()).collect();
    patches.sort();
    assert!(patches.len() > 20);
    patches
}

/// The file that a patch changes, and its text with the change. The first line of a patch says what
/// is wrong, and it has one hunk.
fn mutated(patch: &Path) -> (String, String) {
    let text = fs::read_to_string(patch).expect("text");
    let file = text.lines().find_map(|line| line.strip_prefix("--- a/")).expect("a file");
    let hunk = text.lines().skip_while(|line| !line.starts_with("@@")).skip(1);
    let side = |other: char| -> String {
        let lines = hunk.clone().filter(|line| !line.starts_with(other));
        lines.map(|line| format!("{}\n", &line[1..])).collect()
    };
    let (before, after) = (side('+'), side('-'));
    let source = fs::read_to_string(root().join(file)).expect("text");
    let fits = source.matches(&before).count() == 1;
    assert!(fits, "{} does not fit: it has to be made anew", patch.display());
    (file.to_owned(), source.replace(&before, &after))
}

#[test]
fn every_mutation_fits_the_source() {
    for patch in mutations() {
        let (file, text) = mutated(&patch);
        assert_ne!(fs::read_to_string(root().join(file)).expect("text"), text);
    }
}

#[test]
fn the_texts_know_how_many_mutations_there_are() {
    let text = |name| fs::read_to_string(root().join(name)).expect("text");
    let count = mutations().len();
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

#[test]
#[ignore = "builds the source once for each mutation"]
fn every_mutation_is_found() {
    for patch in mutations() {
        let says = fs::read_to_string(&patch).expect("text");
        let seed = says.lines().find_map(|line| line.strip_prefix("Seed: "));
        let lives = if seed.is_some() { 1 } else { COVERS_ALL };
        let output = Mutant::new(&patch).live(seed.unwrap_or("1"), lives);
        let (name, text) = (patch.display(), String::from_utf8_lossy(&output.stdout));
        println!("{name}: {}", text.lines().find(|it| it.contains("fails")).unwrap_or_default());
        assert!(!output.status.success(), "{name} is not found");
        assert!(text.contains("seed ") && text.contains(" fails: "), "{name}: {text}");
        let is_shrunk = text.contains("It does so with ");
        assert!(is_shrunk || text.contains("panics"), "{name}: {text}");
    }
}
