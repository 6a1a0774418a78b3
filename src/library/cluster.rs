//! A cluster as a handle.

use crate::client::{ClientConfig, HttpClient};
use crate::embedded::Embedded;
use crate::library::error::Error;
use crate::library::output::Output;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use quipu_shared::config::{LimitsConfig, TierChoice};
use quipu_shared::ids::JobId;
use quipu_shared::render::EvalOutcome;
use quipu_shared::service::{JobService, JobView, ServiceError, SubmitRequest};
use quipu_shared::spec::{JobKind, JobSpec, OnError, RowFormat, SymbolPolicy};
use std::sync::Arc;

/// Where jobs run. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    service: Arc<dyn JobService>,
    /// Lives as long as the last handle.
    _embedded: Option<Arc<Embedded>>,
}

impl Cluster {
    /// A cluster inside this process with this many executors; 0 means one a core. Nothing listens, and it ends with
    /// its last handle.
    pub async fn embedded(slots: u32) -> Result<Self, Error> {
        Self::embedded_within(slots, TierChoice::Auto, &LimitsConfig::default()).await
    }

    /// The same with formulas evaluated by a tier of one's choice, and other limits than the default ones.
    pub async fn embedded_within(slots: u32, tier: TierChoice, limits: &LimitsConfig) -> Result<Self, Error> {
        let embedded = Embedded::start(slots, tier, limits).await?;
        Ok(Self { service: embedded.service(), _embedded: Some(Arc::new(embedded)) })
    }

    /// A cluster behind any implementation of the service.
    pub fn over(service: Arc<dyn JobService>) -> Self {
        Self { service, _embedded: None }
    }

    /// A cluster somewhere else, over its HTTP API; nothing is sent yet.
    pub fn connect(config: ClientConfig) -> Result<Self, Error> {
        Ok(Self::over(Arc::new(HttpClient::new(config)?)))
    }

    /// The service itself, with everything that it offers.
    pub fn service(&self) -> &Arc<dyn JobService> {
        &self.service
    }

    /// Evaluates formulas, each for itself; outcomes are in input order, and one that fails is a value too.
    pub async fn eval<F: Into<String>>(
        &self,
        formulas: impl IntoIterator<Item = F>,
    ) -> Result<Vec<EvalOutcome>, Error> {
        let spec = JobSpec {
            kind: JobKind::Eval { formulas: formulas.into_iter().map(Into::into).collect() },
            bindings: Vec::new(),
            symbols: SymbolPolicy::default(),
            on_error: OnError::Null,
            reductions: Vec::new(),
            exact: false,
            format: RowFormat::Ndjson,
            deadline_ms: None,
            name: None,
            queue: Default::default(),
        };
        let output = self.run(spec).await?;
        let read = |line| serde_json::from_str(line).map_err(|error| Error::Results(format!("{line}: {error}")));
        output.text().lines().map(read).collect()
    }

    /// Submits a job and returns at once.
    pub async fn submit(&self, spec: JobSpec) -> Result<Running, Error> {
        let request =
            SubmitRequest { spec, traceparent: None, idempotency_key: Some(uuid::Uuid::new_v4().to_string()) };
        let id = self.service.submit(request).await?;
        Ok(Running { id, service: Arc::clone(&self.service) })
    }

    /// Runs a job to its end and keeps its whole output in memory.
    pub async fn run(&self, spec: JobSpec) -> Result<Output, Error> {
        self.submit(spec).await?.output().await
    }
}

/// A submitted job.
pub struct Running {
    id: JobId,
    service: Arc<dyn JobService>,
}

impl Running {
    /// The job's number.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The job as it is now.
    pub async fn view(&self) -> Result<JobView, Error> {
        Ok(self.service.job(self.id).await?)
    }

    /// Asks for the job's end; its output then ends with an error.
    pub async fn cancel(&self) -> Result<(), Error> {
        Ok(self.service.cancel(self.id).await?)
    }

    /// The output in pieces, in row order, as they come.
    pub async fn stream(&self) -> Result<BoxStream<'static, Result<Bytes, ServiceError>>, Error> {
        Ok(self.service.results(self.id).await?)
    }

    /// The whole output, once the job has ended.
    pub async fn output(&self) -> Result<Output, Error> {
        let mut pieces = self.stream().await?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Output::new(bytes.freeze(), self.view().await?)
    }
}
