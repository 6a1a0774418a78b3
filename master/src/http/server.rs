//! Binds, accepts, and drives connections until told to stop.

use super::conn::{Patient, Rewound};
use super::guard::{Clients, Crowded, LocalIp, PeerIp};
use super::pacing::Pacing;
use super::{Api, HttpConfig, HttpLimits, h2, router};
use crate::access::sessions::Sessions;
use crate::metrics::{EvalCollector, Metrics, StreamsCollector};
use crate::profile::Profiler;
use crate::pulse::Pulse;
use axum::Router;
use bytes::BytesMut;
use governor::{Quota, RateLimiter};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use quipu_shared::live::Live;
use quipu_shared::service::JobService;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How long to wait when the system has no socket to give (out of file descriptors, mostly): to try again at once
/// would only burn a core.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Denials a second that the audit log has: who asks without end fills no disk.
const DENIALS_AUDITED_PER_S: NonZeroU32 = NonZeroU32::new(20).expect("not zero");
/// Connections that the system has ready for us: a burst of clients should not have to knock twice, which takes a second.
const BACKLOG: u32 = 4096;
/// Connections beyond the limit that are answered at once, with when to try again; more wait in the backlog.
const STANDING_MAX: usize = 256;
/// Headers of a request at most.
pub(super) const HEADERS_MAX: usize = 64;
/// Least buffer that hyper takes.
const HEAD_BYTES_MIN: usize = 8 << 10;

/// Why the API could not be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Tokens and data would cross the network in the clear.
    #[error("will not serve HTTP on {0} without TLS: give it a certificate, or bind 127.0.0.1")]
    PlainBeyondLoopback(SocketAddr),
    /// The address is taken, or not this machine's.
    #[error("bind HTTP to {bind}: {cause}")]
    Bind {
        /// The address.
        bind: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
}

/// Serves `service` until `shutdown` is ready; gives the bound address and the task, which ends when every connection
/// has (after [`HttpLimits::drain_timeout`] at the latest).
///
/// On shutdown nothing more is accepted, event streams end, and requests and result streams that are under way have
/// the drain timeout to finish.
pub async fn serve(
    config: HttpConfig,
    service: Arc<dyn JobService>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(SocketAddr, JoinHandle<()>), HttpError> {
    let HttpConfig {
        bind,
        tls,
        tokens,
        token_table,
        audit,
        ready,
        allowed_hosts,
        cors_origins,
        eval,
        limits,
        metrics,
        live,
    } = config;
    if tls.is_none() && !bind.ip().to_canonical().is_loopback() {
        return Err(HttpError::PlainBeyondLoopback(bind));
    }
    let bound = async {
        let listener = listen(bind)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let (listener, address) = bound.await.map_err(|cause| HttpError::Bind { bind, cause })?;
    let acceptor = tls.map(|tls| {
        let mut tls = (*tls).clone();
        tls.alpn_protocols = vec![h2::ALPN.to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(tls))
    });
    let stop = CancellationToken::new();
    let pulse = Pulse::new(Arc::clone(&service), stop.clone());
    let api = Arc::new(Api {
        service,
        tokens,
        token_table,
        sessions: Sessions::new(limits.sessions_max, limits.session_idle),
        secure: acceptor.is_some(),
        audit,
        pacing: Pacing::new(limits.refusals_per_s_max),
        denials_audited: RateLimiter::direct(Quota::per_second(DENIALS_AUDITED_PER_S)),
        ready,
        allowed_hosts,
        cors_origins,
        eval,
        in_flight: Semaphore::new(limits.requests_in_flight_max),
        clients: Clients::default(),
        streams: Arc::new(Semaphore::new(limits.streams_max)),
        watchers: Arc::new(Semaphore::new(limits.watchers_max)),
        pulse,
        stop: stop.clone(),
        live: live.unwrap_or_else(|| Live::new(limits.clone())),
        limits: limits.clone(),
        profiler: Profiler::default(),
        metrics: metrics.clone(),
    });
    metrics.add(EvalCollector { engine: Arc::downgrade(&api.eval) });
    metrics.add(StreamsCollector {
        streams: (Arc::clone(&api.streams), limits.streams_max),
        watchers: (Arc::clone(&api.watchers), limits.watchers_max),
    });
    let door = Door { router: router(api), acceptor, limits, stop, metrics };
    Ok((address, tokio::spawn(accept(listener, door, shutdown))))
}

fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(bind)?;
    socket.listen(BACKLOG)
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    router: Router,
    acceptor: Option<TlsAcceptor>,
    limits: HttpLimits,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
}

async fn accept(listener: TcpListener, door: Door, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let seats = Arc::new(Semaphore::new(door.limits.connections_max));
    let standing = Arc::new(Semaphore::new(STANDING_MAX));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let seat = match seats.clone().try_acquire_owned() {
                Ok(seat) => (Ok(seat), Crowded(false)),
                Err(_) => tokio::select! {
                    biased;
                    seat = seats.clone().acquire_owned() => (seat, Crowded(false)),
                    place = standing.clone().acquire_owned() => (place, Crowded(true)),
                },
            };
            (seat, listener.accept().await)
        };
        let ((seat, crowded), accepted) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let door = door.clone();
                // A seat may have become free while nobody came.
                let (seat, crowded) = match (crowded, seats.clone().try_acquire_owned()) {
                    (Crowded(true), Ok(free)) => (Ok(free), Crowded(false)),
                    _ => (seat, crowded),
                };
                let open = door.metrics.http.connection();
                connections.spawn(async move {
                    let _seat = (seat, open);
                    serve_connection(stream, PeerIp(peer.ip()), crowded, door).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    door.stop.cancel();
    let drained = timeout(door.limits.drain_timeout, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::info!(connections = connections.len(), "connections cut at shutdown");
        connections.shutdown().await;
    }
}

async fn serve_connection(stream: TcpStream, peer: PeerIp, crowded: Crowded, door: Door) {
    // Small answers should not wait for more; where this fails the connection is gone, as the next read will say.
    let _ = stream.set_nodelay(true);
    let local = LocalIp(stream.local_addr().ok().map(|address| address.ip()));
    let stream = Patient::new(stream, door.limits.write_stall_timeout);
    match &door.acceptor {
        None => drive(stream, None, (local, peer, crowded), &door).await,
        Some(acceptor) => match timeout(door.limits.handshake_timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(h2::ALPN);
                drive(stream, Some(is_h2), (local, peer, crowded), &door).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "tls handshake failed"),
            Err(_) => tracing::debug!("tls handshake timed out"),
        },
    }
}

/// What the guard asks of a connection.
type About = (LocalIp, PeerIp, Crowded);

/// Serves HTTP/2 where the client speaks it: over TLS as agreed there, else by what it says first.
async fn drive(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    agreed: Option<bool>,
    (local, peer, crowded): About,
    door: &Door,
) {
    let (said, is_h2) = match agreed {
        Some(is_h2) => (BytesMut::new(), is_h2),
        None => match timeout(door.limits.head_timeout, h2::begins_with_preface(&mut stream)).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => return tracing::debug!(%error, "connection ended"),
            Err(_) => return tracing::debug!("connection said nothing"),
        },
    };
    let stream = Rewound::new(said, stream);
    let router = TowerToHyperService::new(door.router.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(local);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(crowded);
        router.call(request)
    });
    if is_h2 {
        // There is no header there that says that it was the last answer.
        let idle = if crowded.0 { Duration::ZERO } else { door.limits.h2_idle_timeout };
        return h2::serve(stream, service, &door.limits, idle, &door.stop).await;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(door.limits.head_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(door.limits.head_bytes_max.max(HEAD_BYTES_MIN))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = door.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
