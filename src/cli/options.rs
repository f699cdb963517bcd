//! The settings: what there is to set, by which flag and which environment variable, and what
//! holds when nobody does. How they are read is another matter; this is the table.

use std::time::Duration;

use log::LevelFilter;

use crate::cli::address::{ADDRESSES, Address};
use crate::event_loop::shutdown::Schedule;
use crate::event_loop::timers::Timeouts;
use crate::http::is_plain_path;
use crate::limits::{self, BODY_SIZE_MAX, CONNECTIONS_MAX, DURATION_MAX};
use crate::services::{Content, Service};

/// How to run the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the main listener serves `/hello`.
    pub listen: Address,
    /// Where the diagnostics listener serves `/ready`, and the pages about the loop.
    pub diag: Address,
    /// Whether other processes may listen on the same ports.
    pub reuse_port: bool,
    /// What main serves.
    pub content: Content,
    /// How many connections main may have at once; `None` for as many as there are descriptors.
    pub max_connections: Option<usize>,
    /// How long a connection may wait for its peer.
    pub timeouts: Timeouts,
    /// How long each part of a stop takes.
    pub schedule: Schedule,
    /// The most talkative level that is logged.
    pub log: LevelFilter,
    /// What of `RUST_LOG` is passed over, for the log.
    pub warning: Option<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: Address::Every(Service::Main.port()),
            diag: Address::Every(Service::Diag.port()),
            reuse_port: false,
            schedule: Schedule {
                lame_duck: limits::LAME_DUCK,
                drain: limits::DRAIN,
                idle_grace: limits::IDLE_GRACE,
            },
            content: Content::default(),
            max_connections: None,
            timeouts: Timeouts::default(),
            log: LevelFilter::Info,
            warning: None,
        }
    }
}

impl Options {
    /// Takes from `RUST_LOG` what concerns this program, and keeps a warning of the rest.
    pub fn take_rust_log(&mut self, text: &str) {
        let (level, others) = rust_log(text);
        self.log = level.unwrap_or(self.log);
        self.warning = others.map(|others| {
            format!(
                "RUST_LOG {}: {} is passed over, as only a level and onepoll=LEVEL concern this \
                 program",
                quoted(text),
                quoted(&others)
            )
        });
    }
}

/// A setting: its flag and its variable, and what it sets.
pub struct Setting {
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// What stands for the value in the help text; empty for a flag that needs none.
    pub value: &'static str,
    /// The environment variable that stands in for the flag.
    pub variable: &'static str,
    /// What it sets, for the help text.
    pub help: &'static str,
    /// What a value may be, for messages to the user.
    pub accepted: &'static str,
    /// Puts the value in its place, or returns `None` if it is not [accepted](Self::accepted).
    pub set: fn(&mut Options, &str) -> Option<()>,
    /// The present value, as a user would write it.
    pub get: fn(&Options) -> String,
}

/// What a duration may look like, for messages to the user.
pub const DURATIONS: &str = "a duration of up to a day, such as 5s, 250ms or 2m";
const TIMEOUTS: &str = "a duration from 1ms up to a day, such as 5s, 250ms or 2m";
const SIZES: &str = "a number of bytes from 0 to 67108864, which is 64 MiB";
const COUNTS: &str = "a number from 1 to 1048576, or auto for as many as there are descriptors";
const PATHS: &str = "a path such as / or /hello, without a query, dot segments or percent-encoding";
const TEXTS: &str = "a text of up to 64 MiB, in UTF-8";
const SWITCHES: &str = "true, false, yes, no, on, off, 1 or 0";
/// What a log level may be, for messages to the user.
pub const LEVELS: &str = "off, error, warn, info, debug or trace";

/// All settings, in the order of the help text.
pub static SETTINGS: [Setting; 16] = [
    Setting {
        flag: "listen",
        value: "ADDR",
        variable: "ONEPOLL_LISTEN",
        help: "where main listens, which serves /hello",
        accepted: ADDRESSES,
        set: |options, text| text.parse().ok().map(|address| options.listen = address),
        get: |options| options.listen.to_string(),
    },
    Setting {
        flag: "diag",
        value: "ADDR",
        variable: "ONEPOLL_DIAG",
        help: "where diagnostics listens: /ready, and the loop",
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
        help: "how many connections main may have at once",
        accepted: COUNTS,
        set: |options, text| count(text).map(|most| options.max_connections = most),
        get: |options| match options.max_connections {
            Some(most) => most.to_string(),
            None => "auto".to_owned(),
        },
    },
    Setting {
        flag: "path",
        value: "PATH",
        variable: "ONEPOLL_PATH",
        help: "what main serves instead of /hello",
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
        help: "what main answers with",
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
        help: "how many bytes of TEXT, cut off or repeated",
        accepted: SIZES,
        set: |options, text| size(text).map(|size| options.content.body_size = Some(size)),
        get: |options| options.content.body_size().to_string(),
    },
    Setting {
        flag: "delay",
        value: "DURATION",
        variable: "ONEPOLL_DELAY",
        help: "how long main waits with its answer",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.content.delay = time),
        get: |options| written(options.content.delay),
    },
    Setting {
        flag: "idle-timeout",
        value: "DURATION",
        variable: "ONEPOLL_IDLE_TIMEOUT",
        help: "how long a connection may be idle",
        accepted: TIMEOUTS,
        set: |options, text| timeout(text).map(|time| options.timeouts.idle = time),
        get: |options| written(options.timeouts.idle),
    },
    Setting {
        flag: "header-timeout",
        value: "DURATION",
        variable: "ONEPOLL_HEADER_TIMEOUT",
        help: "how long a request head may take",
        accepted: TIMEOUTS,
        set: |options, text| timeout(text).map(|time| options.timeouts.header = time),
        get: |options| written(options.timeouts.header),
    },
    Setting {
        flag: "body-timeout",
        value: "DURATION",
        variable: "ONEPOLL_BODY_TIMEOUT",
        help: "how long a request body may pause",
        accepted: TIMEOUTS,
        set: |options, text| timeout(text).map(|time| options.timeouts.body = time),
        get: |options| written(options.timeouts.body),
    },
    Setting {
        flag: "write-timeout",
        value: "DURATION",
        variable: "ONEPOLL_WRITE_TIMEOUT",
        help: "how long a client may take no part of its answer",
        accepted: TIMEOUTS,
        set: |options, text| timeout(text).map(|time| options.timeouts.write = time),
        get: |options| written(options.timeouts.write),
    },
    Setting {
        flag: "drain",
        value: "DURATION",
        variable: "ONEPOLL_DRAIN",
        help: "how long after a signal requests may finish",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.schedule.drain = time),
        get: |options| written(options.schedule.drain),
    },
    Setting {
        flag: "idle-grace",
        value: "DURATION",
        variable: "ONEPOLL_IDLE_GRACE",
        help: "how long after a signal idle clients may ask",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.schedule.idle_grace = time),
        get: |options| written(options.schedule.idle_grace),
    },
    Setting {
        flag: "lame-duck",
        value: "DURATION",
        variable: "ONEPOLL_LAME_DUCK",
        help: "how long after SIGTERM or SIGHUP to serve on",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.schedule.lame_duck = time),
        get: |options| written(options.schedule.lame_duck),
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

/// What `RUST_LOG` says of this program, and what else it says. It belongs to every program that
/// uses the `log` crate, so nothing in it is an error. Of what `env_logger` takes, a level by
/// itself and one for `onepoll` matter here, and the latter goes before the former.
fn rust_log(text: &str) -> (Option<LevelFilter>, Option<String>) {
    let (mut every, mut own, mut others) = (None, None, Vec::new());
    let (directives, filter) = match text.split_once('/') {
        Some((directives, _)) => (directives, Some(&text[directives.len()..])),
        None => (text, None),
    };
    for directive in directives
        .split(',')
        .map(str::trim_ascii)
        .filter(|word| !word.is_empty())
    {
        let (target, level) = directive
            .split_once('=')
            .unwrap_or(match directive.parse() {
                Ok::<LevelFilter, _>(_) => ("", directive),
                Err(_) => (directive, "trace"),
            });
        match (target.trim_ascii(), level.trim_ascii().parse()) {
            ("", Ok(level)) => every = Some(level),
            ("onepoll", Ok(level)) => own = Some(level),
            _ => others.push(directive),
        }
    }
    others.extend(filter);
    let others = (!others.is_empty()).then(|| others.join(","));
    (own.or(every), others)
}

/// The user's words between quotes, and on one line whatever they are.
pub fn quoted(words: &str) -> String {
    let mut quoted = String::from("'");
    for symbol in words.chars() {
        if symbol.is_control() {
            quoted.extend(symbol.escape_default());
        } else {
            quoted.push(symbol);
        }
    }
    quoted.push('\'');
    quoted
}

/// A duration as [`duration`] reads it.
fn written(duration: Duration) -> String {
    if duration.is_zero() {
        "0s".to_owned()
    } else {
        format!("{duration:?}")
    }
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A number in decimal digits alone; the standard parser would take a sign.
fn number(text: &str, most: usize) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits)?;
    (number <= most).then_some(number)
}

fn size(text: &str) -> Option<usize> {
    number(text, BODY_SIZE_MAX)
}

fn count(text: &str) -> Option<Option<usize>> {
    if text.eq_ignore_ascii_case("auto") {
        return Some(None);
    }
    number(text, CONNECTIONS_MAX)
        .filter(|&count| count > 0)
        .map(Some)
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

/// A duration that is not zero: a timeout of zero would close each connection at once.
fn timeout(text: &str) -> Option<Duration> {
    duration(text).filter(|timeout| !timeout.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(timeout("0s"), None);
        assert_eq!(timeout("1ms"), Some(Duration::from_millis(1)));
    }

    #[test]
    fn switches_are_read_in_many_words_and_in_any_case() {
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
    fn counts_begin_at_one_and_may_be_left_to_the_program() {
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
    fn rust_log_is_taken_as_far_as_it_concerns_this_program() {
        use LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        for (text, level, others) in [
            ("warn", Some(Warn), None),
            ("WARN", Some(Warn), None),
            ("off", Some(Off), None),
            ("onepoll=debug", Some(Debug), None),
            ("onepoll", Some(Trace), None),
            ("warn,onepoll=debug", Some(Debug), None),
            ("onepoll=error , warn", Some(Error), None),
            ("warn,hyper=info", Some(Warn), Some("hyper=info")),
            ("hyper=info", None, Some("hyper=info")),
            (
                "hyper,tokio::net=trace,info",
                Some(Info),
                Some("hyper,tokio::net=trace"),
            ),
            ("onepoll::http=trace", None, Some("onepoll::http=trace")),
            ("onepoll=loud", None, Some("onepoll=loud")),
            ("info/some.*text", Some(Info), Some("/some.*text")),
            ("a=b=c", None, Some("a=b=c")),
            (",,", None, None),
            ("", None, None),
        ] {
            let (found, left) = rust_log(text);
            assert_eq!((found, left.as_deref()), (level, others), "{text:?}");
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
