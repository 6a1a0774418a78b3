//! The jobs of a simulation, and what must come of them.

use super::chance::Chance;
use super::process::Fate;
use crate::scheduler::{JobOutcome, JobPlan, Millis};

/// A job and the truth about its rows.
#[derive(Debug)]
pub struct JobTruth {
    pub plan: JobPlan,
    pub rows: u64,
    pub submitted_at: Millis,
    pub rows_per_ms: u64,
    pub failing_rows: Vec<u64>,
    /// A row whose shard never completes, and what it does instead.
    pub poison: Option<(u64, Fate)>,
    pub window_rows: Option<u64>,
    pub cancel_at: Option<Millis>,
    /// How often input arrives and the reader moves.
    pub step_ms: Millis,
    /// Submitted when the faults were over, with nothing wrong with it.
    pub is_probe: bool,
}

impl JobTruth {
    pub fn fate(&self, first_row: u64, rows: u64) -> Fate {
        match self.poison {
            Some((row, fate)) if (first_row..first_row + rows).contains(&row) => fate,
            _ => Fate::Completes,
        }
    }

    pub fn failed_row(&self, first_row: u64, rows: u64) -> Option<u64> {
        self.failing_rows.iter().copied().filter(|row| (first_row..first_row + rows).contains(row)).min()
    }

    /// How the job ends if nothing outside of it is wrong.
    pub fn outcome(&self) -> JobOutcome {
        match self.failing_rows.iter().min() {
            Some(&row) if self.plan.fail_fast => JobOutcome::FailedRow { row },
            _ => JobOutcome::Succeeded,
        }
    }
}

/// The one group with a rate.
pub const GROUP: &str = "metered";

fn job(chance: &mut Chance, rows: u64, submitted_at: Millis) -> JobTruth {
    let granule = chance.pick(&[1, 8, 64]);
    let is_streamed = chance.permille(300);
    // At least a fiftieth of the rows: a window of one shard is a round trip a shard, which is slow and not stuck.
    let lowest_window = (rows / 50).max(1);
    let window_rows = chance.permille(300).then(|| chance.within(lowest_window..rows.max(lowest_window + 1)));
    JobTruth {
        plan: JobPlan {
            granule,
            rows_known: if is_streamed { chance.within(0..rows + 1) } else { rows },
            rows_final: !is_streamed,
            initial_rows: chance.within(1..200),
            shard_rows_max: u64::MAX,
            fail_fast: chance.permille(500),
            deadline_at: chance.permille(100).then(|| submitted_at + chance.within(500..40_000)),
            up_to_row: window_rows.unwrap_or(u64::MAX),
            priority: chance.pick(&[0, 0, 0, -100, 7, 100]),
            affinity: chance.within(0..3),
            group: chance.permille(300).then(|| GROUP.into()),
        },
        rows,
        submitted_at,
        rows_per_ms: chance.pick(&[1, 2, 4]),
        failing_rows: Vec::new(),
        poison: None,
        window_rows,
        cancel_at: chance.permille(50).then(|| submitted_at + chance.within(1..20_000)),
        step_ms: chance.within(20..600),
        is_probe: false,
    }
}

/// Two to four jobs, the first of which has rows for many shards.
pub fn jobs(chance: &mut Chance) -> Vec<JobTruth> {
    let mut first = job(chance, 0, 0);
    let rows = chance.within(6_000..12_000);
    first.plan = JobPlan { rows_known: rows, rows_final: true, up_to_row: u64::MAX, deadline_at: None, ..first.plan };
    (first.rows, first.rows_per_ms, first.window_rows, first.cancel_at) = (rows, 1, None, None);
    let mut jobs = vec![first];
    for _ in 0..chance.within(1..4) {
        let rows = chance.pick(&[0, 1, 50, 1_000, 4_000]);
        let submitted_at = chance.within(0..3_000);
        jobs.push(job(chance, rows, submitted_at));
    }
    for (index, truth) in jobs.iter_mut().enumerate().filter(|(_, truth)| truth.rows > 0) {
        // What ends the first job early ends it late, so that each seed has its shards.
        let lowest = if index == 0 { truth.rows / 4 * 3 } else { 0 };
        if chance.permille(300) {
            truth.failing_rows = (0..chance.within(1..4)).map(|_| chance.within(lowest..truth.rows)).collect();
        }
        if chance.permille(80) {
            truth.poison =
                Some((chance.within(lowest..truth.rows), chance.pick(&[Fate::Panics, Fate::KillsItsProcess])));
        }
    }
    jobs
}

/// A job that must end as its rows say, whatever went on before it or goes on beside it.
pub fn probe(chance: &mut Chance) -> JobTruth {
    let mut truth = job(chance, 1_000, 0);
    truth.plan.deadline_at = None;
    truth.failing_rows =
        if chance.permille(500) { vec![chance.within(0..1_000), chance.within(0..1_000)] } else { vec![] };
    JobTruth { cancel_at: None, is_probe: true, ..truth }
}
