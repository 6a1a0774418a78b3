//! What does not fit a message: events, results, uploads.

use super::accept::accepts;
use super::body::{body_broken, body_stalled, content_length};
use super::guard::{BUSY_RETRY_AFTER_S, single};
use super::jobs::{JobPath, ListQuery, bad_path, bad_query, parse_job};
use super::refusal::Refusal;
use super::{Api, ApiState, callers};
use crate::metrics::Open;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, Version, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use quipu_shared::access::Caller;
use quipu_shared::api::result_media_type;
use quipu_shared::service::{ErrorKind, JobView, Upload};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// How long to wait for the first results that must be there, so that trouble with them is answered and does not break the
/// stream.
const FIRST_PIECE_PATIENCE: Duration = Duration::from_millis(500);

/// Marks the id of the last event, so that an `EventSource`, which always reconnects, can be told to stop.
const FINAL_EVENT_SUFFIX: &str = "-final";

/// The job now and at each change, as server-sent events; ends after the final state. A client that reconnects gets
/// the job as it then is, so none has to be replayed: `Last-Event-ID` continues the numbers, and stops a client that
/// has seen the final state.
pub(super) async fn events(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    path: JobPath,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    let job = callers::visible(&api, &caller, parse_job(&segment)?).await?.id;
    let last = single(&headers, &HeaderName::from_static("last-event-id"))?.unwrap_or_default();
    if last.ends_with(FINAL_EVENT_SUFFIX) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let place = stream_place(&api)?;
    let views = api.service.watch(job).await?;
    let watching = Watching {
        views: views.take_until(api.stop.clone().cancelled_owned()).boxed(),
        seen: last.parse().unwrap_or(0),
        ended: false,
        _place: place,
        _open: api.metrics.http.event_stream(),
    };
    let events = stream::unfold(watching, |mut watching| async {
        let event = watching.next().await?;
        Some((event, watching))
    });
    let keep_alive = KeepAlive::new().interval(api.limits.keep_alive_interval);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

struct Watching {
    views: BoxStream<'static, JobView>,
    seen: u64,
    ended: bool,
    _place: OwnedSemaphorePermit,
    _open: Open,
}

impl Watching {
    async fn next(&mut self) -> Option<Result<Event, axum::Error>> {
        if self.ended {
            return None;
        }
        let view = self.views.next().await?;
        self.ended = view.state.is_final();
        self.seen = self.seen.saturating_add(1);
        let suffix = if self.ended { FINAL_EVENT_SUFFIX } else { "" };
        Some(Event::default().id(format!("{}{suffix}", self.seen)).json_data(&view))
    }
}

/// The job's results as they come. Where they fail on the way, the connection is closed before the end of the chunked
/// body, so that no client can take a part for the whole; the reason is then in the job's view.
/// With `offset=N` the first N bytes are left out: a client whose connection broke has them.
pub(super) async fn results(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    path: JobPath,
    query: ListQuery,
    version: Version,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path(segment) = path.map_err(bad_path)?;
    let job = parse_job(&segment)?;
    let Query(members) = query.map_err(|rejection| bad_query(rejection.body_text()))?;
    let offset = parse_offset(&members)?;
    if version < Version::HTTP_11 {
        // Without chunks the end of the connection would be the end of the results, whatever closed it.
        let message = "results need HTTP/1.1, which can tell their end from a broken connection";
        let refusal = Refusal::new(ErrorKind::Usage, "http_version", message);
        return Err(refusal.with_status(StatusCode::HTTP_VERSION_NOT_SUPPORTED));
    }
    let view = callers::visible(&api, &caller, job).await?;
    let media_type = result_media_type(view.format);
    if !accepts(&headers, media_type) {
        let message =
            format!("the results of job {job} are {media_type}, as its spec says, and Accept has no place for that");
        let refusal = Refusal::new(ErrorKind::Usage, "not_acceptable", message);
        return Err(refusal.with_status(StatusCode::NOT_ACCEPTABLE));
    }
    let place = (stream_place(&api)?, api.metrics.http.result_stream());
    let mut rows = api.service.results_from(job, offset).await?.fuse();
    // What fails at once is answered with its reason, as it would be without a stream.
    let patience = if view.state.is_final() { FIRST_PIECE_PATIENCE } else { api.limits.small_job_patience };
    // No timer is shorter than a millisecond.
    let first = match patience {
        Duration::ZERO => rows.next().now_or_never(),
        patience => timeout(patience, rows.next()).await.ok(),
    };
    let first = match first {
        Some(Some(Err(error))) => return Err(error.into()),
        first => first.flatten(),
    };
    let rows = stream::iter(first).chain(rows).then(move |piece| async move {
        if let Err(error) = &piece {
            tracing::debug!(job_id = %job, code = error.code, %error, "results broken off");
            // An error drops what the connection has not sent yet; while the body is pending, it sends. Where a compressor
            // stands between, the first wait is for what it still holds.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        piece
    });
    let rows = rows.map(move |piece| {
        let _place = &place;
        piece
    });
    Ok(([(header::CONTENT_TYPE, media_type)], Body::from_stream(rows)).into_response())
}

fn parse_offset(members: &[(String, String)]) -> Result<u64, Refusal> {
    match members {
        [] => Ok(0),
        [(name, value)] if name == "offset" => {
            value.parse().map_err(|_| bad_query(format!("offset={value:?} is not a number of bytes")))
        }
        _ => Err(bad_query("the query takes `offset`, once, and nothing else".into())),
    }
}

pub(super) fn stream_place(api: &Api) -> Result<OwnedSemaphorePermit, Refusal> {
    api.streams.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{} streams are open already", api.limits.streams_max);
        Refusal::new(ErrorKind::Busy, "too_many_streams", message).retry_after_s(BUSY_RETRY_AFTER_S)
    })
}

/// Takes a table's bytes; answers their digest and count.
pub(super) async fn upload(State(api): ApiState, headers: HeaderMap, body: Body) -> Result<Json<Upload>, Refusal> {
    if content_length(&headers).is_some_and(|length| length > api.limits.upload_bytes_max) {
        return Err(upload_too_large(&api));
    }
    let fault = Fault::default();
    let incoming = Incoming { api: api.clone(), pieces: body.into_data_stream(), taken: 0, fault: fault.clone() };
    let pieces = stream::unfold(Some(incoming), |incoming| async {
        let mut incoming = incoming?;
        match incoming.next().await? {
            Ok(piece) => Some((Ok(piece), Some(incoming))),
            Err(refusal) => Some((Err(incoming.fail(refusal)), None)),
        }
    });
    match (api.service.upload(pieces.boxed()).await, fault.take()) {
        // The service knows only that its input broke off; what broke it off is known here.
        (_, Some(refusal)) => Err(refusal),
        (taken, None) => Ok(Json(taken?)),
    }
}

fn upload_too_large(api: &Api) -> Refusal {
    let message = format!(
        "the upload is larger than {} bytes; put the file into a folder that every worker can read",
        api.limits.upload_bytes_max
    );
    Refusal::new(ErrorKind::TooLarge, "upload_too_large", message)
}

/// Why an upload broke off, for the handler that waits for the service.
#[derive(Clone, Default)]
struct Fault(Arc<Mutex<Option<Refusal>>>);

impl Fault {
    fn set(&self, refusal: Refusal) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }

    fn take(&self) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An upload's body, counted and timed.
struct Incoming {
    api: Arc<Api>,
    pieces: axum::body::BodyDataStream,
    taken: u64,
    fault: Fault,
}

impl Incoming {
    async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        let piece = match timeout(self.api.limits.body_idle_timeout, self.pieces.next()).await {
            Err(_) => return Some(Err(body_stalled(&self.api))),
            Ok(None) => return None,
            Ok(Some(Err(error))) => return Some(Err(body_broken(&error))),
            Ok(Some(Ok(piece))) => piece,
        };
        self.taken = self.taken.saturating_add(piece.len() as u64);
        if self.taken > self.api.limits.upload_bytes_max {
            return Some(Err(upload_too_large(&self.api)));
        }
        Some(Ok(piece))
    }

    fn fail(&self, refusal: Refusal) -> io::Error {
        self.fault.set(refusal);
        io::Error::other("the upload broke off")
    }
}
