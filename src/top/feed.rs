//! What the cluster says, asked for each second, and what it is told.

use super::app::{Input, Order, Seen};
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobQuery, JobService, JobState, JobView, ServiceError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a look may take before the master counts as away. The client would wait longer for it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Jobs of the newest, and of those that have not ended, that are shown.
const JOBS_MAX: usize = 200;

/// The cluster as it is.
pub(super) async fn look(service: &dyn JobService) -> Result<Seen, ServiceError> {
    let newest = JobQuery { limit: JOBS_MAX, newest_first: true, ..JobQuery::default() };
    let states = JobState::ALL.into_iter().filter(|state| !state.is_final()).collect();
    let pending = JobQuery { states, ..newest.clone() };
    let (nodes, newest, pending) = tokio::join!(service.nodes(), service.jobs(newest), service.jobs(pending));
    let jobs: BTreeMap<JobId, JobView> = newest?.into_iter().chain(pending?).map(|job| (job.id, job)).collect();
    Ok(Seen { nodes: nodes?, jobs: jobs.into_values().rev().collect() })
}

/// Looks each second until nobody listens.
pub(super) async fn follow(service: Arc<dyn JobService>, inputs: mpsc::Sender<Input>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let input = match tokio::time::timeout(PATIENCE, look(&*service)).await {
            Ok(Ok(seen)) => Input::Seen(Box::new(seen)),
            Ok(Err(error)) => Input::Trouble(error.message),
            Err(_) => Input::Trouble(format!("the master has not answered for {} s", PATIENCE.as_secs())),
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

/// Does what the user wants done, and says what came of it.
pub(super) async fn carry_out(service: Arc<dyn JobService>, order: Order, inputs: mpsc::Sender<Input>) {
    let told = match order {
        Order::Cancel(job) => notice(service.cancel(job).await, format!("job {job} is asked to end")),
        Order::Drain(node) => {
            notice(service.drain(node.clone()).await, format!("{node} finishes what it has and leaves"))
        }
        Order::Explain(job) => match service.explain(job).await {
            Ok(lines) => Input::Explained(job, lines),
            Err(error) => Input::Explained(job, vec![error.message]),
        },
        Order::Quit => return,
    };
    // Without a listener it is of no interest.
    let _ = inputs.send(told).await;
}

fn notice(done: Result<(), ServiceError>, text: String) -> Input {
    match done {
        Ok(()) => Input::Notice(text),
        Err(error) if matches!(error.kind, ErrorKind::Forbidden | ErrorKind::Unauthenticated) => {
            Input::Notice(format!("not allowed: {}", error.message))
        }
        Err(error) => Input::Notice(error.message),
    }
}
