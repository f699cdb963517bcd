//! The two services: what they are called and what they serve.

use crate::http::{Route, Site};
use crate::options::VERSION;

/// One of the services, in the order in which they start, accept and exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Diagnostics: tells whoever operates the server that it is ready, and which one it is.
    Diag,
    /// What the server is for.
    Main,
}

impl Service {
    /// Both services. Each is at the index that it converts to.
    pub const ALL: [Service; 2] = [Service::Diag, Service::Main];

    /// Its name in messages.
    pub fn title(self) -> &'static str {
        match self {
            Service::Diag => "Diagnostics Server",
            Service::Main => "Server",
        }
    }

    /// The target of its log lines, so that requests to the two can be told apart.
    pub fn name(self) -> &'static str {
        match self {
            Service::Diag => "diag",
            Service::Main => "main",
        }
    }

    /// What it serves.
    pub fn site(self) -> Site {
        let route = match self {
            Service::Diag => Route {
                path: "/ready",
                body: format!("Version: {VERSION}"),
            },
            Service::Main => Route {
                path: "/hello",
                body: "Hello world.".to_owned(),
            },
        };
        Site::new(self.name(), &[route])
    }
}
