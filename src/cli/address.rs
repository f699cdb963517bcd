//! Where to listen, as people write it. Names are not resolved: a server listens on its own
//! host's addresses, and a static binary in an empty root has nothing to resolve them with.
//! `localhost` alone is known, as RFC 6761, section 6.3 says what it has to mean.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A place to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// A port on all addresses of the host, of both IP versions if it has both. A port alone
    /// means this, and so does `[::]`: a socket on that address takes IPv4, too.
    Every(u16),
    /// One address and port.
    One(SocketAddr),
}

/// What an address may look like, for messages to the user.
pub const ADDRESSES: &str = "8080, :8080, 127.0.0.1:8080, [::1]:8080 or localhost:8080";

/// The text is none of [`ADDRESSES`].
#[derive(Debug, PartialEq, Eq)]
pub struct NoAddress;

impl Address {
    /// The addresses to try in turn: one for both IP versions goes ahead of IPv4 alone.
    pub fn candidates(self) -> Vec<SocketAddr> {
        match self {
            Address::One(address) => vec![address],
            Address::Every(port) => vec![
                (Ipv6Addr::UNSPECIFIED, port).into(),
                (Ipv4Addr::UNSPECIFIED, port).into(),
            ],
        }
    }
}

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Address, NoAddress> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(match address.ip() {
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Address::Every(address.port()),
                _ => Address::One(address),
            });
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        // The standard parser would take a sign.
        if !port.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(NoAddress);
        }
        let port = port.parse().map_err(|_| NoAddress)?;
        match host {
            "" => Ok(Address::Every(port)),
            _ if host.eq_ignore_ascii_case("localhost") => {
                Ok(Address::One((Ipv4Addr::LOCALHOST, port).into()))
            }
            _ => Err(NoAddress),
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

/// An address as its users write it: a dual-stack socket shows IPv4 as IPv6 (RFC 4291, section
/// 2.5.5.2).
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ipv4_are_shown_as_such() {
        for (address, shown) in [
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(canonical(address).to_string(), shown);
        }
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, address) in [
            ("8080", Address::Every(8080)),
            (":8080", Address::Every(8080)),
            ("0", Address::Every(0)),
            (
                "127.0.0.1:8080",
                Address::One(([127, 0, 0, 1], 8080).into()),
            ),
            ("0.0.0.0:80", Address::One(([0, 0, 0, 0], 80).into())),
            (
                "[::1]:8080",
                Address::One((Ipv6Addr::LOCALHOST, 8080).into()),
            ),
            ("[::]:0", Address::Every(0)),
            (
                "localhost:8080",
                Address::One(([127, 0, 0, 1], 8080).into()),
            ),
            ("LocalHost:1", Address::One(([127, 0, 0, 1], 1).into())),
        ] {
            assert_eq!(text.parse(), Ok(address), "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_no_address() {
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
            assert_eq!(text.parse::<Address>(), Err(NoAddress), "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for text in ["127.0.0.1:8080", "[::1]:8080", "[::]:8080", "0.0.0.0:8080"] {
            assert_eq!(
                text.parse::<Address>().expect("an address").to_string(),
                text
            );
        }
    }
}
