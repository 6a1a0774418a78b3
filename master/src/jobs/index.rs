//! What the master keeps in memory of every job: enough to choose the next one and to keep time, and no more, since
//! there may be millions. A pure function of the store's records; no clock, no I/O.

use crate::store::record::JobRecord;
use quipu_shared::access::Namespace;
use quipu_shared::ids::JobId;
use quipu_shared::service::JobState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A job in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slim {
    state: JobState,
    priority: i8,
    /// For a scheduled one: when it is due.
    not_before_ms: u64,
    /// For one that has not ended: its deadline.
    deadline_at_ms: Option<u64>,
    /// For an ended one: when it may go.
    kept_until_ms: u64,
    spec_bytes: u32,
    /// Place in [`Index::namespaces`].
    namespace: u32,
}

/// What the jobs of a namespace that have not ended come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many they are.
    pub pending: usize,
    /// Bytes of their specs.
    pub pending_bytes: u64,
}

/// Jobs in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// By durable state, in the order of [`JobState::ALL`].
    pub states: [u64; JobState::ALL.len()],
    /// Jobs that were submitted since counting began.
    pub submitted: u64,
    /// Jobs that have ended since, by state in the same order.
    pub ended: [u64; JobState::ALL.len()],
}

impl JobCounts {
    /// A job is in a state now, and was in another one (or is new).
    fn note(&mut self, before: Option<JobState>, now: JobState) {
        self.states[now as usize] += 1;
        self.submitted += u64::from(before.is_none());
        self.ended[now as usize] += u64::from(now.is_final() && before.is_none_or(|before| !before.is_final()));
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.submitted += other.submitted;
        for (own, others) in [(&mut self.states, &other.states), (&mut self.ended, &other.ended)] {
            own.iter_mut().zip(others).for_each(|(own, other)| *own += other);
        }
    }
}

/// Every job in a few words, in the orders in which they are needed.
#[derive(Debug, Default)]
pub struct Index {
    jobs: BTreeMap<JobId, Slim>,
    /// Jobs that wait for their turn, the next one first: highest priority, then oldest.
    queued: BTreeSet<(i16, JobId)>,
    /// Jobs that have had their turn and have not ended, with their priorities.
    active: BTreeMap<JobId, i8>,
    /// How many of these have a priority.
    active_of: BTreeMap<i16, usize>,
    scheduled: BTreeSet<(u64, JobId)>,
    deadlines: BTreeSet<(u64, JobId)>,
    kept: BTreeSet<(u64, JobId)>,
    /// Bytes of the specs of jobs that have not ended.
    pending_bytes: u64,
    /// Every namespace that has had a job, and what it has now.
    namespaces: Vec<(Namespace, Usage)>,
    namespace_places: BTreeMap<Namespace, u32>,
    /// The upload that a job reads.
    uploads: BTreeMap<JobId, Arc<str>>,
    /// How many jobs read an upload.
    upload_uses: BTreeMap<Arc<str>, usize>,
    /// How long an ended job is kept unless it says so itself.
    retention_ms: u64,
    /// In the order of [`Self::namespaces`].
    counts: Vec<JobCounts>,
}

impl Index {
    /// Nothing yet; ended jobs are kept for `retention_ms`.
    pub fn new(retention_ms: u64) -> Self {
        Self { retention_ms, ..Self::default() }
    }

    /// Takes in what became of a job; `None` if it is gone.
    pub fn note(&mut self, job: JobId, record: Option<&JobRecord>) {
        let before = self.jobs.remove(&job);
        if let Some(old) = before {
            self.take_out(job, old);
        }
        if let Some(old) = before {
            self.counts[old.namespace as usize].states[old.state as usize] -= 1;
        }
        let Some(record) = record else {
            if let Some(upload) = self.uploads.remove(&job)
                && let Some(uses) = self.upload_uses.get_mut(&upload)
            {
                *uses -= 1;
                if *uses == 0 {
                    self.upload_uses.remove(&upload);
                }
            }
            return;
        };
        if let Some(upload) = &record.fixed.upload
            && !self.uploads.contains_key(&job)
        {
            let upload: Arc<str> = upload.as_str().into();
            *self.upload_uses.entry(Arc::clone(&upload)).or_default() += 1;
            self.uploads.insert(job, upload);
        }
        let retention_ms = record.fixed.retention_ms.unwrap_or(self.retention_ms);
        let slim = Slim {
            state: record.state,
            priority: record.fixed.priority,
            not_before_ms: record.not_before_ms.unwrap_or(0),
            deadline_at_ms: record.fixed.deadline_at_ms,
            kept_until_ms: record.ended_at_ms.unwrap_or(0).saturating_add(retention_ms),
            spec_bytes: u32::try_from(record.fixed.spec_bytes).unwrap_or(u32::MAX),
            namespace: self.place_of(&record.fixed.namespace),
        };
        self.counts[slim.namespace as usize].note(before.map(|slim| slim.state), slim.state);
        self.put_in(job, slim);
    }

    /// The jobs in numbers, by namespace.
    pub fn counts(&self) -> impl Iterator<Item = (&Namespace, &JobCounts)> {
        self.namespaces.iter().map(|(namespace, _)| namespace).zip(&self.counts)
    }

    /// Begins to count submissions and ends: what was found in the store is none.
    pub fn begin_counting(&mut self) {
        for counts in &mut self.counts {
            (counts.submitted, counts.ended) = (0, Default::default());
        }
    }

    /// Admission keeps their number small.
    fn place_of(&mut self, namespace: &Namespace) -> u32 {
        if let Some(place) = self.namespace_places.get(namespace) {
            return *place;
        }
        let place = self.namespaces.len() as u32;
        self.namespaces.push((namespace.clone(), Usage::default()));
        self.counts.push(JobCounts::default());
        self.namespace_places.insert(namespace.clone(), place);
        place
    }

    fn put_in(&mut self, job: JobId, slim: Slim) {
        self.jobs.insert(job, slim);
        if slim.state.is_final() {
            self.forget_active(job);
            self.kept.insert((slim.kept_until_ms, job));
            return;
        }
        self.pending_bytes += u64::from(slim.spec_bytes);
        let (_, usage) = &mut self.namespaces[slim.namespace as usize];
        usage.pending += 1;
        usage.pending_bytes += u64::from(slim.spec_bytes);
        if let Some(at_ms) = slim.deadline_at_ms {
            self.deadlines.insert((at_ms, job));
        }
        match slim.state {
            JobState::Queued if self.active.contains_key(&job) => {}
            JobState::Queued => drop(self.queued.insert((queue_key(slim.priority), job))),
            JobState::Scheduled => {
                self.forget_active(job);
                self.scheduled.insert((slim.not_before_ms, job));
            }
            _ => {}
        }
    }

    fn take_out(&mut self, job: JobId, old: Slim) {
        self.queued.remove(&(queue_key(old.priority), job));
        self.scheduled.remove(&(old.not_before_ms, job));
        self.kept.remove(&(old.kept_until_ms, job));
        if let Some(at_ms) = old.deadline_at_ms {
            self.deadlines.remove(&(at_ms, job));
        }
        if !old.state.is_final() {
            self.pending_bytes -= u64::from(old.spec_bytes);
            let (_, usage) = &mut self.namespaces[old.namespace as usize];
            usage.pending -= 1;
            usage.pending_bytes -= u64::from(old.spec_bytes);
        }
    }

    /// The next job to be served, which is active from now on. At most `active_max` jobs of its priority or a higher one
    /// are, so that a flood of unimportant jobs does not keep an important one waiting; and four times as many in all.
    pub fn activate_next(&mut self, active_max: usize) -> Option<JobId> {
        let &(key, job) = self.queued.first()?;
        let as_important: usize = self.active_of.range(..=key).map(|(_, count)| count).sum();
        if as_important >= active_max || self.active.len() >= active_max.saturating_mul(4) {
            return None;
        }
        self.queued.remove(&(key, job));
        let priority = self.jobs.get(&job).map_or(0, |slim| slim.priority);
        self.active.insert(job, priority);
        *self.active_of.entry(key).or_default() += 1;
        Some(job)
    }

    /// Puts an active job back into the queue.
    pub fn deactivate(&mut self, job: JobId) {
        if let Some(priority) = self.forget_active(job)
            && self.state(job) == Some(JobState::Queued)
        {
            self.queued.insert((queue_key(priority), job));
        }
    }

    /// Puts all active jobs but these back into the queue.
    pub fn keep_active(&mut self, is_kept: impl Fn(JobId) -> bool) {
        let lost: Vec<JobId> = self.active.keys().copied().filter(|job| !is_kept(*job)).collect();
        for job in lost {
            self.deactivate(job);
        }
    }

    fn forget_active(&mut self, job: JobId) -> Option<i8> {
        let priority = self.active.remove(&job)?;
        if let Some(count) = self.active_of.get_mut(&queue_key(priority)) {
            *count -= 1;
        }
        Some(priority)
    }

    /// Whether a job has had its turn and has not ended.
    pub fn is_active(&self, job: JobId) -> bool {
        self.active.contains_key(&job)
    }

    /// Jobs that have had their turn and have not ended.
    pub fn active_count(&self) -> usize {
        self.active.len()
    }

    /// How many jobs are served before this one.
    pub fn ahead_of(&self, job: JobId) -> usize {
        let Some(slim) = self.jobs.get(&job) else { return 0 };
        self.queued.range(..(queue_key(slim.priority), job)).count()
    }

    /// A job's durable state.
    pub fn state(&self, job: JobId) -> Option<JobState> {
        self.jobs.get(&job).map(|slim| slim.state)
    }

    /// Every job after one in an order, with its durable state; of one namespace, where that is asked for.
    pub fn after<'a>(
        &'a self,
        after: Option<JobId>,
        backwards: bool,
        namespace: Option<&Namespace>,
    ) -> Box<dyn Iterator<Item = (JobId, JobState)> + 'a> {
        let place = namespace.map(|namespace| self.namespace_places.get(namespace).copied());
        let item = move |(job, slim): (&JobId, &Slim)| {
            place.is_none_or(|place| place == Some(slim.namespace)).then_some((*job, slim.state))
        };
        match (after, backwards) {
            (None, false) => Box::new(self.jobs.iter().filter_map(item)),
            (Some(after), false) => Box::new(self.jobs.range(JobId(after.0.saturating_add(1))..).filter_map(item)),
            (None, true) => Box::new(self.jobs.iter().rev().filter_map(item)),
            (Some(after), true) => Box::new(self.jobs.range(..after).rev().filter_map(item)),
        }
    }

    /// What the jobs of a namespace that have not ended come to.
    pub fn usage(&self, namespace: &Namespace) -> Usage {
        let place = self.namespace_places.get(namespace);
        place.map_or_else(Usage::default, |place| self.namespaces[*place as usize].1.clone())
    }

    /// How many namespaces have had a job, and whether this one has.
    pub fn namespaces(&self, namespace: &Namespace) -> (usize, bool) {
        (self.namespaces.len(), self.namespace_places.contains_key(namespace))
    }

    /// Jobs that have not ended.
    pub fn pending_count(&self) -> usize {
        self.jobs.len() - self.kept.len()
    }

    /// Bytes of the specs of jobs that have not ended.
    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// Scheduled jobs whose time has come, at most `most`.
    pub fn due(&self, now_ms: u64, most: usize) -> Vec<JobId> {
        self.scheduled.iter().take_while(|(at_ms, _)| *at_ms <= now_ms).take(most).map(|(_, job)| *job).collect()
    }

    /// Jobs whose deadline has passed while they waited, at most `most`. Active ones have timers of their own.
    pub fn overdue(&self, now_ms: u64, most: usize) -> Vec<JobId> {
        let passed = self.deadlines.iter().take_while(|(at_ms, _)| *at_ms <= now_ms).map(|(_, job)| *job);
        passed.filter(|job| !self.is_active(*job)).take(most).collect()
    }

    /// Ended jobs that may go: those past their time, and the first of those over `kept_max`; at most `most`.
    pub fn outdated(&self, now_ms: u64, kept_max: usize, most: usize) -> Vec<JobId> {
        let over = self.kept.len().saturating_sub(kept_max);
        let passed = |(at, (until_ms, _)): &(usize, &(u64, JobId))| *at < over || *until_ms <= now_ms;
        self.kept.iter().enumerate().take_while(passed).take(most).map(|(_, (_, job))| *job).collect()
    }

    /// When something of this is due next.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.scheduled.first().into_iter().chain(self.deadlines.first()).map(|(at_ms, _)| *at_ms).min()
    }

    /// Whether a job reads this upload.
    pub fn uses_upload(&self, digest: &str) -> bool {
        self.upload_uses.contains_key(digest)
    }
}

/// Ascending from the highest priority.
fn queue_key(priority: i8) -> i16 {
    -i16::from(priority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::job_record;

    fn record(state: JobState, priority: i8) -> JobRecord {
        let mut record = job_record(state);
        record.fixed.priority = priority;
        record
    }

    fn index(jobs: &[(u64, i8)]) -> Index {
        let mut index = Index::new(1_000);
        for (job, priority) in jobs {
            index.note(JobId(*job), Some(&record(JobState::Queued, *priority)));
        }
        index
    }

    #[test]
    fn jobs_are_served_by_priority_and_then_by_age() {
        let mut index = index(&[(1, 0), (2, 5), (3, 0), (4, -5)]);
        assert_eq!(index.ahead_of(JobId(3)), 2);
        let order: Vec<u64> = std::iter::from_fn(|| index.activate_next(10)).map(|job| job.0).collect();
        assert_eq!(order, [2, 1, 3, 4]);
    }

    #[test]
    fn unimportant_jobs_do_not_take_the_places_of_important_ones() {
        let mut index = index(&[(1, 0), (2, 0), (3, 0)]);
        assert_eq!(
            [index.activate_next(2), index.activate_next(2), index.activate_next(2)].map(|j| j.is_some()),
            [true, true, false]
        );
        index.note(JobId(4), Some(&record(JobState::Queued, 1)));
        assert_eq!(index.activate_next(2), Some(JobId(4)));
        assert_eq!(index.activate_next(2), None, "the places of the others are taken still");
        index.note(JobId(1), Some(&record(JobState::Succeeded, 0)));
        index.note(JobId(4), Some(&record(JobState::Failed, 1)));
        assert_eq!(index.activate_next(2), Some(JobId(3)));
    }

    #[test]
    fn time_brings_jobs_back_and_takes_them_away() {
        let mut index = Index::new(1_000);
        let mut later = record(JobState::Scheduled, 0);
        later.not_before_ms = Some(50);
        later.fixed.deadline_at_ms = Some(80);
        index.note(JobId(1), Some(&later));
        assert_eq!((index.due(49, 9).len(), index.due(50, 9), index.next_due_ms()), (0, vec![JobId(1)], Some(50)));
        assert_eq!(index.overdue(80, 9), [JobId(1)]);
        index.note(JobId(1), Some(&record(JobState::Queued, 0)));
        assert_eq!(index.activate_next(1), Some(JobId(1)));
        index.note(JobId(1), Some(&later));
        assert!(!index.is_active(JobId(1)), "a job that is tried again waits");
        let mut ended = record(JobState::Succeeded, 0);
        ended.ended_at_ms = Some(100);
        index.note(JobId(1), Some(&ended));
        assert_eq!((index.outdated(1_099, 9, 9).len(), index.outdated(1_100, 9, 9)), (0, vec![JobId(1)]));
        assert_eq!(index.outdated(0, 0, 9), [JobId(1)], "over the number");
        index.note(JobId(1), None);
        assert_eq!((index.pending_count(), index.pending_bytes(), index.next_due_ms()), (0, 0, None));
    }

    #[test]
    fn jobs_are_counted_by_state_and_ends_once() {
        let mut index = index(&[(1, 0), (2, 0)]);
        index.note(JobId(3), Some(&record(JobState::Failed, 0)));
        index.begin_counting();
        let counts = |index: &Index| index.counts().next().map(|(_, counts)| *counts).expect("one namespace");
        let state = |index: &Index, state: JobState| counts(index).states[state as usize];
        assert_eq!((state(&index, JobState::Queued), state(&index, JobState::Failed)), (2, 1));
        index.note(JobId(1), Some(&record(JobState::Succeeded, 0)));
        index.note(JobId(1), Some(&record(JobState::Succeeded, 0)));
        index.note(JobId(4), Some(&record(JobState::Scheduled, 0)));
        index.note(JobId(3), None);
        let JobCounts { states, submitted, ended } = counts(&index);
        assert_eq!(states, [1, 0, 1, 0, 1, 0, 0], "{:?}", JobState::ALL);
        assert_eq!((submitted, ended), (1, [0, 0, 0, 0, 1, 0, 0]));
    }

    #[test]
    fn namespaces_are_counted_and_listed_apart() {
        let (mine, other): (Namespace, Namespace) = ("mine".parse().unwrap(), "other".parse().unwrap());
        let mut index = Index::new(1_000);
        let mut job = record(JobState::Queued, 0);
        job.fixed.spec_bytes = 10;
        for (id, namespace) in [(1, &mine), (2, &other), (3, &mine)] {
            job.fixed.namespace = namespace.clone();
            index.note(JobId(id), Some(&job));
        }
        assert_eq!(index.usage(&mine), Usage { pending: 2, pending_bytes: 20 });
        job.state = JobState::Succeeded;
        index.note(JobId(3), Some(&job));
        assert_eq!(index.usage(&mine), Usage { pending: 1, pending_bytes: 10 });
        let listed: Vec<u64> = index.after(None, true, Some(&mine)).map(|(job, _)| job.0).collect();
        assert_eq!(listed, [3, 1]);
        assert_eq!(index.after(None, false, Some(&"none".parse().unwrap())).count(), 0);
        index.note(JobId(1), None);
        assert_eq!((index.usage(&mine), index.usage(&other).pending), (Usage::default(), 1));
    }

    #[test]
    fn an_upload_is_in_use_until_its_last_job_is_gone() {
        let mut index = Index::new(1_000);
        let mut reader = record(JobState::Queued, 0);
        reader.fixed.upload = Some("abc".into());
        index.note(JobId(1), Some(&reader));
        index.note(JobId(2), Some(&reader));
        reader.state = JobState::Succeeded;
        index.note(JobId(1), Some(&reader));
        index.note(JobId(1), None);
        assert!(index.uses_upload("abc"));
        index.note(JobId(2), None);
        assert!(!index.uses_upload("abc"));
    }
}
