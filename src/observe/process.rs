//! What the kernel knows of the process (proc(5)). Where there is no `/proc`, as in an empty root,
//! part of it is not known.
//!
//! The invariant: what is not known is left out, and not told as nothing.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::platform::{descriptors, memory};

/// What is known of the process.
pub(super) struct Process {
    /// The processor time that it has taken.
    pub(super) cpu: Duration,
    /// The address space and the memory that it takes, in bytes.
    pub(super) memory: Option<(u64, u64)>,
    /// The descriptors that are open.
    pub(super) descriptors: Option<u64>,
    /// How many may be; `None` if there is no limit.
    pub(super) descriptors_max: Option<u64>,
}

impl Process {
    /// Asks the kernel.
    pub(super) fn read() -> Process {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Process {
            cpu: cpu.try_into().unwrap_or_default(),
            memory: memory::in_use(),
            descriptors: descriptors::count(),
            descriptors_max: getrlimit(Resource::Nofile).current,
        }
    }
}
