//! What a supervisor gives that knows systemd's ways, and what it wants to hear: sockets that
//! listen already (`sd_listen_fds(3)`), and word of our state (`sd_notify(3)`). Without such a
//! supervisor, all of this is nothing.
//!
//! The invariant: an inherited socket is only borrowed. Others hold it, too, and let it go on
//! listening when we have gone.

use std::env;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use log::debug;
use sd_notify::NotifyState;

use crate::bound::Bound;
use crate::service::Service;

/// The sockets that were inherited, at the index of the service that each is for. By name
/// they are `main` and `diag`; those without names are for main and diagnostics, in this
/// order. They are handed out once.
///
/// # Errors
/// Sockets of which more are passed than there are services, whose names are not known, or
/// that do not listen for TCP connections; the message says what was found.
pub fn sockets() -> io::Result<[Option<Bound>; Service::ALL.len()]> {
    let mut sockets = [const { None }; Service::ALL.len()];
    let inherited =
        sd_notify::listen_fds_with_names().map_err(|error| unfit(&error.to_string()))?;
    if inherited.len() > Service::ALL.len() {
        return Err(unfit("more sockets than main and diag"));
    }
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if inherited.len() == 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(sockets);
    }
    let nameless = env::var_os("LISTEN_FDNAMES").is_none();
    for (at, (fd, name)) in inherited.enumerate() {
        let service = match name.as_str() {
            _ if nameless => [Service::Main, Service::Diag][at],
            "main" => Service::Main,
            "diag" => Service::Diag,
            _ => return Err(unfit(&format!("the name '{name}' instead of main or diag"))),
        };
        let bound = Bound::inherit(service, take(fd))?;
        if sockets[service as usize].replace(bound).is_some() {
            return Err(unfit(&format!("two sockets for {}", service.name())));
        }
    }
    Ok(sockets)
}

/// Takes over a descriptor that was left for us.
#[allow(unsafe_code)] // The one exception: a number from the environment becomes a descriptor.
fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: it is open, as the flags that were set on it just now show; sd_listen_fds(3)
    // makes it ours, nobody else in this process knows of it, and each is taken once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// What is wrong with what was inherited, and what that was.
fn unfit(what: &str) -> io::Error {
    let value = |name: &str| env::var_os(name).unwrap_or_default();
    let (fds, names) = (value("LISTEN_FDS"), value("LISTEN_FDNAMES"));
    io::Error::other(format!(
        "Inherited sockets do not fit: {what} (LISTEN_FDS {fds:?}, LISTEN_FDNAMES {names:?})"
    ))
}

/// Says that both services listen.
pub fn tell_ready() {
    tell(NotifyState::Ready);
}

/// Says that a stop has begun.
pub fn tell_stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        debug!(target: "onepoll", "The supervisor could not be told: {error}");
    }
}
