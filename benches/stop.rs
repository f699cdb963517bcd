//! What a stop costs the clients: one part of the bench `judge`, with its options. Run it with
//! `cargo bench --bench stop`.

#[path = "judge/mod.rs"]
mod judge;

fn main() -> std::process::ExitCode {
    judge::main(Some("stop"))
}
