//! Data folders in trouble: each is refused in words that say what to do, and nothing is lost by that.

use super::*;
use crate::store::reads::Reads;
use crate::store::{Layout, StoreError};
use std::fs;

fn filled(jobs: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    lead(&store);
    for _ in 0..jobs {
        decide(&store, vec![submit(new_job(None))]);
    }
    folder
}

fn refusal(folder: &Path) -> StoreError {
    Opened::on_disk(folder).err().expect("refused")
}

#[test]
fn what_was_decided_is_there_after_a_restart() {
    let folder = filled(3);
    let store = open(folder.path());
    let mut jobs = Vec::new();
    store
        .jobs(&mut |job, record| {
            jobs.push((job.0, record.state));
            true
        })
        .expect("read");
    assert_eq!(jobs, [1, 2, 3].map(|job| (job, JobState::Queued)));
    assert_eq!(lead(&store), Epoch(5), "the number of its own command");
}

#[test]
fn a_folder_serves_one_master() {
    let folder = filled(1);
    let _first = open(folder.path());
    let second = refusal(folder.path());
    assert!(
        matches!(second, StoreError::Locked { .. }) && second.to_string().contains("in use by another master"),
        "{second}"
    );
}

#[test]
fn a_store_of_another_version_is_refused() {
    let folder = filled(1);
    fs::write(Layout::new(folder.path()).store().join("format"), "quipu store 99\n").expect("written");
    let refused = refusal(folder.path());
    assert!(
        refused.to_string().contains("has format 99") && refused.to_string().contains("quipu store export"),
        "{refused}"
    );
    fs::remove_file(Layout::new(folder.path()).store().join("format")).expect("removed");
    assert!(matches!(refusal(folder.path()), StoreError::Format { .. }));
}

fn journal(folder: &Path) -> std::path::PathBuf {
    let tables = Layout::new(folder).store().join("tables");
    let files = fs::read_dir(tables).expect("tables").map(|file| file.expect("entry").path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "jnl")).max().expect("a journal")
}

/// Where the last written byte of a journal is: it is made longer than it needs to be.
fn written_len(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// Leaves the first half of what was written.
pub(super) fn cut_journal(folder: &Path) {
    let path = journal(folder);
    let bytes = fs::read(&path).expect("read");
    fs::write(&path, &bytes[..written_len(&bytes) / 2]).expect("cut");
}

#[test]
fn a_cut_journal_is_noticed() {
    let folder = filled(20);
    cut_journal(folder.path());
    let refused = refusal(folder.path());
    let text = refused.to_string();
    assert!(matches!(refused, StoreError::Truncated { acknowledged: 21, .. }), "{refused:?}");
    assert!(text.contains("21 were acknowledged") && text.contains("--accept-loss"), "{text}");
    assert!(matches!(refusal(folder.path()), StoreError::Truncated { .. }), "and stays so until somebody decides");
}

#[test]
fn a_torn_tail_that_was_never_acknowledged_is_no_trouble() {
    let folder = filled(5);
    let path = journal(folder.path());
    let mut bytes = fs::read(&path).expect("read");
    bytes.truncate(written_len(&bytes));
    bytes.extend_from_slice(&[1, 2, 3]);
    fs::write(&path, &bytes).expect("torn");
    assert!(open(folder.path()).job(JobId(5)).expect("read").is_some());
}

#[test]
fn damage_in_the_middle_of_a_journal_is_noticed() {
    let folder = filled(20);
    let path = journal(folder.path());
    let mut bytes = fs::read(&path).expect("read");
    let middle = written_len(&bytes) / 2;
    for byte in &mut bytes[middle..middle + 40] {
        *byte ^= 0x5a;
    }
    fs::write(&path, &bytes).expect("damaged");
    let refused = refusal(folder.path());
    assert!(matches!(refused, StoreError::Truncated { .. } | StoreError::Corrupt { .. }), "{refused:?}");
}

#[test]
fn missing_files_are_noticed() {
    let folder = filled(5);
    fs::remove_dir_all(Layout::new(folder.path()).store().join("tables")).expect("removed");
    let refused = refusal(folder.path());
    assert!(
        matches!(refused, StoreError::Truncated { found: 0, acknowledged: 6, .. } | StoreError::Format { .. }),
        "{refused:?}"
    );
}

#[test]
fn many_proposals_share_one_wait_for_the_disk() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    lead(&store);
    let (sender, receiver) = std::sync::mpsc::channel();
    for n in 0..2_000_u64 {
        let sender = sender.clone();
        let answer = move |decided: Result<Vec<Outcome>, StoreError>| drop(sender.send((n, decided.expect("decided"))));
        store.propose(vec![submit(new_job(None))], Box::new(answer));
    }
    drop(sender);
    let answers: Vec<(u64, Vec<Outcome>)> = receiver.iter().collect();
    let expected: Vec<_> = (0..2_000).map(|n| (n, vec![Outcome::Accepted(JobId(n + 1))])).collect();
    assert_eq!(answers, expected, "in their order");
    assert_eq!(store.check_room().map_err(|error| error.to_string()), Ok(()));
}
