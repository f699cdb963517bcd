//! Any server, judged: conformance, speed, what a stop costs, and what bad clients do to it. Run it
//! with `cargo bench --bench judge -- --quick`; `--help` says what else there is.

#[path = "judge/mod.rs"]
mod judge;

fn main() -> std::process::ExitCode {
    judge::main(None)
}
