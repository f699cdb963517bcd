//! Addresses to listen on, as a user writes them.
//!
//! The invariant: no host name is resolved. A server listens on addresses of its own host, and a
//! static binary in an empty root has no resolver. Only `localhost` has a fixed meaning (RFC 6761,
//! section 6.3).

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::event_loop::listener::Listener;
use crate::event_loop::listeners::Service;

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// A port on all addresses of the host, IPv6 and IPv4. Written as a port alone, or with
    /// `[::]`: a socket on that address accepts IPv4, too (ipv6(7)).
    Every(u16),
    /// One address and port.
    One(SocketAddr),
}

/// The accepted forms of an address, for messages to the user.
pub const ADDRESSES: &str = "8080, :8080, 127.0.0.1:8080, [::1]:8080 or localhost:8080";

/// A text in none of the forms of [`ADDRESSES`].
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidAddress;

impl Address {
    /// The addresses to try, in order: the one for both IP versions, then IPv4 alone.
    pub fn candidates(self) -> Vec<SocketAddr> {
        match self {
            Address::One(address) => vec![address],
            Address::Every(port) => {
                vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
            }
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Address, InvalidAddress> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(match address.ip() {
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Address::Every(address.port()),
                _ => Address::One(address),
            });
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        // `u16::from_str` accepts a plus sign.
        if !port.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(InvalidAddress);
        }
        let port = port.parse().map_err(|_| InvalidAddress)?;
        match host {
            "" => Ok(Address::Every(port)),
            _ if host.eq_ignore_ascii_case("localhost") => {
                Ok(Address::One((Ipv4Addr::LOCALHOST, port).into()))
            }
            _ => Err(InvalidAddress),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Address::Every(port) => write!(out, "[::]:{port}"),
            Address::One(address) => address.fmt(out),
        }
    }
}

/// The connections that a listening socket may get.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    address: SocketAddr,
    is_dual: bool,
}

impl Reach {
    /// Those of a socket that is bound to this address.
    pub fn of(address: SocketAddr) -> Reach {
        let is_dual = address.is_ipv6();
        Reach { address, is_dual }
    }

    /// Those of a listener, which may be inherited.
    pub fn of_listener(listener: &Listener) -> Reach {
        Reach { address: listener.address(), is_dual: listener.is_dual() }
    }

    /// Makes sure that main, which reaches this, and diagnostics never get each other's
    /// connections. The kernel lets them share a port if both ask for that (`--reuse-port`).
    ///
    /// # Errors
    /// Both addresses, if they overlap.
    pub fn require_apart(self, diag: Reach) -> io::Result<()> {
        if !self.covers(diag) && !diag.covers(self) {
            return Ok(());
        }
        let (main, on, diag, at) =
            (Service::Main.title(), self.address, Service::Diag.title(), diag.address);
        let what = format!("{main} on {on} and {diag} on {at} cannot share a port");
        Err(io::Error::new(ErrorKind::AddrInUse, what))
    }

    /// Whether it gets each connection that the other one may get.
    fn covers(self, other: Reach) -> bool {
        let [a, b] = [self, other].map(|reach| reach.address.ip().to_canonical());
        let is_every = a.is_unspecified() && (a.is_ipv4() == b.is_ipv4() || self.is_dual);
        let port = self.address.port();
        port == other.address.port() && port != 0 && (a == b || is_every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_as_users_write_them() {
        for (text, address) in [
            ("8080", Address::Every(8080)),
            (":8080", Address::Every(8080)),
            ("0", Address::Every(0)),
            ("127.0.0.1:8080", Address::One(([127, 0, 0, 1], 8080).into())),
            ("0.0.0.0:80", Address::One(([0, 0, 0, 0], 80).into())),
            ("[::1]:8080", Address::One((Ipv6Addr::LOCALHOST, 8080).into())),
            ("[::]:0", Address::Every(0)),
            ("localhost:8080", Address::One(([127, 0, 0, 1], 8080).into())),
            ("LocalHost:1", Address::One(([127, 0, 0, 1], 1).into())),
        ] {
            assert_eq!(text.parse(), Ok(address), "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_an_invalid_address() {
        for text in [
            "",
            ":",
            "65536",
            "-1",
            "+80",
            ":+80",
            " 8080",
            "8080 ",
            "http",
            "127.0.0.1",
            "::1:8080",
            "[::1]",
            "::1",
            "example.org:80",
            "127.0.0.1:",
            "127.1:80",
            "http://127.0.0.1:80",
            "1:2:3",
        ] {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress), "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_can_be_parsed() {
        for text in ["127.0.0.1:8080", "[::1]:8080", "[::]:8080", "0.0.0.0:8080"] {
            assert_eq!(text.parse::<Address>().expect("an address").to_string(), text);
        }
    }

    #[test]
    fn addresses_overlap_if_a_connection_could_be_meant_for_both() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("[::]:1", "[::]:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let [a, b] = [one, other].map(|text| Reach::of(text.parse().expect("an address")));
            assert_eq!(a.require_apart(b).is_err(), expected, "{one} {other}");
            assert_eq!(b.require_apart(a).is_err(), expected, "{other} {one}");
        }
        // An inherited socket may be for IPv6 alone.
        let [v6, v4] = ["[::]:1", "0.0.0.0:1"].map(|text| text.parse().expect("an address"));
        let alone = Reach { is_dual: false, ..Reach::of(v6) };
        assert!(alone.require_apart(Reach::of(v4)).is_ok());
        assert!(alone.require_apart(Reach::of(v6)).is_err());
    }
}
