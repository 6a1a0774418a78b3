//! The supervision tree of a master.
//!
//! ```text
//! supervisor (one for one, 20 restarts in 10 s)
//!  `- dispatcher           the scheduler's shell; restarts under a new epoch from the table of jobs
//! ```
//! Gossip, link and HTTP of a cluster's master are tasks of the node (see [`crate::node`]), which end with it.

use crate::dispatcher::{Dispatcher, DispatcherArgs, DispatcherMessage};
use futures_util::FutureExt;
use quipu_shared::supervise::{ChildSpec, RestartIntensity, Supervisor, SupervisorArgs, SupervisorMessage, shut_down};
use ractor::{Actor, ActorRef, SpawnErr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the dispatcher may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A running master's actors.
pub struct MasterTree {
    supervisor: ActorRef<SupervisorMessage>,
    dispatcher: watch::Receiver<Option<ActorRef<DispatcherMessage>>>,
}

impl MasterTree {
    /// Starts supervisor and dispatcher.
    ///
    /// # Errors
    /// Where an actor can't be started.
    pub async fn start(args: DispatcherArgs) -> Result<Self, SpawnErr> {
        let (sender, dispatcher) = watch::channel(None);
        let sender = Arc::new(sender);
        let child = ChildSpec::new("dispatcher", move |supervisor| {
            let (args, sender) = (args.clone(), Arc::clone(&sender));
            async move {
                let (dispatcher, _) = Actor::spawn_linked(None, Dispatcher, args, supervisor).await?;
                sender.send_replace(Some(dispatcher.clone()));
                Ok(dispatcher.get_cell())
            }
            .boxed()
        });
        let args =
            SupervisorArgs { name: "master".into(), children: vec![child], intensity: RestartIntensity::default() };
        let (supervisor, _) = Actor::spawn(None, Supervisor, args).await?;
        Ok(Self { supervisor, dispatcher })
    }

    /// The dispatcher, now and after each restart.
    pub fn dispatcher(&self) -> watch::Receiver<Option<ActorRef<DispatcherMessage>>> {
        self.dispatcher.clone()
    }

    /// Resolves when the supervisor has given up.
    pub async fn failed(&self) {
        // The wait ends with the supervisor, whatever its end was.
        let _ = self.supervisor.wait(None).await;
    }

    /// Stops the dispatcher; jobs that have not ended are cancelled.
    pub async fn stop(&self) {
        shut_down(&self.supervisor, STOP_PATIENCE).await;
    }
}
