//! What the memory of this process is taken by.

use procfs::ProcResult;
use procfs::process::{MMapPath, Process};
use serde::Serialize;
use utoipa::ToSchema;

/// Memory as the kernel and the allocator account for it, in bytes. A figure that this system does not give is null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeapReport {
    /// Of this form.
    pub version: u32,
    /// Resident, as the kernel counts it.
    pub resident_bytes: Option<u64>,
    /// Most that was ever resident.
    pub resident_peak_bytes: Option<u64>,
    /// Resident, shared pages divided by who shares them.
    pub proportional_bytes: Option<u64>,
    /// Resident and backed by no file: heaps, stacks, machine code.
    pub anonymous_bytes: Option<u64>,
    /// Resident and backed by files.
    pub file_bytes: Option<u64>,
    /// In swap.
    pub swap_bytes: Option<u64>,
    /// What the allocator says.
    pub allocator: Option<AllocatorReport>,
}

/// The C library's allocator, all its arenas together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AllocatorReport {
    /// Its name.
    #[schema(value_type = String)]
    pub name: &'static str,
    /// In use by the program.
    pub in_use_bytes: u64,
    /// Held for later use.
    pub free_bytes: u64,
    /// Of these, what could be given back at once.
    pub releasable_bytes: u64,
    /// Taken from the system for arenas.
    pub arena_bytes: u64,
    /// Taken from the system for large blocks, each on its own; in use too.
    pub mapped_bytes: u64,
}

impl HeapReport {
    /// Of this process, now. It reads `/proc/self` and so may take a few milliseconds.
    pub fn take() -> Self {
        let mut report = Self { version: 1, allocator: allocator(), ..Self::default() };
        // What can't be read stays null.
        let _ = report.read_proc();
        report
    }

    fn read_proc(&mut self) -> ProcResult<()> {
        let process = Process::myself()?;
        let status = process.status()?;
        let bytes = |kilobytes: Option<u64>| kilobytes.map(|kilobytes| kilobytes * 1024);
        self.resident_bytes = bytes(status.vmrss);
        self.resident_peak_bytes = bytes(status.vmhwm);
        self.anonymous_bytes = bytes(status.rssanon);
        self.file_bytes = bytes(status.rssfile);
        self.swap_bytes = bytes(status.vmswap);
        let rollup = process.smaps_rollup()?;
        let maps = rollup.memory_map_rollup.iter().filter(|map| matches!(map.pathname, MMapPath::Rollup));
        self.proportional_bytes = maps.filter_map(|map| map.extension.map.get("Pss").copied()).next();
        Ok(())
    }
}

/// The one place of the master's own code with `unsafe`: there is no other way to ask glibc what it holds. An allocator
/// that keeps statistics of itself would be an alternative; it is not worth its share of every build for them.
#[cfg(target_env = "gnu")]
fn allocator() -> Option<AllocatorReport> {
    // SAFETY: `mallinfo2` takes no argument, returns a plain struct by value, and takes the arenas' locks itself.
    #[allow(unsafe_code, reason = "a function of the C library without arguments and conditions")]
    let info = unsafe { libc::mallinfo2() };
    Some(AllocatorReport {
        name: "glibc",
        in_use_bytes: info.uordblks as u64 + info.hblkhd as u64,
        free_bytes: info.fordblks as u64,
        releasable_bytes: info.keepcost as u64,
        arena_bytes: info.arena as u64,
        mapped_bytes: info.hblkhd as u64,
    })
}

#[cfg(not(target_env = "gnu"))]
fn allocator() -> Option<AllocatorReport> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_block_shows_while_it_is_held() {
        const BYTES: usize = 256 << 20;
        let before = HeapReport::take();
        let block = std::hint::black_box(vec![1_u8; BYTES]);
        let held = HeapReport::take();
        // Other tests take and give memory meanwhile, but not nearly as much.
        let grown = |of: fn(&HeapReport) -> Option<u64>| of(&held).expect("known") - of(&before).expect("known");
        assert!(grown(|report| report.resident_bytes) > BYTES as u64 / 2);
        assert!(grown(|report| report.anonymous_bytes) > BYTES as u64 / 2);
        assert!(held.resident_peak_bytes >= held.resident_bytes.map(|bytes| bytes / 2));
        #[cfg(target_env = "gnu")]
        assert!(grown(|report| report.allocator.as_ref().map(|allocator| allocator.in_use_bytes)) > BYTES as u64 / 2);
        drop(block);
    }
}
