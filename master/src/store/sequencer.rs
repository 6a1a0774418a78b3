//! Who puts commands in an order and makes them durable. With one master that is a thread of it; a replicated log can
//! take its place without a change to what commands do.

use super::StoreError;
use super::apply::Applier;
use super::command::{Command, Outcome};
use super::files::HighWater;
use super::kv::{Draft, Kv};
use super::record::{JobRecord, Meta};
use crate::metrics::StoreMetrics;
use quipu_shared::ids::JobId;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Commands of one commit at most: what waits for the disk together.
const GROUP_COMMANDS_MAX: usize = 20_000;
/// Bytes of one commit at most, single commands apart.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// Hears what became of proposed commands, in their order. It must not propose anything itself.
pub type Decided = Box<dyn FnOnce(Result<Vec<Outcome>, StoreError>) + Send>;

/// Hears of changes after they are durable and before those who proposed them: jobs with their records (without one
/// where they are gone), and whether schedules have changed.
pub type Observer = Arc<dyn Fn(&[(JobId, Option<JobRecord>)], bool) + Send + Sync>;

/// Puts commands in an order and makes them durable.
pub trait Sequencer: Send + Sync {
    /// Proposes commands, which are decided one after the other and all together made durable.
    fn propose(&self, commands: Vec<Command>, decided: Decided);
    /// Bytes of commands that are not decided yet.
    fn waiting_bytes(&self) -> usize;
    /// Why nothing is decided any more.
    fn trouble(&self) -> Option<StoreError>;
}

/// State and the means to change it.
pub(super) struct State {
    pub kv: Arc<dyn Kv>,
    pub meta: Meta,
    /// Where commits are to outlive the process.
    pub mark: Option<HighWater>,
    pub observer: Observer,
    /// Where commits are counted.
    pub metrics: StoreMetrics,
}

impl State {
    /// Applies and commits a group, and then the commands that follow from it.
    fn decide(&mut self, groups: Vec<Vec<Command>>) -> Result<Vec<Vec<Outcome>>, StoreError> {
        let (outcomes, mut to_settle) = self.decide_once(groups)?;
        while !to_settle.is_empty() {
            let now_ms = unix_ms();
            let settle = to_settle.into_iter().map(|job| Command::Settle { job, now_ms }).collect();
            (_, to_settle) = self.decide_once(vec![settle])?;
        }
        Ok(outcomes)
    }

    fn decide_once(&mut self, groups: Vec<Vec<Command>>) -> Result<(Vec<Vec<Outcome>>, Vec<JobId>), StoreError> {
        let mut applier = Applier::new(Draft::new(&*self.kv), self.meta);
        failpoint("store::before_apply");
        let command_count = groups.iter().map(Vec::len).sum::<usize>() as u64;
        let mut outcomes = Vec::with_capacity(groups.len());
        for commands in groups {
            let decided = commands.into_iter().map(|command| applier.apply(command)).collect::<Result<_, _>>()?;
            outcomes.push(decided);
        }
        let changed = std::mem::take(&mut applier.changed);
        let (to_settle, schedules_changed) = (std::mem::take(&mut applier.to_settle), applier.schedules_changed);
        let (writes, meta) = applier.finish();
        failpoint("store::after_apply");
        let begun = Instant::now();
        self.kv.commit(writes)?;
        failpoint("store::after_commit");
        self.meta = meta;
        if let Some(mark) = &mut self.mark {
            mark.set(meta.last_applied)?;
        }
        self.metrics.commit.observe_time(begun.elapsed());
        self.metrics.commit_commands.observe(command_count);
        failpoint("store::after_mark");
        (self.observer)(&changed, schedules_changed);
        Ok((outcomes, to_settle))
    }
}

/// Decides at once, on the caller's thread: for a store in memory.
pub(super) struct Immediate {
    pub state: Mutex<State>,
}

impl Sequencer for Immediate {
    fn propose(&self, commands: Vec<Command>, decided: Decided) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        decided(state.decide(vec![commands]).map(|mut outcomes| outcomes.pop().unwrap_or_default()));
    }

    fn waiting_bytes(&self) -> usize {
        0
    }

    fn trouble(&self) -> Option<StoreError> {
        None
    }
}

/// Decides on a thread of its own: while a commit is being synced, what comes in waits for the next one.
pub(super) struct GroupCommit {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    proposals: VecDeque<(Vec<Command>, usize, Decided)>,
    /// Of these, and of those that are being committed.
    bytes: usize,
    closed: bool,
    trouble: Option<StoreError>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupCommit {
    /// Starts the thread.
    pub fn start(state: State) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || run(&theirs, state))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there was logged where it happened.
            let _ = thread.join();
        }
    }
}

impl Sequencer for GroupCommit {
    fn propose(&self, commands: Vec<Command>, decided: Decided) {
        let bytes = commands.iter().map(bytes_of).sum();
        let mut queue = self.shared.lock();
        if let Some(trouble) = &queue.trouble {
            let trouble = trouble.clone();
            drop(queue);
            return decided(Err(trouble));
        }
        queue.bytes += bytes;
        queue.proposals.push_back((commands, bytes, decided));
        drop(queue);
        self.shared.changed.notify_one();
    }

    fn waiting_bytes(&self) -> usize {
        self.shared.lock().bytes
    }

    fn trouble(&self) -> Option<StoreError> {
        self.shared.lock().trouble.clone()
    }
}

fn run(shared: &Shared, mut state: State) {
    while let Some(group) = next_group(shared) {
        let (mut commands, mut waiting, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (proposed, proposed_bytes, decided) in group {
            commands.push(proposed);
            waiting.push(decided);
            bytes += proposed_bytes;
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| state.decide(commands)))
            .unwrap_or_else(|_| Err(StoreError::Stopped("a defect, which the log names".into())));
        match outcome {
            Ok(outcomes) => {
                shared.lock().bytes -= bytes;
                for (decided, outcomes) in waiting.into_iter().zip(outcomes) {
                    decided(Ok(outcomes));
                }
            }
            Err(error) => {
                tracing::error!(error = %error, "the store has failed; nothing more is accepted");
                let stopped = StoreError::Stopped(error.to_string());
                let mut queue = shared.lock();
                queue.trouble = Some(stopped.clone());
                queue.bytes = 0;
                let rest = std::mem::take(&mut queue.proposals);
                drop(queue);
                for decided in waiting.into_iter().chain(rest.into_iter().map(|(.., decided)| decided)) {
                    decided(Err(stopped.clone()));
                }
                return;
            }
        }
    }
}

type Group = Vec<(Vec<Command>, usize, Decided)>;

/// What waits, as far as it fits one commit; nothing once the store is closed and all is decided.
fn next_group(shared: &Shared) -> Option<Group> {
    let mut queue = shared.lock();
    while queue.proposals.is_empty() {
        if queue.closed {
            return None;
        }
        queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    let (mut group, mut commands, mut bytes) = (Group::new(), 0, 0);
    while let Some((proposed, proposed_bytes, _)) = queue.proposals.front() {
        commands += proposed.len();
        bytes += proposed_bytes;
        if !group.is_empty() && (commands > GROUP_COMMANDS_MAX || bytes > GROUP_BYTES_MAX) {
            break;
        }
        group.extend(queue.proposals.pop_front());
    }
    Some(group)
}

/// About how much memory a command takes.
fn bytes_of(command: &Command) -> usize {
    use super::record::{OutputRecord, ResultHead};
    const BASE: usize = 256;
    BASE + match command {
        Command::Submit(job) => job.spec.len() + job.facts.after.len() * 16,
        Command::Complete(done) => match &done.output {
            OutputRecord::Partial(bytes) | OutputRecord::Inline(bytes) => bytes.len(),
            OutputRecord::None | OutputRecord::Spooled { .. } => 0,
        },
        Command::Conclude(end) => match &end.result {
            Some(ResultHead::Document(bytes)) => bytes.len(),
            _ => 0,
        },
        Command::AddSchedule { spec, .. } => spec.len(),
        _ => 0,
    }
}

/// Now, for records.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Where the crash tests end the process.
#[inline]
fn failpoint(_name: &str) {
    #[cfg(test)]
    super::tests::crash::reach(_name);
}
