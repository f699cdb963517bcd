//! A browser, controlled by `WebDriver`: plain HTTP, with JSON that is read as the YAML that it is.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process_group};
use yaml_rust2::{Yaml, YamlLoader};

use crate::harness::{TIMEOUT, wait_for};

/// What headless Chromium is started with: as little as possible that is not ours.
const ARGUMENTS: &str = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync";

/// Chromium, with the driver that controls it.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// For all files of both.
    folder: PathBuf,
}

impl Browser {
    /// Starts both.
    pub(crate) fn start(name: &str) -> Browser {
        let folder = env::temp_dir().join(format!("onepoll-chromium-{name}-{}", process::id()));
        fs::create_dir(&folder).expect("a folder");
        // The driver may exit without telling a port.
        let started = (0..5).find_map(|_| start_driver(&folder));
        let (driver, port) = started.expect("it tells its port");
        let mut browser = Browser { driver, port, session: String::new(), folder };
        let profile = format!("--user-data-dir={}", browser.folder.join("profile").display());
        let arguments = ARGUMENTS.split_whitespace().chain([&*profile]);
        let arguments: Vec<_> = arguments.map(|one| format!("\"{one}\"")).collect();
        let wanted = format!(
            "{{\"capabilities\":{{\"alwaysMatch\":{{\"goog:chromeOptions\":{{\"args\":[{}]}},\
             \"goog:loggingPrefs\":{{\"browser\":\"ALL\"}}}}}}}}",
            arguments.join(",")
        );
        let session = browser.ask("POST", "/session", &wanted);
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        browser.session = session;
        browser
    }

    /// Sends a command and returns its value.
    fn ask(&self, method: &str, path: &str, body: &str) -> Yaml {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the driver listens");
        stream.set_read_timeout(Some(2 * TIMEOUT)).expect("a socket option");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).expect("the driver reads");
        let (mut response, mut space) = (Vec::new(), vec![0; 1 << 16]);
        let response = loop {
            let len = stream.read(&mut space).expect("the driver responds");
            response.extend_from_slice(&space[..len]);
            let text = String::from_utf8_lossy(&response);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let lower = head.to_lowercase();
                let (_, length) = lower.split_once("content-length:").expect("a length");
                let length = length.lines().next().map_or("", str::trim);
                if body.len() >= length.parse::<usize>().expect("a number") {
                    break body.to_owned();
                }
            }
            assert!(len > 0, "{text}");
        };
        let document = YamlLoader::load_from_str(&response).expect("JSON").remove(0);
        let value = document["value"].clone();
        assert!(value["error"].is_badvalue(), "{path} {body}: {value:?}");
        value
    }

    fn tell(&self, command: &str, body: &str) -> Yaml {
        self.ask("POST", &format!("/session/{}/{command}", self.session), body)
    }

    /// Opens a page.
    pub(crate) fn open(&self, url: &str) {
        self.tell("url", &format!("{{\"url\":\"{url}\"}}"));
    }

    /// What a script in the page comes to. It has no double quotes and no backslashes.
    pub(crate) fn run(&self, script: &str) -> String {
        let script = format!("{{\"script\":\"return String({script})\",\"args\":[]}}");
        self.tell("execute/sync", &script).into_string().expect("text")
    }

    /// The text of an element.
    pub(crate) fn text(&self, id: &str) -> String {
        self.run(&format!("document.getElementById('{id}').textContent"))
    }

    /// Waits until the text of an element is as it should be.
    pub(crate) fn wait_for(&self, id: &str, is_right: impl Fn(&str) -> bool) -> String {
        self.wait_until(&format!("document.getElementById('{id}').textContent"), is_right)
    }

    /// Waits until what a script comes to is as it should be.
    pub(crate) fn wait_until(&self, script: &str, is_right: impl Fn(&str) -> bool) -> String {
        wait_for(script, || {
            let found = Some(self.run(script)).filter(|found| is_right(found));
            if found.is_none() {
                // What the page shows can only change with its next frame.
                let next = "requestAnimationFrame(() => arguments[0]())";
                self.tell("execute/async", &format!("{{\"script\":\"{next}\",\"args\":[]}}"));
            }
            found
        })
    }

    /// Gives a command to Chromium itself (Chrome `DevTools` Protocol).
    pub(crate) fn command(&self, name: &str, parameters: &str) -> Yaml {
        let body = format!("{{\"cmd\":\"{name}\",\"params\":{parameters}}}");
        self.tell("goog/cdp/execute", &body)
    }

    /// Shows the page as on a screen of this size, for a reader with these preferences.
    pub(crate) fn look(&self, (width, height): (u32, u32), scheme: &str, motion: &str) {
        let size = format!("\"width\":{width},\"height\":{height}");
        let size = format!("{{{size},\"deviceScaleFactor\":1,\"mobile\":false}}");
        self.command("Emulation.setDeviceMetricsOverride", &size);
        let preference =
            |name, value| format!("{{\"name\":\"prefers-{name}\",\"value\":\"{value}\"}}");
        let scheme = preference("color-scheme", scheme);
        let features = [scheme, preference("reduced-motion", motion)].join(",");
        self.command("Emulation.setEmulatedMedia", &format!("{{\"features\":[{features}]}}"));
    }

    /// Presses a key.
    pub(crate) fn press(&self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let key =
                format!("\"key\":\"{key}\",\"code\":\"{key}\",\"windowsVirtualKeyCode\":{code}");
            self.command("Input.dispatchKeyEvent", &format!("{{\"type\":\"{kind}\",{key}}}"));
        }
    }

    /// Clicks at a place, in pixels from the corner of the window.
    pub(crate) fn click(&self, x: u32, y: u32) {
        for kind in ["mousePressed", "mouseReleased"] {
            let at = format!("\"x\":{x},\"y\":{y},\"button\":\"left\",\"clickCount\":1");
            self.command("Input.dispatchMouseEvent", &format!("{{\"type\":\"{kind}\",{at}}}"));
        }
    }

    /// The messages on the console since the previous look at it.
    pub(crate) fn console(&self) -> Vec<Yaml> {
        self.tell("se/log", "{\"type\":\"browser\"}").into_vec().expect("a list")
    }

    /// Keeps a picture of the window, if `ONEPOLL_SCREENSHOTS` says in which folder.
    pub(crate) fn picture(&self, name: &str) {
        if let Some(folder) = env::var_os("ONEPOLL_SCREENSHOTS") {
            let picture = self.command("Page.captureScreenshot", "{\"format\":\"png\"}");
            let picture = decode(picture["data"].as_str().expect("a picture"));
            let path = PathBuf::from(folder).join(format!("{name}.png"));
            fs::write(path, picture).expect("a folder that can be written to");
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver may have ended, so an error is of no interest.
        let _ = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ = self.driver.wait();
        // A process of the group may be in the middle of writing a file.
        while fs::remove_dir_all(&self.folder).is_err() && self.folder.exists() {
            thread::yield_now();
        }
    }
}

/// Starts the driver, and waits for its port.
fn start_driver(folder: &Path) -> Option<(Child, u16)> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").env("TMPDIR", folder).stdin(Stdio::null());
    // A group of its own, so that whatever it starts can be ended with it.
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut driver = piped.spawn().expect("chromedriver can be run");
    let mut lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines();
    let port = lines.by_ref().find_map(|line| {
        let line = line.ok()?;
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    if port.is_none() {
        let _ = driver.wait();
    }
    Some((driver, port?))
}

/// The bytes that a text in base64 (RFC 4648, section 4) stands for.
fn decode(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|byte| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let digits: Vec<u32> = digits.collect();
    let whole = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
        let [_, bytes @ ..] = bits.to_be_bytes();
        bytes.into_iter().take(four.len() - 1)
    });
    whole.collect()
}
