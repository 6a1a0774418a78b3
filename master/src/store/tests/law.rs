//! What commands do.

use super::*;
use crate::store::reads::Reads;
use quipu_shared::block::RowError;
use quipu_shared::ids::ScheduleId;
use quipu_shared::service::ScheduleChange;

fn memory() -> (Store, Epoch) {
    let store = start(Opened::in_memory());
    let epoch = lead(&store);
    (store, epoch)
}

fn state(store: &Store, job: u64) -> JobState {
    store.job(JobId(job)).expect("read").expect("there").state
}

#[test]
fn one_key_is_one_job_and_another_body_is_refused() {
    let (store, _) = memory();
    let mut other = new_job(Some("k"));
    other.digest = [2; 32];
    let outcomes = decide(&store, vec![submit(new_job(Some("k"))), submit(new_job(Some("k"))), submit(other)]);
    assert_eq!(outcomes, [Outcome::Accepted(JobId(1)), Outcome::Known(1), Outcome::KeyReused(1)]);
    assert_eq!(decide(&store, vec![submit(new_job(Some("k")))]), [Outcome::Known(1)], "in a later commit too");
    assert_eq!(decide(&store, vec![submit(new_job(None))]), [Outcome::Accepted(JobId(2))]);
}

#[test]
fn a_row_is_recorded_once() {
    let (store, epoch) = memory();
    decide(&store, vec![submit(new_job(None))]);
    let inline = |text: &'static str| OutputRecord::Inline(Bytes::from_static(text.as_bytes()));
    let outcomes = decide(
        &store,
        vec![
            complete(1, epoch, 10, 10, inline("b")),
            complete(1, epoch, 0, 11, inline("x")),
            complete(1, epoch, 19, 1, inline("x")),
            complete(1, epoch, 0, 10, inline("a")),
            complete(1, epoch, 0, 0, inline("x")),
        ],
    );
    assert_eq!(outcomes, [Outcome::Done, Outcome::Ignored, Outcome::Ignored, Outcome::Done, Outcome::Ignored]);
    let progress = store.progress(JobId(1)).expect("read");
    assert_eq!((progress.ranges, progress.shards, progress.next_shard), (vec![(0, 20)], 2, 11));
    assert_eq!(store.output(JobId(1), 0).expect("read"), Some(inline("a")), "the first completion stands");
}

#[test]
fn a_master_that_leads_no_more_changes_nothing() {
    let (store, old) = memory();
    decide(&store, vec![submit(new_job(None))]);
    let new = lead(&store);
    assert!(new > old);
    let from_old = vec![complete(1, old, 0, 1, OutputRecord::None), conclude(1, old, JobState::Failed)];
    assert_eq!(decide(&store, from_old), [Outcome::Stale, Outcome::Stale]);
    assert_eq!(state(&store, 1), JobState::Queued);
    assert_eq!(decide(&store, vec![conclude(1, new, JobState::Succeeded)]), [Outcome::Done]);
}

#[test]
fn an_end_is_final() {
    let (store, epoch) = memory();
    decide(&store, vec![submit(new_job(None)), conclude(1, epoch, JobState::Succeeded)]);
    let outcomes =
        decide(&store, vec![conclude(1, epoch, JobState::Failed), complete(1, epoch, 0, 1, OutputRecord::None)]);
    assert_eq!(outcomes, [Outcome::Ignored, Outcome::Ignored]);
    assert_eq!(state(&store, 1), JobState::Succeeded);
}

#[test]
fn loose_partials_are_merged_and_gone_with_the_end() {
    use quipu_shared::reduce::{ReducerSet, parse_reductions};
    let (store, epoch) = memory();
    decide(&store, vec![submit(new_job(None))]);
    let empty = ReducerSet::new(&parse_reductions("count").expect("reductions"), &[], false).expect("set").to_bytes();
    for row in 0..200 {
        let partial = OutputRecord::Partial(Bytes::from(empty.clone()));
        assert_eq!(decide(&store, vec![complete(1, epoch, row, 1, partial)]), [Outcome::Done]);
    }
    let mut kept = 0;
    let count = |store: &Store, kept: &mut i32| {
        *kept = 0;
        store
            .shards(JobId(1), &mut |_, _| {
                *kept += 1;
                true
            })
            .expect("read");
    };
    count(&store, &mut kept);
    let progress = store.progress(JobId(1)).expect("read");
    assert_eq!((progress.shards, progress.loose, kept), (200, 200 % 64, 200 % 64));
    assert_eq!(progress.partial.as_deref(), Some(&empty[..]));
    decide(&store, vec![conclude(1, epoch, JobState::Succeeded)]);
    count(&store, &mut kept);
    assert_eq!((kept, store.progress(JobId(1)).expect("read").shards), (0, 0));
    assert_eq!(store.job(JobId(1)).expect("read").expect("there").shards_done, 200);
}

#[test]
fn the_lowest_failed_rows_are_kept_whatever_their_order() {
    let (store, epoch) = memory();
    decide(&store, vec![submit(new_job(None))]);
    for row in (0..30_u64).rev() {
        let Command::Complete(mut done) = complete(1, epoch, row, 1, OutputRecord::None) else { unreachable!() };
        done.failed = 1;
        done.errors = vec![RowError { row, code: "c".into(), message: "m".into() }];
        decide(&store, vec![Command::Complete(done)]);
    }
    decide(&store, vec![conclude(1, epoch, JobState::Succeeded)]);
    let record = store.job(JobId(1)).expect("read").expect("there");
    assert_eq!(record.rows_failed, 30);
    assert_eq!(record.row_errors.iter().map(|error| error.row).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

#[test]
fn jobs_wait_for_others_and_fail_with_them() {
    let (store, epoch) = memory();
    let (success, any) = (DependencyEnd::Success, DependencyEnd::Any);
    decide(
        &store,
        vec![
            submit(new_job(None)),
            submit(new_job(None)),
            submit(waiting_job(&[(1, success), (2, any)])),
            submit(waiting_job(&[(2, success)])),
            submit(waiting_job(&[(4, success)])),
            submit(waiting_job(&[(5, any)])),
        ],
    );
    assert_eq!([3, 4, 5, 6].map(|job| state(&store, job)), [JobState::Waiting; 4]);
    decide(&store, vec![conclude(1, epoch, JobState::Succeeded)]);
    assert_eq!(state(&store, 3), JobState::Waiting);
    decide(&store, vec![conclude(2, epoch, JobState::Failed)]);
    assert_eq!(
        [3, 4, 5, 6].map(|job| state(&store, job)),
        [JobState::Queued, JobState::Failed, JobState::Failed, JobState::Queued]
    );
    let error = store.job(JobId(5)).expect("read").expect("there").error.expect("why");
    assert_eq!((error.code.as_str(), error.message.contains("job 4")), ("dependency_failed", true));
    // One that has ended decides at once, and one that is not there is refused: so there are no cycles.
    let outcomes = decide(
        &store,
        vec![
            submit(waiting_job(&[(2, success)])),
            submit(waiting_job(&[(1, success)])),
            submit(waiting_job(&[(9, any)])),
        ],
    );
    assert_eq!(outcomes, [Outcome::Accepted(JobId(7)), Outcome::Accepted(JobId(8)), Outcome::Unknown]);
    assert_eq!([7, 8].map(|job| state(&store, job)), [JobState::Failed, JobState::Queued]);
}

#[test]
fn a_long_chain_fails_link_by_link() {
    let (store, epoch) = memory();
    decide(&store, vec![submit(new_job(None))]);
    for job in 1..2_000 {
        decide(&store, vec![submit(waiting_job(&[(job, DependencyEnd::Success)]))]);
    }
    decide(&store, vec![conclude(1, epoch, JobState::Cancelled)]);
    assert_eq!(state(&store, 2_000), JobState::Failed);
    assert!(store.waited_for().expect("read").is_empty());
}

#[test]
fn too_many_dependents_are_refused() {
    let (store, _) = memory();
    decide(&store, vec![submit(new_job(None))]);
    let mut waiting = waiting_job(&[(1, DependencyEnd::Any)]);
    waiting.dependents_max = 1;
    let outcomes = decide(&store, vec![submit(waiting.clone()), submit(waiting)]);
    assert_eq!(outcomes, [Outcome::Accepted(JobId(2)), Outcome::TooManyDependents(JobId(1))]);
}

#[test]
fn a_job_runs_when_its_time_has_come() {
    let (store, epoch) = memory();
    let mut later = new_job(None);
    later.not_before_ms = Some(2_000);
    decide(&store, vec![submit(later)]);
    assert_eq!(state(&store, 1), JobState::Scheduled);
    let release = |now_ms| Command::Release { job: JobId(1), now_ms };
    assert_eq!(
        decide(&store, vec![release(1_999), release(2_000), release(2_001)]),
        [Outcome::Ignored, Outcome::Done, Outcome::Ignored]
    );
    let error = crate::store::record::ErrorRecord {
        kind: quipu_shared::service::ErrorKind::Internal,
        code: "spool_write".into(),
        message: "m".into(),
        place: None,
    };
    decide(&store, vec![complete(1, epoch, 0, 5, OutputRecord::None)]);
    decide(&store, vec![Command::Postpone { job: JobId(1), epoch, not_before_ms: 9_000, error }]);
    let record = store.job(JobId(1)).expect("read").expect("there");
    assert_eq!((record.state, record.retries), (JobState::Scheduled, 1));
    assert_eq!(store.progress(JobId(1)).expect("read").rows(), 5, "what is done stays done");
}

#[test]
fn nothing_is_left_of_a_forgotten_job() {
    let (store, epoch) = memory();
    let forget = || Command::Forget { job: JobId(1) };
    decide(
        &store,
        vec![submit(new_job(Some("k"))), complete(1, epoch, 0, 1, OutputRecord::Inline(Bytes::from_static(b"x")))],
    );
    assert_eq!(decide(&store, vec![forget()]), [Outcome::NotEnded]);
    decide(&store, vec![conclude(1, epoch, JobState::Succeeded), forget()]);
    assert_eq!(decide(&store, vec![forget()]), [Outcome::Unknown]);
    assert_eq!(
        (
            store.job(JobId(1)).expect("read"),
            store.spec(JobId(1)).expect("read"),
            store.result(JobId(1)).expect("read")
        ),
        (None, None, None)
    );
    assert_eq!(store.output(JobId(1), 0).expect("read"), None);
    assert_eq!(
        decide(&store, vec![submit(new_job(Some("k")))]),
        [Outcome::Accepted(JobId(2))],
        "no number comes twice"
    );
}

#[test]
fn a_run_of_a_schedule_is_submitted_once() {
    let (store, _) = memory();
    let add =
        || Command::AddSchedule { spec: Bytes::from_static(b"{}"), key: Some(("s".into(), [3; 32])), now_ms: 100 };
    assert_eq!(decide(&store, vec![add(), add()]), [Outcome::Scheduled(ScheduleId(1)), Outcome::Known(1)]);
    let run = |due_ms| {
        let mut job = new_job(None);
        (job.facts.schedule, job.due_ms) = (Some(ScheduleId(1)), Some(due_ms));
        submit(job)
    };
    assert_eq!(
        decide(&store, vec![run(200), run(200), run(100)]),
        [Outcome::Accepted(JobId(1)), Outcome::Ignored, Outcome::Ignored]
    );
    let skip = |up_to_ms| Command::SkipRuns { schedule: ScheduleId(1), up_to_ms, runs: 2 };
    assert_eq!(
        decide(&store, vec![skip(400), skip(300), run(300)]),
        [Outcome::Done, Outcome::Ignored, Outcome::Ignored]
    );
    let change = |change| Command::ChangeSchedule { schedule: ScheduleId(1), change };
    assert_eq!(decide(&store, vec![change(ScheduleChange::Pause), run(500)]), [Outcome::Done, Outcome::Ignored]);
    assert_eq!(
        decide(&store, vec![change(ScheduleChange::Resume), run(500)]),
        [Outcome::Done, Outcome::Accepted(JobId(2))]
    );
    let record = store.schedule(ScheduleId(1)).expect("read").expect("there");
    assert_eq!((record.runs, record.missed, record.last_job, record.last_at_ms), (2, 2, Some(JobId(2)), Some(500)));
    assert_eq!(decide(&store, vec![change(ScheduleChange::Remove), run(600)]), [Outcome::Done, Outcome::Unknown]);
}

#[test]
fn the_same_commands_give_the_same_state() {
    let bytes = |store: &Store| {
        let mut all = Vec::new();
        for table in crate::store::record::Table::ALL {
            // The store's own name is no part of what commands do.
            if table == crate::store::record::Table::Meta {
                continue;
            }
            store
                .kv()
                .scan(table, &[], &[0xff; 20], &mut |key, value| {
                    all.push((table, key.to_vec(), value.to_vec()));
                    Ok(true)
                })
                .expect("read");
        }
        all
    };
    let commands = |epoch| {
        let mut commands: Vec<Command> = (0..50).map(|n| submit(new_job(Some(&format!("k{n}"))))).collect();
        commands.extend(
            (0..50).map(|n| complete(1 + n % 7, epoch, n, 1, OutputRecord::Inline(Bytes::from(vec![n as u8])))),
        );
        commands.extend(
            (1..20).map(|n| conclude(n, epoch, if n % 3 == 0 { JobState::Failed } else { JobState::Succeeded })),
        );
        commands.extend((5..9).map(|n| Command::Forget { job: JobId(n) }));
        commands
    };
    let ((one, epoch), (other, _)) = (memory(), memory());
    decide(&one, commands(epoch));
    for command in commands(epoch) {
        decide(&other, vec![command]);
    }
    assert_eq!(bytes(&one), bytes(&other), "however they were grouped");
    let folder = tempfile::tempdir().expect("folder");
    let disk = open(folder.path());
    let epoch = lead(&disk);
    decide(&disk, commands(epoch));
    assert_eq!(bytes(&one), bytes(&disk), "wherever they are kept");
}
