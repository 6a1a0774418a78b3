use super::*;
use quipu_shared::formula::FormulaLimits;
use quipu_shared::ids::{AttemptId, Role, ShardId};
use quipu_shared::spec::{JobKind, JobSpec};
use quipu_shared::wire::{Payload, ShardOutput};

mod adopting;

const EPOCH: Epoch = Epoch(3);

fn lease(shard: u64) -> Lease {
    Lease { epoch: EPOCH, job: JobId(1), shard: ShardId(shard), attempt: AttemptId(shard) }
}

fn spec() -> Arc<JobSpec> {
    Arc::new(JobSpec {
        kind: JobKind::Eval { formulas: vec![] },
        bindings: vec![],
        symbols: Default::default(),
        on_error: Default::default(),
        reductions: vec![],
        exact: false,
        format: Default::default(),
        deadline_ms: None,
        name: None,
        queue: Default::default(),
    })
}

/// A core and what it has asked for.
struct Bench {
    core: WorkerCore,
    sent: Vec<WorkerEvent>,
    executed: Vec<(Slot, Task)>,
    left: bool,
}

impl Bench {
    /// Connected, welcomed, job 1 open, every executor ready.
    fn new(slots: u32, credits: u32) -> Self {
        let identity = WorkerIdentity {
            node_id: NodeId::random(Role::Worker),
            generation: Generation(1),
            boot_id: uuid::Uuid::nil(),
            slots,
            credits,
            zone: String::new(),
            weight: 1,
            tier: Default::default(),
        };
        let mut bench = Self { core: WorkerCore::new(identity, false), sent: vec![], executed: vec![], left: false };
        for slot in 0..slots as usize {
            bench.step(Event::ExecutorReady(slot));
        }
        bench.step(Event::Connected);
        assert!(matches!(bench.sent.pop(), Some(WorkerEvent::Joined(_))));
        bench.command(WorkerCommand::Welcome { epoch: EPOCH, lease_ttl_ms: 1000, store: uuid::Uuid::nil() });
        let limits = FormulaLimits::default();
        bench.command(WorkerCommand::OpenJob { job: JobId(1), spec: spec(), limits, traceparent: None });
        bench
    }

    fn step(&mut self, event: Event) {
        let mut effects = vec![];
        self.core.step(Instant::now(), event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Send(event) => self.sent.push(event),
                Effect::Execute { slot, task } => self.executed.push((slot, task)),
                Effect::Leave => self.left = true,
            }
        }
    }

    fn command(&mut self, command: WorkerCommand) {
        self.step(Event::Commanded(command));
    }

    fn lease(&mut self, shard: u64, input: ShardInput) {
        self.command(WorkerCommand::LeaseShard {
            lease: lease(shard),
            first_row: 0,
            rows: 1,
            input,
            deadline_ms: None,
            trace: None,
        });
    }

    fn finish(&mut self, slot: Slot, shard: u64, bytes: &[u8]) {
        let output =
            RawOutput { tier: EvalTier::Jit, rows: 1, failed: 0, errors: vec![], bytes: Bytes::copy_from_slice(bytes) };
        self.step(Event::AttemptFinished { slot, lease: lease(shard), busy_us: 7, result: Ok(output) });
    }

    fn sent(&mut self) -> Vec<WorkerEvent> {
        std::mem::take(&mut self.sent)
    }

    fn executed_shards(&self) -> Vec<(Slot, u64)> {
        self.executed.iter().map(|(slot, task)| (*slot, task.lease.shard.0)).collect()
    }
}

fn is_completed(event: &WorkerEvent, shard: u64) -> bool {
    matches!(event, WorkerEvent::ShardCompleted { lease: done, .. } if *done == lease(shard))
}

#[test]
fn leases_run_as_slots_are_free_and_no_more_than_credits() {
    let mut bench = Bench::new(1, 2);
    for shard in 0..3 {
        bench.lease(shard, ShardInput::Generated);
    }
    assert_eq!(bench.executed_shards(), [(0, 0)]);
    let sent = bench.sent();
    assert_eq!(sent[..2], [WorkerEvent::ShardAccepted(lease(0)), WorkerEvent::ShardAccepted(lease(1))]);
    assert!(matches!(&sent[2], WorkerEvent::ShardRejected { lease: third, .. } if *third == lease(2)), "{sent:?}");
    bench.finish(0, 0, b"x");
    assert_eq!(bench.executed_shards(), [(0, 0), (0, 1)]);
}

#[test]
fn lease_of_another_epoch_is_refused() {
    let mut bench = Bench::new(1, 2);
    let stale = Lease { epoch: Epoch(2), ..lease(0) };
    let input = ShardInput::Generated;
    bench.command(WorkerCommand::LeaseShard {
        lease: stale,
        first_row: 0,
        rows: 1,
        input,
        deadline_ms: None,
        trace: None,
    });
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardRejected { lease, .. }] if *lease == stale));
    assert!(bench.executed.is_empty());
}

#[test]
fn output_is_kept_until_acknowledged_and_offered_again_after_a_reconnect() {
    let mut bench = Bench::new(1, 2);
    bench.lease(0, ShardInput::Generated);
    bench.finish(0, 0, b"x");
    assert!(is_completed(&bench.sent()[1], 0));
    bench.step(Event::Disconnected);
    bench.step(Event::Connected);
    match &bench.sent()[..] {
        [WorkerEvent::Joined(hello)] => {
            assert_eq!(hello.held.iter().map(|held| held.lease).collect::<Vec<_>>(), [lease(0)]);
        }
        other => panic!("{other:?}"),
    }
    bench.command(WorkerCommand::Welcome { epoch: EPOCH, lease_ttl_ms: 1000, store: uuid::Uuid::nil() });
    assert!(is_completed(&bench.sent()[0], 0));
    bench.command(WorkerCommand::AcknowledgeShard { lease: lease(0) });
    bench.step(Event::Disconnected);
    bench.step(Event::Connected);
    bench.sent();
    bench.command(WorkerCommand::Welcome { epoch: EPOCH, lease_ttl_ms: 1000, store: uuid::Uuid::nil() });
    assert_eq!(bench.sent(), []);
}

#[test]
fn output_that_nobody_acknowledges_is_offered_again_after_a_while() {
    let mut bench = Bench::new(1, 2);
    bench.lease(0, ShardInput::Generated);
    bench.finish(0, 0, b"x");
    bench.sent();
    for _ in 1..PERIODS_UNANSWERED_MAX {
        bench.step(Event::ProgressDue);
        assert_eq!(bench.sent(), []);
    }
    bench.step(Event::ProgressDue);
    assert!(is_completed(&bench.sent()[0], 0));
}

#[test]
fn large_output_is_pulled_in_chunks() {
    let mut bench = Bench::new(1, 2);
    bench.lease(0, ShardInput::Generated);
    let bytes = vec![9; INLINE_BYTES_MAX + 5];
    bench.finish(0, 0, &bytes);
    match &bench.sent()[1] {
        WorkerEvent::ShardCompleted { output: ShardOutput { payload: Payload::Ready { len, digest }, .. }, .. } => {
            assert_eq!((*len, *digest), (bytes.len() as u64, *blake3::hash(&bytes).as_bytes()));
        }
        other => panic!("{other:?}"),
    }
    for (offset, expected) in
        [(0, CHUNK_BYTES), (CHUNK_BYTES, bytes.len() - CHUNK_BYTES), (bytes.len(), 0), (usize::MAX, 0)]
    {
        bench.command(WorkerCommand::FetchOutput { lease: lease(0), offset: offset as u64 });
        match bench.sent().pop() {
            Some(WorkerEvent::OutputDelivered { bytes, .. }) => assert_eq!(bytes.len(), expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn input_is_pulled_two_chunks_ahead_and_then_runs() {
    let mut bench = Bench::new(1, 2);
    let chunk = CHUNK_BYTES as u64;
    let len = 2 * chunk + 1;
    bench.lease(0, ShardInput::Pulled { len });
    let wanted = |offset| WorkerEvent::InputWanted { lease: lease(0), offset };
    assert_eq!(bench.sent(), [WorkerEvent::ShardAccepted(lease(0)), wanted(0), wanted(chunk)]);
    assert!(bench.executed.is_empty());
    let deliver = |offset: u64, size: u64| WorkerCommand::DeliverInput {
        lease: lease(0),
        offset,
        bytes: vec![1; size as usize].into(),
    };
    bench.command(deliver(0, chunk));
    assert_eq!(bench.sent(), [wanted(2 * chunk)]);
    bench.command(deliver(chunk, chunk));
    bench.command(deliver(2 * chunk, 1));
    match &bench.executed[0].1.input {
        TaskInput::Records(bytes) => assert_eq!(bytes.len() as u64, len),
        other => panic!("{other:?}"),
    }
}

#[test]
fn chunks_of_input_may_overtake_each_other() {
    let mut bench = Bench::new(1, 2);
    let chunk = CHUNK_BYTES;
    bench.lease(0, ShardInput::Pulled { len: 2 * chunk as u64 });
    let mut deliver = |offset: usize, byte: u8| {
        let bytes = vec![byte; chunk].into();
        bench.command(WorkerCommand::DeliverInput { lease: lease(0), offset: offset as u64, bytes });
    };
    deliver(chunk, 2);
    deliver(0, 1);
    match &bench.executed[0].1.input {
        TaskInput::Records(bytes) => assert_eq!(bytes[..], [vec![1; chunk], vec![2; chunk]].concat()[..]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn input_that_does_not_arrive_fails_the_attempt() {
    let mut bench = Bench::new(1, 2);
    bench.lease(0, ShardInput::Pulled { len: 10 });
    bench.sent();
    bench.command(WorkerCommand::DeliverInput { lease: lease(0), offset: 0, bytes: Bytes::new() });
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardFailed { lease: failed, .. }] if *failed == lease(0)));
    bench.lease(1, ShardInput::Pulled { len: SHARD_INPUT_BYTES_MAX + 1 });
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardAccepted(_), WorkerEvent::ShardFailed { .. }]));
}

#[test]
fn dead_executor_fails_its_attempt_and_its_slot_is_used_again() {
    let mut bench = Bench::new(1, 2);
    bench.lease(0, ShardInput::Generated);
    bench.sent();
    bench.step(Event::ExecutorReady(0));
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardFailed { lease: failed, .. }] if *failed == lease(0)));
    bench.lease(1, ShardInput::Generated);
    assert_eq!(bench.executed_shards(), [(0, 0), (0, 1)]);
}

#[test]
fn every_held_lease_is_renewed() {
    let mut bench = Bench::new(1, 2);
    bench.lease(0, ShardInput::Generated);
    bench.lease(1, ShardInput::Generated);
    bench.sent();
    bench.executed[0].1.control.add_rows(5);
    bench.step(Event::ProgressDue);
    assert_eq!(
        bench.sent(),
        [
            WorkerEvent::ShardProgressed { lease: lease(0), rows_done: 5 },
            WorkerEvent::ShardProgressed { lease: lease(1), rows_done: 0 },
        ]
    );
}

#[test]
fn cancelled_attempts_are_answered_wherever_they_are() {
    let mut bench = Bench::new(1, 2);
    bench.lease(0, ShardInput::Generated);
    bench.lease(1, ShardInput::Generated);
    bench.sent();
    bench.command(WorkerCommand::CancelAttempt { lease: lease(1) });
    bench.command(WorkerCommand::CancelAttempt { lease: lease(5) });
    let rejected = bench.sent();
    assert_eq!(rejected.len(), 2);
    bench.command(WorkerCommand::CancelAttempt { lease: lease(0) });
    assert!(bench.executed[0].1.control.is_cancelled());
    assert_eq!(bench.sent(), [], "the executor has not stopped yet");
    bench.step(Event::AttemptFinished { slot: 0, lease: lease(0), busy_us: 1, result: Err("cancelled".into()) });
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardRejected { .. }]));
}

#[test]
fn draining_hands_back_the_queue_finishes_what_runs_and_leaves_when_acknowledged() {
    let mut bench = Bench::new(1, 2);
    bench.lease(0, ShardInput::Generated);
    bench.lease(1, ShardInput::Generated);
    bench.sent();
    bench.command(WorkerCommand::DrainWorker);
    assert_eq!(bench.sent(), [WorkerEvent::DrainStarted { returned: vec![lease(1)] }]);
    bench.lease(2, ShardInput::Generated);
    assert!(matches!(&bench.sent()[..], [WorkerEvent::ShardRejected { .. }]));
    bench.finish(0, 0, b"x");
    assert!(is_completed(&bench.sent()[0], 0));
    assert!(!bench.left);
    bench.command(WorkerCommand::AcknowledgeShard { lease: lease(0) });
    assert_eq!(bench.sent(), []);
    assert!(bench.left);
}

#[test]
fn idle_worker_leaves_at_once_even_without_a_master() {
    let mut bench = Bench::new(1, 2);
    bench.step(Event::Disconnected);
    bench.step(Event::DrainRequested);
    assert!(bench.left);
}

#[test]
fn closing_a_job_drops_what_is_held_of_it() {
    let mut bench = Bench::new(1, 3);
    bench.lease(0, ShardInput::Generated);
    bench.finish(0, 0, b"x");
    bench.lease(1, ShardInput::Generated);
    bench.lease(2, ShardInput::Generated);
    bench.sent();
    bench.command(WorkerCommand::CloseJob { job: JobId(1) });
    assert!(bench.executed[1].1.control.is_cancelled());
    assert_eq!(bench.sent().len(), 1, "the queued one is answered");
    assert!(bench.core.outputs.is_empty());
}
