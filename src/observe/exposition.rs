//! The text format of Prometheus, version 0.0.4: families of samples, each with its type and what
//! it means.
//!
//! The invariant: a family is whole before the next one begins.

use std::fmt::{Display, Write};

use crate::event_loop::listeners::Service;

/// A page in the making.
pub(super) struct Exposition(pub(super) String);

/// A family of samples: its name, its type and what it means.
pub(super) struct Family {
    pub(super) name: &'static str,
    kind: &'static str,
    help: &'static str,
}

impl Exposition {
    /// Begins a family.
    #[inline(never)]
    pub(super) fn family(&mut self, family: &Family) {
        let Family { name, kind, help } = family;
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample; the labels are given as they are written. There is one copy of it, and not one for
    /// each family, as a page need not be fast and the binary is to be small.
    #[inline(never)]
    pub(super) fn sample(&mut self, name: &str, labels: &str, value: &dyn Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    /// A family of one sample.
    #[inline(never)]
    pub(super) fn single(&mut self, family: &Family, value: impl Display) {
        self.family(family);
        self.sample(family.name, "", &value);
    }

    /// A family with a sample for each value of one label.
    pub(super) fn by<V: Display>(
        &mut self,
        family: &Family,
        label: &str,
        samples: impl Iterator<Item = (&'static str, V)>,
    ) {
        self.family(family);
        for (value, sample) in samples {
            self.sample(family.name, &format!("{label}=\"{value}\""), &sample);
        }
    }

    /// The same for each listener, too.
    #[inline(never)]
    pub(super) fn by_listener_and(
        &mut self,
        family: &Family,
        label: &str,
        samples: &dyn Fn(Service) -> Vec<(&'static str, u64)>,
    ) {
        self.family(family);
        for service in Service::ALL {
            for (value, sample) in samples(service) {
                let listener = service.name();
                let labels = format!("listener=\"{listener}\",{label}=\"{value}\"");
                self.sample(family.name, &labels, &sample);
            }
        }
    }

    /// A family whose samples are counts below bounds.
    pub(super) fn histogram<B: Display>(
        &mut self,
        family: &Family,
        buckets: impl Iterator<Item = (B, u64)>,
        (sum, count): (impl Display, u64),
    ) {
        self.family(family);
        let name = family.name;
        for (bound, below) in buckets {
            self.sample(&format!("{name}_bucket"), &format!("le=\"{bound}\""), &below);
        }
        self.sample(&format!("{name}_bucket"), "le=\"+Inf\"", &count);
        self.sample(&format!("{name}_sum"), "", &sum);
        self.sample(&format!("{name}_count"), "", &count);
    }
}

pub(super) const fn counter(name: &'static str, help: &'static str) -> Family {
    let kind = "counter";
    Family { name, kind, help }
}

pub(super) const fn gauge(name: &'static str, help: &'static str) -> Family {
    let kind = "gauge";
    Family { name, kind, help }
}

pub(super) const fn histogram(name: &'static str, help: &'static str) -> Family {
    let kind = "histogram";
    Family { name, kind, help }
}
