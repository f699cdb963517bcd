//! The command line: from arguments and environment variables to a [`Command`]. Each setting comes
//! from its flag, else from its environment variable, else from the built-in default.
//!
//! The invariant: nothing is guessed. A flag or a value that is not accepted is an error, which
//! quotes it and says what is accepted.
//!
//! # Settings in detail
//!
//! `ADDR` is `8080`, `:8080`, `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`. A port alone, as
//! in the defaults, means every address of the host, IPv6 and IPv4 with one socket, or IPv4 alone
//! (`0.0.0.0`) where the host has no IPv6. `[::]` means every address, too. Port 0 picks a free
//! port. Names other than `localhost` are not resolved.
//!
//! A `DURATION` is `5s`, `250ms` or `2m`, up to a day. A switch such as `--reuse-port` is `true`,
//! `yes`, `on` or `1`, or the opposite, in any case.
//!
//! `--body-timeout` is not the only deadline of a request body: it may take 5 s, and a second more
//! for each 240 bytes of it.
//!
//! `--write-timeout` counts what the kernel takes, and the kernel takes large steps. So a timeout
//! of a second or two may close a slow reader that never pauses, and a client that stops reading is
//! closed after up to twice the time.
//!
//! `--block` is a demonstration of what a handler that blocks does to a loop: the loop sleeps for
//! so long before each response from main's path, and all clients of both services wait. So do
//! timers and signals: no deadline of a stop is kept. `--delay` waits as long with a timer, and no
//! other client waits. The server warns of it at start, on standard error also where nothing is
//! logged, and refuses it with inherited sockets.
//!
//! `--spin` is for a machine with a processor to spare. For so long after an event the loop polls
//! without sleeping, so a request that comes meanwhile does not wait until a processor wakes up. A
//! busy loop hardly sleeps and gains nothing. `/loop` and the live page show the share of the time
//! that goes by like this. It counts as processor time, also against the quota of a container.
//! `1ms` spans the gap between a response and the next request of a client nearby.
//!
//! At start the process raises the soft limit of descriptors to the hard one. By default main takes
//! as many connections as that allows, up to 1,048,576, and leaves 16 descriptors to diagnostics;
//! the limit at the start counts. When main has all of its connections, clients wait in the
//! kernel's queue, and a line in the log says so.
//!
//! `RUST_LOG` is read where neither `--log` nor `ONEPOLL_LOG` is set. That variable belongs to many
//! programs, so nothing in it is an error: the server takes a level by itself and `onepoll=LEVEL`,
//! and ignores everything else with a warning.
//!
//! In the environment of `cargo build`, `ONEPOLL_PORT` and `ONEPOLL_DIAG_PORT` set the built-in
//! ports and `ONEPOLL_VERSION` the version that `/ready` shows. Here, too, an empty variable counts
//! as unset.

pub mod address;
pub mod options;
pub mod probe;

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write};

use lexopt::Arg;

use crate::cli::address::ADDRESSES;
use crate::cli::options::{DURATIONS, LEVELS, Options, SETTINGS, Setting, quoted};
use crate::cli::probe::{Target, URLS};
use crate::services::VERSION;

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server.
    Serve(Box<Options>),
    /// Send one request to a server, and exit with the result.
    Probe(Target),
    /// Print a text, and exit.
    Print(String),
}

/// A flag or a value that is not accepted: one line that quotes it and says what is accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError {
    line: String,
    /// Whether `--probe` is among the arguments.
    in_probe: bool,
}

impl Command {
    /// Parses the arguments, without the program's name, and then the environment variables of the
    /// settings that no argument has set. An empty variable counts as unset. Of a repeated flag,
    /// the last one wins.
    ///
    /// # Errors
    /// The first flag, value or variable that is not accepted.
    pub fn parse(
        args: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Command, UsageError> {
        let args: Vec<OsString> = args.into_iter().collect();
        let is_probe = |arg: &OsString| {
            let rest = arg.as_encoded_bytes().strip_prefix(b"--probe");
            rest.is_some_and(|rest| matches!(rest, [] | [b'=', ..]))
        };
        let in_probe = args.iter().any(is_probe);
        Command::read(args, variable).map_err(|error| UsageError { in_probe, ..error })
    }

    fn read(
        args: Vec<OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Command, UsageError> {
        let mut options = Options::default();
        let (mut set, mut text, mut probe) = (Vec::new(), None, None);
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next().map_err(unknown)? {
            let setting = match arg {
                Arg::Short('h') | Arg::Long("help") => {
                    text = Some(help());
                    continue;
                }
                Arg::Short('V') | Arg::Long("version") => {
                    text = Some(format!("onepoll {VERSION}\n"));
                    continue;
                }
                Arg::Long("probe") => {
                    probe = Some(optional_url(&mut parser)?);
                    continue;
                }
                Arg::Long(name) => SETTINGS.iter().find(|setting| setting.flag == name),
                Arg::Short(_) | Arg::Value(_) => None,
            };
            let setting = setting.ok_or_else(|| unknown(arg.unexpected()))?;
            let flag = format!("--{}", setting.flag);
            let value = if setting.value.is_empty() {
                parser.optional_value().unwrap_or_else(|| "true".into())
            } else {
                value_of(&mut parser).ok_or_else(|| setting.lacks_value(&flag))?
            };
            setting.apply(&mut options, &flag, &value)?;
            set.push(setting.flag);
        }
        if let Some(text) = text {
            return Ok(Command::Print(text));
        }
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        for setting in &SETTINGS {
            if set.contains(&setting.flag) {
                continue;
            }
            if let Some(value) = variable(setting.variable) {
                setting.apply(&mut options, setting.variable, &value)?;
                set.push(setting.flag);
            }
        }
        Ok(match probe {
            None => {
                if !set.contains(&"log")
                    && let Some(value) = variable("RUST_LOG")
                {
                    options.apply_rust_log(&value.to_string_lossy());
                }
                Command::Serve(Box::new(options))
            }
            Some(None) => Command::Probe(Target::ready_at(options.diag)),
            Some(Some(target)) => Command::Probe(target),
        })
    }
}

impl Setting {
    fn apply(&self, options: &mut Options, source: &str, value: &OsStr) -> Result<(), UsageError> {
        let set = value.to_str().and_then(|text| (self.set)(options, text));
        set.ok_or_else(|| {
            let value = quoted(value);
            UsageError::new(format!("{source} {value}: expected {}", self.accepted))
        })
    }

    fn lacks_value(&self, flag: &str) -> UsageError {
        UsageError::new(format!("{flag} lacks its value: expected {}", self.accepted))
    }
}

impl UsageError {
    fn new(line: String) -> UsageError {
        UsageError { line, in_probe: false }
    }

    /// The exit status: 2, or 1 for a probe, as container engines reserve 2 (Dockerfile reference,
    /// `HEALTHCHECK`).
    pub fn exit_status(&self) -> u8 {
        if self.in_probe { 1 } else { 2 }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.line)
    }
}

impl std::error::Error for UsageError {}

fn unknown(error: lexopt::Error) -> UsageError {
    let what = match error {
        lexopt::Error::UnexpectedOption(option) => {
            format!("unknown option {}", quoted(option.as_ref()))
        }
        lexopt::Error::UnexpectedArgument(argument) => {
            format!("unexpected argument {}", quoted(&argument))
        }
        lexopt::Error::UnexpectedValue { option, value } => {
            format!("{option} takes no value, but was given {}", quoted(&value))
        }
        other => other.to_string(),
    };
    let flags = SETTINGS.each_ref().map(|setting| format!("--{}", setting.flag)).join(", ");
    UsageError::new(format!("{what}: expected {flags}, --probe, --help or --version"))
}

/// The value of a flag: attached by an equals sign, or the next argument unless that is a flag.
fn value_of(parser: &mut lexopt::Parser) -> Option<OsString> {
    let is_value = |next: &OsStr| !next.as_encoded_bytes().starts_with(b"--");
    let attached = parser.optional_value();
    attached.or_else(|| parser.try_raw_args()?.next_if(is_value))
}

/// The URL of `--probe`, which is optional.
fn optional_url(parser: &mut lexopt::Parser) -> Result<Option<Target>, UsageError> {
    let is_word = |next: &OsStr| !next.as_encoded_bytes().starts_with(b"-");
    let attached = parser.optional_value();
    let Some(url) = attached.or_else(|| parser.try_raw_args()?.next_if(is_word)) else {
        return Ok(None);
    };
    let target = url.to_str().and_then(|url| url.parse().ok());
    target
        .map(Some)
        .ok_or_else(|| UsageError::new(format!("--probe {}: expected {URLS}", quoted(&url))))
}

fn help() -> String {
    let mut text = format!(
        "onepoll {VERSION}: a tiny HTTP/1.1 server in one poll loop\n\n\
         Usage: onepoll [OPTIONS]\n\nOptions:\n"
    );
    let defaults = Options::default();
    let mut row = |option: &str, help: &str| {
        writeln!(text, "  {option:<27} {help}").expect("a string takes any text");
    };
    for Setting { flag, value, variable, help, get, .. } in &SETTINGS {
        row(format!("--{flag} {value}").trim_end(), help);
        row("", &format!("[env: {variable}] [default: {}]", get(&defaults)));
    }
    row("--probe [URL]", "GET URL, or the server's own /ready, and exit");
    row("-h, --help", "print this text");
    row("-V, --version", "print the version");
    write!(
        text,
        "\nADDR is {ADDRESSES};\n  port 0 picks a free one.\n\
         DURATION is {DURATIONS};\n  a timeout is 1ms at least.\n\
         LEVEL is {LEVELS}.\n  RUST_LOG is read where ONEPOLL_LOG is not set.\n\
         N of --max-connections may be auto: as many as there are descriptors.\n"
    )
    .expect("a string takes any text");
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use log::LevelFilter;

    use super::*;
    use crate::cli::address::Address;
    use crate::event_loop::listeners::Service;
    use crate::event_loop::shutdown::Schedule;
    use crate::event_loop::timers::Timeouts;
    use crate::services::{Content, default_port};

    fn parse(args: &[&str], variables: &[(&str, &str)]) -> Result<Command, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Command::parse(args.iter().map(OsString::from), variable).map_err(|error| error.to_string())
    }

    #[test]
    fn without_arguments_the_defaults_hold() {
        assert_eq!(parse(&[], &[]), Ok(Command::Serve(Box::default())));
    }

    #[test]
    fn flags_win_over_variables_and_variables_over_defaults() {
        let variables = [
            ("ONEPOLL_DRAIN", "1s"),
            ("ONEPOLL_IDLE_GRACE", "2s"),
            ("ONEPOLL_IDLE_TIMEOUT", "90s"),
            ("RUST_LOG", ""),
        ];
        let expected = Options {
            timeouts: Timeouts { idle: Duration::from_secs(90), ..Timeouts::default() },
            schedule: Schedule {
                drain: Duration::from_secs(3),
                idle_grace: Duration::from_secs(2),
                ..Options::default().schedule
            },
            ..Options::default()
        };
        assert_eq!(parse(&["--drain", "3s"], &variables), Ok(Command::Serve(Box::new(expected))));
    }

    /// Options in which no setting has its default.
    fn all_set() -> Options {
        Options {
            listen: Address::One(([127, 0, 0, 1], 1).into()),
            diag: Address::Every(2),
            reuse_port: true,
            max_connections: Some(10),
            content: Content {
                path: "/".to_owned(),
                body: "Hi".to_owned(),
                body_size: Some(7),
                delay: Duration::from_millis(3),
            },
            block: Duration::from_millis(6),
            timeouts: Timeouts {
                idle: Duration::from_secs(90),
                header: Duration::from_secs(1),
                body: Duration::from_secs(2),
                write: Duration::from_secs(3),
            },
            spin: Duration::from_millis(4),
            schedule: Schedule {
                drain: Duration::ZERO,
                idle_grace: Duration::from_secs(120),
                lame_duck: Duration::from_millis(5),
            },
            log: LevelFilter::Trace,
            warning: None,
        }
    }

    #[test]
    fn every_setting_has_its_flag_and_its_variable() {
        let values = [
            "localhost:1",
            ":2",
            "true",
            "10",
            "/",
            "Hi",
            "7",
            "3ms",
            "6ms",
            "90s",
            "1s",
            "2s",
            "3s",
            "4ms",
            "0s",
            "2m",
            "5ms",
            "TRACE",
        ];
        let flags: Vec<String> = SETTINGS
            .iter()
            .zip(values)
            .map(|(at, value)| format!("--{}={value}", at.flag))
            .collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        assert_eq!(parse(&flags, &[]), Ok(Command::Serve(Box::new(all_set()))));
        let variables: Vec<_> = SETTINGS.iter().map(|at| at.variable).zip(values).collect();
        assert_eq!(parse(&[], &variables), Ok(Command::Serve(Box::new(all_set()))));
    }

    #[test]
    fn of_a_repeated_flag_the_last_one_wins() {
        let expected = Options {
            schedule: Schedule { drain: Duration::from_secs(2), ..Options::default().schedule },
            ..Options::default()
        };
        assert_eq!(
            parse(&["--drain=1s", "--drain", "2s"], &[]),
            Ok(Command::Serve(Box::new(expected)))
        );
    }

    #[test]
    fn what_is_not_accepted_is_quoted_with_what_is() {
        let flags = "expected --listen, --diag, --reuse-port, --max-connections, --path, --body, \
                     --body-size, --delay, --block, \
                     --idle-timeout, --header-timeout, --body-timeout, --write-timeout, \
                     --spin, --drain, --idle-grace, --lame-duck, \
                     --log, --probe, --help or --version";
        for (args, variables, message) in [
            (&["--drain", "5x"][..], &[][..], format!("--drain '5x': expected {DURATIONS}")),
            (&["--listen=a:b"], &[], format!("--listen 'a:b': expected {ADDRESSES}")),
            (&["--log", "loud\n"], &[], format!("--log 'loud\\n': expected {LEVELS}")),
            (&[], &[("ONEPOLL_LOG", "a=b")], format!("ONEPOLL_LOG 'a=b': expected {LEVELS}")),
            (&["--port", "1"], &[], format!("unknown option '--port': {flags}")),
            (&["-x"], &[], format!("unknown option '-x': {flags}")),
            (&["8080"], &[], format!("unexpected argument '8080': {flags}")),
            (&["--help=me"], &[], format!("--help takes no value, but was given 'me': {flags}")),
        ] {
            assert_eq!(parse(args, variables), Err(message), "{args:?} {variables:?}");
        }
    }

    #[test]
    fn a_flag_without_its_value_says_that_it_lacks() {
        for (args, what) in [
            (&["--drain"][..], "lacks its value"),
            (&["--drain", "--log=off"], "lacks its value"),
            (&["--drain="], "''"),
        ] {
            let error = parse(args, &[]).expect_err("there is no value");
            assert_eq!(error, format!("--drain {what}: expected {DURATIONS}"));
        }
    }

    #[test]
    fn rust_log_is_read_if_neither_flag_nor_variable_is_set() {
        let log = |args: &[&str], variables: &[(&str, &str)]| match parse(args, variables) {
            Ok(Command::Serve(options)) => (options.log, options.warning),
            other => panic!("{other:?}"),
        };
        let others = ("RUST_LOG", "warn,hyper=info");
        let warning = "RUST_LOG 'warn,hyper=info': 'hyper=info' is passed over, as only a level \
                       and onepoll=LEVEL concern this program";
        let ignored = Some(warning.to_owned());
        assert_eq!(log(&[], &[others]), (LevelFilter::Warn, ignored));
        let own = ("ONEPOLL_LOG", "debug");
        assert_eq!(log(&[], &[others, own]), (LevelFilter::Debug, None));
        assert_eq!(log(&["--log=off"], &[others]), (LevelFilter::Off, None));
        assert_eq!(log(&[], &[("RUST_LOG", "onepoll")]), (LevelFilter::Trace, None));
    }

    #[test]
    fn a_switch_needs_no_value_and_takes_one_that_is_attached() {
        let shared =
            |on| Ok(Command::Serve(Box::new(Options { reuse_port: on, ..Options::default() })));
        let on = [("ONEPOLL_REUSE_PORT", "true")];
        assert_eq!(parse(&["--reuse-port"], &[]), shared(true));
        assert_eq!(parse(&["--reuse-port=false"], &on), shared(false));
        assert_eq!(parse(&[], &on), shared(true));
        let error = parse(&["--reuse-port=maybe"], &[]).expect_err("neither");
        assert_eq!(error, "--reuse-port 'maybe': expected true, false, yes, no, on, off, 1 or 0");
    }

    #[test]
    fn a_probe_targets_its_url_or_the_configured_ready() {
        let probes = |url: &str| Ok(url.to_owned());
        let probe = |args: &[&str], variables: &[(&str, &str)]| match parse(args, variables) {
            Ok(Command::Probe(target)) => Ok(target.to_string()),
            Ok(other) => panic!("{other:?} instead of a probe"),
            Err(error) => Err(error),
        };
        let diag = [("ONEPOLL_DIAG", "[::]:9")];
        let ours = format!("http://127.0.0.1:{}/ready", default_port(Service::Diag));
        assert_eq!(probe(&["--probe"], &[]), probes(&ours));
        assert_eq!(probe(&["--probe"], &diag), probes("http://127.0.0.1:9/ready"));
        assert_eq!(probe(&["--probe", "--diag", ":7"], &diag), probes("http://127.0.0.1:7/ready"));
        let url = "http://127.0.0.1:5/x";
        assert_eq!(probe(&["--probe", url], &diag), probes(url));
        assert_eq!(probe(&[&format!("--probe={url}"), "--log=off"], &[]), probes(url));
        let error = probe(&["--probe", "ftp://a"], &[]).expect_err("no URL");
        assert_eq!(error, format!("--probe 'ftp://a': expected {URLS}"));
    }

    #[test]
    fn help_names_every_setting_with_its_default() {
        let Ok(Command::Print(help)) = parse(&["--help"], &[]) else { panic!("help is printed") };
        for Setting { flag, variable, get, .. } in &SETTINGS {
            let default = get(&Options::default());
            assert!(help.contains(&format!("  --{flag} ")), "{flag}");
            assert!(help.contains(&format!("[env: {variable}] [default: {default}]")), "{flag}");
        }
        for line in help.lines() {
            assert!(line.len() <= 80, "it fits on a terminal: {line}");
        }
        assert_eq!(parse(&["-V"], &[]), Ok(Command::Print(format!("onepoll {VERSION}\n"))));
    }
}
