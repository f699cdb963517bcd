//! The pure core: bytes in, bytes out, with no system call in between. Run it with
//! `cargo bench --bench core`. `serve` parses a request and writes its response, and `httparse`
//! parses the head of the same request and does nothing else. The times are for one request, also
//! where several come at once. Each kind has 64 inputs, used one after the other, so that no memory
//! of the last head helps where they differ.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use onepoll::http::{Next, Output, Route, Routes, Served, serve};
use onepoll::limits::{FIELDS_MAX, OUTPUT};

const INPUTS: u32 = 64;

const SMALL: &str = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
const VARIED: &str = "GET /hello?id={id} HTTP/1.1\r\nHost: localhost\r\n\r\n";
const BROWSER: &str = "GET /hello?id={id} HTTP/1.1\r\nHost: localhost:8080\r\n\
    Connection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
    sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\nReferer: http://localhost:8080/{text}\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n\
    Cookie: session={text}{id}; theme=dark\r\n\r\n";
const POST: &str = "POST /hello?id={id} HTTP/1.1\r\nHost: localhost\r\n\
    Content-Length: {len}\r\n\r\n{text}";
const CHUNKED: &str = "POST /hello?id={id} HTTP/1.1\r\nHost: localhost\r\n\
    Transfer-Encoding: chunked\r\n\r\n\
    {hex}\r\n{text}\r\n10;a=b\r\n0123456789abcdef\r\n0\r\n\r\n";
const OLD: &str = "GET /hello?id={id} HTTP/1.0\r\nHost: localhost\r\n\r\n";

/// A name, what is filled in to make a request, the requests at once, and what comes next.
const KINDS: [(&str, &str, u32, Next); 8] = [
    ("small, alike", SMALL, 1, Next::Head),
    ("small, alike, 16 at once", SMALL, 16, Next::Head),
    ("small, varied", VARIED, 1, Next::Head),
    ("small, varied, 16 at once", VARIED, 16, Next::Head),
    ("browser-like, varied", BROWSER, 1, Next::Head),
    ("POST with a small body, varied", POST, 1, Next::Head),
    ("POST with a chunked body, varied", CHUNKED, 1, Next::Head),
    ("HTTP/1.0, varied", OLD, 1, Next::CloseRequested),
];

fn main() {
    let criterion = Criterion::default().warm_up_time(Duration::from_secs(1));
    let mut criterion = criterion.measurement_time(Duration::from_secs(2)).configure_from_args();
    let routes = Routes::new(vec![Route::new("/hello", "Hello world.")]);
    let mut output = Output { bytes: Vec::with_capacity(OUTPUT), pages: 0 };
    for (name, kind, requests, next) in KINDS {
        let input = |at| (0..requests).map(|i| fill(kind, at * requests + i)).collect();
        let inputs: Vec<String> = (0..INPUTS).map(input).collect();
        // A benchmark of a wrong response would be worth nothing.
        for input in &inputs {
            let served = respond(&routes, input, &mut output);
            assert_eq!((served.responses, served.next), (requests, next), "{input}");
            assert_eq!(&output.bytes[9..12], b"200", "{input}");
        }
        let bytes: u64 = inputs.iter().map(|input| input.len() as u64).sum();
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes / u64::from(INPUTS * requests)));
        group.bench_function("serve", |bencher| {
            let respond = |input: &str| respond(&routes, input, &mut output);
            bencher.iter_custom(per_request(requests, &inputs, respond));
        });
        group.bench_function("httparse", |bencher| {
            bencher.iter_custom(per_request(requests, &inputs, |input| parse(input, requests)));
        });
    }
    criterion.final_summary();
}

/// Fills in texts that differ in their bytes and in their length.
fn fill(kind: &str, at: u32) -> String {
    let [id, text] = [2 * at + 1, 2 * at + 2].map(|seed| {
        let mixed = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{:x}", mixed >> (mixed % 48))
    });
    let len = text.len();
    let kind = kind.replace("{len}", &len.to_string()).replace("{hex}", &format!("{len:x}"));
    kind.replace("{id}", &id).replace("{text}", &text)
}

/// The time of so many runs over one input after the other, divided by the requests in each.
fn per_request<T>(
    requests: u32,
    inputs: &[String],
    mut run: impl FnMut(&str) -> T,
) -> impl FnMut(u64) -> Duration {
    move |times| {
        let start = Instant::now();
        for (_, input) in (0..times).zip(inputs.iter().cycle()) {
            black_box(run(black_box(input)));
        }
        start.elapsed() / requests
    }
}

fn respond(routes: &Routes, input: &str, output: &mut Output) -> Served {
    output.bytes.clear();
    serve(routes, &mut (), Next::Head, input.as_bytes(), output)
}

/// Parses so many heads, of requests without bodies between them.
fn parse(input: &str, heads: u32) {
    let mut rest = input.as_bytes();
    for _ in 0..heads {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(rest, &mut fields).expect("a head");
        black_box(&request);
        rest = &rest[parsed.unwrap()..];
    }
}
