//! One head: the verdict on it does not depend on how much of it has come so far.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onepoll::http::Head;

fuzz_target!(|input: &[u8]| {
    let whole = Head::parse(input);
    if let Ok(Some((_, len))) = whole {
        assert!(len <= input.len());
        assert_eq!(
            Head::parse(&input[..len]),
            whole,
            "what follows is another story"
        );
    }
    for cut in 0..input.len() {
        match Head::parse(&input[..cut]) {
            Ok(None) => {}
            verdict => assert_eq!(verdict, whole, "a verdict is final, at {cut} too"),
        }
    }
});
