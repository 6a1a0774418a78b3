//! A cluster that has too much to do: a command waits until its jobs are taken, says so, and can be interrupted.

use crate::cmd::{Session, runner};
use crate::failure::Failure;
use quipu_shared::ids::JobId;
use quipu_shared::service::{ErrorKind, JobService, ServiceError, SubmitRequest};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long to wait where the cluster does not say.
const PAUSE_S: u64 = 1;
/// Not even a cluster that says "at once" is asked more often than this.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Waits for a busy cluster, and says why: each reason once.
pub(crate) struct Patience<'a> {
    session: &'a Session,
    no_wait: bool,
    told: BTreeSet<String>,
}

impl<'a> Patience<'a> {
    /// With `no_wait` a busy cluster is a failure at once.
    pub(crate) fn new(session: &'a Session, no_wait: bool) -> Self {
        Self { session, no_wait, told: BTreeSet::new() }
    }

    /// Waits as long as the error says; any other error than a busy cluster is a failure.
    async fn wait(&mut self, error: ServiceError) -> Result<(), Failure> {
        if error.kind != ErrorKind::Busy || self.no_wait {
            return Err(error.into());
        }
        let seconds = error.retry_after_s.unwrap_or(PAUSE_S);
        if self.told.insert(error.code.clone()) && !self.session.ui.quiet {
            let message = &error.message;
            self.session.ui.say(format_args!("the cluster is busy ({message}); trying again in {seconds} s"));
        }
        tokio::select! {
            biased;
            () = self.session.signals.first() => Err(runner::interrupted()),
            () = tokio::time::sleep(Duration::from_secs(seconds).max(PAUSE_MIN)) => Ok(()),
        }
    }

    /// Calls until the cluster has time. What is called keeps its idempotency key over the calls.
    pub(crate) async fn call<T>(
        &mut self,
        mut call: impl AsyncFnMut(&dyn JobService) -> Result<T, ServiceError>,
    ) -> Result<T, Failure> {
        loop {
            let answer = tokio::select! {
                biased;
                () = self.session.signals.first() => return Err(runner::interrupted()),
                answer = call(&*self.session.service) => answer,
            };
            match answer {
                Ok(value) => return Ok(value),
                Err(error) => self.wait(error).await?,
            }
        }
    }

    /// Submits a job. The request has its key.
    pub(crate) async fn submit(&mut self, request: SubmitRequest) -> Result<JobId, Failure> {
        self.call(async |service| service.submit(request.clone()).await).await
    }

    /// Submits many; those that the cluster has no place for are submitted again until it has. The requests have
    /// their keys; the answers are in their order.
    pub(crate) async fn submit_batch(
        &mut self,
        requests: Vec<SubmitRequest>,
    ) -> Result<Vec<Result<JobId, ServiceError>>, Failure> {
        let mut answers = self.call(async |service| service.submit_batch(requests.clone()).await).await?;
        let is_busy = |answer: &Result<JobId, ServiceError>| matches!(answer, Err(e) if e.kind == ErrorKind::Busy);
        while !self.no_wait {
            let left: Vec<usize> = (0..answers.len()).filter(|&at| is_busy(&answers[at])).collect();
            let Some(&first) = left.first() else { break };
            if let Err(error) = answers[first].clone() {
                self.wait(error).await?;
            }
            let again: Vec<SubmitRequest> = left.iter().map(|&at| requests[at].clone()).collect();
            let new = self.call(async |service| service.submit_batch(again.clone()).await).await?;
            for (at, answer) in left.into_iter().zip(new) {
                answers[at] = answer;
            }
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fake::{FakeCluster, error, session};
    use crate::failure::Exit;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    fn request(key: &str) -> SubmitRequest {
        let spec = serde_json::from_str(r#"{"kind":{"eval":{"formulas":["1"]}}}"#).unwrap();
        SubmitRequest { spec, traceparent: None, idempotency_key: Some(key.into()) }
    }

    #[tokio::test]
    async fn busy_cluster_is_asked_until_it_takes_the_job() {
        let cluster = Arc::new(FakeCluster::with_jobs(0));
        cluster.busy.store(2, Ordering::SeqCst);
        let (_interrupt, session) = session(Arc::clone(&cluster));
        let job = Patience::new(&session, false).submit(request("k")).await.unwrap();
        assert_eq!((job, cluster.busy.load(Ordering::SeqCst)), (JobId(1), 0));
        let submitted = cluster.submitted.lock().unwrap();
        assert_eq!(submitted.len(), 3);
        assert!(submitted.iter().all(|request| request.idempotency_key.as_deref() == Some("k")));
    }

    #[tokio::test]
    async fn only_jobs_without_a_place_are_submitted_again() {
        let cluster = Arc::new(FakeCluster::with_jobs(0));
        cluster.busy.store(2, Ordering::SeqCst);
        let (_interrupt, session) = session(Arc::clone(&cluster));
        let requests = ["a", "b", "c"].map(request).to_vec();
        let answers = Patience::new(&session, false).submit_batch(requests).await.unwrap();
        assert_eq!(answers, [Ok(JobId(2)), Ok(JobId(3)), Ok(JobId(1))]);
        assert_eq!(cluster.submitted.lock().unwrap().len(), 5);
    }

    #[tokio::test]
    async fn who_will_not_wait_is_told_at_once() {
        let cluster = Arc::new(FakeCluster::with_jobs(0));
        cluster.busy.store(9, Ordering::SeqCst);
        let (_interrupt, session) = session(Arc::clone(&cluster));
        let mut patience = Patience::new(&session, true);
        assert_eq!(patience.submit(request("k")).await.unwrap_err().exit, Exit::TryAgain);
        let answers = patience.submit_batch(vec![request("k")]).await.unwrap();
        assert_eq!(answers[0].as_ref().unwrap_err().kind, ErrorKind::Busy);
        assert_eq!(cluster.busy.load(Ordering::SeqCst), 7);
    }

    #[tokio::test]
    async fn other_errors_are_not_waited_for_and_an_interrupt_ends_it() {
        let (_interrupt, refused) = session(Arc::new(FakeCluster::refusing(error(ErrorKind::Invalid, "no"))));
        assert_eq!(Patience::new(&refused, false).submit(request("k")).await.unwrap_err().exit, Exit::Data);
        let (interrupt, busy) = session(Arc::new(FakeCluster::refusing(error(ErrorKind::Busy, "full"))));
        interrupt.send_replace(true);
        assert_eq!(Patience::new(&busy, false).submit(request("k")).await.unwrap_err().exit, Exit::Interrupted);
    }
}
