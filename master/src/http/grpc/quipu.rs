//! The calls. What they decide is decided by the service, as for HTTP.

use super::super::body::parse_json;
use super::super::streams::stream_place;
use super::super::{Api, callers, refusal::Refusal};
use super::convert::{evaluated, evaluation, job, status_of};
use super::proto::quipu_server::Quipu;
use super::proto::{
    CancelRequest, EvaluateRequest, EvaluateResponse, Formulas, GetJobRequest, Job, ResultChunk, ResultsRequest,
    SubmitRequest, WatchRequest, evaluate_response, submit_request,
};
use super::{CallDeadline, deadline_passed};
use futures_util::future::{Either, pending};
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use quipu_shared::access::Caller;
use quipu_shared::api::{TRACEPARENT_HEADER, check_idempotency_key, is_traceparent};
use quipu_shared::ids::{JobId, TokenId};
use quipu_shared::service::{self, ErrorKind, JobView};
use quipu_shared::spec::{JobKind, JobSpec};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status, Streaming};

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// Answers calls.
pub(super) struct Calls {
    api: Arc<Api>,
}

impl Calls {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Self { api }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        stream_place(&self.api).map_err(refused)
    }

    /// A job as its caller may see it.
    async fn view(&self, id: u64, extensions: &Extensions) -> Result<JobView, Status> {
        callers::visible(&self.api, &caller(extensions)?, JobId(id)).await.map_err(refused)
    }

    /// Answers until the deadline, holding a stream's place.
    fn stream<T: Send + 'static>(
        &self,
        answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
        place: OwnedSemaphorePermit,
        extensions: &Extensions,
    ) -> Response<Answers<T>> {
        let deadline = extensions.get().map(|CallDeadline(at)| *at);
        let over = deadline.map_or(Either::Right(pending()), |at| Either::Left(sleep_until(at)));
        let late = stream::iter(deadline).filter_map(|at| {
            let is_over = Instant::now() >= at;
            std::future::ready(is_over.then(|| Err(deadline_passed())))
        });
        let answers = answers.take_until(over).chain(late).map(move |answer| {
            let _place = &place;
            answer
        });
        Response::new(answers.boxed())
    }
}

#[tonic::async_trait]
impl Quipu for Calls {
    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<Job>, Status> {
        let traceparent = traceparent(request.metadata());
        let caller = caller(request.extensions())?;
        let submission = submission(request.into_inner(), &caller, traceparent).map_err(refused)?;
        let id = self.api.service.submit(submission).await.map_err(|error| status_of(&error))?;
        let view = self.api.service.job(id).await.map_err(|error| status_of(&error))?;
        job(view).map(Response::new)
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<Job>, Status> {
        job(self.view(request.get_ref().id, request.extensions()).await?).map(Response::new)
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<Job>, Status> {
        let id = request.get_ref().id;
        self.view(id, request.extensions()).await?;
        self.api.service.cancel(JobId(id)).await.map_err(|error| status_of(&error))?;
        job(self.view(id, request.extensions()).await?).map(Response::new)
    }

    type WatchStream = Answers<Job>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.view(request.get_ref().id, request.extensions()).await?;
        let place = self.place()?;
        let views = self.api.service.watch(JobId(request.get_ref().id)).await.map_err(|error| status_of(&error))?;
        let views = views.take_until(self.api.stop.clone().cancelled_owned()).boxed();
        let views = stream::unfold(Some(views), |views| async {
            let mut views = views?;
            let view = views.next().await?;
            let rest = (!view.state.is_final()).then_some(views);
            Some((view, rest))
        });
        Ok(self.stream(views.map(job), place, request.extensions()))
    }

    type ResultsStream = Answers<ResultChunk>;

    async fn results(&self, request: Request<ResultsRequest>) -> Result<Response<Self::ResultsStream>, Status> {
        let ResultsRequest { id, offset } = *request.get_ref();
        self.view(id, request.extensions()).await?;
        let place = self.place()?;
        let pieces = self.api.service.results_from(JobId(id), offset).await.map_err(|error| status_of(&error))?;
        let chunks = pieces.map(|piece| match piece {
            Ok(data) => Ok(ResultChunk { data }),
            Err(error) => Err(status_of(&error)),
        });
        Ok(self.stream(chunks, place, request.extensions()))
    }

    type EvaluateStream = Answers<EvaluateResponse>;

    /// Requests are taken as long as fewer than a bounded number are under way and the answers are read: a client that
    /// does not read fills its window, and is read no further.
    async fn evaluate(
        &self,
        request: Request<Streaming<EvaluateRequest>>,
    ) -> Result<Response<Self::EvaluateStream>, Status> {
        let place = self.place()?;
        let (_, extensions, requests) = request.into_parts();
        let engine = Arc::clone(&self.api.eval);
        let pace = Arc::new(Pace { api: Arc::clone(&self.api), token: caller(&extensions)?.token });
        let requests = requests.then(move |request| {
            let pace = Arc::clone(&pace);
            async move {
                pace.wait().await?;
                request
            }
        });
        let requests = requests.take_until(self.api.stop.clone().cancelled_owned());
        let answers = requests
            .map(move |request| {
                let engine = Arc::clone(&engine);
                async move {
                    let request = request?;
                    let id = request.id;
                    Ok(match evaluation(request) {
                        Ok(request) => evaluated(id, engine.evaluate(request).await),
                        Err(problem) => {
                            EvaluateResponse { id, outcome: Some(evaluate_response::Outcome::Error(problem)) }
                        }
                    })
                }
            })
            .buffer_unordered(self.api.limits.evaluations_in_flight_max);
        Ok(self.stream(answers, place, &extensions))
    }
}

/// A token's rate, which counts each formula: its stream waits for it.
struct Pace {
    api: Arc<Api>,
    token: Option<TokenId>,
}

impl Pace {
    async fn wait(&self) -> Result<(), Status> {
        let Some(id) = self.token else { return Ok(()) };
        loop {
            let Some(token) = self.api.token_table.get(id) else {
                let message = "the token of this stream is no longer good";
                return Err(refused(Refusal::new(ErrorKind::Unauthenticated, "wrong_token", message)));
            };
            match token.count_request() {
                Ok(()) => return Ok(()),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

/// Who asks; the guard has found out.
fn caller(extensions: &Extensions) -> Result<Caller, Status> {
    extensions.get().cloned().ok_or_else(|| Status::unauthenticated("the call has no caller"))
}

fn refused(refusal: Refusal) -> Status {
    status_of(&refusal.into_error())
}

/// The caller's trace, or that of the span of this call.
fn traceparent(metadata: &MetadataMap) -> Option<String> {
    let text = metadata.get(TRACEPARENT_HEADER)?.to_str().ok()?;
    is_traceparent(text).then(|| text.to_owned())
}

fn submission(
    request: SubmitRequest,
    caller: &Caller,
    traceparent: Option<String>,
) -> Result<service::SubmitRequest, Refusal> {
    let SubmitRequest { job, idempotency_key } = request;
    let mut spec: JobSpec = match job {
        Some(submit_request::Job::SpecJson(text)) => parse_json(text.as_bytes())?,
        Some(submit_request::Job::Formulas(Formulas { formulas })) => JobSpec {
            kind: JobKind::Eval { formulas },
            bindings: Vec::new(),
            symbols: Default::default(),
            on_error: Default::default(),
            reductions: Vec::new(),
            exact: false,
            format: Default::default(),
            deadline_ms: None,
            name: None,
            queue: Default::default(),
        },
        None => {
            let message = "the request has no job; give spec_json or formulas";
            return Err(Refusal::new(ErrorKind::Usage, "no_job", message));
        }
    };
    callers::place(caller, &mut spec.queue.namespace)?;
    let idempotency_key = Some(idempotency_key).filter(|key| !key.is_empty());
    if let Some(key) = &idempotency_key {
        check_idempotency_key(key)?;
    }
    Ok(service::SubmitRequest { spec, traceparent, idempotency_key })
}
