//! Addresses to listen on, as a user writes them.
//!
//! The invariant: no host name is resolved. A server listens on addresses of its own host, and a
//! static binary in an empty root has no resolver. Only `localhost` has a fixed meaning (RFC 6761,
//! section 6.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

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
}
