//! One-for-one supervision with a restart intensity.
//!
//! `ractor` gives the events; this actor gives the policy: a child that ends is started again by its own function,
//! unless more than [`RestartIntensity::restarts_max`] children ended within its window. Then the supervisor fails too,
//! and whoever supervises it decides. Children start in order and stop in reverse.

use futures_util::future::BoxFuture;
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorStatus, RpcReplyPort, SpawnErr, SupervisionEvent,
};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Starts one child under the given supervisor.
pub type StartChild = Box<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;

/// How a child is started, the first time and after each end.
pub struct ChildSpec {
    /// For logs.
    pub name: String,
    /// Starts it, linked to the supervisor it is given.
    pub start: StartChild,
}

impl ChildSpec {
    /// A child with a name and a start function.
    pub fn new<F>(name: impl Into<String>, start: F) -> Self
    where
        F: Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync + 'static,
    {
        Self { name: name.into(), start: Box::new(start) }
    }
}

/// How many restarts within which time are still an accident.
#[derive(Clone, Copy, Debug)]
pub struct RestartIntensity {
    /// More than these within the window, and the supervisor gives up.
    pub restarts_max: usize,
    /// The window.
    pub window: Duration,
}

impl Default for RestartIntensity {
    /// 20 in 10 s: a poison shard may kill an executor four times before it is given up, on every slot of a host.
    fn default() -> Self {
        Self { restarts_max: 20, window: Duration::from_secs(10) }
    }
}

/// Remembers restarts and says when there were too many.
#[derive(Debug)]
struct RestartLog {
    intensity: RestartIntensity,
    at: VecDeque<Instant>,
}

impl RestartLog {
    fn new(intensity: RestartIntensity) -> Self {
        Self { intensity, at: VecDeque::new() }
    }

    /// Notes a restart; false where the intensity is exceeded.
    fn admit(&mut self, now: Instant) -> bool {
        while self.at.front().is_some_and(|then| now.duration_since(*then) > self.intensity.window) {
            self.at.pop_front();
        }
        self.at.push_back(now);
        self.at.len() <= self.intensity.restarts_max
    }
}

/// What a supervisor starts with.
pub struct SupervisorArgs {
    /// For logs.
    pub name: String,
    /// Its children, in start order.
    pub children: Vec<ChildSpec>,
    /// When it gives up.
    pub intensity: RestartIntensity,
}

/// Messages to a supervisor.
pub enum SupervisorMessage {
    /// Stop the children in reverse order, then itself.
    Shutdown(RpcReplyPort<()>),
}

impl ractor::Message for SupervisorMessage {}

/// The supervisor actor.
pub struct Supervisor;

/// State of a [`Supervisor`].
pub struct SupervisorState {
    name: String,
    children: Vec<(ChildSpec, ActorCell)>,
    restarts: RestartLog,
}

impl SupervisorState {
    fn index_of(&self, id: ActorId) -> Option<usize> {
        self.children.iter().position(|(_, cell)| cell.get_id() == id)
    }
}

/// Stops a supervisor and its children, in reverse order of their start. Waits at most `patience` for each.
pub async fn shut_down(supervisor: &ActorRef<SupervisorMessage>, patience: Duration) {
    // A supervisor that is gone has stopped its children already.
    let _ = ractor::call_t!(
        supervisor,
        SupervisorMessage::Shutdown,
        u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)
    );
    let _ = supervisor.wait(Some(patience)).await;
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = SupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        args: SupervisorArgs,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut children = Vec::with_capacity(args.children.len());
        for spec in args.children {
            let cell = (spec.start)(myself.get_cell()).await?;
            children.push((spec, cell));
        }
        Ok(SupervisorState { name: args.name, children, restarts: RestartLog::new(args.intensity) })
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Shutdown(reply) => {
                while let Some((spec, cell)) = state.children.pop() {
                    if cell.get_status() < ActorStatus::Stopping
                        && cell.stop_and_wait(None, Some(Duration::from_secs(5))).await.is_err()
                    {
                        tracing::warn!(supervisor = state.name, child = spec.name, "child did not stop in time");
                        cell.kill();
                    }
                }
                let _ = reply.send(());
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (who, reason) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who, error.to_string()),
            SupervisionEvent::ActorTerminated(who, _, reason) => (who, reason.unwrap_or_else(|| "stopped".to_owned())),
            _ => return Ok(()),
        };
        let Some(index) = state.index_of(who.get_id()) else { return Ok(()) };
        let child = state.children[index].0.name.clone();
        if !state.restarts.admit(Instant::now()) {
            tracing::error!(supervisor = state.name, child, error = reason, "too many restarts, giving up");
            return Err(format!("{}: too many restarts, the last of {child}: {reason}", state.name).into());
        }
        tracing::warn!(supervisor = state.name, child, error = reason, "child ended, starting it again");
        let cell = (state.children[index].0.start)(myself.get_cell()).await?;
        state.children[index].1 = cell;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::Arc;
    use tokio::sync::mpsc;

    struct Fragile;
    enum FragileMessage {
        Panic,
    }
    impl ractor::Message for FragileMessage {}
    impl Actor for Fragile {
        type Msg = FragileMessage;
        type State = ();
        type Arguments = mpsc::UnboundedSender<ActorRef<FragileMessage>>;
        async fn pre_start(
            &self,
            myself: ActorRef<FragileMessage>,
            started: Self::Arguments,
        ) -> Result<(), ActorProcessingErr> {
            started.send(myself)?;
            Ok(())
        }
        async fn handle(
            &self,
            _: ActorRef<FragileMessage>,
            message: FragileMessage,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            match message {
                FragileMessage::Panic => panic!("asked to"),
            }
        }
    }

    async fn supervised(
        restarts_max: usize,
    ) -> (ActorRef<SupervisorMessage>, mpsc::UnboundedReceiver<ActorRef<FragileMessage>>) {
        let (started, children) = mpsc::unbounded_channel();
        let started = Arc::new(started);
        let child = ChildSpec::new("fragile", move |supervisor| {
            let started = (*started).clone();
            async move { Ok(Actor::spawn_linked(None, Fragile, started, supervisor).await?.0.get_cell()) }.boxed()
        });
        let args = SupervisorArgs {
            name: "test".into(),
            children: vec![child],
            intensity: RestartIntensity { restarts_max, window: Duration::from_secs(60) },
        };
        let (supervisor, _) = Actor::spawn(None, Supervisor, args).await.expect("supervisor starts");
        (supervisor, children)
    }

    #[tokio::test]
    async fn panicking_child_is_started_again() {
        let (supervisor, mut children) = supervised(3).await;
        let first = children.recv().await.expect("first start");
        first.cast(FragileMessage::Panic).expect("child lives");
        let second = children.recv().await.expect("second start");
        assert_ne!(first.get_id(), second.get_id());
        shut_down(&supervisor, Duration::from_secs(5)).await;
        assert_eq!(second.get_status(), ActorStatus::Stopped);
    }

    #[tokio::test]
    async fn supervisor_gives_up_past_its_intensity() {
        let (supervisor, mut children) = supervised(1).await;
        for _ in 0..2 {
            children.recv().await.expect("start").cast(FragileMessage::Panic).expect("child lives");
        }
        supervisor.wait(Some(Duration::from_secs(10))).await.expect("supervisor ends");
        assert!(children.try_recv().is_err(), "no third start");
    }

    #[test]
    fn restarts_outside_the_window_are_forgotten() {
        let mut log = RestartLog::new(RestartIntensity { restarts_max: 1, window: Duration::from_secs(10) });
        let start = Instant::now();
        assert!(log.admit(start));
        assert!(log.admit(start + Duration::from_secs(11)));
        assert!(!log.admit(start + Duration::from_secs(12)));
    }
}
