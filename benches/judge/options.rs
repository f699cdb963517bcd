//! The command line: contestants, and what is judged.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};

use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use rustix::process::Signal;

use super::contestant::{Contestant, SIGNALS};
use super::{PARTS, calm, installed, rules, stop, wire};

const HELP: &str = "\
cargo bench --bench judge -- [OPTION | CONTESTANT]...

A contestant is NAME=COMMAND, with {port} where the command takes its port, and {diag} where it
takes that of a second listener. The command is one program, which stays in the foreground, with its
arguments, for a shell. Or a contestant is the name of a server that is known: NAMES.
Without any, onepoll and those of the others that are installed take part.

--quick          about a minute for each contestant, instead of some
--path PATH      of the commands behind it: a path that gets 200 (default: /)
--signal NAME    of the commands behind it: what asks for a clean stop (default: TERM)
--host ADDR      of the commands behind it: where they listen (default: 127.0.0.1)
--only PART      one of rules, stop, wire, calm; may be repeated
--case TEXT      only rows with TEXT in their names
--explain RULE   what is sent for a rule, what comes back, and what is allowed
-h, --help       this text
";

/// A contestant by its name, or why it cannot take part.
type Named = (String, Result<Contestant, String>);

pub(crate) struct Options {
    pub contestants: Vec<Named>,
    pub is_quick: bool,
    /// `cargo test --benches` only wants to know whether this still works.
    pub is_test: bool,
    pub only: Vec<String>,
    pub case: Option<String>,
    pub explain: Option<String>,
}

/// What holds for the commands that follow.
struct Settings {
    host: IpAddr,
    path: String,
    signal: Signal,
}

impl Options {
    /// Reads the words of the command line, the first of which is the program's name. Returns
    /// `None` if the caller asks for the help text alone.
    pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Option<Options>, String> {
        let mut options = Options {
            contestants: Vec::new(),
            is_quick: false,
            is_test: true,
            only: Vec::new(),
            case: None,
            explain: None,
        };
        let mut settings = Settings {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            path: "/".to_owned(),
            signal: Signal::TERM,
        };
        let mut parser = Parser::from_iter(words);
        let text = |parser: &mut Parser| {
            parser.value().and_then(ValueExt::string).map_err(|error| error.to_string())
        };
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Long("bench") => options.is_test = false,
                Long("quick") => options.is_quick = true,
                Long("path") => settings.path = path(&text(&mut parser)?)?,
                Long("signal") => settings.signal = signal(&text(&mut parser)?)?,
                Long("host") => settings.host = host(&text(&mut parser)?)?,
                Long("only") => options.only.push(part(text(&mut parser)?)?),
                Long("case") => options.case = Some(case(text(&mut parser)?)?),
                Long("explain") => options.explain = Some(rule(text(&mut parser)?)?),
                Short('h') | Long("help") => {
                    print!("{}", HELP.replace("NAMES", &installed::names()));
                    return Ok(None);
                }
                Value(word) => {
                    let word = word.string().map_err(|error| error.to_string())?;
                    let contestant = contestant(&word, &settings)?;
                    if options.contestants.iter().any(|(name, _)| *name == contestant.0) {
                        return Err(format!("two contestants have the name {:?}", contestant.0));
                    }
                    options.contestants.push(contestant);
                }
                other => return Err(format!("{}; see --help", other.unexpected())),
            }
        }
        options.add_the_usual();
        Ok(Some(options))
    }

    /// Adds the usual contestants if there are none: those that are not installed stay away.
    fn add_the_usual(&mut self) {
        let usual = if self.is_test { &installed::USUAL[..1] } else { &installed::USUAL };
        if self.contestants.is_empty() {
            let found = usual.iter().filter_map(|&name| Some((name, installed::find(name).ok()??)));
            self.contestants.extend(found.map(|(name, it)| (name.to_owned(), Ok(it))));
        }
    }
}

fn contestant(word: &str, settings: &Settings) -> Result<Named, String> {
    let Some((name, command)) = word.split_once('=') else {
        return match installed::find(word) {
            Ok(Some(contestant)) => Ok((word.to_owned(), Ok(contestant))),
            Err(why) => Ok((word.to_owned(), Err(why))),
            Ok(None) => Err(format!(
                "no server is known as {word:?}; known are {}, and every NAME=COMMAND",
                installed::names()
            )),
        };
    };
    if name.is_empty() || !command.contains("{port}") {
        return Err(format!(
            "{word:?} is no contestant, which is NAME=COMMAND with {{port}} in it"
        ));
    }
    if name.contains(char::is_control) {
        return Err(format!("the name {name:?} holds more than visible characters"));
    }
    let Settings { host, path, signal } = settings;
    let (name, command, path) = (name.to_owned(), command.to_owned(), path.clone());
    Ok((name.clone(), Ok(Contestant { name, command, host: *host, path, signal: *signal })))
}

fn path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_path.then(|| text.to_owned()).ok_or_else(|| {
        format!("--path {text:?} is no path, which begins with a slash and holds visible ASCII")
    })
}

fn signal(name: &str) -> Result<Signal, String> {
    let known = SIGNALS.iter().find(|(known, _)| name.trim_start_matches("SIG") == *known);
    known.map(|(_, signal)| *signal).ok_or_else(|| {
        let names = SIGNALS.map(|(name, _)| name).join(", ");
        format!("--signal {name:?} is none of {names}")
    })
}

fn host(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("--host {text:?} is no IP address"))
}

fn part(text: String) -> Result<String, String> {
    let names = PARTS.map(|(name, _)| name);
    let message = || format!("--only {text:?} is none of {}", names.join(", "));
    if names.contains(&&*text) { Ok(text) } else { Err(message()) }
}

fn case(text: String) -> Result<String, String> {
    let rows = [rules::names(), stop::names(), wire::names(), calm::names()].concat();
    let is_there = rows.iter().any(|row| row.contains(&text));
    let message = || format!("--case {text:?} is in the name of no row: {}", rows.join("; "));
    if is_there { Ok(text) } else { Err(message()) }
}

fn rule(text: String) -> Result<String, String> {
    let names = rules::names();
    let message = || format!("--explain {text:?} is none of {}", names.join(", "));
    if names.contains(&&*text) { Ok(text) } else { Err(message()) }
}
