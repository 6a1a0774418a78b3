//! Circuit breaking: a node whose attempts keep failing is left alone for a while, and then tried with one shard.
//!
//! ```text
//!            failures in a row                      its time is over, or everybody is open
//!   closed ---------------------> open ----------------------------------------> half-open: one probe at a time
//!     ^  ^-- it was not to blame --'  ^----------- the probe fails: twice as long --'     |
//!     '------------------------------------------------------------ a completion ---------'
//! ```
//!
//! What counts as a failure of a node:
//! - An attempt that failed, if the node is to blame: another node has completed something of this job already, or
//!   completes this very shard later. A shard that fails on two nodes excuses both (until a third completes it), and a
//!   job that nobody can do blames nobody.
//! - A connection that was lost with live leases, and a silence that let a lease expire: once each, however many leases
//!   there were, and not if one of them is of a shard that failed elsewhere before.
//! - Rejections: once each time that it had no pause from the one before.
//!
//! Any completion forgives all of them. Breakers outlive connections, as long as the node keeps its id.

use super::types::{Effect, Millis, SchedulerConfig};
use super::worker::Worker;
use super::{Attempt, Scheduler, TimerKey};
use quipu_shared::ids::{AttemptId, NodeId, WorkerId};
use quipu_shared::service::BreakerState;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes without a connection whose breakers are remembered.
const PARKED_MAX: usize = 4_096;
/// Failures that are told apart; beyond, only their being many matters.
const BLAMES_MAX: usize = 1_000;

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Closed,
    Open {
        since: Millis,
        /// Its timer is set while the node is connected.
        until: Millis,
    },
    HalfOpen {
        /// The attempt that is to show whether the node works again.
        probe: Option<AttemptId>,
    },
}

/// The breaker of one node.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    pub standing: Standing,
    /// Failures since its last completion that were not excused.
    pub blames: BTreeSet<u64>,
    /// Whether an attempt has failed here since then, whoever is to blame.
    pub is_doubtful: bool,
    /// How often it has opened since it was last closed.
    openings: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { standing: Standing::Closed, blames: BTreeSet::new(), is_doubtful: false, openings: 0 }
    }
}

impl Breaker {
    /// Whether the node may be given something.
    pub fn lets_through(&self) -> bool {
        matches!(self.standing, Standing::Closed | Standing::HalfOpen { probe: None })
    }

    pub fn is_closed(&self) -> bool {
        self.standing == Standing::Closed
    }

    pub fn is_open(&self) -> bool {
        matches!(self.standing, Standing::Open { .. })
    }

    fn state(&self) -> BreakerState {
        match self.standing {
            Standing::Closed => BreakerState::Closed,
            Standing::Open { .. } => BreakerState::Open,
            Standing::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Opens, or opens again, if there is reason to.
    fn judge(&mut self, now: Millis, config: &SchedulerConfig) {
        let is_due = match self.standing {
            Standing::Closed => self.blames.len() >= config.breaker_failures as usize,
            Standing::Open { .. } => false,
            Standing::HalfOpen { .. } => true,
        };
        if is_due {
            let doublings = self.openings.min(16);
            let open_ms = (config.breaker_open_ms << doublings).min(config.breaker_open_max_ms).max(1);
            self.openings += 1;
            self.standing = Standing::Open { since: now, until: now + open_ms };
        }
    }

    /// The same, where that does not depend on a trial.
    fn judge_closed(&mut self, now: Millis, config: &SchedulerConfig) {
        if self.is_closed() {
            self.judge(now, config);
        }
    }

    /// A failure was not the node's. What opened for it closes; what failed its probe since does not.
    fn excuse(&mut self, blame: u64, config: &SchedulerConfig) {
        self.blames.remove(&blame);
        if self.openings <= 1 && self.blames.len() < config.breaker_failures as usize {
            (self.standing, self.openings) = (Standing::Closed, 0);
        }
    }
}

/// A failed attempt of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Where.
    pub node: u64,
    /// What its breaker was charged with for it.
    blame: Option<u64>,
    /// Whether the attempt itself failed, rather than all of its worker.
    is_own: bool,
}

/// Which nodes have completed anything of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Nobody,
    One(u64),
    Several,
}

impl Proof {
    fn note(&mut self, node: u64) {
        *self = match *self {
            Self::Nobody => Self::One(node),
            Self::One(one) if one == node => Self::One(one),
            _ => Self::Several,
        };
    }

    fn is_of_another(self, node: u64) -> bool {
        match self {
            Self::Nobody => false,
            Self::One(one) => one != node,
            Self::Several => true,
        }
    }
}

/// A node's name as a number: equal for equal names, on every master.
pub(super) fn node_key(node: &NodeId) -> u64 {
    // FNV-1a.
    node.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Breakers of nodes without a connection, where there is anything to remember.
pub(super) type Parked = BTreeMap<u64, Breaker>;

impl Scheduler {
    /// The newest connection of a node.
    fn connection(&self, node: u64) -> Option<WorkerId> {
        let of_node = (node, WorkerId(0))..=(node, WorkerId(u64::MAX));
        self.connections.range(of_node).next_back().map(|&(_, id)| id)
    }

    /// A node joins with the breaker that it had.
    pub(super) fn unpark_breaker(&mut self, node: u64) -> Breaker {
        let other = self.connection(node).and_then(|id| self.workers.get(&id)).map(|worker| worker.breaker.clone());
        let mut breaker = self.parked.remove(&node).or(other).unwrap_or_default();
        if let Standing::HalfOpen { probe } = &mut breaker.standing {
            // An attempt of another connection.
            *probe = None;
        }
        breaker
    }

    /// Gives a worker that joins its node's breaker, and sets the timer of it.
    pub(super) fn take_breaker_over(&mut self, worker: WorkerId, mut breaker: Breaker, effects: &mut Vec<Effect>) {
        let Some(state) = self.workers.get_mut(&worker) else { return };
        if matches!(breaker.standing, Standing::Open { until, .. } if until <= self.now) {
            breaker.standing = Standing::HalfOpen { probe: None };
        }
        breaker.judge_closed(self.now, &self.config);
        let before = (state.breaker.standing, state.breaker.state());
        state.breaker = breaker;
        self.follow_breaker(worker, before, effects);
        self.refresh_worker(worker);
    }

    /// A worker is gone; its breaker is kept for when it is back, or goes on with an older connection of its node.
    pub(super) fn park_breaker(&mut self, worker: WorkerId, mut gone: Worker, effects: &mut Vec<Effect>) {
        if let Standing::Open { until, .. } = gone.breaker.standing {
            self.timers.remove(&(until, TimerKey::Breaker(worker)));
        }
        let is_plain = gone.breaker.is_closed() && gone.breaker.blames.is_empty() && !gone.breaker.is_doubtful;
        if let Some(other) = self.connection(gone.node) {
            if other < worker {
                if let Standing::HalfOpen { probe } = &mut gone.breaker.standing {
                    *probe = None;
                }
                self.take_breaker_over(other, gone.breaker, effects);
            }
            return;
        }
        if is_plain {
            return;
        }
        *self.parked_breaker(gone.node) = gone.breaker;
    }

    /// The breaker of a node that is not connected. With too many of them, any one is forgotten.
    fn parked_breaker(&mut self, node: u64) -> &mut Breaker {
        if self.parked.len() >= PARKED_MAX && !self.parked.contains_key(&node) {
            self.parked.pop_first();
        }
        self.parked.entry(node).or_default()
    }

    /// Changes the breaker of a node, wherever it is, and sees to all that depends on it.
    fn change_breaker(&mut self, node: u64, effects: &mut Vec<Effect>, change: impl FnOnce(&mut Breaker)) {
        let Some(worker) = self.connection(node) else {
            if let Some(breaker) = self.parked.get_mut(&node) {
                change(breaker);
            }
            return;
        };
        let Some(state) = self.workers.get_mut(&worker) else { return };
        let (before, was_doubtful) = ((state.breaker.standing, state.breaker.state()), state.breaker.is_doubtful);
        change(&mut state.breaker);
        if state.breaker.is_doubtful != was_doubtful {
            self.refresh_worker(worker);
        }
        self.follow_breaker(worker, before, effects);
    }

    /// Sets the timer of a breaker that was changed, and lets people know.
    pub(super) fn follow_breaker(
        &mut self,
        worker: WorkerId,
        (standing, state_before): (Standing, BreakerState),
        effects: &mut Vec<Effect>,
    ) {
        let Some(state) = self.workers.get(&worker) else { return };
        if state.breaker.standing == standing {
            return;
        }
        if let Standing::Open { until, .. } = standing {
            self.timers.remove(&(until, TimerKey::Breaker(worker)));
        }
        let mut open_ms = 0;
        if let Standing::Open { until, .. } = state.breaker.standing {
            self.timers.insert((until, TimerKey::Breaker(worker)));
            open_ms = until.saturating_sub(self.now);
        }
        if state.breaker.state() != state_before {
            effects.push(Effect::ShowBreaker { worker, state: state.breaker.state(), open_ms });
        }
        self.refresh_worker(worker);
    }

    /// The timer of an open breaker: it is half-open from now on.
    pub(super) fn half_open(&mut self, worker: WorkerId, effects: &mut Vec<Effect>) {
        let Some(state) = self.workers.get_mut(&worker).filter(|state| state.breaker.is_open()) else { return };
        let before = (state.breaker.standing, state.breaker.state());
        state.breaker.standing = Standing::HalfOpen { probe: None };
        self.follow_breaker(worker, before, effects);
    }

    /// The number of failures that it takes may be another.
    pub(super) fn judge_again(&mut self, worker: WorkerId, effects: &mut Vec<Effect>) {
        let Some(node) = self.workers.get(&worker).map(|state| state.node) else { return };
        let (now, config) = (self.now, self.config.clone());
        self.change_breaker(node, effects, |breaker| breaker.judge_closed(now, &config));
    }

    /// Charges a node with a failure, and gives the charge's name.
    fn blame(&mut self, node: u64, effects: &mut Vec<Effect>) -> u64 {
        self.last_blame += 1;
        let (id, now, config) = (self.last_blame, self.now, self.config.clone());
        if self.connection(node).is_none() {
            self.parked_breaker(node);
        }
        self.change_breaker(node, effects, |breaker| {
            if breaker.blames.len() < BLAMES_MAX {
                breaker.blames.insert(id);
            }
            breaker.judge(now, &config);
        });
        id
    }

    /// A live attempt failed on a worker that is there: its executor died, or its input went away.
    pub(super) fn blame_attempt(&mut self, attempt: &Attempt, effects: &mut Vec<Effect>) {
        if attempt.ended_at.is_some() {
            return;
        }
        let node = attempt.node;
        let is_excused = self.excuse_shard(attempt, effects);
        let is_proven = self.jobs.get(&attempt.lease.job).is_some_and(|job| job.proof.is_of_another(node));
        let blame = (is_proven && !is_excused).then(|| self.blame(node, effects));
        self.change_breaker(node, effects, |breaker| breaker.is_doubtful = true);
        self.note_failure(attempt, Failure { node, blame, is_own: true });
    }

    /// A worker is lost, or silent, with these live attempts.
    pub(super) fn blame_worker(&mut self, node: u64, attempts: &[Attempt], effects: &mut Vec<Effect>) {
        if attempts.is_empty() {
            return;
        }
        let mut is_excused = false;
        // One that never arrived says nothing of its shard.
        for attempt in attempts.iter().filter(|attempt| attempt.accepted) {
            is_excused |= self.excuse_shard(attempt, effects);
        }
        let blame = (!is_excused).then(|| self.blame(node, effects));
        for attempt in attempts.iter().filter(|attempt| attempt.accepted) {
            self.note_failure(attempt, Failure { node, blame, is_own: false });
        }
    }

    /// A worker has turned a lease down, and not just now another one.
    pub(super) fn blame_rejection(&mut self, node: u64, effects: &mut Vec<Effect>) {
        self.blame(node, effects);
    }

    /// Another lease of a silent worker expires: the silence was counted already.
    pub(super) fn note_expiry(&mut self, attempt: &Attempt) {
        self.note_failure(attempt, Failure { node: attempt.node, blame: None, is_own: false });
    }

    fn note_failure(&mut self, attempt: &Attempt, failure: Failure) {
        let job = self.jobs.get_mut(&attempt.lease.job);
        if let Some(shard) = job.and_then(|job| job.shards.get_mut(&attempt.first_row)) {
            shard.failures.push(failure);
        }
    }

    /// Whether the attempt's shard has failed on another node before: then those that were blamed for it are excused.
    fn excuse_shard(&mut self, attempt: &Attempt, effects: &mut Vec<Effect>) -> bool {
        let job = self.jobs.get_mut(&attempt.lease.job);
        let Some(shard) = job.and_then(|job| job.shards.get_mut(&attempt.first_row)) else { return false };
        let mut excused = Vec::new();
        let mut is_elsewhere = false;
        for failure in shard.failures.iter_mut().filter(|failure| failure.node != attempt.node) {
            is_elsewhere = true;
            excused.extend(failure.blame.take().map(|blame| (failure.node, blame)));
        }
        let config = self.config.clone();
        for (node, blame) in excused {
            self.change_breaker(node, effects, |breaker| breaker.excuse(blame, &config));
        }
        is_elsewhere
    }

    /// A worker has completed a shard: it works, and so those where the shard failed do not.
    pub(super) fn absolve(&mut self, worker: WorkerId, failures: &[Failure], effects: &mut Vec<Effect>) -> Option<u64> {
        let node = self.workers.get(&worker)?.node;
        self.change_breaker(node, effects, |breaker| *breaker = Breaker::default());
        for failure in failures.iter().filter(|failure| failure.is_own && failure.blame.is_none()) {
            if failure.node != node {
                self.blame(failure.node, effects);
            }
        }
        Some(node)
    }

    /// Notes that a node has completed something of a job.
    pub(super) fn note_proof(&mut self, job: quipu_shared::ids::JobId, node: u64) {
        if let Some(state) = self.jobs.get_mut(&job) {
            state.proof.note(node);
        }
    }
}
