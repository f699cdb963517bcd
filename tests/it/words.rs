//! The words of the source: those that the field uses, so that a reader can search for them. Names
//! and prose hold none of the private words that the project once had for the same things.

use std::fs;
use std::path::{Path, PathBuf};

/// Words that have another one in this project, and that one.
const WORDS: &[(&str, &str)] = &[
    ("answer answers answered answering reply replies", "response, to serve"),
    ("anybody everybody nobody somebody whoever newcomer newcomers", "the client, the peer"),
    ("carry carried carries", "unparsed input"),
    ("desert deserted", "main is empty"),
    ("desk desks inbox outbox", "read buffer, write buffer"),
    ("dismiss dismissed dismisses", "close idle"),
    ("door doors", "listeners"),
    ("draft drafts site sites", "routes"),
    ("farewell linger lingers lingering", "half-closed"),
    ("figures", "units, statistics"),
    ("guest guests house houses", "connection, shared"),
    ("held withhold withheld withholds withholding", "deferred"),
    ("hurry hurried hurries", "force close"),
    ("journal outlet", "log, writer"),
    ("lane lanes patience", "timeout"),
    ("memo", ""),
    ("meter meters", "statistics"),
    ("moment moments", "instant"),
    ("overdue", "timed out"),
    ("refusal refusals", "error response"),
    ("retire retires", "lame duck"),
    ("settle settles", "finish a run"),
    ("starved stirring", "out of descriptors, has work"),
    ("story stories timeline timelines", "trace"),
    ("tail tails", "unsent body"),
    ("tally tallies", "summary"),
    ("turn turns", "run"),
];

/// Phrases, in the same way.
const PHRASES: &[&str] = &["those who", "last call", "too late", "send home", "turn away"];

/// Where a word is part of a command, of another program, or of what a release is told about.
const ALLOWED: &[(&str, &str)] = &[
    ("src/book/others.md", "lingering turn"),
    ("src/event_loop/connections.rs", "tail"),
    ("src/event_loop/system.rs", "linger"),
    ("benches/core.rs", "site"),
    ("benches/judge/client.rs", "linger"),
    ("tests/it/harness.rs", "linger"),
    ("README.md", "farewell held lingering overdue refusals"),
];

/// All texts below a folder that readers read as source or as documentation.
fn texts(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        // The fuzz targets are built beside their sources.
        if !path.ends_with("fuzz/target") && !path.ends_with("fuzz/seeds") {
            for entry in fs::read_dir(path).expect("a folder") {
                texts(&entry.expect("an entry").path(), found);
            }
        }
    } else if path
        .extension()
        .is_some_and(|it| ["rs", "md", "html"].contains(&&*it.to_string_lossy()))
    {
        found.push(path.to_owned());
    }
}

/// The words of a line in lower case; names are taken apart.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for symbol in line.chars() {
        if !symbol.is_ascii_alphabetic()
            || before.is_ascii_lowercase() && symbol.is_ascii_uppercase()
        {
            words.push(String::new());
        }
        if symbol.is_ascii_alphabetic() {
            words.last_mut().expect("there is one").push(symbol.to_ascii_lowercase());
        }
        before = symbol;
    }
    words
}

#[test]
fn names_and_prose_use_the_words_of_the_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "README.md"] {
        texts(&root.join(folder), &mut files);
    }
    assert!(files.len() > 50, "the sources are found");
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).expect("it is below").display().to_string();
        if name == "tests/it/words.rs" {
            continue;
        }
        let text = fs::read_to_string(&file).expect("text");
        let allowed = ALLOWED.iter().filter(|(allowed, _)| *allowed == name);
        let allowed: Vec<&str> = allowed.flat_map(|(_, words)| words.split(' ')).collect();
        for (at, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", at + 1);
            for word in words(line) {
                let known = WORDS.iter().find(|(words, _)| words.split(' ').any(|it| it == word));
                if let Some((_, better)) = known
                    && !allowed.contains(&&*word)
                {
                    wrong.push(format!("{place}: {word}, which is: {better}"));
                }
            }
            let found = PHRASES.iter().filter(|phrase| line.contains(**phrase));
            wrong.extend(found.map(|phrase| format!("{place}: {phrase}")));
        }
    }
    assert!(wrong.is_empty(), "{} words:\n{}", wrong.len(), wrong.join("\n"));
}
