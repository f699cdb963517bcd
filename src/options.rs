//! What the user asked for: each setting is taken from its flag, else from its environment
//! variable, else from the default that was built in. Nothing is guessed: what cannot be
//! understood is quoted back, together with what could be.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write};
use std::time::Duration;

use lexopt::Arg;
use log::LevelFilter;

use crate::address::{ADDRESSES, Address};
use crate::limits::{self, DURATION_MAX};
use crate::service::{Service, VERSION};

/// How to run the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the main listener serves `/hello`.
    pub listen: Address,
    /// Where the diagnostics listener serves `/ready`.
    pub diag: Address,
    /// How long after the signal what is still open is cut.
    pub drain: Duration,
    /// How long after the signal idle and silent connections are closed.
    pub last_call: Duration,
    /// The most talkative level that is logged.
    pub log: LevelFilter,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// To run the server.
    Serve(Options),
    /// To print a text and leave.
    Print(String),
}

/// A setting that cannot be understood: one line that quotes it and says what is accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(String);

struct Setting {
    flag: &'static str,
    value: &'static str,
    variable: &'static str,
    help: &'static str,
    accepted: &'static str,
    /// Puts the value in its place, or returns `None` if it is not [accepted](Self::accepted).
    set: fn(&mut Options, &str) -> Option<()>,
    get: fn(&Options) -> String,
}

const DURATIONS: &str = "a duration of up to a day, such as 5s, 250ms or 2m";
const LEVELS: &str = "off, error, warn, info, debug or trace";

static SETTINGS: [Setting; 5] = [
    Setting {
        flag: "listen",
        value: "ADDR",
        variable: "ONEPOLL_LISTEN",
        help: "where /hello is served",
        accepted: ADDRESSES,
        set: |options, text| text.parse().ok().map(|address| options.listen = address),
        get: |options| options.listen.to_string(),
    },
    Setting {
        flag: "diag",
        value: "ADDR",
        variable: "ONEPOLL_DIAG",
        help: "where /ready is served",
        accepted: ADDRESSES,
        set: |options, text| text.parse().ok().map(|address| options.diag = address),
        get: |options| options.diag.to_string(),
    },
    Setting {
        flag: "drain",
        value: "DURATION",
        variable: "ONEPOLL_DRAIN",
        help: "how long after a signal requests may finish; 0s cuts at once",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|duration| options.drain = duration),
        get: |options| format!("{:?}", options.drain),
    },
    Setting {
        flag: "last-call",
        value: "DURATION",
        variable: "ONEPOLL_LAST_CALL",
        help: "how long after a signal idle connections may still ask",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|duration| options.last_call = duration),
        get: |options| format!("{:?}", options.last_call),
    },
    Setting {
        flag: "log",
        value: "LEVEL",
        variable: "RUST_LOG",
        help: "what is logged on standard error",
        accepted: LEVELS,
        set: |options, text| text.parse().ok().map(|level| options.log = level),
        get: |options| options.log.to_string().to_lowercase(),
    },
];

impl Options {
    /// Reads the arguments, without the program's name, and of the environment what they
    /// leave open. An empty variable counts as unset; of a repeated flag the last one wins.
    ///
    /// # Errors
    /// The first flag, value or variable that cannot be understood.
    pub fn parse(
        args: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Command, UsageError> {
        let mut options = Options::default();
        let (mut given, mut text) = (Vec::new(), None);
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
                Arg::Long(name) => SETTINGS.iter().find(|setting| setting.flag == name),
                Arg::Short(_) | Arg::Value(_) => None,
            };
            let setting = setting.ok_or_else(|| unknown(arg.unexpected()))?;
            let flag = format!("--{}", setting.flag);
            let value = parser
                .value()
                .map_err(|_| setting.error(&flag, OsStr::new("")))?;
            setting.apply(&mut options, &flag, &value)?;
            given.push(setting.flag);
        }
        if let Some(text) = text {
            return Ok(Command::Print(text));
        }
        for setting in SETTINGS
            .iter()
            .filter(|setting| !given.contains(&setting.flag))
        {
            if let Some(value) = variable(setting.variable).filter(|value| !value.is_empty()) {
                setting.apply(&mut options, setting.variable, &value)?;
            }
        }
        Ok(Command::Serve(options))
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: Address::Every(Service::Main.port()),
            diag: Address::Every(Service::Diag.port()),
            drain: limits::DRAIN,
            last_call: limits::LAST_CALL,
            log: LevelFilter::Info,
        }
    }
}

impl Setting {
    fn apply(&self, options: &mut Options, source: &str, value: &OsStr) -> Result<(), UsageError> {
        let set = value.to_str().and_then(|text| (self.set)(options, text));
        set.ok_or_else(|| self.error(source, value))
    }

    fn error(&self, source: &str, value: &OsStr) -> UsageError {
        UsageError(format!(
            "{source} {}: expected {}",
            quoted(value),
            self.accepted
        ))
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

fn unknown(error: lexopt::Error) -> UsageError {
    let what = match error {
        lexopt::Error::UnexpectedOption(option) => {
            format!("unknown option {}", quoted(OsStr::new(&option)))
        }
        lexopt::Error::UnexpectedArgument(argument) => {
            format!("unexpected argument {}", quoted(&argument))
        }
        lexopt::Error::UnexpectedValue { option, value } => {
            format!("{option} takes no value, but was given {}", quoted(&value))
        }
        other => other.to_string(),
    };
    let flags = SETTINGS
        .each_ref()
        .map(|setting| format!("--{}", setting.flag))
        .join(", ");
    UsageError(format!("{what}: expected {flags}, --help or --version"))
}

/// The user's words between quotes, and on one line whatever they are.
fn quoted(words: &OsStr) -> String {
    let mut quoted = String::from("'");
    for symbol in words.to_string_lossy().chars() {
        if symbol.is_control() {
            quoted.extend(symbol.escape_default());
        } else {
            quoted.push(symbol);
        }
    }
    quoted.push('\'');
    quoted
}

fn help() -> String {
    let mut text = format!(
        "onepoll {VERSION}: a tiny HTTP/1.1 server in one poll loop\n\n\
         Usage: onepoll [OPTIONS]\n\nOptions:\n"
    );
    let defaults = Options::default();
    let mut row = |option: &str, help: &str| {
        writeln!(text, "  {option:<23} {help}").expect("a string takes any text");
    };
    for Setting {
        flag,
        value,
        variable,
        help,
        get,
        ..
    } in &SETTINGS
    {
        row(&format!("--{flag} {value}"), help);
        row(
            "",
            &format!("[env: {variable}] [default: {}]", get(&defaults)),
        );
    }
    row("-h, --help", "print this text");
    row("-V, --version", "print the version");
    write!(text, "\nADDR is {ADDRESSES}; port 0 picks one.\n").expect("a string takes any text");
    write!(text, "DURATION is {DURATIONS}.\nLEVEL is {LEVELS}.\n")
        .expect("a string takes any text");
    text
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(millis)).filter(|duration| *duration <= DURATION_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str], variables: &[(&str, &str)]) -> Result<Command, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Options::parse(args.iter().map(OsString::from), variable).map_err(|error| error.to_string())
    }

    #[test]
    fn without_words_the_defaults_hold() {
        assert_eq!(parse(&[], &[]), Ok(Command::Serve(Options::default())));
    }

    #[test]
    fn flags_go_before_variables_and_variables_before_defaults() {
        let variables = [
            ("ONEPOLL_DRAIN", "1s"),
            ("ONEPOLL_LAST_CALL", "2s"),
            ("RUST_LOG", ""),
        ];
        let expected = Options {
            drain: Duration::from_secs(3),
            last_call: Duration::from_secs(2),
            ..Options::default()
        };
        assert_eq!(
            parse(&["--drain", "3s"], &variables),
            Ok(Command::Serve(expected))
        );
    }

    #[test]
    fn every_setting_has_its_flag_and_its_variable() {
        let expected = Options {
            listen: Address::One(([127, 0, 0, 1], 1).into()),
            diag: Address::Every(2),
            drain: Duration::ZERO,
            last_call: Duration::from_secs(120),
            log: LevelFilter::Trace,
        };
        let values = ["localhost:1", ":2", "0s", "2m", "TRACE"];
        let flags: Vec<String> = SETTINGS
            .iter()
            .zip(values)
            .map(|(at, value)| format!("--{}={value}", at.flag))
            .collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        assert_eq!(parse(&flags, &[]), Ok(Command::Serve(expected.clone())));
        let variables: Vec<_> = SETTINGS.iter().map(|at| at.variable).zip(values).collect();
        assert_eq!(parse(&[], &variables), Ok(Command::Serve(expected)));
    }

    #[test]
    fn of_a_repeated_flag_the_last_one_wins() {
        let expected = Options {
            drain: Duration::from_secs(2),
            ..Options::default()
        };
        assert_eq!(
            parse(&["--drain=1s", "--drain", "2s"], &[]),
            Ok(Command::Serve(expected))
        );
    }

    #[test]
    fn durations_have_a_unit_and_an_end() {
        for (text, millis) in [("5s", 5_000), ("250ms", 250), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text:?}"
            );
        }
        assert_eq!(duration("1440m"), Some(DURATION_MAX));
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "+5s",
            "1.5s",
            "5 s",
            "5S",
            "5h",
            "s5",
            "1441m",
            "99999999999999999999s",
            "18446744073709551615m",
        ] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_quoted_with_what_would_be() {
        let flags = "expected --listen, --diag, --drain, --last-call, --log, --help or --version";
        for (args, variables, message) in [
            (
                &["--drain", "5x"][..],
                &[][..],
                format!("--drain '5x': expected {DURATIONS}"),
            ),
            (
                &["--drain"],
                &[],
                format!("--drain '': expected {DURATIONS}"),
            ),
            (
                &["--listen=a:b"],
                &[],
                format!("--listen 'a:b': expected {ADDRESSES}"),
            ),
            (
                &["--log", "loud\n"],
                &[],
                format!("--log 'loud\\n': expected {LEVELS}"),
            ),
            (
                &[],
                &[("RUST_LOG", "a=b")],
                format!("RUST_LOG 'a=b': expected {LEVELS}"),
            ),
            (
                &["--port", "1"],
                &[],
                format!("unknown option '--port': {flags}"),
            ),
            (&["-x"], &[], format!("unknown option '-x': {flags}")),
            (
                &["8080"],
                &[],
                format!("unexpected argument '8080': {flags}"),
            ),
            (
                &["--help=me"],
                &[],
                format!("--help takes no value, but was given 'me': {flags}"),
            ),
        ] {
            assert_eq!(
                parse(args, variables),
                Err(message),
                "{args:?} {variables:?}"
            );
        }
    }

    #[test]
    fn help_names_every_setting_with_its_default() {
        let Ok(Command::Print(help)) = parse(&["--help"], &[]) else {
            panic!("help is printed")
        };
        for Setting {
            flag,
            variable,
            get,
            ..
        } in &SETTINGS
        {
            let default = get(&Options::default());
            assert!(help.contains(&format!("--{flag} ")), "{flag}");
            assert!(
                help.contains(&format!("[env: {variable}] [default: {default}]")),
                "{flag}"
            );
        }
        assert_eq!(
            parse(&["-V"], &[]),
            Ok(Command::Print(format!("onepoll {VERSION}\n")))
        );
    }
}
