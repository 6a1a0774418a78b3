//! The process dies at a chosen point of a chosen commit, again and again, on one data folder. What it had said of
//! itself by then is held against what the next one finds.

use super::*;
use crate::store::reads::Reads;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command as Process, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// `NAME:N`: die when NAME is reached for the Nth time.
const POINT: &str = "QUIPU_TEST_FAILPOINT";
/// The data folder of a child.
const FOLDER: &str = "QUIPU_TEST_FOLDER";
const POINTS: [&str; 4] = ["store::before_apply", "store::after_apply", "store::after_commit", "store::after_mark"];

/// Dies here if that was asked for.
pub fn reach(name: &str) {
    static ASKED: OnceLock<Option<(String, AtomicI64)>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var(POINT).ok()?;
        let (name, count) = text.rsplit_once(':')?;
        Some((name.to_owned(), AtomicI64::new(count.parse().ok()?)))
    });
    if let Some((at, left)) = asked
        && at == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}

/// The child: works on a store and says what it was told is durable, until it dies.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let store = open(Path::new(&folder));
    let epoch = lead(&store);
    let last = store.meta().expect("read").map_or(0, |meta| meta.last_job);
    for n in last..last + 40 {
        let key = format!("key-{n}");
        let Outcome::Accepted(job) = decide(&store, vec![submit(new_job(Some(&key)))])[0] else {
            panic!("a new key is a new job");
        };
        say(&format!("submitted {} {key}", job.0));
        for shard in 0..3 {
            let output = OutputRecord::Inline(Bytes::from(format!("{}-{shard}", job.0)));
            let outcome = decide(&store, vec![complete(job.0, epoch, shard, 1, output)]);
            assert_eq!(outcome, [Outcome::Done]);
            say(&format!("completed {} {shard}", job.0));
        }
        if n % 2 == 0 {
            decide(&store, vec![conclude(job.0, epoch, JobState::Succeeded)]);
            say(&format!("ended {}", job.0));
        }
    }
}

#[expect(clippy::print_stdout, reason = "its parent reads it")]
fn say(line: &str) {
    use std::io::Write;
    println!("said {line}");
    std::io::stdout().flush().expect("the parent listens");
}

/// Runs a child on a folder until it dies, and gives what it said.
fn run_child(folder: &Path, point: &str) -> Vec<String> {
    let mut child = Process::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "store::tests::crash::child", "--nocapture"])
        .env(POINT, point)
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("child");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let said = lines.map_while(Result::ok).filter_map(|line| Some(line.split_once("said ")?.1.to_owned())).collect();
    assert!(!child.wait().expect("ended").success(), "{point} was reached");
    said
}

#[test]
fn what_was_said_to_be_durable_is_there_wherever_the_process_dies() {
    let folder = tempfile::tempdir().expect("folder");
    let mut said: Vec<String> = Vec::new();
    for round in 1..=12_usize {
        let point = format!("{}:{}", POINTS[round % POINTS.len()], 1 + round * 7 % 40);
        said.extend(run_child(folder.path(), &point));
        check(folder.path(), &said, &point);
    }
    assert!(said.iter().filter(|line| line.starts_with("ended")).count() >= 10, "{said:#?}");
}

fn check(folder: &Path, said: &[String], point: &str) {
    let store = open(folder);
    let mut jobs: BTreeMap<u64, JobRecord> = BTreeMap::new();
    store
        .jobs(&mut |job, record| {
            jobs.insert(job.0, record);
            true
        })
        .expect("read");
    for line in said {
        let words: Vec<&str> = line.split(' ').collect();
        let job: u64 = words[1].parse().expect("a job");
        let record = jobs.get(&job).unwrap_or_else(|| panic!("after {point}: {line}, and the job is not there"));
        match words[0] {
            "submitted" => {
                assert_eq!(record.fixed.idempotency_key.as_deref(), Some(words[2]), "after {point}: {line}");
                assert_eq!(decide(&store, vec![submit(new_job(Some(words[2])))]), [Outcome::Known(job)]);
            }
            "completed" => {
                let row = words[2].parse().expect("a row");
                let output = OutputRecord::Inline(Bytes::from(format!("{job}-{row}")));
                assert_eq!(store.output(JobId(job), row).expect("read"), Some(output), "after {point}: {line}");
            }
            _ => assert_eq!(record.state, JobState::Succeeded, "after {point}: {line}"),
        }
    }
    for (job, record) in jobs {
        let progress = store.progress(JobId(job)).expect("read");
        let done = if record.state.is_final() { record.rows_done } else { progress.rows() };
        let mut shards = 0;
        store
            .shards(JobId(job), &mut |_, _| {
                shards += 1;
                true
            })
            .expect("read");
        assert_eq!(done, shards, "after {point}: what is counted of job {job} is what is there");
    }
}
