//! Makes what the master needs in memory to serve a job, from what is stored of it.

use crate::input::table_index::TableIndex;
use crate::input::uploads::Uploads;
use crate::jobs::admission::{Admission, Admitted};
use crate::jobs::entry::{JobEntry, Recorded};
use crate::jobs::results::{DiskPlace, ResultLog};
use crate::store::command::NewJob;
use crate::store::reads::Reads;
use crate::store::record::{JobFacts, OutputRecord};
use crate::store::sequencer::unix_ms;
use crate::store::{Store, StoreError};
use bytes::Bytes;
use quipu_shared::ids::JobId;
use quipu_shared::live::Live;
use quipu_shared::reduce::ReducerSet;
use quipu_shared::service::{ErrorKind, ServiceError};
use quipu_shared::spec::{JobKind, JobSpec, TableInput};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where results wait for their readers.
#[derive(Clone, Debug)]
pub enum ResultPlace {
    /// In memory, for one reader: an embedded master, whose client is in the same process.
    Memory,
    /// In the store, and in a folder that exists.
    Disk {
        /// The folder.
        folder: PathBuf,
        /// Largest results of one job.
        job_bytes_max: u64,
    },
}

/// What jobs are opened with.
#[derive(Clone)]
pub struct JobOpener {
    /// The job log.
    pub store: Arc<Store>,
    /// What is admitted.
    pub admission: Live<Admission>,
    /// Where uploads are kept; an embedded master takes none.
    pub uploads: Option<Arc<Uploads>>,
    /// Where results wait.
    pub results: ResultPlace,
}

impl JobOpener {
    /// Opens a job; `admitted` where that is at hand. Blocks on the disk.
    ///
    /// # Errors
    /// Why it can't be served: its table is gone, or it is over a limit that was lowered.
    pub fn open(
        &self,
        job: JobId,
        admitted: Option<Admitted>,
        on_taken: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<JobEntry, ServiceError> {
        let record = self.store.job(job).map_err(store_error)?.ok_or_else(|| gone(job))?;
        let admitted = match admitted {
            Some(admitted) => admitted,
            None => self.admission.get().admit(&self.spec(job)?)?,
        };
        let recorded = self.recorded(job, &admitted)?;
        let index = match &admitted.spec.kind {
            JobKind::Map { input, schema, .. } => {
                Some(Arc::new(TableIndex::new(self.table_path(input)?, schema.clone())))
            }
            _ => None,
        };
        let header = Bytes::from(admitted.header.clone());
        let results = match self.place(job) {
            Some(place) => ResultLog::on_disk(header, place, recorded.progress.spooled_bytes).map_err(store_error)?,
            None => ResultLog::in_memory(header, on_taken),
        };
        let age = Duration::from_millis(unix_ms().saturating_sub(record.fixed.submitted_at_ms));
        Ok(JobEntry::new(job, &record, age, admitted, recorded, Arc::new(results), index))
    }

    /// A stored spec.
    ///
    /// # Errors
    /// Where it is not there or can't be read.
    pub fn spec(&self, job: JobId) -> Result<JobSpec, ServiceError> {
        let json = self.store.spec(job).map_err(store_error)?.ok_or_else(|| gone(job))?;
        serde_json::from_slice(&json)
            .map_err(|cause| error(ErrorKind::Internal, "bad_spec", format!("read the spec of job {job}: {cause}")))
    }

    /// What is recorded of a job's rows.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn recorded(&self, job: JobId, admitted: &Admitted) -> Result<Recorded, ServiceError> {
        let progress = self.store.progress(job).map_err(store_error)?;
        let mut reducers = admitted.reducers.clone();
        if let Some(merged) = &mut reducers
            && progress.shards > 0
        {
            let mut partials: Vec<Bytes> = progress.partial.iter().cloned().collect();
            let loose = self.store.shards(job, &mut |_, shard| {
                if let OutputRecord::Partial(bytes) = shard.output {
                    partials.push(bytes);
                }
                true
            });
            loose.map_err(store_error)?;
            for bytes in partials {
                ReducerSet::from_bytes(&bytes).and_then(|partial| merged.merge(partial)).map_err(|cause| {
                    error(ErrorKind::Internal, "bad_partial", format!("read the partials of job {job}: {cause}"))
                })?;
            }
        }
        Ok(Recorded { progress, reducers })
    }

    /// Where the results of a job are on the disk.
    pub fn place(&self, job: JobId) -> Option<DiskPlace> {
        match &self.results {
            ResultPlace::Memory => None,
            ResultPlace::Disk { folder, job_bytes_max } => Some(DiskPlace {
                store: Arc::clone(&self.store),
                job,
                path: folder.join(job.to_string()),
                bytes_max: *job_bytes_max,
            }),
        }
    }

    /// Removes the file of a job's results, where there is one.
    pub fn remove_results(&self, job: JobId) {
        let Some(place) = self.place(job) else { return };
        match std::fs::remove_file(&place.path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(job_id = %job, error = %cause, path = %place.path.display(), "remove results");
            }
            _ => {}
        }
    }

    /// The file of a table, where it is one that this master may read.
    ///
    /// # Errors
    /// Where there is no such upload.
    pub fn table_path(&self, input: &TableInput) -> Result<PathBuf, ServiceError> {
        match (input, &self.uploads) {
            (TableInput::Shared { path }, _) => Ok(PathBuf::from(path)),
            (TableInput::Uploaded { digest }, Some(uploads)) => uploads.path(digest).ok_or_else(|| {
                error(
                    ErrorKind::NotFound,
                    "unknown_upload",
                    format!("there is no upload {digest:.80}; upload the table first"),
                )
            }),
            (TableInput::Uploaded { .. }, None) => Err(no_uploads()),
        }
    }
}

/// A job that is accepted now, as the store gets it.
///
/// # Errors
/// Where the spec can't be written as JSON.
pub fn new_job(spec: &JobSpec, admitted: &Admitted, now_ms: u64, dependents_max: u32) -> Result<NewJob, ServiceError> {
    let json = serde_json::to_vec(spec)
        .map_err(|cause| error(ErrorKind::Internal, "bad_spec", format!("write the job's spec: {cause}")))?;
    let facts = JobFacts {
        kind: spec.kind.name().to_owned(),
        name: spec.name.clone(),
        namespace: spec.queue.namespace.clone(),
        format: spec.result_format(),
        submitted_at_ms: now_ms,
        deadline_at_ms: spec.deadline_ms.map(|ms| now_ms.saturating_add(ms)),
        traceparent: None,
        labels: spec.queue.labels.clone(),
        priority: spec.queue.priority,
        after: spec.queue.after.clone(),
        retries_max: spec.queue.retries,
        retention_ms: spec.queue.retention_ms,
        idempotency_key: None,
        spec_bytes: json.len() as u64,
        rows_total: admitted.plan.rows_final.then_some(admitted.plan.rows_known),
        upload: match &spec.kind {
            JobKind::Map { input: TableInput::Uploaded { digest }, .. } => Some(digest.clone()),
            _ => None,
        },
        retry_of: None,
        schedule: None,
    };
    let digest = *blake3::hash(&json).as_bytes();
    let not_before_ms = spec.queue.not_before_ms;
    Ok(NewJob { facts, not_before_ms, spec: json.into(), digest, due_ms: None, dependents_max })
}

/// Trouble with the store as clients see it.
pub fn store_error(cause: StoreError) -> ServiceError {
    match cause {
        StoreError::Busy { .. } => error(ErrorKind::Busy, "store_busy", cause.to_string()),
        StoreError::Stopped(_) => error(ErrorKind::Internal, "store_stopped", cause.to_string()),
        cause => error(ErrorKind::Internal, "store", cause.to_string()),
    }
}

/// There is no such job (any more).
pub fn gone(job: JobId) -> ServiceError {
    let message = format!("there is no job {job}; `quipu job list` shows those there are");
    error(ErrorKind::NotFound, "unknown_job", message)
}

/// An embedded cluster has no place for uploads.
pub fn no_uploads() -> ServiceError {
    error(ErrorKind::Usage, "no_uploads", "an embedded cluster reads files itself and takes no uploads".into())
}

/// An error of the service; those that pass by themselves say when to try again.
pub fn error(kind: ErrorKind, code: &str, message: String) -> ServiceError {
    let retry_after_s = (kind == ErrorKind::Busy).then_some(1);
    ServiceError { kind, code: code.into(), message, place: None, retry_after_s }
}
