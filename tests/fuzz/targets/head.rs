//! One head: the verdict on it does not depend on how much of it has come so far.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onepoll::http::Head;

fuzz_target!(|input: &[u8]| {
    let whole = Head::parse(input);
    if let Ok(Some(head)) = &whole {
        assert!(head.len <= input.len());
        assert_eq!(
            Head::parse(&input[..head.len]),
            whole,
            "the bytes after a head do not matter"
        );
    }
    for cut in 0..input.len() {
        match Head::parse(&input[..cut]) {
            Ok(None) => {}
            verdict => assert_eq!(verdict, whole, "a verdict is final, at {cut} too"),
        }
    }
});
