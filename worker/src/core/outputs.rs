//! Finished attempts, kept until the master acknowledges them.

use super::RawOutput;
use bytes::Bytes;
use quipu_shared::wire::{HeldShard, Lease, Payload, ShardOutput, WorkerEvent};
use std::collections::BTreeMap;

/// Bytes of unacknowledged outputs above which nothing more is accepted: a master that leases and never acknowledges
/// (its disk is stuck, say) must not fill this machine's memory. Well above what runs and waits at any time.
pub const UNACKNOWLEDGED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What an output takes beside its payload, generously: so that many empty ones count too.
const OUTPUT_OVERHEAD_BYTES: u64 = 1024;

#[derive(Debug)]
pub(super) struct Finished {
    pub first_row: u64,
    pub rows: u64,
    pub busy_us: u64,
    pub output: ShardOutput,
    /// The payload, where it does not travel inline.
    pub bytes: Bytes,
    /// Progress reports since it was offered.
    pub periods_unanswered: u32,
}

impl Finished {
    /// Payloads of up to `inline_bytes_max` travel inside the completion.
    pub fn new(first_row: u64, rows: u64, busy_us: u64, raw: RawOutput, inline_bytes_max: usize) -> Self {
        let (payload, bytes) = if raw.bytes.len() <= inline_bytes_max {
            (Payload::Inline(raw.bytes), Bytes::new())
        } else {
            let len = raw.bytes.len() as u64;
            (Payload::Ready { len, digest: *blake3::hash(&raw.bytes).as_bytes() }, raw.bytes)
        };
        let output = ShardOutput { tier: raw.tier, rows: raw.rows, failed: raw.failed, errors: raw.errors, payload };
        Self { first_row, rows, busy_us, output, bytes, periods_unanswered: 0 }
    }

    /// The completion under this lease.
    pub fn completed(&self, lease: Lease) -> WorkerEvent {
        WorkerEvent::ShardCompleted { lease, busy_us: self.busy_us, output: self.output.clone() }
    }

    fn size(&self) -> u64 {
        let payload = match &self.output.payload {
            Payload::Inline(bytes) => bytes.len() as u64,
            Payload::Ready { len, .. } => *len,
        };
        let errors: usize = self.output.errors.iter().map(|error| size_of_val(error) + error.message.len()).sum();
        OUTPUT_OVERHEAD_BYTES + payload + errors as u64
    }
}

/// The outputs, and how much memory they take.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    by_lease: BTreeMap<Lease, Finished>,
    bytes: u64,
}

impl Outputs {
    pub fn keep(&mut self, lease: Lease, finished: Finished) {
        self.remove(&lease);
        self.bytes += finished.size();
        self.by_lease.insert(lease, finished);
    }

    pub fn remove(&mut self, lease: &Lease) -> Option<Finished> {
        let finished = self.by_lease.remove(lease)?;
        self.bytes -= finished.size();
        Some(finished)
    }

    pub fn retain(&mut self, which: impl Fn(&Lease) -> bool) {
        self.by_lease.retain(|lease, _| which(lease));
        self.bytes = self.by_lease.values().map(Finished::size).sum();
    }

    pub fn get(&self, lease: &Lease) -> Option<&Finished> {
        self.by_lease.get(lease)
    }

    pub fn get_mut(&mut self, lease: &Lease) -> Option<&mut Finished> {
        self.by_lease.get_mut(lease)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Lease, &mut Finished)> {
        self.by_lease.iter_mut()
    }

    pub fn is_empty(&self) -> bool {
        self.by_lease.is_empty()
    }

    /// Whether there is so much that nothing more should be added.
    pub fn is_over_limit(&self) -> bool {
        self.bytes >= UNACKNOWLEDGED_BYTES_MAX
    }

    pub fn held(&self) -> impl Iterator<Item = HeldShard> + '_ {
        let held = |(&lease, finished): (&Lease, &Finished)| HeldShard {
            lease,
            first_row: finished.first_row,
            rows: finished.rows,
        };
        self.by_lease.iter().map(held)
    }
}
