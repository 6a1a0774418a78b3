//! A cluster inside this process: the same master and worker actors, nothing listening, nothing to configure.

use quipu_master::disk::DiskWatch;
use quipu_master::dispatcher::peers::WorkerLink;
use quipu_master::dispatcher::{DispatcherArgs, DispatcherMessage};
use quipu_master::jobs::admission::Admission;
use quipu_master::jobs::entry::JobTable;
use quipu_master::jobs::opening::{JobOpener, ResultPlace};
use quipu_master::service::{Master, MasterService};
use quipu_master::store::{Opened, StoreError};
use quipu_master::tree::MasterTree;
use quipu_shared::access::Namespace;
use quipu_shared::config::{LimitsConfig, NamespaceQuota, TierChoice};
use quipu_shared::ids::{Generation, NodeId, Role, WorkerId};
use quipu_shared::live::Live;
use quipu_shared::service::JobService;
use quipu_shared::wire::WorkerCommand;
use quipu_worker::agent::AgentMessage;
use quipu_worker::core::WorkerIdentity;
use quipu_worker::tree::{WorkerTree, WorkerTreeArgs};
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Attempts that an executor holds: one runs and one waits.
const CREDITS_PER_SLOT: u32 = 2;

/// Ended jobs that an embedded cluster remembers.
const JOBS_KEPT_MAX: usize = 1000;

/// A running embedded cluster.
pub struct Embedded {
    master: MasterTree,
    worker: WorkerTree,
    service: Arc<MasterService>,
    introducer: JoinHandle<()>,
}

/// Why an embedded cluster can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An actor could not be started.
    #[error("start the embedded cluster: {0}")]
    Spawn(#[from] ractor::SpawnErr),
    /// The job log in memory could not be made.
    #[error("start the embedded cluster: {0}")]
    Store(#[from] StoreError),
}

impl Embedded {
    /// Starts a master and a worker with this many executors; 0 means one a core.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub async fn start(slots: u32, tier: TierChoice, limits: &LimitsConfig) -> Result<Self, StartError> {
        let slots = match slots {
            0 => std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1)),
            slots => slots,
        };
        let active_max = limits.jobs_active_max;
        let limits = admission(limits, &BTreeMap::new(), true);
        let formula_limits = limits.formula.clone();
        let jobs = Arc::new(JobTable::new(u64::MAX, true));
        let table = Arc::clone(&jobs);
        let store = Opened::in_memory().start(Arc::new(move |changes, schedules| table.note(changes, schedules)))?;
        let opener = JobOpener {
            store: Arc::new(store),
            admission: Live::new(limits),
            uploads: None,
            results: ResultPlace::Memory,
        };
        let args = DispatcherArgs {
            tunables: Live::default(),
            formula_limits,
            jobs: Arc::clone(&jobs),
            nodes: Arc::default(),
            opener: opener.clone(),
            jobs_active_max: active_max,
            jobs_kept_max: JOBS_KEPT_MAX,
            catch_up_max: 0,
            shared_files: true,
            metrics: Default::default(),
        };
        let nodes = Arc::clone(&args.nodes);
        let master = MasterTree::start(args).await?;
        let boot_id = uuid::Uuid::new_v4();
        let identity = WorkerIdentity {
            node_id: NodeId::random(Role::Worker),
            generation: Generation(1),
            boot_id,
            slots,
            credits: slots * CREDITS_PER_SLOT,
            zone: "embedded".into(),
            weight: 1,
            tier,
        };
        let worker = WorkerTree::start(WorkerTreeArgs { identity, embedded: true, before_task: None }).await?;
        let introducer = tokio::spawn(introduce(master.dispatcher(), worker.agent()));
        let service = Arc::new(MasterService {
            dispatcher: master.dispatcher(),
            jobs,
            nodes,
            opener,
            tokens: Arc::default(),
            disk: DiskWatch::default(),
        });
        Ok(Self { master, worker, service, introducer })
    }

    /// The cluster as a service.
    pub fn service(&self) -> Arc<dyn JobService> {
        Arc::new(Master(Arc::clone(&self.service)))
    }

    /// Stops everything; jobs that have not ended are cancelled.
    pub async fn stop(self) {
        self.introducer.abort();
        self.master.stop().await;
        self.worker.stop().await;
    }
}

/// What is admitted under these limits.
pub fn admission(
    limits: &LimitsConfig,
    namespaces: &BTreeMap<Namespace, NamespaceQuota>,
    shared_paths: bool,
) -> Admission {
    Admission {
        formula: limits.formula.clone(),
        jobs_pending_max: limits.jobs_pending_max,
        pending_bytes_max: limits.pending_bytes_max,
        dependents_max: limits.dependents_max,
        namespaces_max: limits.namespaces_max,
        namespaces: namespaces.clone(),
        formulas_per_job_max: limits.formulas_per_job_max,
        rows_max: limits.rows_max,
        shared_paths,
    }
}

/// Connects agent and dispatcher, again after a restart of either.
async fn introduce(
    mut dispatchers: watch::Receiver<Option<ActorRef<DispatcherMessage>>>,
    mut agents: watch::Receiver<Option<ActorRef<AgentMessage>>>,
) {
    let connections = AtomicU64::new(0);
    loop {
        let both = (dispatchers.borrow_and_update().clone(), agents.borrow_and_update().clone());
        if let (Some(dispatcher), Some(agent)) = both {
            let worker = WorkerId(connections.fetch_add(1, Ordering::Relaxed) + 1);
            let link = Arc::new(LocalLink { agent: agent.clone() });
            // Either may be gone again by now; then its successor shows up in its watch.
            let _ = dispatcher.cast(DispatcherMessage::WorkerConnected(worker, link));
            let to_master = Arc::new(move |event| {
                let _ = dispatcher.cast(DispatcherMessage::WorkerSaid(worker, event));
            });
            let _ = agent.cast(AgentMessage::Connected(to_master));
        }
        let gone = tokio::select! {
            changed = dispatchers.changed() => changed.is_err(),
            changed = agents.changed() => changed.is_err(),
        };
        if gone {
            return;
        }
    }
}

/// A worker in the same process.
struct LocalLink {
    agent: ActorRef<AgentMessage>,
}

impl WorkerLink for LocalLink {
    fn send(&self, command: WorkerCommand) {
        // An agent that is gone is started again and connects anew.
        let _ = self.agent.cast(AgentMessage::Command(command));
    }

    fn close(&self) {
        let _ = self.agent.cast(AgentMessage::Disconnected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use quipu_shared::service::SubmitRequest;
    use quipu_shared::spec::{Axis, AxisValues, JobKind, JobSpec, Reduction};

    fn sweep(rows: i64) -> SubmitRequest {
        let values = AxisValues::IntRange { start: 0, stop: rows, step: 1 };
        let kind = JobKind::Sweep {
            formula: "x % 7".into(),
            name: "result".into(),
            axes: vec![Axis { name: "x".into(), values }],
        };
        let spec = JobSpec {
            kind,
            bindings: vec![],
            symbols: Default::default(),
            on_error: Default::default(),
            reductions: vec![Reduction::Count, Reduction::Sum],
            exact: false,
            format: Default::default(),
            deadline_ms: None,
            name: None,
            queue: Default::default(),
        };
        SubmitRequest { spec, traceparent: None, idempotency_key: None }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn job_survives_the_death_of_its_dispatcher_and_of_its_agent() {
        let cluster = Embedded::start(2, TierChoice::Auto, &LimitsConfig::default()).await.expect("starts");
        let service = cluster.service();
        let rows = 3_000_000;
        let job = service.submit(sweep(rows)).await.expect("accepted");
        let mut views = service.watch(job).await.expect("watched");
        while views.next().await.is_some_and(|view| view.shards.done < 2 && !view.state.is_final()) {}
        cluster.master.dispatcher().borrow().as_ref().expect("a dispatcher").get_cell().kill();
        cluster.worker.agent().borrow().as_ref().expect("an agent").get_cell().kill();
        let mut results = service.results(job).await.expect("results");
        let document = results.next().await.expect("a document").expect("no error");
        let expected = (0..rows).map(|x| x % 7).sum::<i64>();
        let expected = format!(
            "{{\"version\":1,\"rows\":{rows},\"failed\":0,\"result\":{{\"count\":{rows},\"sum\":{expected}}}}}\n"
        );
        assert_eq!(String::from_utf8_lossy(&document), expected, "every row once");
        cluster.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn jobs_that_follow_each_other_closely_are_all_served() {
        // A job was shown to a dispatcher that just served the next one before its spec was at hand: it failed with
        // `unknown_job`, one in ten.
        let cluster = Embedded::start(1, TierChoice::Auto, &LimitsConfig::default()).await.expect("starts");
        let service = cluster.service();
        for number in 0..500 {
            let job = service.submit(sweep(10)).await.expect("accepted");
            let mut results = service.results(job).await.expect("results");
            let document = results.next().await.expect("a document");
            assert!(document.is_ok(), "job {number}: {document:?}");
        }
        cluster.stop().await;
    }
}
