//! The settings: what there is to set, by which flag and which environment variable, and what
//! holds when nobody does. How they are read is another matter; this is the table.

use std::time::Duration;

use log::LevelFilter;

use crate::address::{ADDRESSES, Address};
use crate::deadlines::Timeouts;
use crate::limits::{self, BODY_SIZE_MAX, DURATION_MAX};
use crate::service::{Content, Service};
use crate::stop::Schedule;

/// How to run the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the main listener serves `/hello`.
    pub listen: Address,
    /// Where the diagnostics listener serves `/ready`, and the pages about the loop.
    pub diag: Address,
    /// Whether other processes may listen on the same ports.
    pub reuse_port: bool,
    /// What `/hello` is answered with.
    pub content: Content,
    /// How long a connection may wait for its peer.
    pub timeouts: Timeouts,
    /// How long each part of a stop takes.
    pub schedule: Schedule,
    /// The most talkative level that is logged.
    pub log: LevelFilter,
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
                last_call: limits::LAST_CALL,
            },
            content: Content::default(),
            timeouts: Timeouts::default(),
            log: LevelFilter::Info,
        }
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
const SWITCHES: &str = "true or false";
/// What a log level may be, for messages to the user.
pub const LEVELS: &str = "off, error, warn, info, debug or trace";

/// All settings, in the order of the help text.
pub static SETTINGS: [Setting; 13] = [
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
        help: "where /ready is served, and the loop shown",
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
        set: |options, text| text.parse().ok().map(|on| options.reuse_port = on),
        get: |options| options.reuse_port.to_string(),
    },
    Setting {
        flag: "body-size",
        value: "N",
        variable: "ONEPOLL_BODY_SIZE",
        help: "how many bytes /hello answers with",
        accepted: SIZES,
        set: |options, text| size(text).map(|size| options.content.body_size = size),
        get: |options| options.content.body_size.to_string(),
    },
    Setting {
        flag: "delay",
        value: "DURATION",
        variable: "ONEPOLL_DELAY",
        help: "how long /hello waits with its answer",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.content.delay = time),
        get: |options| written(options.content.delay),
    },
    Setting {
        flag: "idle-timeout",
        value: "DURATION",
        variable: "ONEPOLL_IDLE_TIMEOUT",
        help: "how long a connection may wait for its next request",
        accepted: TIMEOUTS,
        set: |options, text| timeout(text).map(|time| options.timeouts.idle = time),
        get: |options| written(options.timeouts.idle),
    },
    Setting {
        flag: "header-timeout",
        value: "DURATION",
        variable: "ONEPOLL_HEADER_TIMEOUT",
        help: "how long a request head may take, from its first byte",
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
        help: "how long after a signal requests may finish; 0s cuts at once",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.schedule.drain = time),
        get: |options| written(options.schedule.drain),
    },
    Setting {
        flag: "last-call",
        value: "DURATION",
        variable: "ONEPOLL_LAST_CALL",
        help: "how long after a signal idle connections may still ask",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.schedule.last_call = time),
        get: |options| written(options.schedule.last_call),
    },
    Setting {
        flag: "lame-duck",
        value: "DURATION",
        variable: "ONEPOLL_LAME_DUCK",
        help: "how long after SIGTERM to go on, telling that this ends",
        accepted: DURATIONS,
        set: |options, text| duration(text).map(|time| options.schedule.lame_duck = time),
        get: |options| written(options.schedule.lame_duck),
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

/// A duration as [`duration`] reads it.
fn written(duration: Duration) -> String {
    if duration.is_zero() {
        "0s".to_owned()
    } else {
        format!("{duration:?}")
    }
}

fn size(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let size = text.parse().ok().filter(|_| digits)?;
    (size <= BODY_SIZE_MAX).then_some(size)
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
    fn what_is_shown_is_accepted() {
        let mut options = Options::default();
        for setting in &SETTINGS {
            let shown = (setting.get)(&options);
            assert_eq!((setting.set)(&mut options, &shown), Some(()), "{shown}");
            assert_eq!((setting.get)(&options), shown);
        }
    }
}
