//! The faults that come at a time of their own.

use super::{Act, World};
use crate::scheduler::sim::chance::{Chance, Counted};
use crate::scheduler::sim::process::Report;
use crate::scheduler::sim::workload::GROUP;
use crate::scheduler::{Event, PressureLimits, SchedulerConfig};
use quipu_shared::config::PlacementPolicy;
use quipu_shared::host::HostLoad;
use quipu_shared::wire::Lease;

impl World {
    pub(super) fn inject_fault(&mut self) {
        if self.is_calm() {
            return;
        }
        self.counts.note(Counted::FaultInjected);
        let index = self.chance.within(0..self.processes.len() as u64) as usize;
        match self.chance.within(0..17) {
            0..3 => {
                if let Some(link) = self.processes[index].link {
                    self.counts.note(Counted::LinkLost);
                    self.break_link(link);
                }
            }
            3..5 => {
                if self.processes[index].up {
                    self.counts.note(Counted::WorkerKilled);
                    self.kill(index);
                }
            }
            5..8 => {
                let (what, least_ms, most_ms) = self.chance.pick(&[
                    (Counted::WorkerPausedShort, 500, 5_000),
                    (Counted::WorkerPausedLong, 12_000, 30_000),
                    (Counted::WorkerPausedVeryLong, 75_000, 90_000),
                ]);
                self.counts.note(what);
                self.processes[index].paused_until = self.now + self.chance.within(least_ms..most_ms);
            }
            8 => {
                let process = &mut self.processes[index];
                if process.up && !process.draining {
                    self.counts.note(Counted::WorkerDrained);
                    process.draining = true;
                    let returned: Vec<Lease> = process.queue.drain(..).map(|run| run.lease).collect();
                    self.send_report(index, Report::DrainStarted(returned));
                    self.leave_if_drained(index);
                }
            }
            9..12 if self.chance.permille(500) => {
                self.counts.note(Counted::WorkerBroken);
                let broken_ms = self.chance.within(500..15_000);
                self.processes[index].broken_until = self.processes[index].broken_until.max(self.now + broken_ms);
            }
            9..12 => self.press_host(index),
            12..14 => self.change_config(),
            14..16 => self.crash_after = Some(self.chance.within(0..10)),
            _ => {
                self.counts.note(Counted::MasterPaused);
                self.master_paused_until = self.now + self.chance.within(11_000..20_000);
            }
        }
        self.faults_left -= 1;
        if self.faults_left > 0 {
            let next_at = self.now + self.chance.within(1..2 * self.fault_spacing_ms);
            self.at(next_at, Act::Fault);
        }
    }

    fn press_host(&mut self, index: usize) {
        self.counts.note(Counted::HostPressed);
        let max = self.ledger.config.pressure;
        let (cpu, none) = (self.chance.within(0..101) as u8, HostLoad::default());
        self.processes[index].host = self.chance.pick(&[
            HostLoad { cpu_pressure: cpu, ..none },
            HostLoad { cpu_pressure: 100, ..none },
            HostLoad { memory_pressure: max.memory_max + 1, ..none },
            HostLoad { memory_available_bytes: Some(max.memory_available_min_bytes - 1), ..none },
        ]);
        self.processes[index].host_until = self.now + self.chance.within(1_000..30_000);
    }

    /// Somebody edits the configuration of the master.
    fn change_config(&mut self) {
        if self.chance.permille(500) {
            self.counts.note(Counted::GroupRateChanged);
            self.rows_per_s = self.chance.pick(&RATES);
            self.set_rate();
        } else {
            self.counts.note(Counted::ConfigChanged);
            let config = Box::new(config(&mut self.chance));
            self.deliver(Event::ConfigChanged { config });
        }
    }

    /// The master's word on the group that has a rate.
    pub(super) fn set_rate(&mut self) {
        let event = Event::GroupRateChanged { group: GROUP.into(), rows_per_s: self.rows_per_s };
        self.deliver(event);
    }
}

/// Rates of the group. With the lowest of them, the largest job still ends in time.
pub(super) const RATES: [Option<u64>; 5] = [None, Some(150), Some(700), Some(3_000), Some(1 << 40)];

/// What a seed is run with.
pub(super) fn config(chance: &mut Chance) -> SchedulerConfig {
    SchedulerConfig {
        placement: chance.pick(&PlacementPolicy::ALL),
        pressure: PressureLimits { cpu_max: chance.pick(&[50, 95, 100]), ..PressureLimits::default() },
        breaker_failures: chance.pick(&[2, 3, 5]),
        breaker_open_ms: chance.pick(&[100, 1_000, 5_000]),
        breaker_open_max_ms: chance.pick(&[5_000, 120_000]),
        ..SchedulerConfig::default()
    }
}
