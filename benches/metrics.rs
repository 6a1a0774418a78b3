//! What counting costs where work is done, and what a scrape costs: `cargo bench --bench metrics`. Figures are printed and
//! never fail anything.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use bytes::Bytes;
use quipu_master::metrics::{Exposition, Metrics, StoreMetrics};
use quipu_master::scheduler::AttemptCounts;
use quipu_shared::wire::{EvalTier, Payload, ShardOutput};
use std::hint::black_box;
use std::time::{Duration, Instant};

const TIMES: u32 = 2_000_000;
const THREADS: usize = 2;

/// Nanoseconds of one call, the best of five runs.
fn ns(times: u32, call: impl Fn(u32)) -> f64 {
    let run = || {
        let begun = Instant::now();
        (0..times).for_each(&call);
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(times)
    };
    (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return; // Built and listed along with tests.
    }
    let metrics = Metrics::default();
    let output = ShardOutput {
        tier: EvalTier::Jit,
        rows: 4_096,
        failed: 0,
        errors: Vec::new(),
        payload: Payload::Inline(Bytes::new()),
    };
    let counts = |granted: u64| AttemptCounts { granted, completed: granted, ..AttemptCounts::default() };

    // Everything that the dispatcher counts for one shard, from its lease to its record.
    let shard = ns(TIMES, |at| {
        let (before, leased) = (counts(at.into()), counts(u64::from(at) + 1));
        metrics.dispatch.attempts(&before, &leased);
        metrics.dispatch.attempts(black_box(&leased), &counts(u64::from(at) + 2));
        metrics.dispatch.round_trip.observe_time(Duration::from_micros(at.into()));
        metrics.dispatch.executed(black_box(&output), at.into());
        metrics.dispatch.shards_completed.inc();
        metrics.dispatch.rows.inc_by(output.rows);
        metrics.dispatch.rows_failed.inc_by(output.failed);
    });
    println!("metrics/shard/1            {shard:>8.1} ns");

    let request = |at: u32| {
        let _open = metrics.http.request();
        metrics.http.answered("/v1/jobs/{job}", "GET", 200, Duration::from_nanos(u64::from(at) * 7));
    };
    println!("metrics/request/1          {:>8.1} ns", ns(TIMES, request));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..TIMES).for_each(request));
        }
    });
    let shared = begun.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES);
    println!("metrics/request/{THREADS}-threads  {shared:>8.1} ns");

    let store = StoreMetrics::default();
    let commit = ns(TIMES, |at| {
        store.commit.observe(u64::from(at) * 100);
        store.commit_commands.observe(at.into());
    });
    println!("metrics/commit/1           {commit:>8.1} ns");

    for route in 0..40 {
        for status in [200, 400, 401, 404, 429] {
            metrics.http.answered(&format!("/v1/route-{route}"), "GET", status, Duration::from_millis(1));
        }
    }
    for (name, exposition) in [("openmetrics", Exposition::OpenMetrics), ("prometheus", Exposition::Prometheus)] {
        let bytes = metrics.encode(exposition).map_or(0, |text| text.len());
        let scrape = ns(200, |_| drop(black_box(metrics.encode(exposition))));
        println!("metrics/scrape/{name:<12} {:>7.0} us, {bytes} bytes", scrape / 1e3);
    }
}
