//! The live page in a real browser, with wrk running.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::browser::Browser;
use crate::harness::{HELLO, Process, onepoll, status};

const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);
/// The canvases that move as samples come.
const PLOTS: [&str; 3] = ["rates", "times", "bars"];

/// The picture on a canvas, for comparison.
fn picture(id: &str) -> String {
    format!("document.getElementById('{id}').toDataURL()")
}

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
            let width = "(root => root.scrollWidth - root.clientWidth)(document.documentElement)";
            assert_eq!(browser.run(width), "0", "nothing sticks out, {scheme} {name}");
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
    halfway.send(&HELLO[9..]);
    assert_eq!(status(&halfway.rest()), 200);
    drop(halfway);
    browser.wait_for("state", |state| state == "exited");
    assert!(browser.text("note").ends_with("; it has drained"));
    browser.picture("exited");
    let diag = server.diag.to_string();
    assert_eq!(server.wait().status.code(), Some(0));
    // The page goes on by itself with the next server.
    let ports = ["--listen", "127.0.0.1:0", "--diag", &diag, "--log", "warn"];
    let _next = Process::spawn(onepoll().args(ports));
    browser.wait_for("state", |state| state == "serving");
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
