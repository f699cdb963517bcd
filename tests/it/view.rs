//! What the diagnostics listener shows of the loop. The tests in a browser are in `live.rs`.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{HELLO, Peer, Process, field, status, wait_for};

/// A request for a page of diagnostics.
fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// The response to a request for a page, on a connection of its own.
fn look(server: &Process, path: &str) -> String {
    let mut peer = Peer::connect(server.diag);
    peer.send(&ask(path));
    peer.response()
}

/// The body of a page that exists.
fn page(server: &Process, path: &str) -> String {
    let response = look(server, path);
    assert_eq!(status(&response), 200, "{response}");
    body(&response).to_owned()
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").expect("a head").1
}

/// The samples on `/metrics`, by name and labels as they are written.
fn samples(server: &Process) -> HashMap<String, f64> {
    let page = page(server, "/metrics");
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

/// What `/loop` says of the last minute.
fn requests_in_the_last_minute(page: &str) -> f64 {
    let row = page.lines().find(|line| line.starts_with("requests "));
    let count = row.and_then(|line| line.split_whitespace().last());
    let count = count.expect("a row").replace(',', "");
    count.parse().expect("a number")
}

#[test]
fn what_has_happened_is_counted() {
    let server = Process::start(&["--log", "warn"]);
    let mut peer = server.connect();
    for _ in 0..7 {
        peer.send(HELLO);
        assert_eq!(status(&peer.response()), 200);
    }
    peer.send(&HELLO.replace("/hello", "/nowhere"));
    assert_eq!(status(&peer.response()), 404);
    let mut halfway = server.connect();
    halfway.send(&HELLO[..9]);
    let mut refused = server.connect();
    refused.send("GET /hello HTTP/1.1\nHost: a\r\n\r\n");
    assert_eq!(status(&refused.rest()), 400);
    drop(refused);

    let samples = samples(&server);
    for (name, expected) in [
        (r#"onepoll_requests_total{listener="main",code="200"}"#, 7.0),
        (r#"onepoll_requests_total{listener="main",code="404"}"#, 1.0),
        (r#"onepoll_requests_total{listener="main",code="400"}"#, 1.0),
        (r#"onepoll_request_errors_total{listener="main",reason="line_end"}"#, 1.0),
        (r#"onepoll_request_errors_total{listener="main",reason="host"}"#, 0.0),
        (r#"onepoll_connections{listener="main",state="idle"}"#, 1.0),
        (r#"onepoll_connections{listener="main",state="head"}"#, 1.0),
        (r#"onepoll_connections{listener="diag",state="idle"}"#, 1.0),
        (r#"onepoll_connections_accepted_total{listener="main"}"#, 3.0),
        (r#"onepoll_connections_accepted_total{listener="diag"}"#, 1.0),
        ("onepoll_service_seconds_count", 9.0),
        ("onepoll_partial_writes_total", 0.0),
        ("onepoll_log_lines_dropped_total", 0.0),
        (r#"onepoll_shutdown_stage{stage="serving"}"#, 1.0),
        (r#"onepoll_shutdown_stage{stage="draining"}"#, 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&expected), "{name}");
    }
}

#[test]
fn a_loop_that_spins_says_for_how_long() {
    for (options, spins) in [(&["--spin", "1m"][..], true), (&[], false)] {
        let server = Process::start(&[options, &["--log", "warn"]].concat());
        let mut peer = server.connect();
        for _ in 0..8 {
            peer.send(HELLO);
            assert_eq!(status(&peer.response()), 200);
        }
        let spun = samples(&server)["onepoll_spinning_seconds_total"];
        assert_eq!(spun > 0.0, spins, "{options:?}: {spun}");
        // A loop that spins does little else, and one that does not spins for none of the time.
        wait_for("a whole second of it", || {
            let page = page(&server, "/loop");
            let rows: Vec<_> = page.lines().filter(|line| line.contains('%')).collect();
            let [_, spinning] = rows[..] else { return None };
            let share = spinning.strip_prefix("spinning")?.split_whitespace().next()?;
            let share: f64 = share.trim_end_matches('%').parse().expect("a number");
            (spins == (share > 50.0)).then_some(())
        });
        let (exited, _) = server.stop(Signal::TERM);
        assert_eq!(exited.status.code(), Some(0), "{options:?}: no signal is missed");
    }
}

#[test]
fn bytes_ticks_and_the_process_are_measured() {
    let server = Process::start(&["--log", "warn"]);
    let mut peer = server.connect();
    for _ in 0..8 {
        peer.send(HELLO);
        assert_eq!(status(&peer.response()), 200);
    }
    let samples = samples(&server);
    let received = samples[r#"onepoll_received_bytes_total{listener="main"}"#];
    assert_eq!(received, 8.0 * HELLO.len() as f64);
    let ticks = samples["onepoll_ticks_total"];
    assert!(ticks >= 8.0 && samples["onepoll_events_per_tick_count"] >= ticks);
    assert!(samples["onepoll_waiting_seconds_total"] > 0.0);
    assert!(samples["process_resident_memory_bytes"] > 100_000.0);
    // Three standard ones, two connections, two listeners, the poll and the signal pipe.
    assert!(samples["process_open_fds"] >= 9.0);
    let start = samples["process_start_time_seconds"];
    assert!(start > 1.6e9);
    // A browser tells a restart by that.
    let again = self::samples(&server);
    assert_eq!(again["process_start_time_seconds"], start);
}

#[test]
fn partial_writes_are_counted() {
    let server = Process::start(&["--log", "warn", "--body-size", "8000000"]);
    let mut peer = server.connect_with_little_room();
    peer.send(HELLO);
    wait_for("the kernel takes only a part", || {
        (samples(&server)["onepoll_partial_writes_total"] >= 1.0).then_some(())
    });
    let writing = r#"onepoll_connections{listener="main",state="writing"}"#;
    assert_eq!(samples(&server)[writing], 1.0);
    let sent = samples(&server)[r#"onepoll_sent_bytes_total{listener="main"}"#];
    assert!(sent > 0.0 && sent < 8_000_000.0, "{sent}");
}

#[test]
fn the_loop_is_shown_on_one_screen() {
    let server = Process::start(&["--log", "warn"]);
    let mut peer = server.connect();
    peer.send(&HELLO.repeat(20));
    for _ in 0..20 {
        assert_eq!(status(&peer.response()), 200);
    }
    // The page shows whole seconds, so the second has to be over.
    let page = wait_for("the requests are seen", || {
        Some(page(&server, "/loop")).filter(|page| requests_in_the_last_minute(page) >= 20.0)
    });
    for row in [
        "ticks",
        "events per tick",
        "busy",
        "longest tick",
        "service time p50",
        "             p99.9",
        "out of reads",
        "idle                              1              1",
        "writing",
        "all",
    ] {
        assert!(page.lines().any(|line| line.starts_with(row)), "{row:?} in {page}");
    }
    let tables = page.lines().skip(2).filter(|line| !line.is_empty());
    let widths: Vec<usize> = tables.map(|line| line.chars().take(50).count()).collect();
    assert!(widths.iter().all(|&width| width == 50), "aligned: {page}");
    assert!(page.lines().count() <= 30 && page.lines().all(|line| line.len() <= 80), "{page}");
}

#[test]
fn a_connection_has_a_trace() {
    let server = Process::start(&["--log", "warn"]);
    let mut peer = server.connect();
    // It is connection 1: the reader connects later.
    peer.send(HELLO);
    assert_eq!(status(&peer.response()), 200);
    peer.send(&HELLO[..9]);
    let trace = |end| {
        let trace = || Some(page(&server, "/trace?conn=1")).filter(|trace| trace.contains(end));
        wait_for(end, trace)
    };
    trace("beginning of a head");
    peer.send(&HELLO[9..]);
    assert_eq!(status(&peer.response()), 200);
    let address = peer.stream.local_addr().expect("an address");
    let so_far = trace("accepted");
    assert!(so_far.starts_with("Connection 1 on main, idle for "), "{so_far}");
    assert!(so_far.contains(&format!(", from {address}\n")), "{so_far}");
    assert_eq!(page(&server, "/trace?slot=0").lines().count(), so_far.lines().count());
    drop(peer);
    let trace = trace("the peer closes it");
    let ends = [
        "Connection 1",
        "what happened",
        "accepted",
        "a response is sent",
        "the beginning of a head has come",
        "a response is sent",
        "the peer closes it",
    ];
    assert_eq!(trace.lines().count(), ends.len(), "{trace}");
    for (line, end) in trace.lines().zip(ends) {
        assert!(line.ends_with(end), "{line}");
    }
    assert!(page(&server, "/trace").contains("         1  main     closed "));
}

#[test]
fn the_map_has_a_letter_for_each_slot() {
    let server = Process::start(&["--log", "warn"]);
    let mut peers: Vec<Peer> = (0..100).map(|_| server.connect()).collect();
    peers[99].send(HELLO);
    assert_eq!(status(&peers[99].response()), 200, "all of them are here");
    let map = page(&server, "/trace?map");
    let (legend, letters) = map.split_once('\n').expect("lines");
    assert!(legend.starts_with("# ") && legend.contains("i idle"), "{legend}");
    let letters: String = letters.split('\n').collect();
    assert_eq!((letters.matches('i').count(), letters.matches('I').count()), (100, 1));
}

#[test]
fn the_recording_has_every_change() {
    let server = Process::start(&["--log", "warn"]);
    let mut peer = server.connect();
    peer.send(HELLO);
    let bytes = peer.response().len();
    let recording = page(&server, "/trace?recording");
    let (comments, lines): (Vec<_>, Vec<_>) =
        recording.lines().partition(|line| line.starts_with("# "));
    assert_eq!(comments[0], "# format: onepoll recording 1");
    assert_eq!(comments.len(), 2, "no stage of a stop has begun: {comments:?}");
    // The first connection with its response, and the reader of the page.
    let fields = |line: &str| line.split(' ').skip(2).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = lines.into_iter().map(fields).collect();
    let served = format!("1 mii 1 {} {bytes}", HELLO.len());
    assert_eq!(lines, ["1 m-i 0 0 0", &served, "2 d-i 0 0 0"]);
}

#[test]
fn what_cannot_be_shown_is_explained() {
    let server = Process::start(&["--log", "warn"]);
    let mut peer = Peer::connect(server.diag);
    for (path, code, says) in [
        ("/trace?conn=99", 404, "connection 99 is not open"),
        ("/trace?slot=99", 200, "slot 99 is free"),
        ("/trace?conn=x", 400, "\"conn=x\" is not understood"),
        ("/trace?conn=+1", 400, "\"conn=+1\" is not understood"),
        ("/trace?conn=99999999999", 400, "is not understood"),
        ("/trace?map=1", 400, "is not understood"),
        ("/trace?recording=1", 400, ", /trace?map and /trace?recording, where N is a number"),
        ("/trace?recording&_=1", 200, "# format: onepoll recording 1\n"),
        ("/trace?_=1&conn=x", 400, "is not understood"),
        ("/trace?map&_=1", 200, "# one letter for each slot"),
        ("/trace?_=1&map", 200, "# one letter for each slot"),
        ("/trace?_=1", 200, "changes so far"),
        ("/metrics?name[]=up", 200, "# HELP "),
        ("/metric", 404, "404 page not found"),
    ] {
        peer.send(&ask(path));
        let response = peer.response();
        assert_eq!(status(&response), code, "{path}");
        assert!(body(&response).contains(says), "{response}");
    }
    // Other spellings of the same path, and HEAD.
    for path in ["/l%6Fop", "/loop?x", "http://a/loop"] {
        peer.send(&ask(path));
        assert!(peer.response().contains("last second"), "{path}");
    }
    peer.send(&ask("/loop").replace("GET", "HEAD"));
    assert_eq!(status(&peer.response_to_head()), 200);
}

#[test]
fn a_small_body_is_skipped_and_a_long_one_is_refused() {
    let server = Process::start(&["--log", "warn"]);
    let mut peer = Peer::connect(server.diag);
    for path in ["/metrics", "/loop", "/trace"] {
        for body in ["Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
            let request = ask(path).replace("\r\n\r\n", &format!("\r\n{body}"));
            peer.send(&request);
            assert_eq!(status(&peer.response()), 200, "{request:?}");
            let (head, body) = request.split_at(request.find("\r\n\r\n").expect("a head") + 4);
            peer.send(head);
            peer.send(body);
            assert_eq!(status(&peer.response()), 200, "{request:?} in two parts");
        }
    }
    peer.send(&ask("/loop").replace("\r\n\r\n", "\r\nContent-Length: 5000\r\n\r\nx"));
    let response = peer.rest();
    assert_eq!(status(&response), 413);
    assert!(response.ends_with("this page takes a request body of 4 KiB at most\n"));
    // No page was rendered for that request, so no other client can get it.
    assert!(page(&server, "/metrics").starts_with("# HELP "));
}

#[test]
fn a_small_body_has_the_time_of_a_body() {
    let server = Process::start(&["--log", "warn", "--header-timeout", "200ms"]);
    for expects in ["", "\r\nExpect: 100-continue"] {
        let mut peer = Peer::connect(server.diag);
        let fields = format!("\r\nContent-Length: 4{expects}\r\n\r\n");
        peer.send(&ask("/metrics").replace("\r\n\r\n", &fields));
        if !expects.is_empty() {
            peer.interim();
        }
        assert!(peer.has_nothing_for(Duration::from_millis(400)), "no 408");
        peer.send("body");
        assert_eq!(status(&peer.response()), 200);
    }
    let server = Process::start(&["--log", "warn", "--body-timeout", "200ms"]);
    let mut peer = Peer::connect(server.diag);
    peer.send(&ask("/metrics").replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nx"));
    assert_eq!(status(&peer.rest()), 408);
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let server = Process::start(&["--log", "warn"]);
    for (address, path) in [(server.main, "/hello"), (server.diag, "/loop")] {
        let mut peer = Peer::connect(address);
        for _ in 0..2 {
            let fields = "\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
            peer.send(&ask(path).replace("\r\n\r\n", fields));
            assert_eq!(peer.interim(), "HTTP/1.1 100 Continue\r\n\r\n", "{path}");
            peer.send("body");
            let response = peer.response();
            assert_eq!((status(&response), field(&response, "Connection")), (200, None));
        }
    }
}

#[test]
fn counters_are_there_before_they_count() {
    let server = Process::start(&["--log", "warn"]);
    let samples = samples(&server);
    for listener in ["main", "diag"] {
        for code in [200, 400, 404, 408, 414, 417, 431, 501, 505] {
            let name = format!("onepoll_requests_total{{listener=\"{listener}\",code=\"{code}\"}}");
            assert!(samples.contains_key(&name), "there is no {name}");
        }
    }
    let unready = r#"onepoll_requests_total{listener="diag",code="503"}"#;
    assert!(samples.contains_key(unready));
}

#[test]
fn the_live_page_asks_for_nothing_by_an_absolute_path() {
    let server = Process::start(&["--log", "warn"]);
    let page = page(&server, "/");
    for path in ["/metrics", "/loop", "/trace", "/ready"] {
        for quote in ['\'', '"', '`'] {
            assert!(!page.contains(&format!("{quote}{path}")), "{path} is absolute");
        }
    }
    for path in ["href=\"metrics\"", "'trace?map'"] {
        assert!(page.contains(path), "{path} is relative");
    }
}

#[test]
fn a_page_after_any_number_of_long_responses_is_rendered() {
    let server = Process::start(&["--log", "warn", "--delay", "1ms"]);
    for long in 0..20 {
        let mut peer = Peer::connect(server.diag);
        peer.send(&[ask("/").repeat(long), ask("/loop"), ask("/ready")].concat());
        for _ in 0..long {
            assert!(body(&peer.response()).starts_with("<!doctype html>"));
        }
        assert!(body(&peer.response()).starts_with("onepoll "), "behind {long}");
        assert!(body(&peer.response()).starts_with("Version: "));
    }
    let before = samples(&server)[r#"onepoll_budget_exhausted_total{budget="reads"}"#];
    let mut peer = server.connect();
    for _ in 0..20 {
        peer.send(HELLO);
        assert_eq!(status(&peer.response()), 200);
    }
    let after = samples(&server)[r#"onepoll_budget_exhausted_total{budget="reads"}"#];
    assert_eq!(after, before, "a response that had to wait does not exhaust the steps");
}

#[test]
fn many_readers_get_their_pages_in_order_and_delay_no_client() {
    let server = Process::start(&["--log", "warn"]);
    let mut readers: Vec<Peer> = (0..20).map(|_| Peer::connect(server.diag)).collect();
    let batch = [ask("/metrics"), ask("/ready"), ask("/loop"), ask("/trace?map")].concat();
    for reader in &mut readers {
        reader.send(&batch.repeat(5));
    }
    let mut peer = server.connect();
    peer.send(HELLO);
    assert_eq!(status(&peer.response()), 200);
    for reader in &mut readers {
        for _ in 0..5 {
            for begins in ["# HELP onepoll_", "Version: ", "onepoll ", "# one letter"] {
                let response = reader.response();
                assert!(body(&response).starts_with(begins), "{response}");
            }
        }
    }
}

#[test]
fn the_stage_of_a_stop_is_shown() {
    let mut server = Process::start(&["--lame-duck", "1m", "--log", "info"]);
    let mut peer = Peer::connect(server.diag);
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    peer.send(&ask("/metrics"));
    let response = peer.response();
    assert!(response.contains("onepoll_shutdown_stage{stage=\"lame_duck\"} 1\n"), "{response}");
    peer.send(&ask("/loop"));
    assert!(peer.response().contains(", lame duck for "));
    peer.send(&ask("/trace?recording"));
    assert!(peer.response().contains("\n# lame duck: "));
    // A second signal would end the process, so the drain has a server of its own.
    let mut server = Process::start(&["--idle-grace", "5m"]);
    let mut halfway = server.connect();
    halfway.send(&HELLO[..9]);
    let mut peer = Peer::connect(server.diag);
    peer.send(&ask("/loop"));
    assert!(peer.response().contains(", serving,"));
    server.signal(Signal::TERM);
    server.wait_for_log("Signal 'terminated' received");
    // The drain may be watched until the end.
    for _ in 0..2 {
        peer.send(&ask("/metrics"));
        let response = peer.response();
        assert!(response.contains("onepoll_shutdown_stage{stage=\"draining\"} 1\n"), "{response}");
    }
    halfway.send(&HELLO[9..]);
    assert_eq!(field(&halfway.rest(), "Connection"), Some("close"));
    drop(halfway);
    // Once main is empty, the next response announces the close.
    loop {
        peer.send(&ask("/loop"));
        let response = peer.response();
        assert!(response.contains(", draining for "));
        if field(&response, "Connection") == Some("close") {
            break;
        }
    }
    assert_eq!(peer.rest(), "");
    drop(peer);
    assert_eq!(server.wait().status.code(), Some(0));
}

#[test]
fn the_live_page_loads_nothing_from_anywhere() {
    let server = Process::start(&["--log", "warn"]);
    let mut peer = Peer::connect(server.diag);
    peer.send(&ask("/"));
    let response = peer.response();
    let policy = field(&response, "Content-Security-Policy").expect("a policy");
    for part in ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"));
    assert_eq!(field(&response, "Content-Type"), Some("text/html; charset=utf-8"));
    let page = body(&response);
    assert!(page.len() <= 40 * 1024, "{} bytes", page.len());
    for outside in ["://", " src=", "url(", "@import", "import("] {
        assert!(!page.contains(outside), "{outside}: no outside resource");
    }
}

#[test]
#[ignore = "needs promtool, of Debian's package prometheus"]
fn prometheus_has_nothing_to_remark() {
    let server = Process::start(&["--log", "warn"]);
    let mut peer = server.connect();
    peer.send("nonsense\r\n\r\n");
    assert_eq!(status(&peer.rest()), 400);
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let piped = promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("promtool can be run");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(page(&server, "/metrics").as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let remarks = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&remarks));
    assert_eq!(String::from_utf8_lossy(&remarks), "");
}

#[test]
#[ignore = "needs Debian's wrk"]
fn wrk_and_both_pages_agree() {
    let server = Process::start(&["--log", "warn"]);
    let url = format!("http://{}/hello", server.main);
    let mut wrk = Command::new("wrk");
    let output = wrk.args(["-t1", "-c16", "-d2s", &url]).output().expect("wrk can be run");
    let report = String::from_utf8(output.stdout).expect("text");
    let told = report.lines().find_map(|line| line.trim().split_once(" requests in "));
    let told: f64 = told.and_then(|(count, _)| count.parse().ok()).expect("a count");
    let samples = samples(&server);
    let counted = samples[r#"onepoll_requests_total{listener="main",code="200"}"#];
    // At its end, wrk does not wait for the responses to its latest requests.
    assert!(counted >= told && counted <= told + 16.0, "{counted} and {told}");
    let sent = samples[r#"onepoll_sent_bytes_total{listener="main"}"#];
    assert!((sent / counted - 129.0).abs() < 0.5, "each response has 129 bytes");
    let shown = wait_for("they are seen", || {
        let shown = requests_in_the_last_minute(&page(&server, "/loop"));
        Some(shown).filter(|&shown| shown >= counted)
    });
    assert!(shown <= counted + looks(&server), "{shown} and {counted}");
}

/// How many pages of diagnostics have been looked at.
fn looks(server: &Process) -> f64 {
    samples(server)[r#"onepoll_requests_total{listener="diag",code="200"}"#]
}
