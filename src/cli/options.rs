//! The table of settings: the flag, the environment variable, the default and the accepted values
//! of each. It does not know how a command line is parsed.
//!
//! The invariant: the value that [`get`](Setting::get) shows is one that [`set`](Setting::set)
//! accepts.

use std::ffi::OsStr;
use std::time::Duration;

use log::LevelFilter;

use crate::cli::address::{ADDRESSES, Address};
use crate::event_loop::listeners::Service;
use crate::event_loop::shutdown::Schedule;
use crate::event_loop::timers::Timeouts;
use crate::http::is_plain_path;
use crate::limits::{BODY_SIZE_MAX, CONNECTIONS_MAX, DURATION_MAX, SPIN};
use crate::services::{Content, default_port};

/// The value of every setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The address of main, which serves `/hello`.
    pub listen: Address,
    /// The address of diagnostics, which serves `/ready` and what the event loop reports.
    pub diag: Address,
    /// Whether other processes may listen on the same ports (`SO_REUSEPORT`, socket(7)).
    pub reuse_port: bool,
    /// What main serves.
    pub content: Content,
    /// Most connections to main at once; `None` for as many as there are descriptors.
    pub max_connections: Option<usize>,
    /// How long a connection waits for its peer, by state.
    pub timeouts: Timeouts,
    /// How long the loop sleeps before each response of main, as a demonstration.
    pub block: Duration,
    /// How long the loop polls without sleeping after an event.
    pub spin: Duration,
    /// How long each stage of a shutdown takes.
    pub schedule: Schedule,
    /// The most verbose level that is logged.
    pub log: LevelFilter,
    /// A warning to log about the part of `RUST_LOG` that is ignored.
    pub warning: Option<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: Address::Every(default_port(Service::Main)),
            diag: Address::Every(default_port(Service::Diag)),
            reuse_port: false,
            schedule: Schedule::default(),
            content: Content::default(),
            max_connections: None,
            timeouts: Timeouts::default(),
            block: Duration::ZERO,
            spin: SPIN,
            log: LevelFilter::Info,
            warning: None,
        }
    }
}

impl Options {
    /// Sets the level from the value of `RUST_LOG`, and a warning about the rest of it.
    pub fn apply_rust_log(&mut self, text: &str) {
        let (level, ignored) = parse_rust_log(text);
        self.log = level.unwrap_or(self.log);
        self.warning = ignored.map(|ignored| {
            format!(
                "RUST_LOG {}: {} is passed over, as only a level and onepoll=LEVEL concern this \
                 program",
                quoted(text.as_ref()),
                quoted(ignored.as_ref())
            )
        });
    }
}

/// One row of the table.
pub struct Setting {
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// The placeholder of the value in the help text; empty for a switch.
    pub value: &'static str,
    /// The environment variable that is read if the flag is absent.
    pub variable: &'static str,
    /// The description in the help text.
    pub help: &'static str,
    /// The accepted values, for messages to the user.
    pub accepted: &'static str,
    /// Stores the value, or returns `None` if it is not [accepted](Self::accepted).
    pub set: fn(&mut Options, &str) -> Option<()>,
    /// The current value, as a user writes it.
    pub get: fn(&Options) -> String,
}

/// The accepted durations, for messages to the user.
pub const DURATIONS: &str = "a duration of up to a day, such as 5s, 250ms or 2m";
const TIMEOUTS: &str = "a duration from 1ms up to a day, such as 5s, 250ms or 2m";
const SIZES: &str = "a number of bytes from 0 to 67108864, which is 64 MiB";
const COUNTS: &str = "a number from 1 to 1048576, or auto for as many as there are descriptors";
const PATHS: &str = "a path such as / or /hello, without a query, dot segments or percent-encoding";
const TEXTS: &str = "a text of up to 64 MiB, in UTF-8";
const SWITCHES: &str = "true, false, yes, no, on, off, 1 or 0";
/// The accepted log levels, for messages to the user.
pub const LEVELS: &str = "off, error, warn, info, debug or trace";

/// All settings, in the order of the help text.
pub static SETTINGS: [Setting; 18] = [
    Setting {
        flag: "listen",
        value: "ADDR",
        variable: "ONEPOLL_LISTEN",
        help: "address of main, which serves /hello",
        accepted: ADDRESSES,
        set: |options, text| text.parse().ok().map(|address| options.listen = address),
        get: |options| options.listen.to_string(),
    },
    Setting {
        flag: "diag",
        value: "ADDR",
        variable: "ONEPOLL_DIAG",
        help: "address of diagnostics: /ready and statistics",
        accepted: ADDRESSES,
        set: |options, text| text.parse().ok().map(|address| options.diag = address),
        get: |options| options.diag.to_string(),
    },
    Setting {
        flag: "reuse-port",
        value: "",
        variable: "ONEPOLL_REUSE_PORT",
        help: "share both ports with other processes",
        accepted: SWITCHES,
        set: |options, text| switch(text).map(|on| options.reuse_port = on),
        get: |options| options.reuse_port.to_string(),
    },
    Setting {
        flag: "max-connections",
        value: "N",
        variable: "ONEPOLL_MAX_CONNECTIONS",
        help: "most connections to main at once",
        accepted: COUNTS,
        set: |options, text| count(text).map(|count| options.max_connections = count),
        get: |options| match options.max_connections {
            Some(count) => count.to_string(),
            None => "auto".to_owned(),
        },
    },
    Setting {
        flag: "path",
        value: "PATH",
        variable: "ONEPOLL_PATH",
        help: "path that main serves instead of /hello",
        accepted: PATHS,
        set: |options, text| {
            let is_path = is_plain_path(text.as_bytes());
            is_path.then(|| text.clone_into(&mut options.content.path))
        },
        get: |options| options.content.path.clone(),
    },
    Setting {
        flag: "body",
        value: "TEXT",
        variable: "ONEPOLL_BODY",
        help: "body of the response at PATH",
        accepted: TEXTS,
        set: |options, text| {
            let fits = text.len() <= BODY_SIZE_MAX;
            fits.then(|| text.clone_into(&mut options.content.body))
        },
        get: |options| options.content.body.clone(),
    },
    Setting {
        flag: "body-size",
        value: "N",
        variable: "ONEPOLL_BODY_SIZE",
        help: "length of the body: TEXT is cut off or repeated",
        accepted: SIZES,
        set: |options, text| {
            let size = number(text, BODY_SIZE_MAX);
            size.map(|size| options.content.body_size = Some(size))
        },
        get: |options| options.content.body_size().to_string(),
    },
    Setting {
        flag: "delay",
        value: "DURATION",
        variable: "ONEPOLL_DELAY",
        help: "how long main delays a response",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.content.delay = time),
        get: |options| shown(options.content.delay),
    },
    Setting {
        flag: "block",
        value: "DURATION",
        variable: "ONEPOLL_BLOCK",
        help: "demonstration: block the loop before a response",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.block = time),
        get: |options| shown(options.block),
    },
    Setting {
        flag: "idle-timeout",
        value: "DURATION",
        variable: "ONEPOLL_IDLE_TIMEOUT",
        help: "how long a connection may be idle",
        accepted: TIMEOUTS,
        set: |options, text| timeout(text).map(|time| options.timeouts.idle = time),
        get: |options| shown(options.timeouts.idle),
    },
    Setting {
        flag: "header-timeout",
        value: "DURATION",
        variable: "ONEPOLL_HEADER_TIMEOUT",
        help: "how long a request head may take",
        accepted: TIMEOUTS,
        set: |options, text| timeout(text).map(|time| options.timeouts.header = time),
        get: |options| shown(options.timeouts.header),
    },
    Setting {
        flag: "body-timeout",
        value: "DURATION",
        variable: "ONEPOLL_BODY_TIMEOUT",
        help: "how long a request body may pause",
        accepted: TIMEOUTS,
        set: |options, text| timeout(text).map(|time| options.timeouts.body = time),
        get: |options| shown(options.timeouts.body),
    },
    Setting {
        flag: "write-timeout",
        value: "DURATION",
        variable: "ONEPOLL_WRITE_TIMEOUT",
        help: "how long a client may read none of a response",
        accepted: TIMEOUTS,
        set: |options, text| timeout(text).map(|time| options.timeouts.write = time),
        get: |options| shown(options.timeouts.write),
    },
    Setting {
        flag: "spin",
        value: "DURATION",
        variable: "ONEPOLL_SPIN",
        help: "how long to poll without sleep after an event",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.spin = time),
        get: |options| shown(options.spin),
    },
    Setting {
        flag: "drain",
        value: "DURATION",
        variable: "ONEPOLL_DRAIN",
        help: "how long requests may finish in a drain",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.schedule.drain = time),
        get: |options| shown(options.schedule.drain),
    },
    Setting {
        flag: "idle-grace",
        value: "DURATION",
        variable: "ONEPOLL_IDLE_GRACE",
        help: "how long idle connections stay in a drain",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.schedule.idle_grace = time),
        get: |options| shown(options.schedule.idle_grace),
    },
    Setting {
        flag: "lame-duck",
        value: "DURATION",
        variable: "ONEPOLL_LAME_DUCK",
        help: "how long after SIGTERM or SIGHUP to serve on",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.schedule.lame_duck = time),
        get: |options| shown(options.schedule.lame_duck),
    },
    Setting {
        flag: "log",
        value: "LEVEL",
        variable: "ONEPOLL_LOG",
        help: "what is logged on standard error",
        accepted: LEVELS,
        set: |options, text| text.parse().ok().map(|level| options.log = level),
        get: |options| options.log.as_str().to_ascii_lowercase(),
    },
];

/// The level that `RUST_LOG` has for this program, and the directives that are ignored. Every
/// program that uses the `log` crate reads this variable, so nothing in it is an error. Of the
/// syntax of `env_logger`, only a level and `onepoll=LEVEL` count, and the latter wins.
fn parse_rust_log(text: &str) -> (Option<LevelFilter>, Option<String>) {
    let (mut default, mut own, mut ignored) = (None, None, Vec::new());
    let (directives, filter) = match text.split_once('/') {
        Some((directives, _)) => (directives, Some(&text[directives.len()..])),
        None => (text, None),
    };
    for directive in directives.split(',').map(str::trim_ascii).filter(|word| !word.is_empty()) {
        let (target, level) = directive.split_once('=').unwrap_or(match directive.parse() {
            Ok::<LevelFilter, _>(_) => ("", directive),
            Err(_) => (directive, "trace"),
        });
        match (target.trim_ascii(), level.trim_ascii().parse()) {
            ("", Ok(level)) => default = Some(level),
            ("onepoll", Ok(level)) => own = Some(level),
            _ => ignored.push(directive),
        }
    }
    ignored.extend(filter);
    let ignored = (!ignored.is_empty()).then(|| ignored.join(","));
    (own.or(default), ignored)
}

/// The user's text between quotes, with control characters escaped: always one line.
pub fn quoted(text: &OsStr) -> String {
    let mut quoted = String::from("'");
    for character in text.to_string_lossy().chars() {
        if character.is_control() {
            quoted.extend(character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    quoted.push('\'');
    quoted
}

/// A duration in the form that [`duration`] accepts.
fn shown(duration: Duration) -> String {
    if duration.is_zero() { "0s".to_owned() } else { format!("{duration:?}") }
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A number in decimal digits alone; `usize::from_str` accepts a plus sign.
fn number(text: &str, max: usize) -> Option<usize> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_decimal)?;
    (number <= max).then_some(number)
}

fn count(text: &str) -> Option<Option<usize>> {
    if text.eq_ignore_ascii_case("auto") {
        return Some(None);
    }
    number(text, CONNECTIONS_MAX).filter(|&count| count > 0).map(Some)
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

/// A duration other than zero: a timeout of zero closes every connection at once.
fn timeout(text: &str) -> Option<Duration> {
    duration(text).filter(|timeout| !timeout.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_maximum() {
        for (text, millis) in [("5s", 5_000), ("250ms", 250), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text:?}");
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
        assert_eq!(timeout("0s"), None);
        assert_eq!(timeout("1ms"), Some(Duration::from_millis(1)));
    }

    #[test]
    fn switches_are_accepted_in_several_words_and_in_any_case() {
        for text in ["true", "1", "yes", "on", "TRUE", "Yes", "oN"] {
            assert_eq!(switch(text), Some(true), "{text:?}");
        }
        for text in ["false", "0", "no", "off", "False", "NO", "Off"] {
            assert_eq!(switch(text), Some(false), "{text:?}");
        }
        for text in ["", "2", "y", "enabled", " true", "tru"] {
            assert_eq!(switch(text), None, "{text:?}");
        }
    }

    #[test]
    fn counts_begin_at_one_or_are_auto() {
        for (text, expected) in [
            ("1", Some(Some(1))),
            ("1048576", Some(Some(CONNECTIONS_MAX))),
            ("auto", Some(None)),
            ("0", None),
            ("1048577", None),
            ("+1", None),
            ("", None),
            ("all", None),
        ] {
            assert_eq!(count(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_levels_for_this_program_count_in_rust_log() {
        use LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        for (text, level, ignored) in [
            ("warn", Some(Warn), None),
            ("WARN", Some(Warn), None),
            ("off", Some(Off), None),
            ("onepoll=debug", Some(Debug), None),
            ("onepoll", Some(Trace), None),
            ("warn,onepoll=debug", Some(Debug), None),
            ("onepoll=error , warn", Some(Error), None),
            ("warn,hyper=info", Some(Warn), Some("hyper=info")),
            ("hyper=info", None, Some("hyper=info")),
            ("hyper,tokio::net=trace,info", Some(Info), Some("hyper,tokio::net=trace")),
            ("onepoll::http=trace", None, Some("onepoll::http=trace")),
            ("onepoll=loud", None, Some("onepoll=loud")),
            ("info/some.*text", Some(Info), Some("/some.*text")),
            ("a=b=c", None, Some("a=b=c")),
            (",,", None, None),
            ("", None, None),
        ] {
            let (found, rest) = parse_rust_log(text);
            assert_eq!((found, rest.as_deref()), (level, ignored), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_is_accepted() {
        let mut options = Options::default();
        for setting in &SETTINGS {
            let shown = (setting.get)(&options);
            assert_eq!((setting.set)(&mut options, &shown), Some(()), "{shown}");
            assert_eq!((setting.get)(&options), shown);
        }
    }
}
