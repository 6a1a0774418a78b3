//! Health as gRPC has it: it follows `/readyz`, for the whole server and for each of its services.

use super::super::Api;
use super::super::cluster::readiness;
use super::super::streams::stream_place;
use super::convert::status_of;
use super::proto::quipu_server;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How often a watched state is looked at.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// Answers probes.
pub(super) struct Probes {
    api: Arc<Api>,
}

impl Probes {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Self { api }
    }

    fn status(&self) -> ServingStatus {
        status(&self.api)
    }
}

fn status(api: &Api) -> ServingStatus {
    if readiness(api).is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

/// The server as a whole has the empty name.
fn is_known(service: &str) -> bool {
    let ours = <quipu_server::QuipuServer<()> as NamedService>::NAME;
    service.is_empty() || service == ours
}

#[tonic::async_trait]
impl Health for Probes {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("there is no such service; the empty name is that of the server"));
        }
        Ok(Response::new(HealthCheckResponse { status: self.status().into() }))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.get_ref().service);
        let place = stream_place(&self.api).map_err(|refusal| status_of(&refusal.into_error()))?;
        let watching = Watching { api: Arc::clone(&self.api), known, told: None, _place: place };
        let stop = self.api.stop.clone();
        let states = stream::unfold(watching, |mut watching| async {
            let status = watching.next().await;
            Some((Ok(HealthCheckResponse { status: status.into() }), watching))
        });
        Ok(Response::new(states.take_until(stop.cancelled_owned()).boxed()))
    }
}

struct Watching {
    api: Arc<Api>,
    known: bool,
    told: Option<ServingStatus>,
    _place: OwnedSemaphorePermit,
}

impl Watching {
    async fn next(&mut self) -> ServingStatus {
        loop {
            let status = if self.known { status(&self.api) } else { ServingStatus::ServiceUnknown };
            if self.told != Some(status) {
                self.told = Some(status);
                return status;
            }
            tokio::time::sleep(WATCH_PERIOD).await;
        }
    }
}
