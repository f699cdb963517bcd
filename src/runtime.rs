//! What the standard library does ahead of `main`, as far as it is needed here. The program comes
//! without the rest of it, which is mostly a look at the bounds of the stack: glibc finds them in
//! a text of the kernel's, with scanf(3), and so a static binary is a tenth larger for it.
//!
//! The invariant: afterwards, descriptors 0 to 2 are what they are called, and no write ends the
//! process.

use std::fs::File;
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use rustix::io::fcntl_getfd;
use rustix::stdio::{stderr, stdin, stdout};
use signal_hook::consts::SIGPIPE;
use signal_hook::flag;

/// Does it. Nothing may have been opened yet.
pub fn prepare() {
    // A listener in the place of a closed standard error would get the log. The kernel gives out
    // the lowest number that is free, so these come into the places that are.
    for standard in [stdin(), stdout(), stderr()] {
        if fcntl_getfd(standard).is_err()
            && let Ok(nowhere) = File::options().read(true).write(true).open("/dev/null")
        {
            let _ = nowhere.into_raw_fd();
        }
    }
    // A peer or a reader that has gone is an error like others, and no signal (pipe(7)).
    let _ = flag::register(SIGPIPE, Arc::default());
}
