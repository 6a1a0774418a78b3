//! Looks a store over: every record is read, and what hangs together is held together.

use super::files::HighWater;
use super::kv::Writes;
use super::reads::Reads;
use super::record::{
    JobRecord, KeyRecord, META_KEY, OutputRecord, Progress, ResultHead, ScheduleRecord, ShardRecord, Table,
    TokenRecord, decode, encode, last_number,
};
use super::{Layout, Opened, StoreError, Unchecked};
use bytes::Bytes;
use quipu_shared::ids::{JobId, ScheduleId};
use quipu_shared::service::JobState;
use quipu_shared::spec::{JobSpec, ScheduleSpec};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Problems that are told; more are only counted.
const PROBLEMS_MAX: usize = 100;

/// A store in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// Names the store.
    pub store: String,
    /// Form of its records.
    pub format: u8,
    /// Number of the last command.
    pub last_applied: u64,
    /// Number of the last command that was acknowledged, as far as the mark says.
    pub acknowledged: u64,
    /// Acknowledged commands that are not there any more.
    pub lost: u64,
    /// Number of the command that the last master began with.
    pub epoch: u64,
    /// Jobs by durable state.
    pub jobs: BTreeMap<&'static str, u64>,
    /// Schedules.
    pub schedules: u64,
    /// Tokens.
    pub tokens: u64,
    /// Records of shards.
    pub shards: u64,
    /// Idempotency keys.
    pub keys: u64,
    /// Bytes of the tables on the disk, journals included.
    pub table_bytes: u64,
    /// Bytes of results in files.
    pub result_bytes: u64,
    /// Uploads.
    pub uploads: u64,
    /// What is wrong; the first ones.
    pub problems: Vec<String>,
    /// How many things are wrong.
    pub problem_count: u64,
}

impl StoreReport {
    fn problem(&mut self, what: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }
}

/// Counts what is in a data folder that no master uses.
///
/// # Errors
/// Where it can't be opened or read.
pub fn stats(data_dir: &Path) -> Result<StoreReport, StoreError> {
    let Unchecked { opened, acknowledged } = Opened::existing(data_dir)?;
    count(&opened, acknowledged, data_dir, &mut |_, _| {})
}

/// Reads everything in a data folder that no master uses, results and uploads included, and says what is wrong. With
/// `accept_loss` a store that has lost acknowledged commands becomes one that has not: its own, with another id, since
/// numbers of jobs and epochs may be given a second time.
///
/// # Errors
/// Where it can't be opened or read at all.
pub fn verify(data_dir: &Path, accept_loss: bool) -> Result<StoreReport, StoreError> {
    let Unchecked { mut opened, acknowledged } = Opened::existing(data_dir)?;
    let mut jobs = BTreeMap::new();
    let mut report = count(&opened, acknowledged, data_dir, &mut |job, record| drop(jobs.insert(job, record)))?;
    if report.lost > 0 && accept_loss {
        accept(&mut opened, data_dir)?;
        report.store = opened.meta.id.to_string();
        report.acknowledged = report.last_applied;
    } else if report.lost > 0 {
        report.problem(format!(
            "the last command is {}, and {acknowledged} were acknowledged: {} are lost; restore a backup, or accept the \
             loss (--accept-loss)",
            report.last_applied, report.lost
        ));
    }
    let uploads = check_uploads(data_dir, &mut report);
    for (job, record) in &jobs {
        if job.0 > opened.meta.last_job {
            report.problem(format!("job {job} is above the last number, {}", opened.meta.last_job));
        }
        if let Some(digest) = record.fixed.upload.as_ref().filter(|digest| !uploads.contains(*digest))
            && !record.state.is_final()
        {
            report.problem(format!("job {job}: the upload {digest} that it reads is missing or damaged"));
        }
        if let Err(error) = check_job(&opened, data_dir, *job, record, &mut report) {
            report.problem(format!("job {job}: {error}"));
        }
    }
    check_tables(&opened, &jobs, &mut report)?;
    Ok(report)
}

/// Makes a store its own, and its mark what is there. The id goes first: until the mark follows, the loss is noticed.
fn accept(opened: &mut Opened, data_dir: &Path) -> Result<(), StoreError> {
    opened.meta.id = uuid::Uuid::new_v4();
    let head = Bytes::from(encode(&opened.meta));
    opened.kv().commit(Writes::from([((Table::Meta, META_KEY.to_vec()), Some(head))]))?;
    let path = Layout::new(data_dir).mark();
    HighWater::reset(&path)?;
    let (mut mark, _) = HighWater::open(path)?;
    mark.set(opened.meta.last_applied)?;
    opened.mark = Some(mark);
    Ok(())
}

/// Counts, and hands out every job that reads.
fn count(
    opened: &Opened,
    acknowledged: u64,
    data_dir: &Path,
    each: &mut dyn FnMut(JobId, JobRecord),
) -> Result<StoreReport, StoreError> {
    let mut report = StoreReport {
        store: opened.meta.id.to_string(),
        format: super::record::FORMAT_VERSION,
        last_applied: opened.meta.last_applied,
        acknowledged,
        lost: acknowledged.saturating_sub(opened.meta.last_applied),
        epoch: opened.meta.epoch,
        table_bytes: opened.disk.as_ref().map_or(Ok(0), |disk| disk.disk_bytes())?,
        ..StoreReport::default()
    };
    opened.kv().scan(Table::Jobs, &[], &[0xff; 9], &mut |key, value| {
        let job = JobId(last_number(key));
        match decode::<JobRecord>(Table::Jobs, value) {
            Ok(record) => {
                *report.jobs.entry(record.state.name()).or_default() += 1;
                each(job, record);
            }
            Err(error) => report.problem(format!("job {job}: {error}")),
        }
        Ok(true)
    })?;
    for (table, counted) in [
        (Table::Shards, &mut report.shards),
        (Table::Keys, &mut report.keys),
        (Table::Schedules, &mut report.schedules),
        (Table::Tokens, &mut report.tokens),
    ] {
        opened.kv().scan(table, &[], &[0xff; 300], &mut |_, _| {
            *counted += 1;
            Ok(true)
        })?;
    }
    let layout = Layout::new(data_dir);
    let files = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    report.result_bytes = files(&layout.results()).filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    report.uploads = files(&layout.uploads()).filter(|file| upload_digest(&file.path()).is_some()).count() as u64;
    Ok(report)
}

/// The digest that an upload's file is named by; none for other files.
fn upload_digest(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    (name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| name.to_owned())
}

/// Reads uploads; gives those that are what their names say.
fn check_uploads(data_dir: &Path, report: &mut StoreReport) -> BTreeSet<String> {
    let mut good = BTreeSet::new();
    for file in std::fs::read_dir(Layout::new(data_dir).uploads()).into_iter().flatten().flatten() {
        let Some(digest) = upload_digest(&file.path()) else { continue };
        let mut hasher = blake3::Hasher::new();
        match File::open(file.path()).and_then(|file| std::io::copy(&mut BufReader::new(file), &mut hasher)) {
            Ok(_) if hasher.finalize().to_hex().as_str() == digest => drop(good.insert(digest)),
            Ok(_) => report.problem(format!("the upload {digest} is damaged")),
            Err(error) => report.problem(format!("the upload {digest}: {error}")),
        }
    }
    good
}

fn check_job(
    opened: &Opened,
    data_dir: &Path,
    job: JobId,
    record: &JobRecord,
    report: &mut StoreReport,
) -> Result<(), StoreError> {
    match opened.spec(job)? {
        Some(json) => {
            if let Err(error) = serde_json::from_slice::<JobSpec>(&json) {
                report.problem(format!("job {job}: its spec does not read: {error}"));
            }
        }
        None => report.problem(format!("job {job} has no spec")),
    }
    let progress = opened.progress(job)?;
    if record.state.is_final() && progress != Progress::default() {
        report.problem(format!("job {job} has ended, and has progress"));
    }
    let mut shards: Vec<(u64, ShardRecord)> = Vec::new();
    opened.shards(job, &mut |first_row, shard| {
        shards.push((first_row, shard));
        true
    })?;
    let path = Layout::new(data_dir).results().join(job.to_string());
    let file = File::open(&path);
    let mut end_row = 0;
    for (first_row, shard) in &shards {
        if *first_row < end_row {
            report.problem(format!("job {job}: row {first_row} is recorded twice"));
        }
        end_row = first_row + shard.rows;
        if let OutputRecord::Spooled { offset, len, digest } = shard.output {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            let read = file
                .as_ref()
                .map_err(ToString::to_string)
                .and_then(|file| file.read_exact_at(&mut bytes, offset).map_err(|error| error.to_string()));
            match read {
                Ok(()) if *blake3::hash(&bytes).as_bytes() == digest => {}
                Ok(()) => report.problem(format!("job {job}: the results from row {first_row} on are damaged")),
                Err(error) => report.problem(format!("job {job}: results from row {first_row} on: {error}")),
            }
        }
    }
    if !record.state.is_final() {
        let loose = shards.iter().filter(|(_, shard)| matches!(shard.output, OutputRecord::Partial(_))).count();
        if loose != progress.loose as usize {
            report.problem(format!("job {job}: {loose} partials are there, and {} should be", progress.loose));
        }
        if shards.iter().any(|(first_row, shard)| !progress.overlaps(*first_row, first_row + shard.rows)) {
            report.problem(format!("job {job}: a recorded shard is not counted as done"));
        }
    }
    if record.state == JobState::Succeeded {
        match opened.result(job)? {
            None => report.problem(format!("job {job} has succeeded, and has no result")),
            Some(ResultHead::Document(_)) => {}
            Some(ResultHead::Rows { rows, .. }) => {
                let there: u64 = shards.iter().map(|(_, shard)| shard.rows).sum();
                if (there, end_row) != (rows, rows) {
                    report.problem(format!("job {job}: its result has {there} rows, and should have {rows}"));
                }
            }
        }
    }
    Ok(())
}

/// What belongs to jobs belongs to jobs that are there.
fn check_tables(
    opened: &Opened,
    jobs: &BTreeMap<JobId, JobRecord>,
    report: &mut StoreReport,
) -> Result<(), StoreError> {
    for table in [Table::Specs, Table::Progress, Table::Shards, Table::Results] {
        let mut orphans = 0_u64;
        opened.kv().scan(table, &[], &[0xff; 17], &mut |key, _| {
            let job = JobId(last_number(&key[..key.len().min(8)]));
            orphans += u64::from(!jobs.contains_key(&job));
            Ok(true)
        })?;
        if orphans > 0 {
            report.problem(format!("table {} has {orphans} records without a job", table.name()));
        }
    }
    let mut schedules = BTreeMap::new();
    opened.kv().scan(Table::Schedules, &[], &[0xff; 9], &mut |key, value| {
        let schedule = ScheduleId(last_number(key));
        match decode::<ScheduleRecord>(Table::Schedules, value) {
            Ok(record) => {
                if let Err(error) = serde_json::from_slice::<ScheduleSpec>(&record.spec) {
                    report.problem(format!("schedule {schedule}: its spec does not read: {error}"));
                }
                schedules.insert(schedule, record);
            }
            Err(error) => report.problem(format!("schedule {schedule}: {error}")),
        }
        Ok(true)
    })?;
    opened.kv().scan(Table::Tokens, &[], &[0xff; 9], &mut |key, value| {
        if let Err(error) = decode::<TokenRecord>(Table::Tokens, value) {
            report.problem(format!("token {}: {error}", last_number(key)));
        }
        Ok(true)
    })?;
    opened.kv().scan(Table::Keys, &[], &[0xff; 300], &mut |key, value| {
        let key = String::from_utf8_lossy(key).into_owned();
        match decode::<KeyRecord>(Table::Keys, value) {
            Ok(known) => {
                let owner = jobs.get(&JobId(known.id)).and_then(|record| record.fixed.idempotency_key.as_ref());
                let of_schedule =
                    schedules.get(&ScheduleId(known.id)).and_then(|record| record.idempotency_key.as_ref());
                if owner != Some(&key) && of_schedule != Some(&key) {
                    report.problem(format!("idempotency key {key:?} belongs to nothing"));
                }
            }
            Err(error) => report.problem(format!("idempotency key {key:?}: {error}")),
        }
        Ok(true)
    })
}

/// Bytes of the tables on the disk, before and after they were compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Before.
    pub bytes_before: u64,
    /// After.
    pub bytes_after: u64,
}

/// Writes the tables of a data folder that no master uses out in order, and drops what was overwritten.
///
/// # Errors
/// Where it can't be opened or written.
pub fn compact(data_dir: &Path) -> Result<Compacted, StoreError> {
    let opened = Opened::existing(data_dir)?.opened;
    let Some(disk) = &opened.disk else { return Ok(Compacted { bytes_before: 0, bytes_after: 0 }) };
    let bytes_before = disk.disk_bytes()?;
    disk.compact()?;
    Ok(Compacted { bytes_before, bytes_after: disk.disk_bytes()? })
}
