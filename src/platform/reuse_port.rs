//! A port that several processes share (`--reuse-port`).
//!
//! The invariant: a port is shared only if the kernel balances the connections to it.

use std::io;

use socket2::Socket;

/// Shares the port of a socket that is not bound yet (`SO_REUSEPORT`, socket(7)). A process that is
/// pinned to a processor asks for the connections that arrive there (`SO_INCOMING_CPU`, socket(7)).
///
/// # Errors
/// Those of setsockopt(2).
#[cfg(target_os = "linux")]
pub fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)?;
    if let Some(processor) = only_processor() {
        // An old kernel may not know it.
        let _ = socket.set_cpu_affinity(processor);
    }
    Ok(())
}

/// FreeBSD 12 and later balance with an option of its own, `SO_REUSEPORT_LB`. A process cannot ask
/// for the connections of a processor.
///
/// # Errors
/// Those of setsockopt(2).
#[cfg(target_os = "freebsd")]
pub fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

/// Refused: macOS and OpenBSD have `SO_REUSEPORT`, too, and do not balance. One of the processes
/// would be idle.
///
/// # Errors
/// Always `Unsupported`.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub fn share(_socket: &Socket) -> io::Result<()> {
    Err(refused())
}

#[cfg(any(test, not(any(target_os = "linux", target_os = "freebsd"))))]
fn refused() -> io::Error {
    let why = "--reuse-port needs Linux or FreeBSD: others do not balance connections";
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// The processor that the process runs on, if it is pinned to a single one (`taskset(1)`).
#[cfg(target_os = "linux")]
fn only_processor() -> Option<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let allowed = sched_getaffinity(None).ok()?;
    let processor = (0..CpuSet::MAX_CPU).find(|&at| allowed.is_set(at))?;
    (allowed.count() == 1).then_some(processor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_that_does_not_balance_refuses_the_option() {
        assert!(refused().to_string().starts_with("--reuse-port needs Linux or FreeBSD"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_shared_port_prefers_the_copy_on_the_processor_of_the_client() {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        use socket2::{Domain, Type};
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if socket().set_cpu_affinity(0).is_err() {
            // qemu does not know the option.
            return;
        }
        let preferred = |socket: Socket| socket.cpu_affinity().expect("an option");
        let shared = || {
            let socket = socket();
            share(&socket).expect("an option");
            socket
        };
        let none = preferred(socket());
        let allowed = sched_getaffinity(None).expect("our own");
        if allowed.count() > 1 {
            assert_eq!(preferred(shared()), none, "a process that is not pinned has none");
        }
        let processor = (0..CpuSet::MAX_CPU).rfind(|&at| allowed.is_set(at)).expect("one at least");
        let mut only = CpuSet::new();
        only.set(processor);
        // This is about the thread of this test alone.
        sched_setaffinity(None, &only).expect("a processor that we may use");
        assert_eq!(preferred(shared()), processor);
        assert_eq!(preferred(socket()), none, "a port that is not shared has none");
    }
}
