//! The protocols of systemd: listening sockets that the process inherits (`sd_listen_fds(3)`), and
//! state that it reports (`sd_notify(3)`). Without their environment variables, none of this does
//! anything.
//!
//! The invariant: an inherited socket stays as it is. The supervisor has it open, too, and it goes
//! on listening after this process has ended.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};

use log::debug;

use crate::event_loop::listener::Listener;
use crate::event_loop::listeners::Service;
use crate::limits::NOTIFY_TIMEOUT;
use crate::platform::abstract_name;

/// The inherited sockets, each at the index of its service.
pub type Inherited = [Option<Listener>; Service::ALL.len()];

/// The inherited sockets, named `main` and `diag`. Sockets without such a name are for main and
/// diagnostics, in this order. Only the first call returns them. It has to come before the process
/// opens any descriptor: `LISTEN_FDS` may count more descriptors than were passed, and these would
/// be ours.
///
/// # Errors
/// More sockets than services, an unknown name, or a socket that does not listen for TCP
/// connections. The message shows the environment variables.
pub fn sockets() -> io::Result<Inherited> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let mut sockets = Inherited::default();
    if variable("LISTEN_PID").is_none() || variable("LISTEN_FDS").is_none() {
        return Ok(sockets);
    }
    let unreadable = |error: io::Error| unusable(&error.to_string());
    let passed = sd_notify::listen_fds().map_err(unreadable)?;
    let count = passed.len();
    if count == 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(sockets);
    }
    if count > Service::ALL.len() {
        return Err(unusable("more sockets than main and diag"));
    }
    let (fds, names): (Vec<RawFd>, Vec<String>) = if variable("LISTEN_FDNAMES").is_some() {
        sd_notify::listen_fds_with_names().map_err(unreadable)?.unzip()
    } else {
        passed.map(|fd| (fd, String::new())).unzip()
    };
    let services = services(&names).map_err(|why| unusable(&why))?;
    for (fd, service) in fds.into_iter().zip(services) {
        sockets[service as usize] = Some(Listener::inherit(service, adopt(fd))?);
    }
    Ok(sockets)
}

/// The services of one or two sockets with these names. systemd always sets names, by default that
/// of the unit (systemd.socket(5), `FileDescriptorName`). Such a name names no service, nor does
/// one that both sockets have: then the order decides.
fn services(names: &[String]) -> Result<Vec<Service>, String> {
    let are_alike = names.len() > 1 && names.iter().all(|name| *name == names[0]);
    let names_no_service = |name: &str| {
        let is_unit = name.ends_with(".socket");
        are_alike || is_unit || matches!(name, "" | "unknown")
    };
    let named = |name: &String| match name.as_str() {
        name if names_no_service(name) => Ok(None),
        "main" => Ok(Some(Service::Main)),
        "diag" => Ok(Some(Service::Diag)),
        _ => Err(format!("the name {name:?} instead of main or diag")),
    };
    let named: Vec<Option<Service>> = names.iter().map(named).collect::<Result<_, _>>()?;
    let in_order = [Service::Main, Service::Diag].into_iter();
    let mut left = in_order.filter(|service| !named.contains(&Some(*service)));
    Ok(named.iter().filter_map(|service| service.or_else(|| left.next())).collect())
}

/// Takes ownership of an inherited descriptor.
#[allow(unsafe_code)] // The one exception: a number from the environment becomes a descriptor.
fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the descriptor is open, because sd_notify has just set flags on it. The process has
    // not opened any other yet. Each is adopted once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// An environment variable; an empty one counts as unset.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The error about inherited sockets, with the environment variables that describe them.
fn unusable(why: &str) -> io::Error {
    let found = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(|name| {
        let value = env::var_os(name).unwrap_or_default();
        format!("{name}={value:?}")
    });
    let found = found.join(" ");
    io::Error::other(format!("Cannot use the inherited sockets: {why} ({found})"))
}

/// Notifies the supervisor that both services listen.
pub fn notify_ready() {
    notify("READY=1\n");
}

/// Notifies the supervisor that the shutdown has begun.
pub fn notify_stopping() {
    notify("STOPPING=1\n");
}

fn notify(state: &str) {
    if let Some(socket) = variable("NOTIFY_SOCKET")
        && let Err(error) = send_datagram(&socket, state)
    {
        debug!(target: "onepoll", "Cannot notify the supervisor: {error}");
    }
}

/// Sends a datagram to the socket at a path or, after an `@`, at an abstract name (unix(7)). While
/// the queue of the socket is full, this waits for [`NOTIFY_TIMEOUT`] at most.
fn send_datagram(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => abstract_name::address(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(NOTIFY_TIMEOUT))?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_without_the_name_of_a_service_are_told_apart_by_order() {
        use Service::{Diag, Main};
        for (names, expected) in [
            (&["main", "diag"][..], &[Main, Diag][..]),
            (&["diag", "main"], &[Diag, Main]),
            (&["diag"], &[Diag]),
            (&["", ""], &[Main, Diag]),
            (&["onepoll.socket", "onepoll.socket"], &[Main, Diag]),
            (&["onepoll-diag.socket", "onepoll-main.socket"], &[Main, Diag]),
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
            let why = services(&names).expect_err("one of them is unknown");
            assert!(why.ends_with("instead of main or diag"), "{why}");
        }
    }
}
