//! Examples for tests, which Cargo builds for none of them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An example, built as the test is, if need be: `cargo test` has built it, but `cargo test --test`
/// has not.
pub(crate) fn example(name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_onepoll")).parent().expect("a folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", name]);
    if built.ends_with("release") {
        cargo.arg("--release");
    }
    // A target has a folder of its own below that of all targets.
    let folder = built.parent().expect("a folder");
    let folder = match env::var_os("CARGO_BUILD_TARGET") {
        Some(target) if folder.ends_with(&target) => folder.parent().expect("a folder"),
        _ => folder,
    };
    assert!(cargo.arg("--target-dir").arg(folder).status().expect("cargo is here").success());
    built.join("examples").join(name)
}
