//! A worker as the scheduler sees it, and how large a shard it gets.

use super::breaker::{Breaker, node_key};
use super::fitness::Census;
use super::types::{Millis, SchedulerConfig, WorkerFacts};
use quipu_shared::host::HostLoad;
use quipu_shared::ids::{AttemptId, JobId};
use std::collections::{BTreeMap, BTreeSet};

/// Weight of the newest measurement: follows a change within a few shards, and one bad shard costs 30 %.
const RATE_WEIGHT: f64 = 0.3;
/// Before a rate is known, the tail of a job is cut down to this part of the first shards and no further.
const INITIAL_ROWS_DIVISOR_MAX: u64 = 8;
/// Pressure counts in steps of so many percent: with finer ones, hosts that do alike would never be equals.
const PRESSURE_STEP: u8 = 10;
/// However much pressure there is, a slot is worth a tenth of an undisturbed one.
const PRESSURE_COUNTED_MAX: u8 = 90;

/// Speed of one worker on one job.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    pub rows_per_us: f64,
    /// Rows of the largest shard behind the measurement.
    pub proven_rows: u64,
}

impl Rate {
    pub fn first(rows: u64, busy_us: u64) -> Self {
        Self { rows_per_us: rows as f64 / busy_us.max(1) as f64, proven_rows: rows }
    }

    pub fn measure(&mut self, rows: u64, busy_us: u64) {
        let newest = rows as f64 / busy_us.max(1) as f64;
        self.rows_per_us += RATE_WEIGHT * (newest - self.rows_per_us);
        self.proven_rows = self.proven_rows.max(rows);
    }

    /// Rows that take so long; saturates.
    pub fn rows_in_ms(&self, ms: u64) -> u64 {
        (self.rows_per_us * ms as f64 * 1_000.0) as u64
    }

    /// Time that so many rows take; saturates.
    pub fn ms_for(&self, rows: u64) -> u64 {
        (rows as f64 / self.rows_per_us.max(f64::MIN_POSITIVE) / 1_000.0) as u64
    }
}

/// Rows of the next shard: a multiple of `granule`, at least one, not yet bounded by what there is.
pub(super) fn shard_rows(
    config: &SchedulerConfig,
    plan: &super::types::JobPlan,
    rate: Option<&Rate>,
    uncut_rows: u64,
    slots: u64,
) -> u64 {
    // Guided self-scheduling: the tail is spread over every slot, so that all end at about the same time.
    let guided = uncut_rows / (2 * slots.max(1));
    let (wanted, floor) = match rate {
        None => (plan.initial_rows, plan.initial_rows / INITIAL_ROWS_DIVISOR_MAX),
        Some(rate) => (
            rate.rows_in_ms(config.shard_target_ms).min(rate.proven_rows.saturating_mul(config.shard_growth_max)),
            rate.rows_in_ms(config.shard_min_ms),
        ),
    };
    let rows = wanted.min(guided.max(floor));
    (rows / plan.granule * plan.granule).max(plan.granule)
}

/// One connection of a worker.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub facts: WorkerFacts,
    /// Its node's key.
    pub node: u64,
    /// As in its facts, within bounds.
    pub credits: u32,
    /// Attempts that take a credit: live ones, and ended ones that it has not yet reported.
    pub held: BTreeSet<AttemptId>,
    pub draining: bool,
    /// A lease of it expired and nothing was heard of it since.
    pub suspect: bool,
    /// It holds a shard in quarantine, and so gets no other.
    pub exclusive: Option<AttemptId>,
    /// Until when nothing is leased to it; its timer is set.
    pub backoff_until: Option<Millis>,
    /// Rejections since it last accepted anything.
    pub rejections: u32,
    pub heard_at: Millis,
    pub rates: BTreeMap<JobId, Rate>,
    /// Over all jobs, for people.
    pub rate: Option<Rate>,
    pub shards_done: u64,
    /// Its entry in the set of workers with room.
    pub free_key: Option<u64>,
    /// Its part in the count of workers.
    pub part: Census,
    pub breaker: Breaker,
    pub host: HostLoad,
    /// Whether its host is under more pressure than is good.
    pub strained: bool,
    /// When it was last given something, counted in grants.
    pub turn: u64,
    /// Its virtual time, for the placement by weight.
    pub pass: u64,
}

impl Worker {
    pub fn new(now: Millis, mut facts: WorkerFacts, config: &SchedulerConfig) -> Self {
        facts.slots = facts.slots.max(1);
        let credits_max = facts.slots.saturating_mul(config.credits_per_slot_max.max(1));
        Self {
            node: node_key(&facts.node),
            credits: facts.credits.clamp(1, credits_max),
            facts,
            held: BTreeSet::new(),
            draining: false,
            suspect: false,
            exclusive: None,
            backoff_until: None,
            rejections: 0,
            heard_at: now,
            rates: BTreeMap::new(),
            rate: None,
            shards_done: 0,
            free_key: None,
            part: Census::default(),
            breaker: Breaker::default(),
            host: HostLoad::default(),
            strained: false,
            turn: 0,
            pass: 0,
        }
    }

    /// Whether it is there to work, sooner or later.
    pub fn is_present(&self) -> bool {
        !self.draining && !self.suspect
    }

    /// Whether it may be given anything, its load and its host aside.
    pub fn is_willing(&self) -> bool {
        self.is_present() && self.exclusive.is_none() && self.backoff_until.is_none() && self.breaker.lets_through()
    }

    /// Leases for each thousand slots: below 1,000 a slot is idle. A slot counts for less where it has to share its
    /// processor.
    pub fn load_permille(&self) -> u64 {
        let pressure = (self.host.cpu_pressure / PRESSURE_STEP * PRESSURE_STEP).min(PRESSURE_COUNTED_MAX);
        self.held.len() as u64 * 100_000 / (u64::from(self.facts.slots) * u64::from(100 - pressure))
    }

    pub fn measure(&mut self, job: JobId, rows: u64, busy_us: u64) {
        self.rates
            .entry(job)
            .and_modify(|rate| rate.measure(rows, busy_us))
            .or_insert_with(|| Rate::first(rows, busy_us));
        match &mut self.rate {
            Some(rate) => rate.measure(rows, busy_us),
            None => self.rate = Some(Rate::first(rows, busy_us)),
        }
        self.shards_done += 1;
    }
}

/// A worker's load, for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkerLoad {
    /// Executors.
    pub slots: u32,
    /// Leases that it may hold.
    pub credits: u32,
    /// Leases that it holds, ended ones that it has not reported included.
    pub leased: u32,
    /// Whether it takes nothing new.
    pub draining: bool,
    /// Whether a lease of it expired and nothing was heard of it since.
    pub suspect: bool,
    /// Rows a second of one executor over its last shards; 0 before the first.
    pub rows_per_s: f64,
    /// Shards that it completed on this connection.
    pub shards_done: u64,
}
