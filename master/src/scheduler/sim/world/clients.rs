//! Clients: they submit until they are told that the job is there, and wait until they are told how it ended.

use super::{Act, World};
use crate::scheduler::Event;
use crate::scheduler::sim::store::Record;
use quipu_shared::ids::JobId;

impl World {
    pub(super) fn step_job(&mut self, index: usize) {
        if self.master_paused_until > self.now {
            self.at(self.master_paused_until, Act::JobStep(index));
            return;
        }
        let job = JobId(index as u64 + 1);
        let truth = &self.jobs[index];
        let (rows, window_rows, step_ms) = (truth.rows, truth.window_rows, truth.step_ms);
        let cancel_at = truth.cancel_at;
        let plan = truth.plan.clone();
        if self.acknowledged_ends.contains_key(&job) {
            if cancel_at.is_some() {
                // A client may cancel what has just ended.
                self.deliver(Event::JobCancelled { job });
            }
            return;
        }
        self.at(self.now + step_ms, Act::JobStep(index));
        let Some(seen) = self.ledger.jobs.get(&job) else {
            if !self.store.is_submit_pending(job) {
                self.propose(Record::Submitted { job, plan });
            }
            return;
        };
        if let Some(outcome) = seen.outcome {
            // Perhaps durable since before a crash that kept the client from hearing of it.
            if self.store.recover()[&job].outcome.is_some() {
                self.acknowledge_end(job, outcome);
            }
            return;
        }
        let (rows_known, rows_final, prefix, window) = (seen.rows_known, seen.rows_final, seen.prefix(), seen.window);
        self.acknowledged_submits.insert(job);
        if cancel_at.is_some_and(|at| at <= self.now) {
            self.deliver(Event::JobCancelled { job });
            return;
        }
        if !rows_final {
            let known = rows.min(rows_known + self.chance.within(1..rows / 4 + 2));
            let last = known == rows && self.chance.permille(500);
            self.deliver(Event::RowsKnown { job, rows: known, last });
        }
        if let Some(window_rows) = window_rows
            && prefix + window_rows > window
        {
            self.deliver(Event::WindowMoved { job, up_to_row: prefix + window_rows });
        }
    }
}
