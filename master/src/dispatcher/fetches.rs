//! Outputs that are pulled from workers, chunk by chunk.

use bytes::{Bytes, BytesMut};
use quipu_shared::ids::WorkerId;
use quipu_shared::wire::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, Lease, ShardOutput};
use std::collections::BTreeMap;

/// Largest output of one shard that a master pulls.
pub const SHARD_OUTPUT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// One pull.
#[derive(Debug)]
struct Fetch {
    busy_us: u64,
    output: ShardOutput,
    len: u64,
    digest: [u8; 32],
    asked: u64,
    bytes: BytesMut,
}

/// What a chunk has led to.
#[derive(Debug)]
pub enum Fetched {
    /// Ask for the chunks at these offsets.
    More(Vec<u64>),
    /// Everything is here and has the digest that was announced.
    Whole {
        /// Execution time.
        busy_us: u64,
        /// Counts and errors.
        output: ShardOutput,
        /// The payload.
        bytes: Bytes,
    },
    /// The worker does not have it, or sent something else.
    Broken(String),
    /// Nobody asked for this.
    Unknown,
}

/// Every pull under way.
#[derive(Debug, Default)]
pub struct Fetches {
    by_lease: BTreeMap<(WorkerId, Lease), Fetch>,
}

impl Fetches {
    /// Begins a pull; gives the offsets to ask for, or nothing where it is under way already.
    pub fn begin(
        &mut self,
        worker: WorkerId,
        lease: Lease,
        busy_us: u64,
        output: ShardOutput,
        len: u64,
        digest: [u8; 32],
    ) -> Vec<u64> {
        if self.by_lease.contains_key(&(worker, lease)) {
            return Vec::new();
        }
        let mut fetch = Fetch { busy_us, output, len, digest, asked: 0, bytes: BytesMut::new() };
        let offsets = fetch.offsets();
        self.by_lease.insert((worker, lease), fetch);
        offsets
    }

    /// Takes a chunk.
    pub fn take(&mut self, worker: WorkerId, lease: Lease, offset: u64, bytes: &[u8]) -> Fetched {
        let Some(fetch) = self.by_lease.get_mut(&(worker, lease)) else { return Fetched::Unknown };
        let expected = fetch.bytes.len() as u64;
        if offset != expected || bytes.is_empty() || expected + bytes.len() as u64 > fetch.len {
            self.by_lease.remove(&(worker, lease));
            return Fetched::Broken(format!(
                "chunk at {offset} of {} bytes where {expected} was expected",
                bytes.len()
            ));
        }
        fetch.bytes.extend_from_slice(bytes);
        if (fetch.bytes.len() as u64) < fetch.len {
            return Fetched::More(fetch.offsets());
        }
        let Some(Fetch { busy_us, output, digest, bytes, .. }) = self.by_lease.remove(&(worker, lease)) else {
            return Fetched::Unknown;
        };
        if *blake3::hash(&bytes).as_bytes() != digest {
            return Fetched::Broken("the output does not have the digest that was announced".into());
        }
        Fetched::Whole { busy_us, output, bytes: bytes.freeze() }
    }

    /// Drops the pulls from a worker that is gone.
    pub fn forget(&mut self, worker: WorkerId) {
        self.by_lease.retain(|(from, _), _| *from != worker);
    }
}

impl Fetch {
    /// Offsets of the chunks to ask for now.
    fn offsets(&mut self) -> Vec<u64> {
        let bound = self.bytes.len() as u64 + (CHUNKS_IN_FLIGHT * CHUNK_BYTES) as u64;
        let mut offsets = Vec::new();
        while self.asked < self.len && self.asked < bound {
            offsets.push(self.asked);
            self.asked += CHUNK_BYTES as u64;
        }
        offsets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_shared::ids::{AttemptId, Epoch, JobId, ShardId};
    use quipu_shared::wire::{EvalTier, Payload};

    fn lease() -> Lease {
        Lease { epoch: Epoch(1), job: JobId(1), shard: ShardId(0), attempt: AttemptId(0) }
    }

    fn begin(fetches: &mut Fetches, bytes: &[u8]) -> Vec<u64> {
        let (len, digest) = (bytes.len() as u64, *blake3::hash(bytes).as_bytes());
        let output = ShardOutput {
            tier: EvalTier::Jit,
            rows: 1,
            failed: 0,
            errors: vec![],
            payload: Payload::Ready { len, digest },
        };
        fetches.begin(WorkerId(1), lease(), 5, output, len, digest)
    }

    #[test]
    fn chunks_are_pulled_two_at_a_time_until_whole() {
        let bytes = vec![7; CHUNK_BYTES * 3 + 1];
        let mut fetches = Fetches::default();
        let chunk = CHUNK_BYTES as u64;
        assert_eq!(begin(&mut fetches, &bytes), [0, chunk]);
        assert_eq!(begin(&mut fetches, &bytes), [0_u64; 0], "a repeated announcement asks for nothing");
        let mut offset = 0;
        for more in [vec![chunk * 2], vec![chunk * 3], vec![]] {
            let part = &bytes[offset..offset + CHUNK_BYTES];
            match fetches.take(WorkerId(1), lease(), offset as u64, part) {
                Fetched::More(offsets) => assert_eq!(offsets, more),
                other => panic!("{other:?}"),
            }
            offset += CHUNK_BYTES;
        }
        match fetches.take(WorkerId(1), lease(), offset as u64, &bytes[offset..]) {
            Fetched::Whole { bytes: whole, busy_us, .. } => assert_eq!((&whole[..], busy_us), (&bytes[..], 5)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wrong_bytes_are_noticed() {
        let mut fetches = Fetches::default();
        begin(&mut fetches, b"abc");
        assert!(matches!(fetches.take(WorkerId(1), lease(), 0, b"abd"), Fetched::Broken(_)));
        begin(&mut fetches, b"abc");
        assert!(matches!(fetches.take(WorkerId(1), lease(), 0, b""), Fetched::Broken(_)));
        begin(&mut fetches, b"abc");
        assert!(matches!(fetches.take(WorkerId(1), lease(), 0, b"abcd"), Fetched::Broken(_)));
        begin(&mut fetches, b"abc");
        fetches.forget(WorkerId(1));
        assert!(matches!(fetches.take(WorkerId(1), lease(), 0, b"abc"), Fetched::Unknown));
    }
}
