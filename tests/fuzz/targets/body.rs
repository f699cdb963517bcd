//! One body: where it ends, or breaks a rule, does not depend on how it was cut. The first
//! byte says how long the pieces are, and the second whether there is a count.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onepoll::http::Body;

/// How many bytes are skipped of the body that the pieces make up, or `None` for a broken
/// rule; and whether the body is over.
fn skip<'a>(mut body: Body, pieces: impl Iterator<Item = &'a [u8]>) -> (Option<usize>, bool) {
    let mut skipped = 0;
    for piece in pieces {
        let Ok(len) = body.skip(piece) else {
            return (None, false);
        };
        assert!(len <= piece.len());
        assert!(
            body.is_over() || len == piece.len(),
            "all of a body is skipped"
        );
        skipped += len;
        if body.is_over() {
            break;
        }
    }
    (Some(skipped), body.is_over())
}

fuzz_target!(|input: &[u8]| {
    let [piece, count, input @ ..] = input else {
        return;
    };
    let body = match count {
        0 => Body::CHUNKED,
        count => Body::counted(u64::from(*count)),
    };
    let whole = skip(body, std::iter::once(input));
    let pieces = skip(body, input.chunks(usize::from(*piece).max(1)));
    assert_eq!(whole, pieces);
});
