//! What clients saw, in the order in which they saw it.

use quipu_shared::service::{JobState, JobView};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A place in a history: the number of events before.
pub type Moment = usize;

/// A job as an answer showed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// Its name, which is the key that it was submitted with.
    pub key: String,
    /// Where it stands.
    pub state: JobState,
    /// Code of its error.
    pub code: Option<String>,
    /// Its failed rows.
    pub failed: FailedRows,
}

/// What is told of the rows of a job that failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FailedRows {
    /// How many there are.
    pub count: u64,
    /// The first.
    pub first: Option<u64>,
    /// Of all rows, codes and messages that are told.
    pub digest: u64,
}

impl FailedRows {
    /// What an answer tells.
    pub fn of(view: &JobView) -> Self {
        let mut hasher = DefaultHasher::new();
        for error in &view.row_errors {
            (error.row, &error.code, &error.message).hash(&mut hasher);
        }
        Self { count: view.rows_failed, first: view.row_errors.first().map(|error| error.row), digest: hasher.finish() }
    }
}

/// One thing that a client did or saw. `asked` is the moment before the request was sent: an answer may be older than
/// what others have written down meanwhile, but not older than that.
#[derive(Clone, Debug)]
pub enum Event {
    /// A key was chosen and its job sent for the first time.
    Submitted { key: String },
    /// The master has taken the job.
    Acknowledged { key: String, id: u64 },
    /// A job was there.
    Seen { asked: Moment, id: u64, sight: Sight },
    /// A job was not there.
    Missing { asked: Moment, id: u64 },
    /// These jobs were in a list of all.
    Listed { asked: Moment, ids: BTreeSet<u64> },
    /// A whole result.
    Result { id: u64, bytes: Arc<[u8]> },
    /// The master was killed.
    MasterKilled,
    /// An answer that no fault explains.
    Odd { what: String },
}

/// Writes events down, for any number of threads.
#[derive(Default)]
pub struct Recorder {
    events: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    events: Vec<Event>,
    /// Every result once, so that ten thousand equal ones cost one.
    results: BTreeSet<Arc<[u8]>>,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The moment to ask at.
    pub fn now(&self) -> Moment {
        self.lock().events.len()
    }

    /// Writes an event down.
    pub fn record(&self, event: Event) {
        self.lock().events.push(event);
    }

    /// Writes a result down.
    pub fn record_result(&self, id: u64, bytes: &[u8]) {
        let mut recorded = self.lock();
        let bytes = recorded.results.get(bytes).cloned().unwrap_or_else(|| bytes.into());
        recorded.results.insert(Arc::clone(&bytes));
        recorded.events.push(Event::Result { id, bytes });
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }
}
