//! Which attempts a job had: which worker, when, how long, and what became of them.
//!
//! The dispatcher writes it as attempts begin and end, a few words each; clients read it without going through the
//! dispatcher. It is in memory alone, and bounded: it helps people, and nothing is decided by it.

use quipu_shared::detail::{AttemptList, AttemptOutcome, AttemptView, NodeAttempt, ShardMap};
use quipu_shared::ids::{JobId, NodeId, WorkerId};
use quipu_shared::wire::Lease;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Ended attempts that are kept of a job.
pub const ATTEMPTS_KEPT_MAX: usize = 128;
/// Ended attempts that went wrong and are kept of a job beyond those.
pub const WRONG_KEPT_MAX: usize = 32;
/// Ended jobs whose attempts are kept.
pub const JOBS_KEPT_MAX: usize = 256;
/// Shards with more than one attempt that are remembered of a job.
const RETRIED_KEPT_MAX: usize = 1_024;
/// Bytes of what a worker said of an attempt.
const NOTE_BYTES_MAX: usize = 240;

/// The attempts of the jobs that are served, and of the last that were.
#[derive(Debug, Default)]
pub struct Histories {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: BTreeMap<JobId, History>,
    /// Jobs that have ended, oldest end first.
    ended: VecDeque<JobId>,
}

#[derive(Debug, Default)]
struct History {
    /// Attempts so far.
    total: u64,
    live: BTreeMap<Lease, Live>,
    past: VecDeque<(Lease, AttemptView)>,
    /// Older ones that went wrong: they are rarer, and more is asked about them.
    wrong: VecDeque<AttemptView>,
    /// Shards that wait for another attempt: rows by first row.
    queued: BTreeMap<u64, u64>,
    /// Shards that had more than one: rows by first row.
    retried: BTreeMap<u64, u64>,
    /// What was done when the job ended: first row and end.
    done: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Live {
    worker: WorkerId,
    view: AttemptView,
    /// Whether another attempt of the shard is done.
    beaten: bool,
}

/// An attempt that begins.
#[derive(Debug)]
pub struct Begun<'a> {
    /// The right to it.
    pub lease: Lease,
    /// The connection that it goes to.
    pub worker: WorkerId,
    /// The node there.
    pub node: &'a NodeId,
    /// First row.
    pub first_row: u64,
    /// Number of rows.
    pub rows: u64,
    /// Whether another one of its shard runs.
    pub speculative: bool,
    /// Unix time.
    pub now_ms: u64,
}

impl Histories {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt was leased.
    pub fn begun(&self, begun: &Begun<'_>) {
        let mut inner = self.lock();
        let history = inner.jobs.entry(begun.lease.job).or_default();
        history.total += 1;
        let again = history.queued.remove(&begun.first_row).is_some()
            || history.live.values().any(|live| live.view.first_row == begun.first_row);
        if again && history.retried.len() < RETRIED_KEPT_MAX {
            history.retried.insert(begun.first_row, begun.rows);
        }
        let view = AttemptView {
            attempt: begun.lease.attempt,
            shard: begun.lease.shard,
            node: begun.node.clone(),
            first_row: begun.first_row,
            rows: begun.rows,
            rows_done: 0,
            speculative: begun.speculative,
            started_at_ms: begun.now_ms,
            ended_at_ms: None,
            outcome: AttemptOutcome::Running,
            note: None,
        };
        history.live.insert(begun.lease, Live { worker: begun.worker, view, beaten: false });
    }

    /// A running attempt is this far.
    pub fn progressed(&self, lease: &Lease, rows_done: u64) {
        if let Some(live) = self.lock().jobs.get_mut(&lease.job).and_then(|history| history.live.get_mut(lease)) {
            live.view.rows_done = rows_done;
        }
    }

    /// An attempt's output is its shard's. It may be one that was given up before.
    pub fn completed(&self, lease: &Lease, now_ms: u64) {
        let mut inner = self.lock();
        let Some(history) = inner.jobs.get_mut(&lease.job) else { return };
        if let Some(live) = history.live.get_mut(lease) {
            live.view.rows_done = live.view.rows;
        }
        history.end(lease, AttemptOutcome::Completed, now_ms, None);
        let Some((_, view)) = history.past.iter_mut().rev().find(|(past, _)| past == lease) else { return };
        (view.outcome, view.rows_done) = (AttemptOutcome::Completed, view.rows);
        let first_row = view.first_row;
        history.queued.remove(&first_row);
        for live in history.live.values_mut().filter(|live| live.view.first_row == first_row) {
            live.beaten = true;
        }
    }

    /// An attempt has ended without being its shard's; nothing if that is known already.
    pub fn ended(&self, lease: &Lease, outcome: AttemptOutcome, now_ms: u64, note: Option<&str>) {
        if let Some(history) = self.lock().jobs.get_mut(&lease.job) {
            history.end(lease, outcome, now_ms, note);
        }
    }

    /// A worker's connection is gone, and its attempts with it; gives their leases.
    pub fn lost(&self, worker: WorkerId, now_ms: u64) -> Vec<Lease> {
        let mut gone = Vec::new();
        for history in self.lock().jobs.values_mut() {
            let of_worker = history.live.iter().filter(|(_, live)| live.worker == worker);
            let leases: Vec<Lease> = of_worker.map(|(lease, _)| *lease).collect();
            for lease in &leases {
                history.end(lease, AttemptOutcome::Lost, now_ms, None);
            }
            gone.extend(leases);
        }
        gone
    }

    /// No attempt runs any more: the dispatcher that knew of them is gone.
    pub fn lost_all(&self, now_ms: u64) {
        for history in self.lock().jobs.values_mut() {
            history.end_all(AttemptOutcome::Lost, now_ms);
        }
    }

    /// The job is no longer served; `done` are the rows that are.
    pub fn close(&self, job: JobId, done: Vec<(u64, u64)>, now_ms: u64) {
        let mut inner = self.lock();
        let history = inner.jobs.entry(job).or_default();
        history.end_all(AttemptOutcome::Stopped, now_ms);
        history.queued.clear();
        history.done = done;
        inner.ended.retain(|ended| *ended != job);
        inner.ended.push_back(job);
        if inner.ended.len() > JOBS_KEPT_MAX
            && let Some(oldest) = inner.ended.pop_front()
        {
            inner.jobs.remove(&oldest);
        }
    }

    /// The job is served again.
    pub fn reopen(&self, job: JobId) {
        self.lock().ended.retain(|ended| *ended != job);
    }

    /// The job is forgotten.
    pub fn forget(&self, job: JobId) {
        let mut inner = self.lock();
        if inner.jobs.remove(&job).is_some() {
            inner.ended.retain(|ended| *ended != job);
        }
    }

    /// The attempts of a job, by start.
    pub fn attempts(&self, job: JobId) -> AttemptList {
        let inner = self.lock();
        let Some(history) = inner.jobs.get(&job) else { return AttemptList::default() };
        let mut attempts: Vec<AttemptView> = history.views().cloned().collect();
        attempts.sort_by_key(|attempt| (attempt.started_at_ms, attempt.attempt));
        AttemptList { total: history.total, attempts }
    }

    /// The last attempts on a node, latest start first, at most `max`.
    pub fn on_node(&self, node: &NodeId, max: usize) -> Vec<NodeAttempt> {
        let mut found: Vec<NodeAttempt> = Vec::new();
        for (job, history) in &self.lock().jobs {
            let on_node = history.views().filter(|view| view.node == *node);
            found.extend(on_node.map(|view| NodeAttempt { job: *job, attempt: view.clone() }));
        }
        found.sort_by_key(|found| std::cmp::Reverse((found.attempt.started_at_ms, found.job, found.attempt.attempt)));
        found.truncate(max);
        found
    }

    /// Counts a job's shards in their cells. What is done is given for a job that is served, and known here of one that
    /// has ended; false where neither is so.
    pub fn fill(&self, job: JobId, map: &mut ShardMap, done: Option<&[(u64, u64)]>) -> bool {
        let inner = self.lock();
        let history = inner.jobs.get(&job);
        let Some(done) = done.or_else(|| history.map(|history| history.done.as_slice())) else { return false };
        for &(first, end) in done {
            map.count(first, end, |cell| &mut cell.done);
        }
        let Some(history) = history else { return true };
        let mut leased: Vec<(u64, u64)> =
            history.live.values().map(|live| (live.view.first_row, live.view.first_row + live.view.rows)).collect();
        leased.sort_unstable();
        leased.dedup();
        for (first, end) in leased {
            map.count(first, end, |cell| &mut cell.leased);
        }
        for (&first, &rows) in &history.queued {
            map.count(first, first + rows, |cell| &mut cell.queued);
        }
        for (&first, &rows) in &history.retried {
            map.count(first, first + rows, |cell| &mut cell.retried);
        }
        true
    }
}

impl History {
    fn views(&self) -> impl Iterator<Item = &AttemptView> {
        self.wrong.iter().chain(self.past.iter().map(|(_, view)| view)).chain(self.live.values().map(|live| &live.view))
    }

    fn end(&mut self, lease: &Lease, outcome: AttemptOutcome, now_ms: u64, note: Option<&str>) {
        let Some(Live { mut view, beaten, .. }) = self.live.remove(lease) else { return };
        view.outcome = if beaten { AttemptOutcome::Superseded } else { outcome };
        view.ended_at_ms = Some(now_ms.max(view.started_at_ms));
        view.note = note.map(|note| clipped(note).to_owned());
        let runs_elsewhere = self.live.values().any(|live| live.view.first_row == view.first_row);
        let again =
            !matches!(view.outcome, AttemptOutcome::Completed | AttemptOutcome::Superseded | AttemptOutcome::Stopped);
        if again && !runs_elsewhere {
            self.queued.insert(view.first_row, view.rows);
        }
        if self.past.len() >= ATTEMPTS_KEPT_MAX
            && let Some((_, oldest)) = self.past.pop_front()
            && oldest.outcome.went_wrong()
        {
            if self.wrong.len() >= WRONG_KEPT_MAX {
                self.wrong.pop_front();
            }
            self.wrong.push_back(oldest);
        }
        self.past.push_back((*lease, view));
    }

    fn end_all(&mut self, outcome: AttemptOutcome, now_ms: u64) {
        while let Some((&lease, _)) = self.live.first_key_value() {
            self.end(&lease, outcome, now_ms, None);
        }
    }
}

fn clipped(text: &str) -> &str {
    let mut end = text.len().min(NOTE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS_KEPT_MAX, Begun, Histories, JOBS_KEPT_MAX, NOTE_BYTES_MAX, WRONG_KEPT_MAX};
    use quipu_shared::detail::{AttemptOutcome, ShardMap};
    use quipu_shared::ids::{AttemptId, Epoch, JobId, NodeId, ShardId, WorkerId};
    use quipu_shared::wire::Lease;

    const JOB: JobId = JobId(7);

    fn lease(shard: u64, attempt: u64) -> Lease {
        Lease { epoch: Epoch(1), job: JOB, shard: ShardId(shard), attempt: AttemptId(attempt) }
    }

    /// Shards of ten rows, each attempt begun at the time of its number.
    fn begin(histories: &Histories, shard: u64, attempt: u64, worker: u64) {
        histories.begun(&Begun {
            lease: lease(shard, attempt),
            worker: WorkerId(worker),
            node: &NodeId::try_from(format!("worker-{worker}")).unwrap(),
            first_row: shard * 10,
            rows: 10,
            speculative: false,
            now_ms: attempt,
        });
    }

    fn outcomes(histories: &Histories) -> Vec<AttemptOutcome> {
        histories.attempts(JOB).attempts.iter().map(|attempt| attempt.outcome).collect()
    }

    fn map(histories: &Histories, done: &[(u64, u64)]) -> Vec<(u64, u64, u64, u64)> {
        let mut map = ShardMap::new(30, 10);
        assert!(histories.fill(JOB, &mut map, Some(done)));
        map.cells.iter().map(|cell| (cell.done, cell.leased, cell.queued, cell.retried)).collect()
    }

    #[test]
    fn shard_of_a_lost_worker_waits_and_is_marked_as_retried() {
        let histories = Histories::default();
        begin(&histories, 0, 1, 1);
        begin(&histories, 1, 2, 2);
        histories.completed(&lease(0, 1), 5);
        assert_eq!(histories.lost(WorkerId(2), 6), [lease(1, 2)]);
        assert_eq!(map(&histories, &[(0, 10)]), [(10, 0, 0, 0), (0, 0, 10, 0), (0, 0, 0, 0)]);
        begin(&histories, 1, 3, 1);
        assert_eq!(map(&histories, &[(0, 10)]), [(10, 0, 0, 0), (0, 10, 0, 10), (0, 0, 0, 0)]);
        assert_eq!(outcomes(&histories), [AttemptOutcome::Completed, AttemptOutcome::Lost, AttemptOutcome::Running]);
        let seen = histories.on_node(&NodeId::try_from("worker-1".to_owned()).unwrap(), 9);
        assert_eq!(seen.iter().map(|seen| seen.attempt.attempt.0).collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn second_of_two_attempts_is_superseded_and_its_shard_does_not_wait() {
        let histories = Histories::default();
        begin(&histories, 0, 1, 1);
        begin(&histories, 0, 2, 2);
        histories.completed(&lease(0, 2), 5);
        histories.ended(&lease(0, 1), AttemptOutcome::Stopped, 6, None);
        // Told again, and late: that changes nothing.
        histories.ended(&lease(0, 1), AttemptOutcome::Failed, 7, None);
        assert_eq!(outcomes(&histories), [AttemptOutcome::Superseded, AttemptOutcome::Completed]);
        assert_eq!(map(&histories, &[(0, 10)])[0], (10, 0, 0, 10));
    }

    #[test]
    fn attempt_that_was_given_up_may_complete_after_all() {
        let histories = Histories::default();
        begin(&histories, 0, 1, 1);
        histories.ended(&lease(0, 1), AttemptOutcome::Expired, 3, Some(&"é".repeat(NOTE_BYTES_MAX)));
        assert_eq!(map(&histories, &[])[0], (0, 0, 10, 0));
        histories.completed(&lease(0, 1), 9);
        assert_eq!(outcomes(&histories), [AttemptOutcome::Completed]);
        assert_eq!(map(&histories, &[(0, 10)])[0], (10, 0, 0, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let histories = Histories::default();
        for attempt in 0..ATTEMPTS_KEPT_MAX as u64 * 3 {
            begin(&histories, attempt, attempt, 1);
            histories.completed(&lease(attempt, attempt), attempt);
        }
        let list = histories.attempts(JOB);
        assert_eq!((list.total, list.attempts.len()), (ATTEMPTS_KEPT_MAX as u64 * 3, ATTEMPTS_KEPT_MAX));
        for attempt in 0..ATTEMPTS_KEPT_MAX as u64 * 3 {
            let attempt = attempt + 10_000;
            begin(&histories, attempt, attempt, 1);
            let outcome = if attempt % 2 == 0 { AttemptOutcome::Failed } else { AttemptOutcome::Stopped };
            histories.ended(&lease(attempt, attempt), outcome, attempt, None);
        }
        let kept = histories.attempts(JOB).attempts;
        assert_eq!(kept.len(), ATTEMPTS_KEPT_MAX + WRONG_KEPT_MAX);
        assert!(kept[..WRONG_KEPT_MAX].iter().all(|attempt| attempt.outcome == AttemptOutcome::Failed));
        for job in 0..JOBS_KEPT_MAX as u64 * 2 {
            histories.close(JobId(100 + job), Vec::new(), 1);
        }
        assert_eq!(histories.lock().ended.len(), JOBS_KEPT_MAX);
        histories.close(JOB, vec![(0, 10)], 1);
        let mut ended = ShardMap::new(30, 10);
        assert!(histories.fill(JOB, &mut ended, None));
        assert_eq!(ended.cells[0].done, 10);
        histories.forget(JOB);
        assert!(!histories.fill(JOB, &mut ended, None));
        assert_eq!(histories.lock().jobs.len(), JOBS_KEPT_MAX - 1);
    }
}
