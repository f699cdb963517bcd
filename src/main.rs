//! From options to exit status; everything else is in the library.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use log::{Level, error, log_enabled, warn};
use onepoll::cli::address::Reach;
use onepoll::cli::options::Options;
use onepoll::cli::{Command, probe};
use onepoll::event_loop::listener::Listener;
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::shutdown::Outcome;
use onepoll::event_loop::{Config, Server, signals};
use onepoll::limits::LOG_PAUSE;
use onepoll::log::Output;
use onepoll::observe::{Hooks, Observe};
use onepoll::platform::descriptors;
use onepoll::services::{self, VERSION};
use onepoll::systemd::{self, Inherited};

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
            let message = format!("onepoll: {error}\n");
            print(&mut io::stderr(), &message, error.exit_status())
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
            let message = format!("onepoll: cannot open the log: {error}\n");
            return print(&mut io::stderr(), &message, 1);
        }
    };
    if let Some(warning) = &options.warning {
        warn!(target: "onepoll", "{warning}");
    }
    let outcome = inherited.and_then(|inherited| run(options, inherited, &output));
    let status = match outcome {
        Ok(Outcome::Drained) => 0,
        Ok(Outcome::Failed) => 1,
        Ok(Outcome::Aborted) => 3,
        Ok(Outcome::Interrupted) => 130,
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

/// Binds both listeners, or takes those that are inherited, and serves until a shutdown is over.
fn run(options: &Options, inherited: Inherited, output: &Output) -> io::Result<Outcome> {
    if !options.block.is_zero() {
        announce_block(options, &inherited)?;
    }
    let bind = |service, candidates: &[_]| Listener::bind(service, candidates, options.reuse_port);
    let [diag, main] = inherited;
    let diag = diag.map_or_else(|| bind(Service::Diag, &options.diag.candidates()), Ok)?;
    let reach = Reach::of_listener(&diag);
    let main = if let Some(main) = main {
        Reach::of_listener(&main).require_apart(reach)?;
        main
    } else {
        let candidates = options.listen.candidates();
        for &address in &candidates {
            Reach::of(address).require_apart(reach)?;
        }
        bind(Service::Main, &candidates)?
    };
    let (main_address, diag_address) = (main.address(), diag.address());
    let config = Config {
        timeouts: options.timeouts,
        delay: options.content.delay,
        schedule: options.schedule,
        max_connections: options.max_connections,
        spin: options.spin,
    };
    let [diag_routes, main_routes] = services::routes(&options.content)?;
    let listeners = vec![(diag, diag_routes), (main, main_routes)];
    let (stopping, dropped) = (systemd::notify_stopping, onepoll::log::dropped);
    let hooks = Hooks { before_wait, stopping, dropped, block: options.block };
    let observer = Observe::new(VERSION, hooks);
    let mut server = Server::new(&config, listeners, observer)?;
    output.print_ready_line(VERSION, main_address, diag_address);
    systemd::notify_ready();
    server.run()?;
    // No connection is left that a wait for standard error could delay.
    output.flush_before_exit();
    Ok(server.sum_up())
}

/// Says that the loop will block, also where nothing is logged. A supervisor that passes sockets
/// cannot want that.
fn announce_block(options: &Options, inherited: &Inherited) -> io::Result<()> {
    let block = options.block.as_millis();
    if inherited.iter().any(Option::is_some) {
        let why = "it is for demonstrations, and is refused with inherited sockets";
        return Err(io::Error::other(format!("Cannot serve with --block {block}ms: {why}")));
    }
    let what =
        "the loop sleeps for so long before each response from main's path: ALL clients wait";
    let warning = format!("onepoll: --block {block}ms is a DEMONSTRATION: {what}\n");
    print(&mut io::stderr(), &warning, 0);
    Ok(())
}

/// The log of a tick goes out before the next one waits. What standard error does not take is
/// tried again after a pause.
fn before_wait() -> Option<Duration> {
    onepoll::log::flush();
    onepoll::log::has_unflushed_lines().then_some(LOG_PAUSE)
}

/// Prints a text. That its reader has gone is no failure of this program.
fn print(out: &mut dyn Write, text: &str, status: u8) -> u8 {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    status
}
