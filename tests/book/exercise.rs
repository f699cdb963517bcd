//! The exercises of the book, one at a time.
//!
//! ```sh
//! cargo run --example exercise      # which there are
//! cargo run --example exercise -- 4 # the question, what happens, and then the solution
//! ```

#![allow(unreachable_pub)] // There is one crate, and modules are what is private.

#[path = "../simulation/mutant.rs"]
#[allow(dead_code)] // The test of all mutations uses the rest.
mod mutant;
#[allow(dead_code)] // The tests use the rest.
mod page;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

use crate::mutant::{Mutant, Mutation, target};
use crate::page::{Exercise, exercises};

/// As many lives as a mutation is given to be found.
const LIVES: u64 = 10_000;
/// How many of the latest calls are shown.
const CALLS_SHOWN: usize = 25;

/// Why there is no solution.
enum Failure {
    /// The arguments are wrong.
    Usage(String),
    /// The mutation was not built, or not found.
    Exercise(String),
    /// Nothing more can be written.
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<String> for Failure {
    fn from(what: String) -> Failure {
        Failure::Exercise(what)
    }
}

fn main() -> ExitCode {
    let (what, status) = match run() {
        Ok(()) => return ExitCode::SUCCESS,
        // A pager that has ended has seen enough.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Err(Failure::Output(error)) => (error.to_string(), 1),
        Err(Failure::Exercise(what)) => (what, 1),
        Err(Failure::Usage(what)) => (what, 2),
    };
    eprintln!("exercise: {what}");
    ExitCode::from(status)
}

fn run() -> Result<(), Failure> {
    let exercises = exercises();
    let arguments = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned());
    let arguments: Vec<String> = arguments.collect();
    let accepted = format!("it takes one number from 1 to {}", exercises.len());
    match &arguments[..] {
        [] => Ok(list(&exercises)?),
        [help] if help == "--help" || help == "-h" => Ok(list(&exercises)?),
        [number] => {
            let known = exercises.iter().find(|it| it.number.to_string() == *number);
            let none = || Failure::Usage(format!("{number:?} is no exercise: {accepted}"));
            practise(known.ok_or_else(none)?, exercises.len())
        }
        [_, more, ..] => Err(Failure::Usage(format!("{more:?} is too much: {accepted}"))),
    }
}

fn list(exercises: &[Exercise]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Each exercise changes a few lines of the source. What happens, and to whom?\n")?;
    for exercise in exercises {
        writeln!(out, "  {:>2}  {}", exercise.number, exercise.title)?;
    }
    writeln!(out, "\nThis begins with the first one: cargo run --example exercise -- 1")
}

/// One exercise, from its question to its solution.
fn practise(exercise: &Exercise, count: usize) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mutation = Mutation::named(&exercise.mutation)?;
    let Exercise { number, title, .. } = exercise;
    writeln!(out, "Exercise {number} of {count}: {title}\n")?;
    writeln!(out, "In {}:\n\n{}", mutation.file, mutation.changed)?;
    writeln!(out, "{}\n", plain(&exercise.question))?;
    wait_for_enter(&mut out, "Guess first. Enter shows what happens. ")?;
    writeln!(out, "A copy of the source is built with this change, and lives up to {LIVES} lives")?;
    writeln!(out, "of the simulation. That takes seconds, and half a minute the first time.\n")?;
    out.flush()?;
    let started = Instant::now();
    let all = happened(&mutation)?;
    let seconds = started.elapsed().as_secs_f64();
    writeln!(out, "This has happened, after {seconds:.1} s:\n\n{}", shown(&all))?;
    let file = target().join("mutants").join(format!("{}.txt", exercise.mutation));
    if let Err(error) = fs::write(&file, &all) {
        return Err(format!("{} cannot be written: {error}", file.display()).into());
    }
    writeln!(out, "All of it is in {}\n", file.display())?;
    wait_for_enter(&mut out, "Enter shows the solution. ")?;
    writeln!(out, "Solution\n\n{}", plain(&exercise.solution))?;
    if *number < count {
        writeln!(out, "\nThe next one: cargo run --example exercise -- {}", number + 1)?;
    }
    Ok(())
}

/// Waits for a reader at a terminal.
fn wait_for_enter(out: &mut impl Write, why: &str) -> io::Result<()> {
    if io::stdin().is_terminal() {
        write!(out, "{why}")?;
        out.flush()?;
        io::stdin().read_line(&mut String::new())?;
        writeln!(out)?;
    }
    Ok(())
}

/// What the simulation prints of a life that the mutation makes fail.
fn happened(mutation: &Mutation) -> Result<String, String> {
    let mutant = Mutant::new(mutation)?;
    mutant.build()?;
    let output =
        mutant.live("1", LIVES).map_err(|error| format!("cargo cannot be run: {error}"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (all, errors) = (text(&output.stdout), text(&output.stderr));
    if all.contains(" fails: ") {
        return Ok(all + &errors);
    }
    Err(format!("no life of {LIVES} fails with {}:\n{all}{errors}", mutation.name))
}

/// A report, as far as it can be read on a screen: what is wrong, the latest calls of the loop and
/// of the connection that it is about, and the trace of that connection; or where it panics.
fn shown(all: &str) -> String {
    let (report, trace) = all.split_at(all.find("\nConnection ").unwrap_or(all.len()));
    let mut lines = report.lines();
    let fails = lines.next().unwrap_or_default();
    let mut shown = vec![fails.to_owned()];
    shown.extend(lines.clone().find(|line| line.starts_with("It does so")).map(str::to_owned));
    let about = fails.split("fails: ").nth(1).and_then(|rest| rest.split(':').next());
    let about = about.filter(|it| it.starts_with("connection ")).unwrap_or("connection ");
    let is_call = |line: &&str| {
        let call = line.split_once(" ms  ").map_or("", |(_, call)| call);
        !call.starts_with("connection ") || call.starts_with(about)
    };
    let mut calls: Vec<&str> =
        lines.filter(|line| line.contains(" ms  ")).filter(is_call).collect();
    // These are of the end of the simulation.
    while calls.pop_if(|call| call.ends_with(": close")).is_some() {}
    if !calls.is_empty() {
        let latest = &calls[calls.len().saturating_sub(CALLS_SHOWN)..];
        shown.push(format!(
            "\nThe latest calls of the loop, up to the end of that life:\n{}",
            latest.join("\n")
        ));
    }
    let is_panic = |line: &&str| line.starts_with("thread '") && line.contains("panicked at");
    let mut panic = all.lines().skip_while(|line| !is_panic(line));
    shown.extend(panic.next().map(|line| format!("\n{line}")));
    shown.extend(panic.next().map(str::to_owned));
    if !trace.is_empty() {
        shown.push(format!("\nThe trace of the connection:{trace}"));
    }
    shown.join("\n").trim_end().to_owned() + "\n"
}

/// A text of the page for a terminal: a link is its name.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("](") {
        let (_, after) = link.split_once(')').expect("the end of a link");
        let (ahead, name) = before.rsplit_once('[').expect("the beginning of a link");
        plain += ahead;
        plain += name;
        rest = after;
    }
    plain + rest
}
