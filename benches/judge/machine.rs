//! The machine: its name for the report, a core for the server and one for the clients,
//! descriptors, and a folder for files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What the bench needs of the machine, or why it cannot run.
pub(crate) fn check() -> Result<(), String> {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let probe = Path::new(folder).join(format!("probe-{}", std::process::id()));
    fs::write(&probe, "").map_err(|error| format!("{folder} takes no files: {error}"))?;
    let _ = fs::remove_file(probe);
    match ["taskset", "timeout"].into_iter().find(|program| !has(program)) {
        Some(program) => Err(format!("{program} is not here; util-linux and coreutils have it")),
        None => Ok(()),
    }
}

/// A core for the server and another one for the clients, of those that this process might use
/// at first. On a machine with a single one, both are the same.
pub(crate) fn cores() -> [usize; 2] {
    static CORES: OnceLock<[usize; 2]> = OnceLock::new();
    *CORES.get_or_init(|| {
        let allowed = sched_getaffinity(None).expect("our own");
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let first = cores.next().expect("we run on one");
        [first, cores.next().unwrap_or(first)]
    })
}

/// Runs a client on the clients' core. Threads that it starts stay there.
pub(crate) fn on_client_core<T: Send>(client: impl FnOnce() -> T + Send) -> T {
    let [_, core] = cores();
    let on_core = move || {
        let mut cores = CpuSet::new();
        cores.set(core);
        sched_setaffinity(None, &cores).expect("a core that we may use");
        client()
    };
    thread::scope(|scope| scope.spawn(on_core).join()).expect("the client does not panic")
}

/// Raises the limit of descriptors as far as possible, for this process and its children.
pub(crate) fn raise_descriptors() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limits.maximum, ..limits };
    setrlimit(Resource::Nofile, most).expect("no more than the hard limit");
    limits.maximum.unwrap_or(u64::MAX)
}

/// A file for the time of the run, in a folder of this process.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        remove_old_folders();
        let name = format!("{FOLDERS}{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("a folder");
        folder
    });
    folder.join(name)
}

/// The names of folders, ahead of the number of the process.
const FOLDERS: &str = "judge-";

/// Removes the folders of processes that are gone.
fn remove_old_folders() {
    let entries = fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(FOLDERS));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another run may be about to remove it.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes the files of this run.
pub(crate) fn clean_up() {
    // What a server still writes there is of no interest.
    let _ = fs::remove_dir_all(scratch(""));
}

/// The folder for reports.
pub(crate) fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder")
}

/// Processor, number of cores and kernel.
pub(crate) fn description() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, name)| name);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

/// Where programs are looked for. Debian keeps servers where only root looks for them.
pub(crate) fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin")
}

/// Whether a program can be run.
pub(crate) fn has(program: &str) -> bool {
    let command = format!("command -v {program}");
    let output = Command::new("sh").args(["-c", &command]).env("PATH", path()).output();
    output.is_ok_and(|output| output.status.success())
}
