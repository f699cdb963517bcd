//! Lives of the server in a simulated world.
//!
//! ```sh
//! cargo run --release --example simulate                  # until one fails, or it is stopped
//! cargo run --release --example simulate -- --lives 10000 # so many; status 1 if one fails
//! cargo run --release --example simulate -- --seed 7      # one, once more
//! ```

#![allow(unreachable_pub)] // There is one crate, and modules are what is private.

#[path = "mod.rs"]
mod simulation;

use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::simulation::counts::{COVERS_ALL, Counts};
use crate::simulation::life::{Lives, describe, report};
use crate::simulation::plan::Fault;

fn main() -> ExitCode {
    let Some((seed, lives)) = options(std::env::args().skip(1)) else {
        return ExitCode::from(2);
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = seed.unwrap_or(now.as_secs() << 20);
    let lives = lives.unwrap_or(if seed.is_some() { 1 } else { u64::MAX });
    let (all, mut counts, started) = (Lives::new(), Counts::default(), Instant::now());
    let mut told = Instant::now();
    let lived = Arc::new(AtomicU64::new(first));
    let at = Arc::clone(&lived);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        println!("seed {} fails: the server panics", at.load(Ordering::Relaxed));
        usual(what);
    }));
    // One life is shown call by call.
    let shows_calls = lives == 1;
    for seed in (0..lives).map(|life| first.wrapping_add(life)) {
        lived.store(seed, Ordering::Relaxed);
        let plan = all.plan(seed);
        match all.live(&plan, &mut counts, shows_calls) {
            Err(_) => {
                let shrunk = all.shrink(&plan);
                let failure = all.live(&shrunk, &mut Counts::default(), true);
                let failure = failure.expect_err("it failed before");
                println!("{}", report(&plan, &shrunk, &failure));
                return ExitCode::FAILURE;
            }
            Ok(calls) if shows_calls => println!("{}{}", describe(&plan), calls.join("\n")),
            Ok(_) => {}
        }
        if told.elapsed().as_secs() >= 5 {
            told = Instant::now();
            println!("{}", progress(&counts, started));
        }
    }
    println!("{}", progress(&counts, started));
    let missing = counts.missing();
    if lives >= COVERS_ALL && !missing.is_empty() {
        println!("what never happened: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The first seed, and how many lives, if they are given. Says what is wrong with the options.
fn options(mut options: impl Iterator<Item = String>) -> Option<(Option<u64>, Option<u64>)> {
    let (mut seed, mut lives) = (None, None);
    while let Some(option) = options.next() {
        let place = match option.as_str() {
            "--seed" => &mut seed,
            "--lives" => &mut lives,
            _ => {
                eprintln!("simulate: {option:?} is no option: there are --seed N and --lives N");
                return None;
            }
        };
        let value = options.next().unwrap_or_default();
        *place = value.parse().ok();
        if place.is_none() {
            eprintln!("simulate: {option} {value:?}: it takes a number from 0 to 2^64 - 1");
            return None;
        }
    }
    Some((seed, lives))
}

fn progress(counts: &Counts, started: Instant) -> String {
    let faults: Vec<String> = Fault::ALL
        .iter()
        .map(|&fault| format!("{} {}", fault.name(), counts.faults[fault as usize]))
        .collect();
    let seconds = started.elapsed().as_secs_f64();
    format!(
        "{} lives, {} ticks, {} connections, {} requests, {} responses, {:.0} lives per second; {}",
        counts.lives,
        counts.ticks,
        counts.connections,
        counts.requests,
        counts.responses,
        counts.lives as f64 / seconds,
        faults.join(", ")
    )
}
