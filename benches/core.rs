//! The pure core: bytes in, bytes out, with no system call in between. Run it with
//! `cargo bench --bench core`; each line is the time for one input and the requests per
//! second that follow from it.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use onepoll::http::{Next, Output, Route, Routes, serve};
use onepoll::limits::OUTPUT;

const SMALL: &str = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
const BROWSER: &str = "GET /hello HTTP/1.1\r\nHost: localhost:8080\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n\r\n";
const CHUNKED: &str = "POST /hello HTTP/1.1\r\nHost: localhost\r\n\
    Transfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n10;a=b\r\n0123456789abcdef\r\n0\r\n\r\n";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let routes = Routes::new(vec![Route::new("/hello", "Hello world.")]);
    let mut output = Output { bytes: Vec::with_capacity(OUTPUT), pages: 0 };
    for (name, input, responses, status, next) in [
        ("small", SMALL.to_owned(), 1, "200", Next::Head),
        ("small, 16 deep", SMALL.repeat(16), 16, "200", Next::Head),
        ("browser", BROWSER.to_owned(), 1, "200", Next::Head),
        ("not found", SMALL.replace("/hello", "/other"), 1, "404", Next::Head),
        ("error response", SMALL.replace("Host", "Hose"), 1, "400", Next::Close),
        ("chunked body", CHUNKED.to_owned(), 1, "200", Next::Head),
    ] {
        // A benchmark of a wrong response would be worth nothing.
        let served = serve(&routes, &mut (), Next::Head, input.as_bytes(), &mut output);
        assert_eq!((served.responses, served.next), (responses, next), "{name}");
        assert_eq!(&output.bytes[9..12], status.as_bytes(), "{name}");

        let mut group = criterion.benchmark_group("serve");
        group.throughput(Throughput::Elements(responses.into()));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                output.bytes.clear();
                let input = black_box(input.as_bytes());
                serve(&routes, &mut (), Next::Head, input, &mut output)
            });
        });
        output.bytes.clear();
    }
    criterion.final_summary();
}
