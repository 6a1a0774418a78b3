//! Rates of groups of jobs: a token bucket each, in thousandths of rows and on the core's own clock.
//!
//! A lease takes its rows out of the bucket of its job's group, which may go into debt by it. While it is in debt the
//! group's jobs wait, and nobody else does. So in any stretch of time, a group gets no more rows than its rate allows for
//! it, one bucket and one shard. What was leased before a restart of the master is not counted.

use super::types::Millis;
use super::{Scheduler, TimerKey};
use quipu_shared::ids::JobId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a full bucket holds, in time: long enough for shards of a useful size, short enough for a rate to be one.
pub(super) const BUCKET_MS: u64 = 1_000;
/// A group that was in debt goes on once its bucket is full to one in so many: with less, its jobs would come and go
/// with every shard.
const RESUME_DIVISOR: i128 = 4;
/// A row in the units of a bucket.
const MILLIROWS: i128 = 1_000;

/// The number of a group in this scheduler.
pub(super) type GroupKey = u32;

/// Rows that may be leased.
#[derive(Clone, Debug)]
struct Bucket {
    rows_per_s: u64,
    /// Below zero it is in debt.
    millirows: i128,
    filled_at: Millis,
}

impl Bucket {
    fn full(rows_per_s: u64, now: Millis) -> Self {
        let mut bucket = Self { rows_per_s, millirows: 0, filled_at: now };
        bucket.millirows = bucket.capacity();
        bucket
    }

    /// At least a row, or it would never be out of debt.
    fn capacity(&self) -> i128 {
        (i128::from(self.rows_per_s) * i128::from(BUCKET_MS)).max(MILLIROWS)
    }

    fn fill(&mut self, now: Millis) {
        let elapsed_ms = i128::from(now.saturating_sub(self.filled_at));
        // A millisecond at this rate is so many thousandths of rows.
        let filled = self.millirows + elapsed_ms * i128::from(self.rows_per_s);
        self.millirows = filled.min(self.capacity());
        self.filled_at = self.filled_at.max(now);
    }

    /// When a bucket in debt has enough to go on.
    fn resumes_at(&self) -> Millis {
        let missing = (self.capacity() / RESUME_DIVISOR - self.millirows).max(1);
        let rate = i128::from(self.rows_per_s.max(1));
        let wait_ms = (missing + rate - 1) / rate;
        self.filled_at.saturating_add(u64::try_from(wait_ms).unwrap_or(u64::MAX))
    }
}

/// Jobs with a rate together.
#[derive(Clone, Debug, Default)]
struct Group {
    bucket: Option<Bucket>,
    jobs: BTreeSet<JobId>,
    /// Until when nothing is leased; its timer is set.
    waits_until: Option<Millis>,
}

/// Every group with a job or a rate.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    keys: BTreeMap<Arc<str>, GroupKey>,
    groups: BTreeMap<GroupKey, Group>,
    next_key: GroupKey,
}

impl Groups {
    fn key(&mut self, name: &Arc<str>) -> GroupKey {
        if let Some(&key) = self.keys.get(name) {
            return key;
        }
        let key = self.next_key;
        self.next_key += 1;
        self.keys.insert(Arc::clone(name), key);
        self.groups.insert(key, Group::default());
        key
    }

    pub fn enter(&mut self, name: &Arc<str>, job: JobId) -> GroupKey {
        let key = self.key(name);
        if let Some(group) = self.groups.get_mut(&key) {
            group.jobs.insert(job);
        }
        key
    }

    /// A job has ended. A group without jobs and without a rate is forgotten.
    pub fn leave(&mut self, key: GroupKey, job: JobId) {
        let Some(group) = self.groups.get_mut(&key) else { return };
        group.jobs.remove(&job);
        if group.jobs.is_empty() && group.bucket.is_none() {
            self.groups.remove(&key);
            self.keys.retain(|_, of| *of != key);
        }
    }

    /// Whether the jobs of this group have to wait.
    pub fn waits(&self, key: Option<GroupKey>) -> bool {
        self.waits_until(key).is_some()
    }

    pub fn waits_until(&self, key: Option<GroupKey>) -> Option<Millis> {
        key.and_then(|key| self.groups.get(&key)).and_then(|group| group.waits_until)
    }

    /// Rows of the largest shard of a job in this group, where it has a rate.
    pub fn shard_rows_max(&self, key: Option<GroupKey>) -> u64 {
        let bucket = key.and_then(|key| self.groups.get(&key)).and_then(|group| group.bucket.as_ref());
        bucket.map_or(u64::MAX, |bucket| bucket.rows_per_s.saturating_mul(BUCKET_MS) / 1_000)
    }

    pub fn rows_per_s(&self, key: Option<GroupKey>) -> Option<u64> {
        let group = key.and_then(|key| self.groups.get(&key))?;
        group.bucket.as_ref().map(|bucket| bucket.rows_per_s)
    }

    #[cfg(test)]
    pub fn timers(&self) -> impl Iterator<Item = (Millis, TimerKey)> + '_ {
        self.groups.iter().filter_map(|(&key, group)| Some((group.waits_until?, TimerKey::Group(key))))
    }
}

impl Scheduler {
    /// A lease takes its rows out of its group's bucket.
    pub(super) fn charge(&mut self, key: Option<GroupKey>, rows: u64) {
        let Some(key) = key else { return };
        let Some(group) = self.groups.groups.get_mut(&key) else { return };
        let Some(bucket) = &mut group.bucket else { return };
        bucket.fill(self.now);
        bucket.millirows -= i128::from(rows) * MILLIROWS;
        if bucket.millirows <= 0 && group.waits_until.is_none() {
            self.suspend_group(key);
        }
    }

    /// Its jobs wait until it is out of debt.
    fn suspend_group(&mut self, key: GroupKey) {
        let Some(group) = self.groups.groups.get_mut(&key) else { return };
        let Some(bucket) = &group.bucket else { return };
        let at = bucket.resumes_at().max(self.now + 1);
        group.waits_until = Some(at);
        self.timers.insert((at, TimerKey::Group(key)));
        self.refresh_group(key);
    }

    fn refresh_group(&mut self, key: GroupKey) {
        let Some(group) = self.groups.groups.get(&key) else { return };
        for job in group.jobs.iter().copied().collect::<Vec<_>>() {
            self.refresh_job(job);
        }
    }

    /// The timer of a group that waits.
    pub(super) fn resume_group(&mut self, key: GroupKey) {
        let Some(group) = self.groups.groups.get_mut(&key) else { return };
        group.waits_until = None;
        if let Some(bucket) = &mut group.bucket {
            bucket.fill(self.now);
            if bucket.millirows <= 0 {
                self.suspend_group(key);
                return;
            }
        }
        self.refresh_group(key);
    }

    /// A rate begins, changes or is no more. A debt stays, and what was saved up is cut to the new bucket.
    pub(super) fn change_group_rate(&mut self, name: &Arc<str>, rows_per_s: Option<u64>) {
        let key = self.groups.key(name);
        let Some(group) = self.groups.groups.get_mut(&key) else { return };
        if let Some(at) = group.waits_until.take() {
            self.timers.remove(&(at, TimerKey::Group(key)));
        }
        group.bucket = rows_per_s.map(|rows_per_s| {
            let mut new = Bucket::full(rows_per_s, self.now);
            if let Some(old) = &mut group.bucket {
                old.fill(self.now);
                new.millirows = new.millirows.min(old.millirows);
            }
            new
        });
        // Also notes a debt that is left, and forgets a group that nothing is known of.
        match &group.bucket {
            Some(bucket) if bucket.millirows <= 0 => self.suspend_group(key),
            Some(_) => self.refresh_group(key),
            None => {
                self.refresh_group(key);
                self.groups.leave(key, JobId(0));
            }
        }
    }

    /// For people: what a job's group may, and how long it has to wait for it.
    pub(super) fn explain_group(&self, job: JobId) -> Option<String> {
        let state = self.jobs.get(&job)?;
        let (name, rows_per_s) = (state.plan.group.as_ref()?, self.groups.rows_per_s(state.group)?);
        Some(match self.groups.waits_until(state.group) {
            Some(at) => format!(
                "namespace {name} may be leased {rows_per_s} rows a second and has had them: it waits for {} ms",
                at.saturating_sub(self.now)
            ),
            None => format!("namespace {name} may be leased {rows_per_s} rows a second, together with its other jobs"),
        })
    }
}
