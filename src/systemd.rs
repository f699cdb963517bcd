//! What a supervisor gives that knows systemd's ways, and what it wants to hear: sockets that
//! listen already (`sd_listen_fds(3)`), and word of our state (`sd_notify(3)`). Without such a
//! supervisor, all of this is nothing.
//!
//! The invariant: an inherited socket is only borrowed. Others hold it, too, let it go on listening
//! when we have gone, and find it as it was.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};

use log::debug;

use crate::event_loop::bound::Bound;
use crate::limits::NOTIFY_TIMEOUT;
use crate::services::Service;

/// The sockets that were inherited, each at the index of the service that it is for.
pub type Inherited = [Option<Bound>; Service::ALL.len()];

/// Takes over the sockets that were inherited. By name they are `main` and `diag`; those without
/// names of their own are for main and diagnostics, in this order. They are handed out once, and
/// have to be taken before anything else is opened: a supervisor that names more descriptors than
/// it has passed would otherwise name ours.
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
    let (fds, names): (Vec<RawFd>, Vec<String>) = if variable("LISTEN_FDNAMES").is_some() {
        sd_notify::listen_fds_with_names()
            .map_err(unfit_for)?
            .unzip()
    } else {
        passed.map(|fd| (fd, String::new())).unzip()
    };
    let services = services(&names).map_err(|what| unfit(&what))?;
    for (fd, service) in fds.into_iter().zip(services) {
        sockets[service as usize] = Some(Bound::inherit(service, take(fd))?);
    }
    Ok(sockets)
}

/// The services that one or two sockets with these names are for. systemd always sets names, and
/// by default that of the unit (systemd.socket(5), `FileDescriptorName`): such a name says
/// nothing, nor does one that both have, and then the order decides.
fn services(names: &[String]) -> Result<Vec<Service>, String> {
    let are_alike = names.len() > 1 && names.iter().all(|name| *name == names[0]);
    let says_nothing = |name: &str| {
        let is_unit = name.ends_with(".socket");
        are_alike || is_unit || matches!(name, "" | "unknown")
    };
    let named = |name: &String| match name.as_str() {
        name if says_nothing(name) => Ok(None),
        "main" => Ok(Some(Service::Main)),
        "diag" => Ok(Some(Service::Diag)),
        _ => Err(format!("the name {name:?} instead of main or diag")),
    };
    let named: Vec<Option<Service>> = names.iter().map(named).collect::<Result<_, _>>()?;
    let in_order = [Service::Main, Service::Diag].into_iter();
    let mut left = in_order.filter(|service| !named.contains(&Some(*service)));
    Ok(named
        .iter()
        .filter_map(|service| service.or_else(|| left.next()))
        .collect())
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
/// space (unix(7)). A supervisor that does not read has [`NOTIFY_TIMEOUT`] to begin.
fn send(place: &OsStr, state: &str) -> io::Result<()> {
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(NOTIFY_TIMEOUT))?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_leave_it_to_the_order() {
        use Service::{Diag, Main};
        for (names, expected) in [
            (&["main", "diag"][..], &[Main, Diag][..]),
            (&["diag", "main"], &[Diag, Main]),
            (&["diag"], &[Diag]),
            (&["", ""], &[Main, Diag]),
            (&["onepoll.socket", "onepoll.socket"], &[Main, Diag]),
            (
                &["onepoll-diag.socket", "onepoll-main.socket"],
                &[Main, Diag],
            ),
            (&["unknown", "unknown"], &[Main, Diag]),
            (&["web", "web"], &[Main, Diag]),
            (&["main", "main"], &[Main, Diag]),
            (&["unknown", "main"], &[Diag, Main]),
            (&["diag", "unknown"], &[Diag, Main]),
            (&["onepoll.socket"], &[Main]),
        ] {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(services(&names).as_deref(), Ok(expected), "{names:?}");
        }
        for names in [&["web"][..], &["main", "web"], &["unknown", "http"]] {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let what = services(&names).expect_err("one of them is not known");
            assert!(what.ends_with("instead of main or diag"), "{what}");
        }
    }
}
