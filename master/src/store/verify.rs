//! Looks a store over: every record is read, and what hangs together is held together.

use super::files::HighWater;
use super::reads::Reads;
use super::record::{
    JobRecord, KeyRecord, OutputRecord, Progress, ResultHead, ShardRecord, Table, decode, last_number,
};
use super::{Layout, Opened, StoreError};
use quipu_shared::ids::JobId;
use quipu_shared::service::JobState;
use quipu_shared::spec::JobSpec;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
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
    /// Number of the command that the last master began with.
    pub epoch: u64,
    /// Jobs by durable state.
    pub jobs: BTreeMap<&'static str, u64>,
    /// Schedules.
    pub schedules: u64,
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
    let (opened, acknowledged) = existing(data_dir)?;
    let mut report = head(&opened, acknowledged)?;
    opened.jobs(None, false, &mut |_, record| {
        *report.jobs.entry(record.state.name()).or_default() += 1;
        true
    })?;
    for table in [Table::Shards, Table::Keys, Table::Schedules] {
        let mut count = 0;
        opened.kv().scan(table, &[], &[0xff; 300], false, &mut |_, _| {
            count += 1;
            Ok(true)
        })?;
        match table {
            Table::Shards => report.shards = count,
            Table::Keys => report.keys = count,
            _ => report.schedules = count,
        }
    }
    let layout = Layout::new(data_dir);
    let files = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    report.result_bytes = files(&layout.results()).filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    report.uploads = files(&layout.uploads()).count() as u64;
    Ok(report)
}

/// Reads everything in a data folder that no master uses, results included, and says what is wrong. With `accept_loss`
/// the mark of acknowledged commands is set to what is there.
///
/// # Errors
/// Where it can't be opened or read at all.
pub fn verify(data_dir: &Path, accept_loss: bool) -> Result<StoreReport, StoreError> {
    let mut report = stats(data_dir)?;
    let (mut opened, acknowledged) = existing(data_dir)?;
    if report.last_applied < acknowledged {
        if accept_loss {
            HighWater::reset(&Layout::new(data_dir).mark())?;
            (opened.mark, report.acknowledged) =
                (Some(HighWater::open(Layout::new(data_dir).mark())?.0), report.last_applied);
            opened.mark.as_mut().map_or(Ok(()), |mark| mark.set(report.last_applied))?;
        } else {
            report.problem(format!(
                "the last command is {}, and {acknowledged} were acknowledged: the difference is lost",
                report.last_applied
            ));
        }
    }
    let last_job = opened.meta.last_job;
    let mut jobs = BTreeMap::new();
    opened.kv().scan(Table::Jobs, &[], &[0xff; 9], false, &mut |key, value| {
        let job = JobId(last_number(key));
        match decode::<JobRecord>(Table::Jobs, value) {
            Ok(record) => drop(jobs.insert(job, record)),
            Err(error) => report.problem(format!("job {job}: {error}")),
        }
        Ok(true)
    })?;
    for (job, record) in &jobs {
        if job.0 > last_job {
            report.problem(format!("job {job} is above the last number, {last_job}"));
        }
        check_job(&opened, data_dir, *job, record, &mut report)?;
    }
    check_tables(&opened, &jobs, &mut report)?;
    Ok(report)
}

fn existing(data_dir: &Path) -> Result<(Opened, u64), StoreError> {
    if !Layout::new(data_dir).store().join("format").exists() {
        return Err(StoreError::io("open the store", data_dir, "there is no store in this folder"));
    }
    Opened::on_disk_unchecked(data_dir)
}

fn head(opened: &Opened, acknowledged: u64) -> Result<StoreReport, StoreError> {
    Ok(StoreReport {
        store: opened.meta.id.to_string(),
        format: super::record::FORMAT_VERSION,
        last_applied: opened.meta.last_applied,
        acknowledged,
        epoch: opened.meta.epoch,
        table_bytes: opened.disk.as_ref().map_or(Ok(0), |disk| disk.disk_bytes())?,
        ..StoreReport::default()
    })
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
        opened.kv().scan(table, &[], &[0xff; 17], false, &mut |key, _| {
            let job = JobId(last_number(&key[..key.len().min(8)]));
            orphans += u64::from(!jobs.contains_key(&job));
            Ok(true)
        })?;
        if orphans > 0 {
            report.problem(format!("table {} has {orphans} records without a job", table.name()));
        }
    }
    opened.kv().scan(Table::Keys, &[], &[0xff; 300], false, &mut |key, value| {
        let key = String::from_utf8_lossy(key).into_owned();
        match decode::<KeyRecord>(Table::Keys, value) {
            Ok(known) => {
                let owner = jobs.get(&JobId(known.id)).and_then(|record| record.fixed.idempotency_key.as_ref());
                let is_schedule = opened.schedule(quipu_shared::ids::ScheduleId(known.id))?;
                let of_schedule = is_schedule.and_then(|record| record.idempotency_key);
                if owner != Some(&key) && of_schedule.as_ref() != Some(&key) {
                    report.problem(format!("idempotency key {key:?} belongs to nothing"));
                }
            }
            Err(error) => report.problem(format!("idempotency key {key:?}: {error}")),
        }
        Ok(true)
    })
}

/// Writes the tables of a data folder that no master uses out in order, and drops what was overwritten; gives their
/// bytes before and after.
///
/// # Errors
/// Where it can't be opened or written.
pub fn compact(data_dir: &Path) -> Result<(u64, u64), StoreError> {
    let (opened, _) = existing(data_dir)?;
    let Some(disk) = &opened.disk else { return Ok((0, 0)) };
    let before = disk.disk_bytes()?;
    disk.compact()?;
    Ok((before, disk.disk_bytes()?))
}
