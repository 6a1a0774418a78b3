//! Figures of this process, under the names that every Prometheus client gives them.

use super::collect::{counter, gauge};
use procfs::WithCurrentSystemInfo;
use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;

/// Reads `/proc/self` at each scrape. What can't be read is left out.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let ticks_per_s = procfs::ticks_per_second().max(1) as f64;
            let cpu_s = (stat.utime + stat.stime) as f64 / ticks_per_s;
            counter(encoder, "process_cpu_seconds", "User and system CPU time of the master", cpu_s)?;
            gauge(
                encoder,
                "process_resident_memory_bytes",
                "Resident memory of the master",
                stat.rss_bytes().get() as f64,
            )?;
            gauge(encoder, "process_virtual_memory_bytes", "Virtual memory of the master", stat.vsize as f64)?;
            gauge(encoder, "process_threads", "Threads of the master", stat.num_threads)?;
            if let Ok(boot_s) = procfs::boot_time_secs() {
                let start_s = boot_s as f64 + stat.starttime as f64 / ticks_per_s;
                gauge(encoder, "process_start_time_seconds", "Unix time of the master's start", start_s)?;
            }
        }
        if let Ok(open) = process.fd_count() {
            gauge(encoder, "process_open_fds", "Open file descriptors of the master", open as f64)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(max) = limits.max_open_files.soft_limit
        {
            gauge(encoder, "process_max_fds", "File descriptors that the master may have", max as f64)?;
        }
        Ok(())
    }
}
