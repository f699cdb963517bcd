//! The requests that clients send, each with the response that it gets. What a single request gets
//! that is whole in one input is taken from [`serve`], which has rules and tests of its own. The
//! simulation holds the loop to it, however the request comes in.

use onepoll::event_loop::listeners::Service;
use onepoll::http::{DATE_LEN, Next, Output, Route, Routes, serve};
use onepoll::limits::INPUT;
use onepoll::observe;

/// A request.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub response: Response,
    /// Whether the connection closes behind the response.
    pub closes: bool,
    /// An error response may come as soon as the error can be seen.
    pub is_error: bool,
    /// The response waits for the delay.
    pub is_delayed: bool,
    /// Where the body begins, if the client waits for `100 Continue` ahead of it.
    pub expects_at: Option<usize>,
}

/// What a request gets.
#[derive(Debug)]
pub enum Response {
    /// These bytes, with a date between the first two parts.
    Fixed { before: Vec<u8>, after: Vec<u8>, announced: Vec<u8>, body: Vec<u8> },
    /// A page that is rendered for the request.
    Page,
}

pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
pub const CLOSE: &[u8] = b"Connection: close\r\n";
const KEEP_ALIVE: &[u8] = b"Connection: keep-alive\r\n";

/// How long the body of main may be: it is copied into the write buffer, or sent from where it is.
pub const BODIES: [usize; 4] = [12, 3_000, 20_000, 300_000];

/// The requests to both services, for one body of main, and with a delay or without.
#[derive(Debug)]
pub struct Catalog {
    pub main: Vec<Kind>,
    pub diag: Vec<Kind>,
    pub is_delayed: bool,
    body: usize,
}

impl Catalog {
    pub fn new(body: usize, is_delayed: bool) -> Catalog {
        let catalog = Catalog { main: Vec::new(), diag: Vec::new(), is_delayed, body };
        let (main, diag) = (catalog.routes(Service::Main), catalog.routes(Service::Diag));
        let kinds = |routes: &Routes, requests: Vec<(&'static str, String)>| {
            requests.into_iter().map(|(name, text)| Kind::new(name, text, routes)).collect()
        };
        let to_main = kinds(&main, to_main());
        Catalog { main: to_main, diag: kinds(&diag, to_diag()), ..catalog }
    }

    /// What a service serves.
    pub fn routes(&self, service: Service) -> Routes {
        match service {
            Service::Diag => Routes::new(observe::routes()),
            Service::Main => {
                let body: Vec<u8> =
                    b"Hello world.\n".iter().copied().cycle().take(self.body).collect();
                let route = Route { is_delayed: self.is_delayed, ..Route::new("/hello", body) };
                Routes::new(vec![route])
            }
        }
    }

    /// The requests to a service.
    pub fn kinds(&self, service: Service) -> &[Kind] {
        match service {
            Service::Diag => &self.diag,
            Service::Main => &self.main,
        }
    }
}

fn to_main() -> Vec<(&'static str, String)> {
    let get = |head: &str| format!("GET /hello HTTP/1.1\r\nHost: a\r\n{head}\r\n");
    let post =
        |head: &str, body: &str| format!("POST /hello HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}");
    let fields: String =
        (0..40).map(|at| format!("X-Field-{at}: {}\r\n", "v".repeat(at))).collect();
    // A request of which the last read fills the read buffer.
    let full = |len: usize| post(&format!("Content-Length: {len}"), &"f".repeat(len));
    let full = full(INPUT - (full(10_000).len() - 10_000));
    vec![
        ("get", get("")),
        ("head", get("").replace("GET", "HEAD")),
        ("missing", get("").replace("/hello", "/missing")),
        ("browser", get(&fields)),
        ("empty line", format!("\r\n{}", get(""))),
        ("upload", post("Content-Length: 11", "some of it.")),
        ("long upload", post("Content-Length: 40000", &"b".repeat(40_000))),
        ("full buffer", full),
        (
            "chunked",
            post(
                "Transfer-Encoding: chunked",
                "3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nT: 1\r\n\r\n",
            ),
        ),
        ("expect", post("Content-Length: 5\r\nExpect: 100-continue", "12345")),
        ("options", get("").replace("GET /hello", "OPTIONS *")),
        ("keep-alive", "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned()),
        ("old", "GET /hello HTTP/1.0\r\n\r\n".to_owned()),
        ("close", get("Connection: close\r\n")),
        ("upload and close", post("Connection: close\r\nContent-Length: 4", "1234")),
        ("garbage", "\x16\x03\x01\x02\r\n\r\n".to_owned()),
        ("no host", "GET /hello HTTP/1.1\r\n\r\n".to_owned()),
        ("large head", get(&format!("X: {}\r\n", "x".repeat(9_000)))),
        ("bad chunk", post("Transfer-Encoding: chunked", "xyz\r\n")),
        ("head with a body", post("Content-Length: 6", "of it.").replace("POST", "HEAD")),
    ]
}

fn to_diag() -> Vec<(&'static str, String)> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    vec![
        ("ready", get("/ready")),
        ("loop", get("/loop")),
        ("trace", get("/trace")),
        ("trace of one", get("/trace?conn=1")),
        ("map", get("/trace?map")),
        ("live page", get("/")),
        ("missing", get("/missing")),
        (
            "upload",
            "POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nfor a pag".to_owned(),
        ),
        ("close", get("/ready").replace("Host: a", "Host: a\r\nConnection: close")),
        ("garbage", "no request\r\n\r\n".to_owned()),
    ]
}

impl Kind {
    fn new(name: &'static str, text: String, routes: &Routes) -> Kind {
        let bytes = text.into_bytes();
        let mut output = Output { bytes: Vec::new(), pages: 0 };
        let mut served = serve(routes, &mut (), Next::Head, &bytes, &mut output);
        let is_delayed = matches!(served.next, Next::Delayed(_));
        if is_delayed {
            served = serve(routes, &mut (), served.next, b"", &mut output);
        }
        let mut closes = served.next.closes();
        let body = routes.unsent(served.body);
        let is_page = served.next == Next::Full;
        let response = if is_page {
            closes = contains(&bytes, CLOSE);
            Response::Page
        } else {
            Response::fixed(&output.bytes[served.last..], body)
        };
        let expects = contains(&bytes, b"Expect: ");
        let is_error = closes && contains(&output.bytes, b"HTTP/1.1 4")
            || contains(&output.bytes, b"HTTP/1.1 5");
        let head_ends = find(&bytes, b"\r\n\r\n").map(|at| at + 4);
        let expects_at = head_ends.filter(|_| expects);
        Kind { name, response, closes, is_error, is_delayed, expects_at, bytes }
    }
}

impl Response {
    fn fixed(bytes: &[u8], rest: &[u8]) -> Response {
        let date = find(bytes, b"Date: ").expect("a response has a date") + 6;
        let head = find(bytes, b"\r\n\r\n").expect("a head ends") + 4;
        let after = &bytes[date + DATE_LEN..head];
        let kept = &after[..after.len() - 2];
        let kept = kept.strip_suffix(KEEP_ALIVE).unwrap_or(kept);
        Response::Fixed {
            before: bytes[..date].to_vec(),
            after: after.to_vec(),
            announced: [kept, CLOSE, b"\r\n"].concat(),
            body: [&bytes[head..], rest].concat(),
        }
    }
}

/// Where a text begins in another one.
pub fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

pub fn contains(bytes: &[u8], text: &[u8]) -> bool {
    find(bytes, text).is_some()
}
