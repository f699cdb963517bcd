//! What the program says. Standard output carries one line, for whoever has started it and
//! wants to know where it listens; everything else is a log line on standard error.

use std::io::{self, Write};
use std::net::SocketAddr;

use log::LevelFilter;
use simple_logger::SimpleLogger;

/// Starts the log: lines of `level` and above go to standard error, with the time in UTC,
/// which needs no time zone files and no thread-unsafe look at the environment.
pub fn start(level: LevelFilter) {
    let logger = SimpleLogger::new().with_level(level).with_utc_timestamps();
    // mio traces every call to the kernel; `--log trace` is about what this program does.
    if logger
        .with_module_level("mio", LevelFilter::Off)
        .init()
        .is_err()
    {
        log::debug!("another logger was there first");
    }
}

/// Prints the ready line, the only one on standard output: a JSON object with the process
/// id, the version and both addresses. Nobody has to read it: that it cannot be printed is
/// logged and no reason not to serve.
pub fn announce(version: &str, listen: SocketAddr, diag: SocketAddr) {
    let pid = std::process::id();
    let line = format!(
        "{{\"pid\":{pid},\"version\":\"{version}\",\"listen\":\"{listen}\",\"diag\":\"{diag}\"}}\n"
    );
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush())
    {
        log::warn!(target: "onepoll", "The ready line could not be printed: {error}");
    }
}
