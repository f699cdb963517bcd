//! The live page, for browsers: the loop as it goes round, drawn from `/metrics` and `/trace`. It
//! is one file with its own script and style, which a text editor shows best: `live.html`.
//!
//! The invariant: nothing is loaded from anywhere, and nothing is run but what is in the file.
//!
//! # Try it
//!
//! Run the first line, open `http://localhost:8081/` in a browser, and run the others:
//!
//! ```sh
//! onepoll --log warn & server=$!; sleep 0.5
//! curl -s http://localhost:8081/ | grep '<script>' # look for: <script>
//! wrk -t1 -c500 -d5s http://localhost:8080/hello # look for: Requests/sec
//! kill $server; wait $server
//! ```

/// The file.
pub const PAGE: &str = include_str!("live.html");

/// What the head says of it. The script and the style are named by their SHA-256 (CSP level 3,
/// section 6.7.2); a browser tells on its console what they are when they have changed.
pub const FIELDS: &str = concat!(
    "Content-Type: text/html; charset=utf-8\r\n",
    "Content-Security-Policy: default-src 'none'; ",
    "script-src 'sha256-YenORRHvqb/ZF56mQr1IfEGVtgVbefnhm6U2mGvudSk='; ",
    "style-src 'sha256-d1tXyfGSB6YiMlSLrmHUClmtUTMvHz/WfffWph7zBi0='; ",
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; ",
    "frame-ancestors 'none'\r\n",
    "X-Content-Type-Options: nosniff\r\n",
);
