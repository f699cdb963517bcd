//! Servers side by side under load: one part of the bench `judge`, with its options and with all
//! cases. Run it with `cargo bench --bench wire`.

#[path = "judge/mod.rs"]
mod judge;

fn main() -> std::process::ExitCode {
    judge::main(Some("wire"))
}
