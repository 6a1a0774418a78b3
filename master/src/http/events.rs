//! The cluster for those who watch it: `GET /v1/events`, and the streams of the dashboard.

use super::ApiState;
use super::guard::BUSY_RETRY_AFTER_S;
use super::refusal::Refusal;
use crate::pulse::Beat;
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use quipu_shared::access::Caller;
use quipu_shared::detail::ClusterView;
use quipu_shared::service::ErrorKind;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A comment: it keeps a silent stream alive, and shows both sides a dead one.
const KEEP_ALIVE: &[u8] = b":\n\n";

/// `GET /v1/cluster`.
pub(super) async fn cluster(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ClusterView>, Refusal> {
    Ok(Json(crate::pulse::seen(&api.service.cluster().await?, &caller.namespace)))
}

/// `GET /v1/events`: each event is a whole [`ClusterView`], so that none has to be replayed.
pub(super) async fn events(State(api): ApiState, Extension(caller): Extension<Caller>) -> Response {
    let place = match watcher_place(&api.watchers) {
        Ok(place) => place,
        Err(response) => return *response,
    };
    let news = beats(api.pulse.watch(caller.namespace)).map(|beat| beat.json());
    event_stream(news.boxed(), api.limits.keep_alive_interval, &api.stop, place)
}

/// A place among those who watch, or the answer that there is none.
pub(crate) fn watcher_place(watchers: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Box<Response>> {
    watchers.clone().try_acquire_owned().map_err(|_| {
        let message = "as many watch already as may; close a page of the dashboard";
        let refusal = Refusal::new(ErrorKind::Busy, "too_many_watchers", message);
        Box::new(refusal.retry_after_s(BUSY_RETRY_AFTER_S).into_response())
    })
}

/// What a scope's watchers are told.
pub(crate) fn beats(receiver: watch::Receiver<Option<Arc<Beat>>>) -> impl Stream<Item = Arc<Beat>> + Send {
    stream::unfold(receiver, |mut receiver| async {
        loop {
            receiver.changed().await.ok()?;
            let beat = receiver.borrow_and_update().clone();
            if let Some(beat) = beat {
                return Some((beat, receiver));
            }
        }
    })
}

/// A stream of events, with a comment where there is none for `keep_alive`; ends with the server.
pub(crate) fn event_stream(
    news: BoxStream<'static, Bytes>,
    keep_alive: Duration,
    stop: &CancellationToken,
    place: OwnedSemaphorePermit,
) -> Response {
    let begin = (news.take_until(stop.clone().cancelled_owned()).boxed(), place);
    let pieces = stream::unfold(begin, move |(mut news, place)| async move {
        let piece = match timeout(keep_alive, news.next()).await {
            Ok(piece) => piece?,
            Err(_) => Bytes::from_static(KEEP_ALIVE),
        };
        Some((Ok::<_, Infallible>(piece), (news, place)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces)).into_response()
}
