//! The live page in a real browser, with wrk running, and its replay.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};

use onepoll::observe::live::PAGE;
use rustix::process::Signal;

use crate::browser::Browser;
use crate::harness::{HELLO, Peer, Process, onepoll, status};

const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);
/// The canvases that move as samples come.
const PLOTS: [&str; 3] = ["rates", "times", "bars"];

/// The picture on a canvas, for comparison.
fn picture(id: &str) -> String {
    format!("document.getElementById('{id}').toDataURL()")
}

/// By how much the page is wider than the screen.
const WIDTH: &str = "(root => root.scrollWidth - root.clientWidth)(document.documentElement)";
/// The place of the replay among the changes, and the last one.
const AT: &str = "replay.at";
const LAST: &str = "replay.records.length - 1";

/// wrk, asking a server for as long as this is kept.
struct Load(Child);

impl Load {
    fn on(server: &Process, connections: u32) -> Load {
        let url = format!("http://{}/hello", server.main);
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", &format!("-c{connections}"), "-d600s", &url]);
        let quiet = wrk.stdin(Stdio::null()).stdout(Stdio::null());
        Load(quiet.spawn().expect("wrk can be run"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // wrk may have ended, so an error is of no interest.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// A server, and a browser that shows its page.
fn shown(name: &str, options: &[&str]) -> (Process, Browser) {
    let server = Process::start(options);
    let browser = Browser::start(name);
    browser.look(DESKTOP, "light", "no-preference");
    browser.open(&format!("http://{}/", server.diag));
    browser.wait_for("state", |state| state == "serving");
    (server, browser)
}

/// A number as the page writes it.
fn count(text: &str) -> u32 {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Whether there is a dot of this colour among the connections.
fn has_dot(browser: &Browser, colour: &str) -> bool {
    // Of a copy that is meant to be read: Chromium remarks on others.
    let script = format!(
        "(canvas => {{ \
        const {{ width, height }} = canvas; \
        const copy = new OffscreenCanvas(width, height) \
            .getContext('2d', {{ willReadFrequently: true }}); \
        copy.fillStyle = getComputedStyle(document.body).getPropertyValue('--{colour}'); \
        copy.fillRect(0, 0, 1, 1); \
        const wanted = new Uint32Array(copy.getImageData(0, 0, 1, 1).data.buffer)[0]; \
        copy.clearRect(0, 0, 1, 1); \
        copy.drawImage(canvas, 0, 0); \
        const {{ data }} = copy.getImageData(0, 0, width, height); \
        return new Uint32Array(data.buffer).includes(wanted); \
        }})(document.getElementById('dots'))"
    );
    browser.run(&script) == "true"
}

#[test]
#[ignore = "needs Debian's chromium, chromium-driver and wrk"]
fn the_page_moves_in_light_and_in_dark_on_any_screen() {
    let (server, browser) = shown("moves", &["--log", "warn"]);
    let _load = Load::on(&server, 300);
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        for (screen, name) in [(DESKTOP, "desktop"), (PHONE, "phone")] {
            browser.look(screen, scheme, "no-preference");
            browser.wait_for("rate", |rate| count(rate) > 0);
            for id in ["p50", "p99"] {
                browser.wait_for(id, |time| time.ends_with("µs") || time.ends_with("ms"));
            }
            browser.wait_for("count", |text| count(text) >= 300);
            for picture in PLOTS.into_iter().chain(["ring"]).map(picture) {
                let before = browser.run(&picture);
                browser.wait_until(&picture, |now| now != before);
            }
            // wrk's connections are idle between their runs.
            assert!(has_dot(&browser, "grey"), "a dot is grey");
            assert_eq!(browser.run(WIDTH), "0", "nothing sticks out, {scheme} {name}");
            browser.picture(&format!("{scheme}-{name}"));
        }
        backgrounds.push(browser.run("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    assert_eq!(browser.text("state"), "serving");
    assert_eq!(browser.console(), [], "nothing is wrong");
}

#[test]
#[ignore = "needs Debian's chromium and chromium-driver"]
fn a_dot_opens_its_trace_by_mouse_and_by_keyboard() {
    let (server, browser) = shown("trace", &["--log", "warn"]);
    let _peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
    browser.wait_for("count", |text| count(text) >= 20);
    let is_open = "!document.getElementById('panel').hidden";
    let corner = |side| {
        let script =
            format!("Math.ceil(document.getElementById('dots').getBoundingClientRect().{side})");
        count(&browser.run(&script))
    };
    browser.run("document.getElementById('dots').scrollIntoView()");
    browser.click(corner("left") + 5, corner("top") + 5);
    browser.wait_for("trace", |trace| trace.contains("accepted"));
    browser.picture("trace");
    browser.press("Escape", 27);
    assert_eq!(browser.run(is_open), "false");
    // The same without a mouse.
    browser.run("document.getElementById('dots').focus()");
    browser.press("ArrowRight", 39);
    browser.wait_for("pointed", |text| text.starts_with("slot 1: "));
    browser.press("Enter", 13);
    browser.wait_for("trace", |trace| trace.starts_with("Connection "));
    assert_eq!(browser.text("about"), "Trace of slot 1");
    browser.press("Escape", 27);
    assert_eq!(browser.run(is_open), "false");
    assert_eq!(browser.console(), []);
}

#[test]
#[ignore = "needs Debian's chromium and chromium-driver"]
fn the_page_tells_of_the_stop_and_of_the_end() {
    let (server, browser) = shown("lame-duck", &["--log", "warn", "--lame-duck", "10m"]);
    server.signal(Signal::TERM);
    browser.wait_for("state", |state| state == "lame duck");
    assert_eq!(browser.text("note"), "this will end");

    let (server, browser) = shown("stop", &["--log", "warn"]);
    // A client with half a request, so that the drain takes its time.
    let mut halfway = server.connect();
    halfway.send(&HELLO[..9]);
    browser.wait_for("count", |text| count(text) > 0);
    server.signal(Signal::TERM);
    browser.wait_for("state", |state| state == "draining");
    browser.picture("draining");
    // A replay does not make it forget the drain.
    click(&browser, "pause");
    browser.wait_for("note", |note| note == "in a replay");
    halfway.send(&HELLO[9..]);
    assert_eq!(status(&halfway.rest()), 200);
    drop(halfway);
    let diag = server.diag.to_string();
    assert_eq!(server.wait().status.code(), Some(0));
    browser.press("Escape", 27);
    browser.wait_for("state", |state| state == "exited");
    assert!(browser.text("note").ends_with("; it has drained"));
    browser.picture("exited");
    click(&browser, "pause");
    browser.wait_for("why", |why| why == "There is no replay: Failed to fetch");
    // The page goes on by itself with the next server.
    let ports = ["--listen", "127.0.0.1:0", "--diag", &diag, "--log", "warn"];
    let _next = Process::spawn(onepoll().args(ports));
    browser.wait_for("state", |state| state == "serving");
    assert_eq!(browser.text("why"), "");
}

#[test]
#[ignore = "needs Debian's chromium and chromium-driver"]
fn the_page_keeps_still_for_reduced_motion() {
    let (_server, browser) = shown("still", &["--log", "warn"]);
    browser.wait_for("busy", |busy| busy.starts_with("busy"));
    for (motion, is_drawn) in [("reduce", false), ("no-preference", true)] {
        browser.look(DESKTOP, "light", motion);
        // Without new samples, only motion is drawn. So the page's requests are stopped first.
        browser.run("(ask = async () => {}, 0)");
        browser.run("(drawn = 0, drawRunner = () => { drawn++; }, 0)");
        let frames = "new Promise(resolve => setTimeout(() => resolve(drawn), 500))";
        let drawn = browser.command(
            "Runtime.evaluate",
            &format!("{{\"expression\":\"{frames}\",\"awaitPromise\":true}}"),
        );
        let drawn = drawn["result"]["value"].as_i64().expect("a number");
        if is_drawn {
            browser.wait_until("drawn", |drawn| count(drawn) > 0);
        } else {
            assert_eq!(drawn, 0, "{motion}");
        }
    }
}

#[test]
#[ignore = "needs Debian's chromium and chromium-driver"]
fn it_asks_at_most_twice_a_second() {
    let (_server, browser) = shown("asks", &["--log", "warn"]);
    browser.run("(performance.clearResourceTimings(), started = performance.now(), 0)");
    let asked = "performance.getEntriesByType('resource').length";
    browser.run("document.getElementById('dots').focus()");
    browser.wait_until(asked, |asked| {
        // A reader who opens traces repeatedly does not make the page ask more often.
        browser.press("Enter", 13);
        count(asked) >= 9
    });
    let took = count(&browser.run("Math.floor(performance.now() - started)"));
    assert!(took >= 4000, "nine times in {took} ms");
}

/// Clicks on the middle of an element.
fn click(browser: &Browser, id: &str) {
    let middle = |side, size| {
        let of = format!("document.getElementById('{id}').getBoundingClientRect()");
        count(&browser.run(&format!("Math.floor({of}.{side} + {of}.{size} / 2)")))
    };
    browser.click(middle("left", "width"), middle("top", "height"));
}

/// A server whose recorder has a few changes, and a browser that has paused its page.
fn paused(name: &str, path: &str) -> (Process, Vec<Peer>, Browser) {
    let server = Process::start(&["--log", "warn"]);
    let mut peers: Vec<Peer> = (0..3).map(|_| server.connect()).collect();
    for at in [0, 1, 2, 0, 1, 2] {
        peers[at].send(HELLO);
        assert_eq!(status(&peers[at].response()), 200);
    }
    peers[2].send(&HELLO[..9]);
    let browser = Browser::start(name);
    browser.look(DESKTOP, "light", "no-preference");
    browser.open(&format!("http://{}/{path}", server.diag));
    browser.wait_for("state", |state| state == "serving");
    browser.press(" ", 32);
    browser.wait_for("note", |note| note == "in a replay");
    (server, peers, browser)
}

#[test]
#[ignore = "needs Debian's chromium and chromium-driver"]
fn the_replay_goes_on_and_back_by_keyboard_and_by_mouse() {
    let (_server, _peers, browser) = paused("replay", "");
    let last = browser.run(LAST);
    assert_eq!(browser.run(AT), last, "it begins at the end");
    assert_eq!(browser.run("document.activeElement.id"), "play", "the keyboard is there");
    let at_the_end = browser.run("kinds");
    let at = || count(&browser.run(AT));
    let tick = || count(&browser.run("shown().tick"));
    browser.press("Home", 36);
    assert_eq!(browser.text("event"), "Connection 1: accepted");
    assert_eq!(
        (browser.text("number"), browser.text("step")),
        (tick().to_string(), "accept".into())
    );
    assert_eq!(browser.run("kinds.filter(kind => kind >= 0).length"), "1");
    browser.press(">", 190);
    let (first, end) = (tick(), at());
    browser.press("ArrowRight", 39);
    assert_eq!((at(), tick() > first), (end + 1, true), "it was the end of the tick");
    browser.press("<", 188);
    assert_eq!((at(), tick()), (end, first));
    browser.press(".", 190);
    browser.press(",", 188);
    assert_eq!(at(), end);
    for (id, expected) in [("on", end + 1), ("back", end), ("tickOn", end + 1), ("start", 0)] {
        click(&browser, id);
        assert!(at() == expected || id == "tickOn" && at() > end, "{id}: {}", at());
    }
    // Each change is undone, and done again.
    browser.press("End", 35);
    browser.press(">", 190);
    assert_eq!((browser.run(AT), browser.run("kinds")), (last, at_the_end));
    assert_eq!(browser.run("document.querySelectorAll('#rows [aria-current]').length"), "1");
    let rows = "document.getElementById('rows').rows.length";
    browser.run("goTo(replay.records.findLastIndex(record => record.number === 3))");
    assert_eq!(browser.text("event"), "Connection 3: the beginning of a head has come");
    assert_eq!((browser.run(rows), browser.text("step")), ("4".into(), "events".into()));
    // Its dot leads to its last change.
    browser.press("Home", 36);
    browser.press("End", 35);
    browser.run("document.getElementById('dots').focus()");
    browser.run("point(2)");
    browser.press("Enter", 13);
    assert_eq!(browser.text("event"), "Connection 3: the beginning of a head has come");
    browser.picture("replay");
    browser.run("document.getElementById('resume').focus()");
    browser.press("Escape", 27);
    browser.wait_for("state", |state| state == "serving");
    browser.wait_for("count", |text| text == "3 connections");
    click(&browser, "pause");
    browser.wait_for("note", |note| note == "in a replay");
    click(&browser, "resume");
    browser.wait_for("state", |state| state == "serving");
    assert_eq!(browser.console(), []);
}

#[test]
#[ignore = "needs Debian's chromium and chromium-driver"]
fn the_replay_asks_for_nothing_and_keeps_still() {
    let (_server, _peers, browser) = paused("quiet-replay", "");
    let asked = "performance.getEntriesByType('resource')\
        .filter(one => one.name.endsWith('trace?recording')).length";
    assert_eq!(browser.run(asked), "1");
    browser.run("(asked = 0, ask = async () => { asked++; }, 0)");
    browser.run("(drawn = 0, drawRunner = () => { drawn++; }, 0)");
    for motion in ["reduce", "no-preference"] {
        browser.look(DESKTOP, "dark", motion);
        browser.run("schedule()");
        browser.run("(gap = () => 20, 0)");
        browser.press("Home", 36);
        browser.press(" ", 32);
        let live = "document.getElementById('event').ariaLive";
        assert_eq!(browser.run(live), "off", "not each change is read out");
        browser.wait_until("String(player)", |player| player == "undefined");
        assert_eq!((browser.run(AT), browser.run(live)), (browser.run(LAST), "polite".into()));
        let frames = "new Promise(resolve => setTimeout(() => resolve(asked + drawn), 700))";
        let seen = browser.command(
            "Runtime.evaluate",
            &format!("{{\"expression\":\"{frames}\",\"awaitPromise\":true}}"),
        );
        assert_eq!(seen["result"]["value"].as_i64(), Some(0), "{motion}");
    }
    browser.press("Home", 36);
    browser.press(" ", 32);
    browser.press("ArrowLeft", 37);
    assert_eq!(browser.run("String(player)"), "undefined", "a key ends the playing");
    browser.run("tryReplay(async () => 'text', 0)");
    browser.wait_for("why", |why| why == "There is no replay: this is no recording");
    assert_eq!(browser.console(), []);
}

#[test]
#[ignore = "needs Debian's chromium and chromium-driver"]
fn the_chapter_is_a_link_where_the_book_is_known() {
    let link = "document.querySelector('#facts a')?.href";
    for (path, expected) in [
        ("", "undefined"),
        ("?book=javascript:alert(1)//", "undefined"),
        ("?book=https://a.example/onepoll/", "https://a.example/onepoll/event_loop/"),
    ] {
        let (_server, _peers, browser) = paused("book", path);
        let found = browser.run(link);
        assert!(found.starts_with(expected), "{path}: {found}");
        assert!(browser.text("facts").contains("event_loop/connection.rs"));
    }
}

/// A recording by hand, and what each change of it shows: what happened, the time, the step, what
/// moved, the source and the slot.
const BY_HAND: [(&str, &str); 10] = [
    ("0 7 1 m-i 0 0 0", "1: accepted|0 s|accept of tick 7|nothing|listener|0"),
    ("0 0 2 m-i 0 0 0", "2: accepted|0 s|accept of tick 7|nothing|listener|1"),
    (
        "1500 1 1 mih 0 9 0",
        "1: the beginning of a head has come|1.5 ms|events of tick 8|9 B in|connection|0",
    ),
    (
        "2500000 1 1 mhi 1 23 129",
        "1: a response is sent|2.5 s|events of tick 9|1 response, 23 B in, 129 B out|connection|0",
    ),
    (
        "0 0 1 miF 0 0 0",
        "1: the peer closes it|2.5 s|events or run again of tick 9|nothing|connection|0",
    ),
    // It has the slot that was freed last.
    ("100 1 3 m-i 0 0 0", "3: accepted|2.5 s|accept of tick 10|nothing|listener|0"),
    (
        "0 0 3 mii 2048 65536 264192",
        "3: the responses to a batch are sent|2.5 s|accept of tick 10|\
         2,048 responses, 65.5 kB in, 264 kB out|connection|0",
    ),
    // Its run was out of reads, so that an event makes no other one.
    (
        "50 1 3 mii 1 34 129",
        "3: a response is sent|2.5 s|run again of tick 11|\
         1 response, 34 B in, 129 B out|connection|0",
    ),
    ("10 1 4 d-i 0 0 0", "4 of diagnostics: accepted|2.5 s|accept of tick 12|nothing|listener|2"),
    (
        "75000000 1 2 miO 0 0 0",
        "2: its timeout has passed|1.29 min|timers of tick 13|nothing|timers|1",
    ),
];

#[test]
#[ignore = "needs Debian's chromium and chromium-driver"]
fn each_change_of_a_recording_is_shown() {
    let folder = Folder(env::temp_dir().join(format!("onepoll-by-hand-{}", process::id())));
    fs::create_dir_all(&folder.0).expect("a folder");
    let lines = BY_HAND.map(|(line, _)| format!("{line}\n")).concat();
    let head = "# format: onepoll recording 1\n# lame duck: 9\n# draining: 13\n\
        # title: By hand\n# about: Ten changes\n";
    let room = "id=\"recording\">";
    let page = PAGE.replacen(room, &format!("{room}{head}{lines}"), 1);
    fs::write(folder.0.join("page.html"), page).expect("it is written");
    let browser = Browser::start("by-hand");
    browser.look(DESKTOP, "light", "reduce");
    browser.open(&format!("file://{}/page.html", folder.0.display()));
    browser.wait_for("purpose", |purpose| purpose == "Ten changes");
    let (before, ring) = (browser.run("kinds"), browser.run(&picture("ring")));
    let strip = browser.run(&picture("strip"));
    let shown = "(({ textContent: event }, { textContent: since }, [moved, step, source]) => \
        [event.slice(11), since.slice(0, -20), step, moved, source.slice(11, -3), shown().slot] \
            .join('|'))(\
        byId('event'), byId('since'), [...document.querySelectorAll('dd')].slice(1) \
            .map(each => each.textContent))";
    for (at, (line, expected)) in BY_HAND.into_iter().enumerate() {
        browser.run(&format!("goTo({at})"));
        assert_eq!(browser.run(shown), expected, "{line}");
        let stage = match count(&browser.run("shown().tick")) {
            7 | 8 => "serving",
            9..=12 => "lame duck",
            _ => "draining",
        };
        assert_eq!(browser.text("state"), stage, "{line}");
    }
    assert_eq!(browser.run("kinds"), "0,-1,8", "one is closed, and one is of diagnostics");
    assert_ne!(browser.run(&picture("ring")), ring);
    assert_ne!(browser.run(&picture("strip")), strip);
    let rows = "byId('rows').rows[1].textContent";
    assert_eq!(browser.run(rows), "1.29 min13idle → closedits timeout has passednothing");
    browser.run("goTo(0)");
    assert_eq!(browser.run("kinds"), before, "each change is undone");
    browser.run("(byId('at').value = 4, byId('at').oninput({ target: byId('at') }))");
    assert_eq!(browser.run(AT), "4");
    assert_eq!(browser.console(), []);
}

#[test]
#[ignore = "needs Debian's chromium and chromium-driver"]
fn a_recording_is_opened_from_a_file() {
    let (_server, _peers, browser) = paused("file", "");
    let file = |lines: &[&str]| {
        let lines = lines.join("', '");
        browser.run(&format!(
            "(({{ items, files }}) => {{ \
                const lines = ['# format: onepoll recording 1', '{lines}']; \
                const text = lines.join(String.fromCharCode(10)); \
                items.add(new File([text], 'a.txt')); \
                byId('file').files = files; \
                byId('file').onchange({{ target: byId('file') }}); \
            }})(new DataTransfer())"
        ));
    };
    // A change with letters that stand for nothing is none.
    file(&["0 7 1 mic 0 0 0"]);
    browser.wait_for("why", |why| why == "There is no replay: nothing is recorded yet");
    // It ends the playing of another one, and a tick that is no number is none.
    browser.run("(gap = () => 1e9, 0)");
    browser.press("Home", 36);
    browser.press(" ", 32);
    file(&["# draining: abc", "0 7 1 mih 0 9 0"]);
    browser.wait_for("place", |place| place == "Change 1 of 1");
    assert_eq!(browser.run("String(player)"), "undefined");
    assert_eq!(browser.text("state"), "serving");
    // The number of a tick has 32 bits, so the second change is in tick 2.
    file(&["# draining: 2", "0 4294967295 1 mih 0 9 0", "9 3 1 mhi 1 23 129"]);
    browser.wait_for("place", |place| place == "Change 1 of 2");
    assert_eq!(browser.text("state"), "serving");
    browser.press("End", 35);
    assert_eq!(browser.text("state"), "draining");
    assert_eq!(browser.console(), []);
}

/// The recordings, and something that each of them shows.
const SHOWN: [(&str, &str); 6] = [
    ("pipelining", "replay.records.some(({ responses }) => responses === 16)"),
    ("slow-reader", "replay.records.some(one => one.from === 'w' && one.to === 'O')"),
    // The twelve clients get their 408 from the timers.
    (
        "slowloris",
        "replay.records.filter(one => one.to === 'a' && one.steps.join() === '6').length === 12",
    ),
    // The fifth client is accepted in the tick that frees the slot of the first one, and runs.
    (
        "descriptors",
        "((first, fifth, run) => first.slot === fifth.slot && first.tick === fifth.tick && \
            fifth.steps.join() === '5' && run.steps.join() === '5')(\
            replay.records.findLast(one => one.number === 1), \
            ...replay.records.filter(one => one.number === 5))",
    ),
    (
        "stop",
        "['e', 'l', 'A'].every(letter => replay.records.some(({ to }) => to === letter)) && \
            replay.records.map(one => one.stage).join(' ').split('serving draining').length === 2",
    ),
    ("simulation", "replay.records.length === 137"),
];

/// A folder that is removed when this is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
#[ignore = "needs Debian's chromium and chromium-driver, and builds an example"]
fn the_recordings_play_from_disk() {
    let folder = Folder(env::temp_dir().join(format!("onepoll-recordings-{}", process::id())));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["run", "--quiet", "--locked", "--example", "recordings", "--"]);
    let made = cargo.arg(&folder.0).output().expect("cargo runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let browser = Browser::start("recordings");
    let says = |name: &str| fs::read_to_string(folder.0.join(name)).expect("it is made");
    let index = says("index.html");
    for (name, shows) in SHOWN {
        assert!(index.contains(&format!("<a href=\"{name}.html\">")), "{name}");
        let title = says(&format!("{name}.txt"));
        let title = title.lines().next().and_then(|line| line.strip_prefix("# title: "));
        for (scheme, screen, look) in [
            ("light", DESKTOP, "light-desktop"),
            ("dark", DESKTOP, "dark-desktop"),
            ("light", PHONE, "light-phone"),
            ("dark", PHONE, "dark-phone"),
        ] {
            browser.look(screen, scheme, "reduce");
            browser.open(&format!("file://{}/{name}.html", folder.0.display()));
            browser.wait_for("note", |note| note == "in a replay");
            assert_eq!(browser.run(AT), "0");
            assert_eq!(Some(&*browser.text("title")), title);
            browser.run("(gap = () => 20, 0)");
            click(&browser, "play");
            browser.wait_until(&format!("{AT} === {LAST}"), |is_over| is_over == "true");
            // At the end of a stop, every connection is closed.
            assert_eq!(browser.run("Math.max(...kinds)"), "-1", "{name}");
            browser.press("ArrowLeft", 37);
            assert_ne!(browser.run("Math.max(...kinds)"), "-1");
            browser.run("goTo(Math.floor(replay.records.length * 0.6))");
            assert_eq!(browser.run(WIDTH), "0", "nothing sticks out, {name} {look}");
            browser.picture(&format!("{name}-{look}"));
            assert_eq!(browser.run("performance.getEntriesByType('resource').length"), "0");
            assert_eq!(browser.console(), [], "{name} {look}");
        }
        assert_eq!(browser.run(shows), "true", "{name} shows what it says");
        let chapters = "[...new Set(replay.records.flatMap((record, at) => { goTo(at); \
            return [...document.querySelectorAll('#facts a')].map(link => link.href); }))]";
        for chapter in browser.run(chapters).split(',') {
            let (_, path) = chapter.split_once("/onepoll/event_loop/").expect("in the book");
            let file = path.strip_suffix("/index.html").expect("a chapter");
            assert!(root.join("src/event_loop").join(file).with_extension("rs").exists(), "{file}");
        }
    }
}
