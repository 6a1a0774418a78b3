//! The one source of chance of a simulation, and the count of what chance brought about.

use std::fmt;
use std::ops::Range;

/// SplitMix64: one seed, one sequence.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub fn permille(&mut self, chance: u64) -> bool {
        self.next() % 1_000 < chance
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.next() % of.len() as u64) as usize]
    }
}

macro_rules! counted {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// What must have happened in a run for it to prove anything.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counted { $($name),+ }

        const TEXTS: &[&str] = &[$($text),+];
    };
}

counted! {
    MessageDropped = "message dropped",
    MessageDuplicated = "message duplicated",
    MessageOvertaken = "message overtaken by later ones",
    LinkLost = "link lost",
    LinkHalfOpen = "worker back before its old connection was seen to close",
    WorkerKilled = "worker killed",
    WorkerPausedShort = "worker paused for less than a lease",
    WorkerPausedLong = "worker paused for longer than a lease",
    WorkerPausedVeryLong = "worker paused until its connection was closed",
    WorkerDrained = "worker drained",
    ExecutorPanicked = "executor panicked",
    OutputGone = "output gone before it was fetched",
    Straggler = "attempt many times slower than expected",
    SpuriousRejection = "shard rejected for no reason",
    PoisonKill = "worker killed by a poison shard",
    PoisonPanic = "executor panicked on a poison shard",
    MasterCrash = "master crashed between two effects",
    MasterPaused = "master paused for longer than a lease",
    JobCancelled = "job cancelled",
    FaultInjected = "faults injected at a time of their own",
    StaleCompletion = "completion of an older epoch",
    LateCompletion = "completion recorded after its lease had ended",
    DuplicateCompletion = "completion of a shard that was done",
    Speculation = "speculative attempt",
    Quarantine = "shard leased in quarantine",
    Returned = "lease handed back by a draining worker",
    WorkerClosed = "silent worker closed",
    Succeeded = "job succeeded",
    FailedRow = "job ended by its lowest failing row",
    Poisoned = "job ended by a poison shard",
    DeadlinePassed = "job ended by its deadline",
    Recovered = "job recovered",
    RecordsLost = "uncommitted records lost in a crash",
    DurableUnacknowledged = "records durable in a crash and never acknowledged",
    StoreStalled = "store stalled for seconds",
    AcknowledgementHeld = "acknowledgement held back until the store had committed",
    AdoptedRunning = "running attempt adopted",
    AdoptedFinished = "finished attempt adopted",
    AdoptedTooLate = "adoption of what the worker no longer had",
    HeldEnded = "held attempt of an older epoch ended",
    CompletedAdopted = "adopted shard completed",
    RequeuedAdopted = "adopted shard leased again",
    ShardPaused = "shard paused after a failure",
    PriorityServed = "lease of a job while one of a lower priority waited",
    WorkerBroken = "worker broken: every attempt fails",
    WorkerBrokenForGood = "worker broken for good",
    BreakerOpened = "worker quarantined",
    BreakerHalfOpened = "worker tried with one shard",
    BreakerClosed = "worker out of quarantine",
    HostPressed = "host of a worker under pressure",
    StrainedServed = "worker under pressure leased to, as no other was fit",
    ConfigChanged = "tunables changed",
    GroupWaited = "group of jobs waited for its rate",
    GroupRateChanged = "rate of a group changed",
    PlacedLeastLoaded = "lease placed by least-loaded",
    PlacedRoundRobin = "lease placed by round-robin",
    PlacedWeighted = "lease placed by weighted",
    PlacedConsistentHash = "lease placed by consistent-hash",
    PlacedZoneSpread = "lease placed by zone-spread",
    RecoveredFailing = "job recovered with a failed row",
}

/// How often each happened.
#[derive(Clone)]
pub struct Counts([u64; TEXTS.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; TEXTS.len()])
    }
}

impl Counts {
    pub fn note(&mut self, what: Counted) {
        self.0[what as usize] += 1;
    }

    pub fn of(&self, what: Counted) -> u64 {
        self.0[what as usize]
    }

    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// What never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        TEXTS.iter().zip(self.0).filter(|(_, count)| *count == 0).map(|(text, _)| *text).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TEXTS.iter().zip(self.0).try_for_each(|(text, count)| writeln!(f, "{count:>10}  {text}"))
    }
}
