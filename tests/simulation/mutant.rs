//! Mutations of the source, and a copy of it in which one of them is built and lived. The test of
//! all mutations and the exercises of the book share this.
//!
//! The copy lies below `target`, beside what is built from it. So the source is never changed, and
//! the next mutation finds all other crates built. Processes take the copy one after the other.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, io};

use rustix::fs::{FlockOperation, flock};

/// What of the project the copy has: cargo wants the files of all targets to be there.
const COPIED: [&str; 4] = ["Cargo.lock", "src", "tests", "benches"];

/// Crates that benches need, and those that tests need. To build all of them would take longer than
/// the rest.
const FOR_BENCHES: [&str; 1] = ["criterion"];
const FOR_TESTS: [&str; 2] = ["proptest", "yaml-rust2"];

/// A fault of the kind that has sunk servers, in one line or two: a patch with one hunk, whose
/// first line says what is wrong.
pub struct Mutation {
    /// The name of the patch, without its extension.
    pub name: String,
    /// The file that it changes.
    pub file: String,
    /// The lines of the hunk that change, with their signs.
    pub changed: String,
    /// The seed that it names, if no earlier life finds it.
    pub seed: Option<String>,
    before: String,
    after: String,
}

impl Mutation {
    /// All of them, in their order.
    pub fn all() -> Vec<Mutation> {
        let folder = fs::read_dir(folder()).expect("the mutations are there");
        let mut patches: Vec<PathBuf> = folder.map(|it| it.expect("an entry").path()).collect();
        patches.sort();
        patches.iter().map(|patch| Mutation::read(patch).expect("a patch")).collect()
    }

    /// The one with this name.
    ///
    /// # Errors
    /// Its patch cannot be read.
    pub fn named(name: &str) -> Result<Mutation, String> {
        let patch = folder().join(format!("{name}.patch"));
        Mutation::read(&patch)
            .map_err(|error| format!("{} cannot be read: {error}", patch.display()))
    }

    fn read(patch: &Path) -> io::Result<Mutation> {
        let text = fs::read_to_string(patch)?;
        let begins = |with: &'static str| text.lines().find_map(move |it| it.strip_prefix(with));
        let hunk = text.lines().skip_while(|line| !line.starts_with("@@")).skip(1);
        let side = |other: char| -> String {
            let lines = hunk.clone().filter(|line| !line.starts_with(other));
            lines.map(|line| format!("{}\n", &line[1..])).collect()
        };
        let changed = hunk.clone().filter(|line| line.starts_with(['-', '+']));
        Ok(Mutation {
            name: patch.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            file: begins("--- a/").expect("a patch names its file").to_owned(),
            changed: changed.map(|line| format!("{line}\n")).collect(),
            seed: begins("Seed: ").map(str::to_owned),
            before: side('+'),
            after: side('-'),
        })
    }

    /// The text of its file with the change.
    ///
    /// # Errors
    /// The file does not have the lines that the patch changes.
    pub fn text(&self) -> Result<String, String> {
        let source = fs::read_to_string(root().join(&self.file))
            .map_err(|error| format!("{} cannot be read: {error}", self.file))?;
        if source.matches(&self.before).count() == 1 {
            return Ok(source.replace(&self.before, &self.after));
        }
        Err(format!(
            "{}.patch does not fit: {} has changed where the patch changes it",
            self.name, self.file
        ))
    }
}

/// The copy of the source with a mutation. No other process has the copy until this is dropped.
pub struct Mutant {
    source: PathBuf,
    built: PathBuf,
    _lock: File,
}

impl Mutant {
    /// Copies the source and applies a mutation.
    ///
    /// # Errors
    /// The mutation does not fit, or the copy cannot be written.
    pub fn new(mutation: &Mutation) -> Result<Mutant, String> {
        let text = mutation.text()?;
        let folder = target().join("mutants");
        Mutant::copy(&folder, &mutation.file, &text).map_err(|error| {
            format!("the source cannot be copied to {}: {error}", folder.display())
        })
    }

    fn copy(folder: &Path, file: &str, text: &str) -> io::Result<Mutant> {
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("Another process has the copy of the source. This one waits for it.");
            flock(&lock, FlockOperation::LockExclusive)?;
        }
        let source = folder.join("source");
        if source.exists() {
            fs::remove_dir_all(&source)?;
        }
        fs::create_dir(&source)?;
        for name in COPIED {
            copy_tree(&root().join(name), &source.join(name))?;
        }
        fs::write(source.join("Cargo.toml"), manifest(&[&FOR_BENCHES[..], &FOR_TESTS].concat())?)?;
        fs::write(source.join(file), text)?;
        // Tests of it fail by waiting for what does not happen, and need not wait as long.
        let harness = source.join("tests/it/harness.rs");
        let (text, timeout) = (fs::read_to_string(&harness)?, "from_secs(120)");
        assert!(text.contains(timeout), "the tests have another timeout");
        fs::write(harness, text.replace(timeout, "from_secs(10)"))?;
        Ok(Mutant { source, built: folder.join("built"), _lock: lock })
    }

    /// Builds the simulation with it.
    ///
    /// # Errors
    /// It does not build: what the compiler says.
    pub fn build(&self) -> Result<(), String> {
        let built = self.cargo("build --quiet --example simulate").output();
        let built = built.map_err(|error| format!("cargo cannot be run: {error}"))?;
        if built.status.success() {
            return Ok(());
        }
        Err(format!("it does not build:\n{}", String::from_utf8_lossy(&built.stderr)))
    }

    /// Lives so many lives, as soon as it is built. It fails with the first life that does.
    ///
    /// # Errors
    /// Those of the start of a process.
    pub fn live(&self, seed: &str, lives: u64) -> io::Result<Output> {
        let mut run = self.cargo("run --quiet --example simulate -- --seed");
        run.args([seed, "--lives", &lives.to_string()]).output()
    }

    /// Runs tests of the source with it: those of `--lib` or of `--test it` that have this in their
    /// names.
    ///
    /// # Errors
    /// The manifest cannot be written, or a process not started.
    pub fn test(&self, target: &str, name: &str) -> io::Result<Output> {
        fs::write(self.source.join("Cargo.toml"), manifest(&FOR_BENCHES)?)?;
        self.cargo(&format!("test {target} {name}")).output()
    }

    /// Most mutations are found in few lives, so a fast build counts for more than fast lives. The
    /// crates that are left out are still in the lock file, so it may not be asked for as it is.
    fn cargo(&self, command: &str) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        let (command, arguments) = command.split_once(' ').expect("it has arguments");
        cargo.args([command, "--release", "--offline"]).args(arguments.split(' '));
        cargo.current_dir(&self.source).env("CARGO_TARGET_DIR", &self.built);
        for (setting, value) in [("OPT_LEVEL", "0"), ("LTO", "off"), ("CODEGEN_UNITS", "256")] {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        cargo.env("CARGO_INCREMENTAL", "1");
        cargo
    }
}

/// The project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder `target`, wherever that is: cargo puts this program three folders below it.
pub fn target() -> PathBuf {
    let program = env::current_exe().expect("a program knows its path");
    program.ancestors().nth(3).expect("it is below target").to_owned()
}

fn folder() -> PathBuf {
    root().join("tests/simulation/mutations")
}

/// The manifest of the copy, without some crates.
fn manifest(left_out: &[&str]) -> io::Result<String> {
    let text = fs::read_to_string(root().join("Cargo.toml"))?;
    let is_left_out = |line: &str| left_out.iter().any(|it| line.starts_with(&format!("{it} =")));
    Ok(text.lines().filter(|line| !is_left_out(line)).map(|line| format!("{line}\n")).collect())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        // Not with the mode of the file, which may not be written to.
        return fs::write(to, fs::read(from)?);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        // The fuzz targets are built beside their sources.
        if name != "target" {
            copy_tree(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}
