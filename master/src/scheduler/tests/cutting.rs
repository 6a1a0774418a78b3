//! How rows become shards.

use super::{Fixture, JOB, done, leases, outcome, plan};
use crate::scheduler::{Event, JobOutcome, JobPlan};
use quipu_shared::ids::JobId;
use std::time::{Duration, Instant};

#[test]
fn shards_are_cut_in_row_order_and_cover_every_row() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_234));
    let mut sent = leases(&fixture.join(1, 1, 2));
    let (mut next_row, mut ended) = (0, None);
    while !sent.is_empty() {
        let shard = sent.remove(0);
        assert_eq!(shard.first_row, next_row);
        next_row += shard.rows;
        assert!(next_row == 1_234 || shard.rows.is_multiple_of(10));
        let effects = fixture.complete(shard);
        sent.extend(leases(&effects));
        ended = outcome(&effects);
    }
    assert_eq!((next_row, ended), (1_234, Some(JobOutcome::Succeeded)));
}

#[test]
fn shard_grows_fourfold_at_most_and_then_takes_a_hundred_ms() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000_000));
    let mut sent = leases(&fixture.join(1, 1, 1))[0];
    let mut sizes = vec![];
    for _ in 0..6 {
        sizes.push(sent.rows);
        // 100 rows a millisecond.
        sent = leases(&fixture.complete_in(sent, sent.rows * 10))[0];
    }
    assert_eq!(sizes, [100, 400, 1_600, 6_400, 10_000, 10_000]);
}

#[test]
fn slower_worker_gets_smaller_shards_of_the_same_job() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_000_000));
    let fast = leases(&fixture.join(1, 1, 1))[0];
    let slow = leases(&fixture.join(2, 1, 1))[0];
    assert_eq!(leases(&fixture.complete_in(fast, 25_000))[0].rows, 400);
    assert_eq!(leases(&fixture.complete_in(slow, 500_000))[0].rows, 20);
}

#[test]
fn tail_is_spread_over_all_slots_but_not_below_twenty_ms() {
    let mut fixture = Fixture::new();
    fixture.submit(plan(1_200));
    let first = leases(&fixture.join(1, 1, 1))[0];
    fixture.join(2, 1, 1);
    // 100 and 100 rows are leased; 1 row a millisecond would want 100, and 1,000 rows over two slots allow 250.
    let second = leases(&fixture.complete_in(first, 100_000))[0];
    assert_eq!(second.rows, 100);
    let mut sizes = vec![];
    let mut sent = second;
    loop {
        let next = leases(&fixture.complete_in(sent, sent.rows * 1_000));
        let Some(&next) = next.first() else { break };
        sizes.push(next.rows);
        sent = next;
    }
    assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]), "{sizes:?}");
    // What is left at the very end may be less.
    sizes.pop();
    assert_eq!(sizes.last(), Some(&20));
}

#[test]
fn block_at_the_end_of_a_stream_waits_until_it_is_full_or_last() {
    let mut fixture = Fixture::new();
    fixture.join(1, 4, 8);
    assert_eq!(leases(&fixture.submit(JobPlan { rows_known: 15, rows_final: false, ..plan(0) })).len(), 1);
    assert_eq!(leases(&fixture.step(Event::RowsKnown { job: JOB, rows: 19, last: false })), []);
    let rest = leases(&fixture.step(Event::RowsKnown { job: JOB, rows: 23, last: true }));
    assert_eq!(rest.iter().map(|sent| (sent.first_row, sent.rows)).collect::<Vec<_>>(), [(10, 10), (20, 3)]);
}

#[test]
fn stream_does_not_end_before_its_last_row_is_known() {
    let mut fixture = Fixture::new();
    fixture.join(1, 1, 2);
    let sent = leases(&fixture.submit(JobPlan { rows_final: false, ..plan(10) }))[0];
    assert_eq!(outcome(&fixture.complete(sent)), None);
    let effects = fixture.step(Event::RowsKnown { job: JOB, rows: 10, last: true });
    assert_eq!(outcome(&effects), Some(JobOutcome::Succeeded));
}

#[test]
fn window_holds_leases_back_but_for_the_lowest_unfinished_shard() {
    let mut fixture = Fixture::new();
    fixture.join(1, 4, 8);
    let sent = leases(&fixture.submit(JobPlan { up_to_row: 5, ..plan(1_000) }));
    assert_eq!(sent.iter().map(|sent| (sent.first_row, sent.rows)).collect::<Vec<_>>(), [(0, 10)]);
    let sent = leases(&fixture.step(Event::WindowMoved { job: JOB, up_to_row: 35 }));
    assert_eq!(sent.iter().map(|sent| sent.rows).sum::<u64>(), 20);
}

#[test]
fn requeued_shard_beyond_the_window_waits() {
    let mut fixture = Fixture::new();
    fixture.join(1, 1, 2);
    let sent = leases(&fixture.submit(plan(400)));
    fixture.step(Event::WindowMoved { job: JOB, up_to_row: 10 });
    assert_eq!(leases(&fixture.panic_and_wait(sent[1])), []);
    assert_eq!(leases(&fixture.panic_and_wait(sent[0]))[0].first_row, sent[0].first_row);
}

#[test]
fn recovered_job_cuts_only_the_gaps_and_uses_no_old_id() {
    let mut fixture = Fixture::new();
    fixture.join(1, 8, 16);
    let done = done(&[(30, 50), (0, 20)], 10, None);
    let effects = fixture.step(Event::JobRecovered { job: JOB, plan: plan(95), done });
    let sent = leases(&effects);
    assert_eq!(sent.iter().map(|sent| (sent.first_row, sent.rows)).collect::<Vec<_>>(), [(20, 10), (80, 10), (90, 5)]);
    assert_eq!(sent.iter().map(|sent| sent.lease.shard.0).collect::<Vec<_>>(), [10, 11, 12]);
    assert_eq!(fixture.core.job_rows(JOB), Some((70, 95)));
}

#[test]
fn recovered_job_with_every_row_done_ends_at_once() {
    let mut fixture = Fixture::new();
    let done = done(&[(0, 10)], 1, None);
    let effects = fixture.step(Event::JobRecovered { job: JOB, plan: plan(10), done });
    assert_eq!(outcome(&effects), Some(JobOutcome::Succeeded));
}

#[test]
fn hundred_thousand_outstanding_shards_do_not_slow_a_step() {
    let mut fixture = Fixture::new();
    fixture.submit(JobPlan { granule: 1, initial_rows: 1, ..plan(100_000) });
    fixture.step(Event::JobSubmitted { job: JobId(2), plan: plan(100_000) });
    let sent = leases(&fixture.join(1, 100_000, 200_000));
    assert!(sent.len() > 100_000);
    let begun_at = Instant::now();
    for &sent in &sent {
        fixture.progress(sent);
    }
    fixture.lose(1);
    let again = leases(&fixture.join(2, 100_000, 200_000));
    assert_eq!(again.len(), sent.len());
    for &sent in again.iter().rev() {
        fixture.complete(sent);
    }
    assert_eq!(fixture.core.job_counts(JOB), None);
    // Some 300,000 steps take about a second here; were a step linear in what is outstanding, they would take hours.
    assert!(begun_at.elapsed() < Duration::from_secs(60), "{:?}", begun_at.elapsed());
}
