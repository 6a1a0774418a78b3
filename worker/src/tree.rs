//! The supervision tree of a worker.
//!
//! ```text
//! supervisor (one for one, 20 restarts in 10 s)
//!  |- agent                the only one that talks to the master
//!  |- executor 0           its own OS thread
//!  `- executor N-1
//! ```
//! An executor that is started again reports to the agent; an agent that is started again is made known to the
//! executors and, through [`WorkerTree::agent`], to whoever keeps the connection to the master.

use crate::agent::{Agent, AgentArgs, AgentMessage};
use crate::core::WorkerIdentity;
use crate::executor::{BeforeTask, Executor, ExecutorArgs, ExecutorMessage};
use futures_util::FutureExt;
use quipu_shared::supervise::{ChildSpec, RestartIntensity, Supervisor, SupervisorArgs, SupervisorMessage, shut_down};
use ractor::thread_local::{ThreadLocalActor, ThreadLocalActorSpawner};
use ractor::{Actor, ActorRef, SpawnErr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long children may take to stop: a block of the slowest formula.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a worker's tree starts with.
pub struct WorkerTreeArgs {
    /// Who this worker is.
    pub identity: WorkerIdentity,
    /// Whether the master is in this process.
    pub embedded: bool,
    /// Called with each task before it runs; tests use it to panic.
    pub before_task: Option<BeforeTask>,
}

/// A running worker.
pub struct WorkerTree {
    supervisor: ActorRef<SupervisorMessage>,
    agent: watch::Receiver<Option<ActorRef<AgentMessage>>>,
    left: watch::Receiver<bool>,
}

/// The executors that live now, by slot.
type Executors = Arc<Mutex<Vec<Option<ActorRef<ExecutorMessage>>>>>;

impl WorkerTree {
    /// Starts supervisor, agent and executors.
    ///
    /// # Errors
    /// Where a thread or an actor can't be started.
    pub async fn start(args: WorkerTreeArgs) -> Result<Self, SpawnErr> {
        let slots = args.identity.slots as usize;
        let executors: Executors = Arc::new(Mutex::new(vec![None; slots]));
        let (agent_sender, agent) = watch::channel(None);
        let agent_sender = Arc::new(agent_sender);
        let (left_sender, left) = watch::channel(false);
        let agent_args = AgentArgs { identity: args.identity, embedded: args.embedded, left: left_sender };

        let mut children = Vec::with_capacity(slots + 1);
        children.push(agent_child(agent_args, Arc::clone(&agent_sender), Arc::clone(&executors)));
        for slot in 0..slots {
            children.push(executor_child(slot, agent.clone(), Arc::clone(&executors), args.before_task.clone()));
        }
        let supervisor_args =
            SupervisorArgs { name: "worker".into(), children, intensity: RestartIntensity::default() };
        let (supervisor, _) = Actor::spawn(None, Supervisor, supervisor_args).await?;
        Ok(Self { supervisor, agent, left })
    }

    /// The agent, now and after each restart.
    pub fn agent(&self) -> watch::Receiver<Option<ActorRef<AgentMessage>>> {
        self.agent.clone()
    }

    /// Becomes true when the worker has drained and left.
    pub fn left(&self) -> watch::Receiver<bool> {
        self.left.clone()
    }

    /// Resolves when the supervisor has given up.
    pub async fn failed(&self) {
        // The wait ends with the supervisor, whatever its end was.
        let _ = self.supervisor.wait(None).await;
    }

    /// Stops executors and agent.
    pub async fn stop(&self) {
        shut_down(&self.supervisor, STOP_PATIENCE).await;
    }
}

fn agent_child(
    args: AgentArgs,
    sender: Arc<watch::Sender<Option<ActorRef<AgentMessage>>>>,
    executors: Executors,
) -> ChildSpec {
    ChildSpec::new("agent", move |supervisor| {
        let (args, sender, executors) = (args.clone(), Arc::clone(&sender), Arc::clone(&executors));
        async move {
            let (agent, _) = Actor::spawn_linked(None, Agent, args, supervisor).await?;
            sender.send_replace(Some(agent.clone()));
            for executor in executors.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten() {
                // One that is gone is being started again, and finds the new agent by itself.
                let _ = executor.cast(ExecutorMessage::ServeAgent(agent.clone()));
            }
            Ok(agent.get_cell())
        }
        .boxed()
    })
}

fn executor_child(
    slot: usize,
    agent: watch::Receiver<Option<ActorRef<AgentMessage>>>,
    executors: Executors,
    before_task: Option<BeforeTask>,
) -> ChildSpec {
    ChildSpec::new(format!("executor {slot}"), move |supervisor| {
        let (agent, executors, before_task) = (agent.clone(), Arc::clone(&executors), before_task.clone());
        async move {
            let Some(agent) = agent.borrow().clone() else {
                return Err(SpawnErr::StartupFailed("the agent starts before its executors".into()));
            };
            let args = ExecutorArgs { slot, agent, before_task };
            let spawner = ThreadLocalActorSpawner::new();
            let (executor, _) = Executor::spawn_linked(None, args, supervisor, spawner).await?;
            executors.lock().unwrap_or_else(PoisonError::into_inner)[slot] = Some(executor.clone());
            Ok(executor.get_cell())
        }
        .boxed()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_shared::formula::FormulaLimits;
    use quipu_shared::ids::{AttemptId, Epoch, Generation, JobId, NodeId, Role, ShardId};
    use quipu_shared::spec::{JobKind, JobSpec};
    use quipu_shared::wire::{Lease, Payload, ShardInput, WorkerCommand, WorkerEvent};
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::sync::mpsc;

    const PATIENCE: Duration = Duration::from_secs(60);

    async fn next(events: &mut mpsc::UnboundedReceiver<WorkerEvent>) -> WorkerEvent {
        tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event in time").expect("the worker lives")
    }

    #[tokio::test]
    async fn panicking_executor_is_started_again_and_its_shard_runs() {
        let panicked = Arc::new(AtomicBool::new(false));
        let before_task: BeforeTask = {
            let panicked = Arc::clone(&panicked);
            Arc::new(move |_| assert!(panicked.swap(true, Ordering::SeqCst), "the first attempt dies"))
        };
        let identity = WorkerIdentity {
            node_id: NodeId::random(Role::Worker),
            generation: Generation(1),
            boot_id: uuid::Uuid::nil(),
            slots: 1,
            credits: 2,
            zone: String::new(),
            weight: 1,
            tier: Default::default(),
        };
        let args = WorkerTreeArgs { identity, embedded: true, before_task: Some(before_task) };
        let tree = WorkerTree::start(args).await.expect("starts");
        let agent = tree.agent().borrow().clone().expect("an agent");
        let (sender, mut events) = mpsc::unbounded_channel();
        let to_master = Arc::new(move |event| {
            let _ = sender.send(event);
        });
        agent.cast(AgentMessage::Connected(to_master)).expect("agent lives");
        assert!(matches!(next(&mut events).await, WorkerEvent::Joined(_)));
        let tell = |command| agent.cast(AgentMessage::Command(command)).expect("agent lives");
        tell(WorkerCommand::Welcome { epoch: Epoch(1), lease_ttl_ms: 1000, store: uuid::Uuid::nil() });
        let spec = Arc::new(JobSpec {
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
        });
        tell(WorkerCommand::OpenJob { job: JobId(1), spec, limits: FormulaLimits::default(), traceparent: None });
        let lease = |attempt| Lease { epoch: Epoch(1), job: JobId(1), shard: ShardId(0), attempt: AttemptId(attempt) };
        let run = |attempt| {
            let input = ShardInput::Formulas(vec!["1 + 2".into()]);
            tell(WorkerCommand::LeaseShard {
                lease: lease(attempt),
                first_row: 0,
                rows: 1,
                input,
                deadline_ms: None,
                trace: None,
            });
        };
        run(1);
        assert_eq!(next(&mut events).await, WorkerEvent::ShardAccepted(lease(1)));
        loop {
            match next(&mut events).await {
                WorkerEvent::ShardFailed { lease: failed, .. } => break assert_eq!(failed, lease(1)),
                WorkerEvent::ShardProgressed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        run(2);
        let output = loop {
            match next(&mut events).await {
                WorkerEvent::ShardCompleted { lease: done, output, .. } if done == lease(2) => break output,
                WorkerEvent::ShardAccepted(_) | WorkerEvent::ShardProgressed { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        let Payload::Inline(bytes) = output.payload else { panic!("{output:?}") };
        assert_eq!(&bytes[..], b"{\"index\":0,\"type\":\"int\",\"value\":3}\n");
        tree.stop().await;
    }
}
