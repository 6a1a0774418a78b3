//! The agent: the one actor of a worker that talks to the master.
//!
//! Owned by the worker's supervisor. It converts messages, calls [`WorkerCore::step`] and carries out the effects. If
//! it dies, the attempts it held are lost to it: the node drops the link, and the master leases them again.

use crate::core::{Effect, Event, RawOutput, Slot, WorkerCore, WorkerIdentity};
use crate::executor::ExecutorMessage;
use quipu_shared::host::HostLoad;
use quipu_shared::wire::{Lease, WorkerCommand, WorkerEvent};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often leases are renewed.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// Takes an event to the master. Never blocks; an event that can't be sent is lost, and the master's leases see to it.
pub type SendToMaster = Arc<dyn Fn(WorkerEvent) + Send + Sync>;

/// What an agent starts with.
#[derive(Clone)]
pub struct AgentArgs {
    /// Who this worker is.
    pub identity: WorkerIdentity,
    /// Whether the master is in this process.
    pub embedded: bool,
    /// Set to true when the worker has drained and left.
    pub left: watch::Sender<bool>,
}

/// Messages to the agent.
pub enum AgentMessage {
    /// There is a link to the master.
    Connected(SendToMaster),
    /// There is none any more.
    Disconnected,
    /// The master says something.
    Command(WorkerCommand),
    /// A slot's executor is (again) ready.
    ExecutorReady {
        /// Its slot.
        slot: Slot,
        /// Itself.
        executor: ActorRef<ExecutorMessage>,
    },
    /// An attempt came to its end.
    AttemptFinished {
        /// Where.
        slot: Slot,
        /// Which.
        lease: Lease,
        /// Execution time.
        busy_us: u64,
        /// What came out, or why nothing did.
        result: Result<RawOutput, String>,
    },
    /// Time to report progress.
    ProgressDue,
    /// Finish what runs, hand back the rest, leave.
    Drain,
}

impl ractor::Message for AgentMessage {}

/// The agent actor.
pub struct Agent;

/// State of an [`Agent`].
pub struct AgentState {
    core: WorkerCore,
    executors: Vec<Option<ActorRef<ExecutorMessage>>>,
    master: Option<SendToMaster>,
    left: watch::Sender<bool>,
    embedded: bool,
    effects: Vec<Effect>,
}

impl AgentState {
    fn execute(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Send(event) => {
                    if let Some(master) = &self.master {
                        master(event);
                    }
                }
                Effect::Execute { slot, task } => {
                    if let Some(executor) = &self.executors[slot] {
                        // An executor that is gone is restarted, and its new start reports this attempt as failed.
                        let _ = executor.cast(ExecutorMessage::Execute(task));
                    }
                }
                Effect::Leave => {
                    self.left.send_replace(true);
                }
            }
        }
    }
}

impl Actor for Agent {
    type Msg = AgentMessage;
    type State = AgentState;
    type Arguments = AgentArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<AgentMessage>,
        args: AgentArgs,
    ) -> Result<AgentState, ActorProcessingErr> {
        myself.send_interval(PROGRESS_PERIOD, || AgentMessage::ProgressDue);
        let executors = (0..args.identity.slots).map(|_| None).collect();
        Ok(AgentState {
            core: WorkerCore::new(args.identity, args.embedded),
            executors,
            master: None,
            left: args.left,
            embedded: args.embedded,
            effects: Vec::new(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<AgentMessage>,
        message: AgentMessage,
        state: &mut AgentState,
    ) -> Result<(), ActorProcessingErr> {
        let event = match message {
            AgentMessage::Connected(master) => {
                state.master = Some(master);
                Event::Connected
            }
            AgentMessage::Disconnected => {
                state.master = None;
                Event::Disconnected
            }
            AgentMessage::Command(command) => Event::Commanded(command),
            AgentMessage::ExecutorReady { slot, executor } => {
                state.executors[slot] = Some(executor);
                Event::ExecutorReady(slot)
            }
            AgentMessage::AttemptFinished { slot, lease, busy_us, result } => {
                Event::AttemptFinished { slot, lease, busy_us, result }
            }
            AgentMessage::ProgressDue => {
                if !state.embedded {
                    // Of the one worker that there is in an embedded cluster, nobody needs to know.
                    let host = HostLoad::measure();
                    state.core.step(Instant::now(), Event::HostMeasured(host), &mut state.effects);
                }
                Event::ProgressDue
            }
            AgentMessage::Drain => Event::DrainRequested,
        };
        state.core.step(Instant::now(), event, &mut state.effects);
        state.execute();
        Ok(())
    }
}
