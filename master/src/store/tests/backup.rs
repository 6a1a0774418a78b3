//! Backups and the look over a store: what is whole passes, each kind of damage is told, and a restore is all or nothing.

use super::trouble::cut_journal;
use super::*;
use crate::store::backup::{export, import};
use crate::store::kv::Writes;
use crate::store::reads::Reads;
use crate::store::record::{META_KEY, Progress, Table, encode, job_key, pair_key};
use crate::store::verify::{compact, stats, verify};
use crate::store::{Layout, StoreError};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const SPEC: &str = r#"{"kind":{"eval":{"formulas":["1"]}}}"#;
const TABLE: &[u8] = b"a,b\n1,2\n";

/// A job as a master submits it.
fn real_job(key: Option<&str>) -> NewJob {
    NewJob { spec: Bytes::from_static(SPEC.as_bytes()), ..new_job(key) }
}

/// A folder with something of everything: job 1 has its rows in a file, job 2 in the store, job 3 goes on with a partial
/// and reads an upload, job 4 waits for it, job 5 was cancelled; and a schedule.
fn full() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let data_dir = folder.path().join("data");
    let store = open(&data_dir);
    let epoch = lead(&store);
    let layout = Layout::new(&data_dir);
    let upload = blake3::hash(TABLE).to_hex().to_string();
    fs::write(layout.uploads().join(&upload), TABLE).expect("upload");
    let rows = [b"1\n".repeat(4000), b"2\n".repeat(3000)];
    fs::write(layout.results().join("1"), rows.concat()).expect("results");

    decide(&store, vec![submit(real_job(Some("first"))), submit(real_job(None))]);
    let mut reader = real_job(Some("reader"));
    reader.facts.upload = Some(upload);
    decide(&store, vec![submit(reader)]);
    let mut waiting = waiting_job(&[(3, DependencyEnd::Success)]);
    waiting.spec = Bytes::from_static(SPEC.as_bytes());
    decide(&store, vec![submit(waiting), submit(real_job(None))]);

    let mut offset = 0;
    for (shard, rows) in rows.iter().enumerate() {
        let output = OutputRecord::Spooled { offset, len: rows.len() as u64, digest: *blake3::hash(rows).as_bytes() };
        decide(&store, vec![complete(1, epoch, shard as u64, 1, output)]);
        offset += rows.len() as u64;
    }
    let rows_of = |job, state, rows| {
        let Command::Conclude(mut end) = conclude(job, epoch, state) else { unreachable!("a conclusion") };
        end.result = (state == JobState::Succeeded).then_some(ResultHead::Rows { header: Bytes::new(), rows });
        Command::Conclude(end)
    };
    decide(&store, vec![rows_of(1, JobState::Succeeded, 2)]);
    decide(&store, vec![complete(2, epoch, 0, 1, OutputRecord::Inline(Bytes::from_static(b"7\n")))]);
    decide(&store, vec![rows_of(2, JobState::Succeeded, 1)]);
    decide(&store, vec![complete(3, epoch, 0, 1, OutputRecord::Partial(Bytes::from_static(b"p")))]);
    decide(&store, vec![conclude(5, epoch, JobState::Cancelled)]);
    let spec = Bytes::from(format!(r#"{{"cron":"@daily","job":{SPEC}}}"#));
    decide(&store, vec![Command::AddSchedule { spec, key: Some(("daily".into(), [3; 32])), now_ms: 1_000 }]);
    (folder, data_dir)
}

type Everything = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// Every record but the head, and every file.
fn everything(data_dir: &Path) -> Everything {
    let opened = Opened::on_disk(data_dir).expect("opens");
    let mut all = Everything::new();
    for table in Table::ALL.into_iter().filter(|table| *table != Table::Meta) {
        let each = &mut |key: &[u8], value: &[u8]| {
            all.insert((table.name(), key.to_vec()), value.to_vec());
            Ok(true)
        };
        opened.kv().scan(table, &[], &[0xff; 300], each).expect("read");
    }
    let layout = Layout::new(data_dir);
    for (name, folder) in [("results of", layout.results()), ("uploads of", layout.uploads())] {
        for file in fs::read_dir(folder).expect("folder") {
            let path = file.expect("entry").path();
            let key = path.file_name().expect("a name").to_string_lossy().into_owned().into_bytes();
            all.insert((name, key), fs::read(path).expect("read"));
        }
    }
    all
}

/// Writes into the tables past the law.
fn tamper(data_dir: &Path, table: Table, key: &[u8], value: Option<Vec<u8>>) {
    let opened = Opened::on_disk(data_dir).expect("opens");
    opened.kv().commit(Writes::from([((table, key.to_vec()), value.map(Bytes::from))])).expect("written");
}

/// What is done to a store.
type Damage<'a> = &'a dyn Fn(&Path);

fn problems(data_dir: &Path) -> Vec<String> {
    let report = verify(data_dir, false).expect("read");
    assert_eq!(report.problem_count, report.problems.len() as u64);
    report.problems
}

#[test]
fn what_is_whole_is_counted_and_has_no_problem() {
    let (_folder, data_dir) = full();
    let report = verify(&data_dir, false).expect("read");
    assert_eq!(report.problems, [""; 0]);
    let jobs = [("cancelled", 1), ("queued", 1), ("succeeded", 2), ("waiting", 1)];
    assert_eq!(report.jobs, jobs.into());
    assert_eq!((report.schedules, report.shards, report.keys, report.uploads), (1, 4, 3, 1));
    assert_eq!((report.result_bytes, report.lost), (14_000, 0));
    assert_eq!((report.last_applied, report.epoch), (report.acknowledged, 1));
    assert_eq!(stats(&data_dir).expect("read"), report, "counting is part of it");
}

#[test]
fn each_damage_is_told() {
    let bad_results = |data_dir: &Path| {
        let path = Layout::new(data_dir).results().join("1");
        let mut bytes = fs::read(&path).expect("read");
        bytes[9_000] ^= 1;
        fs::write(path, bytes).expect("written");
    };
    let mut progress = Progress::default();
    progress.add(0, 1);
    let progress = encode(&progress);
    let damages: [(Damage<'_>, &str); 12] = [
        (&bad_results, "job 1: the results from row 1 on are damaged"),
        (
            &|dir| fs::remove_file(Layout::new(dir).results().join("1")).expect("removed"),
            "job 1: results from row 0 on: No such file",
        ),
        (
            &|dir| fs::write(Layout::new(dir).results().join("1"), b"1\n").expect("cut"),
            "job 1: results from row 0 on: failed to fill",
        ),
        (
            &|dir| {
                fs::write(Layout::new(dir).uploads().join(blake3::hash(TABLE).to_hex().as_str()), b"other")
                    .expect("written");
            },
            "is damaged",
        ),
        (
            &|dir| {
                fs::remove_file(Layout::new(dir).uploads().join(blake3::hash(TABLE).to_hex().as_str()))
                    .expect("removed");
            },
            "job 3: the upload",
        ),
        (&|dir| tamper(dir, Table::Specs, &job_key(JobId(2)), None), "job 2 has no spec"),
        (
            &|dir| tamper(dir, Table::Jobs, &job_key(JobId(2)), Some(vec![1, 99])),
            "job 2: the store is damaged, table jobs",
        ),
        (
            &|dir| tamper(dir, Table::Shards, &pair_key(JobId(2), 0), Some(vec![])),
            "job 2: the store is damaged, table shards",
        ),
        (
            &|dir| tamper(dir, Table::Shards, &pair_key(JobId(1), 1), None),
            "job 1: its result has 1 rows, and should have 2",
        ),
        (
            &|dir| tamper(dir, Table::Progress, &job_key(JobId(3)), None),
            "job 3: a recorded shard is not counted as done",
        ),
        (
            &|dir| tamper(dir, Table::Progress, &job_key(JobId(1)), Some(progress.clone())),
            "job 1 has ended, and has progress",
        ),
        (
            &|dir| tamper(dir, Table::Schedules, &1_u64.to_be_bytes(), None),
            "idempotency key \"daily\" belongs to nothing",
        ),
    ];
    for (damage, told) in damages {
        let (_folder, data_dir) = full();
        damage(&data_dir);
        let problems = problems(&data_dir);
        assert!(problems.iter().any(|problem| problem.contains(told)), "{told}: {problems:?}");
    }
}

#[test]
fn compacting_changes_nothing_that_is_there() {
    let (_folder, data_dir) = full();
    let before = everything(&data_dir);
    let done = compact(&data_dir).expect("compacted");
    assert!(done.bytes_before > 0 && done.bytes_after > 0, "{done:?}");
    assert_eq!(everything(&data_dir), before);
    assert_eq!(problems(&data_dir), [""; 0]);
}

#[test]
fn a_restored_store_has_everything_and_another_id() {
    let (folder, data_dir) = full();
    let (file, restored) = (folder.path().join("backup.tar"), folder.path().join("restored"));
    let exported = export(&data_dir, &file).expect("exported");
    assert_eq!(import(&file, &restored).expect("imported"), exported);
    assert_eq!((exported.files, everything(&restored)), (2, everything(&data_dir)));
    let (old, new) = (verify(&data_dir, false).expect("read"), verify(&restored, false).expect("read"));
    assert_ne!(old.store, new.store, "leases of the one are not leases of the other");
    assert_eq!((new.problem_count, new.last_applied, new.acknowledged), (0, old.last_applied, old.last_applied));
    assert!(matches!(export(&data_dir, &file), Err(StoreError::Exists { .. })), "nothing is overwritten");
    let left: Vec<_> =
        fs::read_dir(folder.path()).expect("folder").map(|file| file.expect("entry").file_name()).collect();
    assert_eq!(left.len(), 3, "no temporary file is left: {left:?}");
}

#[test]
fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let (folder, data_dir) = full();
    let file = folder.path().join("backup.tar");
    export(&data_dir, &file).expect("exported");
    let (bytes, before) = (fs::read(&file).expect("read"), everything(&data_dir));
    let (bad, target) = (folder.path().join("bad.tar"), folder.path().join("target"));
    let mut refused = 0;
    // Every part of it, the padding too: what matters to nobody may pass, and then nothing is missing.
    let places: Vec<usize> = (0..bytes.len()).step_by(bytes.len() / 11).collect();
    for at in &places {
        let mut damaged = bytes.clone();
        damaged[*at] ^= 0x40;
        fs::write(&bad, damaged).expect("written");
        match import(&bad, &target) {
            Ok(_) => {
                assert_eq!(everything(&target), before, "byte {at} was flipped");
                fs::remove_dir_all(&target).expect("removed");
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error, StoreError::Backup { .. }), "byte {at}: {error:?}");
                assert!(!target.exists(), "byte {at}");
            }
        }
    }
    assert!(refused * 3 > places.len(), "{refused} of {}", places.len());
    for len in (0..bytes.len() - 2048).step_by(bytes.len() / 4) {
        fs::write(&bad, &bytes[..len]).expect("cut");
        let error = import(&bad, &target).expect_err("refused");
        assert!(error.to_string().contains("nothing was imported"), "cut to {len}: {error}");
        assert!(!target.exists(), "cut to {len}");
    }
}

#[test]
fn a_folder_in_use_or_with_jobs_is_no_target() {
    let (folder, data_dir) = full();
    let file = folder.path().join("backup.tar");
    export(&data_dir, &file).expect("exported");
    let before = everything(&data_dir);
    assert!(matches!(import(&file, &data_dir), Err(StoreError::Exists { .. })));
    {
        let _master = open(&data_dir);
        assert!(matches!(import(&file, &data_dir), Err(StoreError::Locked { .. })));
        assert!(matches!(export(&data_dir, &folder.path().join("other.tar")), Err(StoreError::Locked { .. })));
        assert!(matches!(verify(&data_dir, false), Err(StoreError::Locked { .. })));
    }
    assert_eq!(everything(&data_dir), before);
    let results = folder.path().join("left").join("results");
    fs::create_dir_all(&results).expect("folder");
    fs::write(results.join("1"), b"of another store").expect("written");
    assert!(
        matches!(import(&file, &folder.path().join("left")), Err(StoreError::Exists { path, .. }) if path == results)
    );
    assert_eq!(fs::read(results.join("1")).expect("there"), b"of another store");
}

#[test]
fn what_a_killed_import_has_left_is_no_store_and_goes_with_the_next() {
    let (folder, data_dir) = full();
    let (file, target) = (folder.path().join("backup.tar"), folder.path().join("target"));
    export(&data_dir, &file).expect("exported");
    fs::create_dir_all(target.join(".import-killed").join("store")).expect("left");
    assert!(matches!(verify(&target, false), Err(StoreError::Missing { .. })));
    import(&file, &target).expect("imported");
    let mut left: Vec<_> =
        fs::read_dir(&target).expect("folder").map(|file| file.expect("entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["lock", "results", "store", "uploads"]);
}

#[test]
fn nothing_is_made_where_there_is_no_store() {
    let folder = tempfile::tempdir().expect("folder");
    let target = folder.path().join("backup.tar");
    for missing in [folder.path().to_owned(), folder.path().join("missing")] {
        assert!(matches!(stats(&missing), Err(StoreError::Missing { .. })));
        assert!(matches!(verify(&missing, true), Err(StoreError::Missing { .. })));
        assert!(matches!(compact(&missing), Err(StoreError::Missing { .. })));
        assert!(matches!(export(&missing, &target), Err(StoreError::Missing { .. })));
    }
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
}

#[test]
fn an_accepted_loss_makes_a_store_of_its_own() {
    let (folder, data_dir) = full();
    let id = stats(&data_dir).expect("read").store;
    cut_journal(&data_dir);
    let report = verify(&data_dir, false).expect("read");
    assert!(report.lost > 0 && report.problems[0].contains("--accept-loss"), "{report:?}");
    assert!(matches!(export(&data_dir, &folder.path().join("backup.tar")), Err(StoreError::Truncated { .. })));
    assert!(verify(&data_dir, false).expect("read").lost > 0, "looking accepts nothing");
    let accepted = verify(&data_dir, true).expect("read");
    assert_eq!((accepted.lost, accepted.acknowledged), (report.lost, report.last_applied));
    assert_ne!(accepted.store, id, "numbers may be given a second time");
    let opened = Opened::on_disk(&data_dir).expect("opens again");
    assert_eq!(opened.meta.id.to_string(), accepted.store);
    assert!(opened.kv().get(Table::Meta, META_KEY).expect("read").is_some());
}
