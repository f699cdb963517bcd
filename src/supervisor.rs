//! What a supervisor gives that knows systemd's ways, and what it wants to hear: sockets that
//! listen already (`sd_listen_fds(3)`), and word of our state (`sd_notify(3)`). Without such a
//! supervisor, all of this is nothing.
//!
//! The invariant: an inherited socket is only borrowed. Others hold it, too, and let it go on
//! listening when we have gone.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};

use log::debug;

use crate::bound::Bound;
use crate::limits::NOTIFY_PATIENCE;
use crate::service::Service;

/// The sockets that were inherited, each at the index of the service that it is for.
pub type Inherited = [Option<Bound>; Service::ALL.len()];

/// Takes over the sockets that were inherited. By name they are `main` and `diag`; those
/// without names are for main and diagnostics, in this order. They are handed out once, and
/// have to be taken before anything else is opened: a supervisor that names more descriptors
/// than it has passed would otherwise name ours.
///
/// # Errors
/// Sockets of which there are more than services, whose names are not known, or that do not
/// listen for TCP connections; the message says what was found.
pub fn sockets() -> io::Result<Inherited> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let mut sockets = Inherited::default();
    if variable("LISTEN_PID").is_none() || variable("LISTEN_FDS").is_none() {
        return Ok(sockets);
    }
    let unfit_for = |error: io::Error| unfit(&error.to_string());
    let passed = sd_notify::listen_fds().map_err(unfit_for)?;
    let count = passed.len();
    if count == 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(sockets);
    }
    if count > Service::ALL.len() {
        return Err(unfit("more sockets than main and diag"));
    }
    let named: Vec<(RawFd, String)> = if variable("LISTEN_FDNAMES").is_some() {
        let named = sd_notify::listen_fds_with_names().map_err(unfit_for)?;
        named.collect()
    } else {
        passed.zip(["main", "diag"].map(str::to_owned)).collect()
    };
    for (fd, name) in named {
        let service = match name.as_str() {
            "main" => Service::Main,
            "diag" => Service::Diag,
            _ => return Err(unfit(&format!("the name {name:?} instead of main or diag"))),
        };
        let bound = Bound::inherit(service, take(fd))?;
        if sockets[service as usize].replace(bound).is_some() {
            return Err(unfit(&format!("two sockets for {}", service.name())));
        }
    }
    let ports: Vec<_> = sockets.iter().flatten().map(Bound::address).collect();
    match ports[..] {
        [one, other] if one == other => Err(unfit("one address for both main and diag")),
        _ => Ok(sockets),
    }
}

/// Takes over a descriptor that was left for us.
#[allow(unsafe_code)] // The one exception: a number from the environment becomes a descriptor.
fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: it is open, as the flags that were set on it just now show; nothing else in this
    // process has opened anything yet; and each is taken once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A variable of the environment; an empty one counts as unset.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// What is wrong with what was inherited, and what that was.
fn unfit(what: &str) -> io::Error {
    let found = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(|name| {
        let value = env::var_os(name).unwrap_or_default();
        format!("{name}={value:?}")
    });
    let found = found.join(" ");
    io::Error::other(format!("Inherited sockets do not fit: {what} ({found})"))
}

/// Says that both services listen.
pub fn tell_ready() {
    tell("READY=1\n");
}

/// Says that a stop has begun.
pub fn tell_stopping() {
    tell("STOPPING=1\n");
}

fn tell(state: &str) {
    if let Some(place) = variable("NOTIFY_SOCKET")
        && let Err(error) = send(&place, state)
    {
        debug!(target: "onepoll", "The supervisor could not be told: {error}");
    }
}

/// Sends a datagram to a place in the file system or, with an `@` ahead, in the abstract name
/// space (unix(7)). A supervisor that does not read has [`NOTIFY_PATIENCE`] to begin.
fn send(place: &OsStr, state: &str) -> io::Result<()> {
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(NOTIFY_PATIENCE))?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}
