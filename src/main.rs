//! From options to exit status; everything else is in the library.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use log::{Level, error, log_enabled, warn};
use onepoll::cli::Command;
use onepoll::cli::options::Options;
use onepoll::cli::probe;
use onepoll::event_loop::Server;
use onepoll::event_loop::descriptors;
use onepoll::event_loop::shutdown::Outcome;
use onepoll::event_loop::signals;
use onepoll::log::Output;
use onepoll::services::{Service, VERSION};
use onepoll::systemd;

fn main() -> ExitCode {
    signals::ignore_harmful();
    let status = match Command::parse(env::args_os().skip(1), |name| env::var_os(name)) {
        Ok(Command::Serve(options)) => serve(&options),
        Ok(Command::Probe(target)) => match probe::probe(&target) {
            Ok(()) => 0,
            Err(reason) => print(&mut io::stderr(), &format!("onepoll: {reason}\n"), 1),
        },
        Ok(Command::Print(text)) => print(&mut io::stdout(), &text, 0),
        Err(error) => {
            let complaint = format!("onepoll: {error}\n");
            print(&mut io::stderr(), &complaint, error.exit_status())
        }
    };
    status.into()
}

fn serve(options: &Options) -> u8 {
    descriptors::raise_limit();
    // First of all, while the supervisor's descriptors are the only ones.
    let inherited = systemd::sockets();
    let output = match Output::open(options.log) {
        Ok(output) => output,
        Err(error) => {
            let complaint = format!("onepoll: cannot keep a log: {error}\n");
            return print(&mut io::stderr(), &complaint, 1);
        }
    };
    if let Some(warning) = &options.warning {
        warn!(target: "onepoll", "{warning}");
    }
    let bound = inherited.and_then(|inherited| Server::bind(options, inherited));
    let outcome = bound.and_then(|mut server| {
        let (main, diag) = (server.address(Service::Main), server.address(Service::Diag));
        output.print_ready_line(VERSION, main, diag);
        systemd::notify_ready();
        server.run()?;
        // No connection is left that a wait for standard error could delay.
        output.flush_before_exit();
        Ok(server.sum_up())
    });
    let status = match outcome {
        Ok(Outcome::Drained) => 0,
        Ok(Outcome::Failed) => 1,
        Ok(Outcome::Cut) => 3,
        Ok(Outcome::Left) => 130,
        // A start that fails says so even if there is no log.
        Err(error) if !log_enabled!(target: "onepoll", Level::Error) => {
            print(&mut io::stderr(), &format!("onepoll: {error}\n"), 1)
        }
        Err(error) => {
            error!(target: "onepoll", "{error}");
            1
        }
    };
    output.flush_before_exit();
    status
}

/// Prints a text for whoever still listens: a reader that has gone is no failure of ours.
fn print(out: &mut dyn Write, text: &str, status: u8) -> u8 {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    status
}
