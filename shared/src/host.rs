//! How much pressure a host is under, as the kernel says.

use procfs::Current;
use serde::{Deserialize, Serialize};

/// How a worker's host does. Without any figure, as before the first report, it does well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLoad {
    /// Percent of the last ten seconds in which something that could run waited for a processor.
    pub cpu_pressure: u8,
    /// Percent of the last ten seconds in which something waited for memory.
    pub memory_pressure: u8,
    /// Bytes that can be had without swapping, where the system tells.
    pub memory_available_bytes: Option<u64>,
}

impl HostLoad {
    /// Reads `/proc`: pressure stall information, and where the kernel has none of it, the load average for the
    /// processors (and nothing for memory but what is available). What can't be read counts as no pressure.
    pub fn measure() -> Self {
        let cpu = procfs::CpuPressure::current().map(|pressure| percent(pressure.some.avg10));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let from_load = || procfs::LoadAverage::current().map_or(0, |load| waiting_percent(load.one, cores));
        Self {
            cpu_pressure: cpu.unwrap_or_else(|_| from_load()),
            memory_pressure: procfs::MemoryPressure::current().map_or(0, |pressure| percent(pressure.some.avg10)),
            memory_available_bytes: procfs::Meminfo::current().ok().and_then(|memory| memory.mem_available),
        }
    }
}

fn percent(share: f32) -> u8 {
    // Saturates, and NaN is 0.
    share.clamp(0.0, 100.0) as u8
}

/// The part of what could run that has no processor, as the load average shows it.
fn waiting_percent(load: f32, cores: usize) -> u8 {
    if load > 0.0 { percent(100.0 * (1.0 - cores as f32 / load)) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_memory_to_give() {
        let host = HostLoad::measure();
        assert!(host.memory_available_bytes.is_some_and(|bytes| bytes > 1 << 20), "{host:?}");
        assert!(host.cpu_pressure <= 100 && host.memory_pressure <= 100, "{host:?}");
    }

    #[test]
    fn load_average_counts_what_has_no_processor() {
        let waiting = |load| waiting_percent(load, 4);
        assert_eq!([0.0, 3.9, 4.0, 8.0, 40.0].map(waiting), [0, 0, 0, 50, 90]);
        assert_eq!([percent(-1.0), percent(12.9), percent(250.0), percent(f32::NAN)], [0, 12, 100, 0]);
    }
}
