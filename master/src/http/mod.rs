//! The HTTP API: what clients may ask of a master, over HTTP/1.1 and HTTP/2, with TLS wherever it is not loopback; and
//! the same as gRPC ([`grpc`]).
//!
//! [`serve`] binds and starts the accept loop; [`guard`] decides which requests get in, by [`policy`] and [`callers`];
//! [`jobs`], [`batch`], [`schedules`], [`streams`], [`cluster`], [`tokens`] and [`sessions`] answer them; [`body`] reads
//! what they send, [`accept`] and [`compress`] look at what they take; [`openapi`] describes it all; [`refusal`] writes every error as problem+json. All policy about jobs is the [`JobService`]'s: what is
//! decided here is whose they are. A handler that panics costs its own request and nothing else.

mod accept;
mod batch;
mod body;
mod callers;
mod cluster;
mod compress;
mod conn;
mod debug;
pub(crate) mod detail;
mod eval;
pub(crate) mod events;
pub mod grpc;
mod guard;
mod h2;
mod jobs;
mod metrics;
mod openapi;
mod pacing;
mod policy;
mod refusal;
mod routes;
mod schedules;
mod server;
mod sessions;
mod streams;
#[cfg(test)]
pub(crate) mod tests;
mod tokens;
mod trace;

pub use server::{HttpError, serve};

use crate::access::audit::AuditLog;
use crate::access::sessions::Sessions;
use crate::access::tokens::TokenTable;
use crate::eval::{EvalConfig, EvalEngine};
use crate::metrics::Metrics;
use crate::profile::Profiler;
use crate::pulse::Pulse;
use crate::ui::{self, Ui};
use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use governor::DefaultDirectRateLimiter;
use pacing::Pacing;
use quipu_shared::api::{
    BATCH_PATH, CHECK_PATH, CLUSTER_PATH, CPU_PROFILE_PATH, DOCUMENT_PATH, EVAL_PATH, EVENTS_PATH, HEALTH_PATH,
    HEAP_PATH, IDEMPOTENCY_KEY_HEADER, JOBS_PATH, LOGIN_PATH, LOGOUT_PATH, METRICS_PATH, NODES_PATH, READY_PATH,
    SCHEDULES_PATH, THREADS_PATH, TOKENS_PATH, TRACEPARENT_HEADER, UPLOADS_PATH, VERSION_PATH,
};
use quipu_shared::live::Live;
use quipu_shared::service::{ErrorKind, JobService};
use refusal::Refusal;
use routes::Routes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_rustls::rustls;
use tokio_util::sync::CancellationToken;
use tower_http::cors::CorsLayer;

/// Says whether a bearer token is one of the cluster's. It must take the same time for every wrong token.
pub type TokenVerifier = Arc<dyn Fn(&str) -> bool + Send + Sync>;
/// Says whether the master takes jobs now, for `/readyz`.
pub type ReadyProbe = Arc<dyn Fn() -> bool + Send + Sync>;

/// How the API is served.
#[derive(Clone)]
pub struct HttpConfig {
    /// Where to listen; port 0 lets the system choose. Anything but loopback needs `tls`.
    pub bind: SocketAddr,
    /// Certificate and key. Its ALPN protocols are replaced by those that the server speaks.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Who may ask.
    pub tokens: TokenVerifier,
    /// The tokens that operators have made.
    pub token_table: Arc<TokenTable>,
    /// Where it is written down who did what.
    pub audit: Option<AuditLog>,
    /// Whether jobs are accepted; starts as "always".
    pub ready: ReadyProbe,
    /// Host names, without port, under which clients may call this master. Loopback names and the address that a
    /// connection came in on are always allowed.
    pub allowed_hosts: Vec<String>,
    /// Origins of other sites whose pages may ask; none, unless somebody says so.
    pub cors_origins: Vec<String>,
    /// Evaluates formulas at once.
    pub eval: Arc<EvalEngine>,
    /// What one client may cost.
    pub limits: HttpLimits,
    /// What `/metrics` gives, and where requests are counted.
    pub metrics: Arc<Metrics>,
    /// The same, for those that may change while it serves (`LIVE_KEYS` of the configuration); without it, none does.
    pub live: Option<Live<HttpLimits>>,
}

impl HttpConfig {
    /// The default configuration: no TLS, no further host names, always ready.
    pub fn new(bind: SocketAddr, tokens: TokenVerifier) -> Self {
        Self {
            bind,
            tls: None,
            tokens,
            token_table: Arc::default(),
            audit: None,
            ready: Arc::new(|| true),
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            eval: EvalEngine::new(EvalConfig::default()),
            limits: HttpLimits::default(),
            metrics: Arc::default(),
            live: None,
        }
    }
}

/// What clients may cost. Every one of these is there because a client without it could hold the server's memory, its
/// sockets or its tasks for as long as it likes.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Bytes of a JSON body. It is read into memory before it is parsed; large batches are its use.
    pub request_bytes_max: usize,
    /// Bytes of a request for formulas to be evaluated at once.
    pub eval_bytes_max: usize,
    /// Bytes of an upload. It is streamed; the service has a limit for all of them together.
    pub upload_bytes_max: u64,
    /// Bytes of a request's head. Beyond the token and a trace context there is little to say in it.
    pub head_bytes_max: usize,
    /// Connections; a further one is told to try again and closed. An idle one takes 20 to 30 kB.
    pub connections_max: usize,
    /// Requests that are being answered (a stream counts until its head is sent); more are told to try again.
    pub requests_in_flight_max: usize,
    /// The same of one client, by its address; a network of IPv6 (64 bits) is one client.
    pub requests_per_client_max: usize,
    /// Jobs of one batch. All of them are in memory until the last is accepted.
    pub batch_jobs_max: usize,
    /// Refusals a second and token that are answered at once; further ones wait a second.
    pub refusals_per_s_max: u32,
    /// Browsers that are logged in.
    pub sessions_max: usize,
    /// How long a browser stays logged in without a request.
    pub session_idle: Duration,
    /// Streams of one job's events or results; more are told to try again.
    pub streams_max: usize,
    /// Streams of the cluster's events and of the dashboard's; each is told what is there already, and so costs little.
    pub watchers_max: usize,
    /// Requests of one connection of HTTP/2 at once.
    pub h2_streams_max: u32,
    /// How long a connection of HTTP/2 is kept that asks nothing.
    pub h2_idle_timeout: Duration,
    /// Formulas of one stream of evaluations that are under way; more are read when these are answered.
    pub evaluations_in_flight_max: usize,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// For a whole request head, from the first moment the server waits for it: so also how long an idle connection
    /// is kept.
    pub head_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_idle_timeout: Duration,
    /// For a client that does not read what it asked for. Long, because a person may page through results.
    pub write_stall_timeout: Duration,
    /// For the first results of a job that has not ended, before its stream begins: what fails meanwhile is answered with
    /// its reason. Most jobs that are small end in that time. Short, since the request keeps its place.
    pub small_job_patience: Duration,
    /// For what is under way when the server is told to stop.
    pub drain_timeout: Duration,
    /// Between comments on a silent event stream, so that both sides notice a dead one.
    pub keep_alive_interval: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            request_bytes_max: 16 << 20,
            eval_bytes_max: 1 << 20,
            upload_bytes_max: 64 << 30,
            head_bytes_max: 32 << 10,
            connections_max: 8192,
            requests_in_flight_max: 128,
            requests_per_client_max: 96,
            batch_jobs_max: 10_000,
            refusals_per_s_max: 500,
            sessions_max: 1_000,
            session_idle: Duration::from_secs(12 * 3600),
            streams_max: 512,
            watchers_max: 2_048,
            h2_streams_max: 128,
            h2_idle_timeout: Duration::from_secs(300),
            evaluations_in_flight_max: 64,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(30),
            write_stall_timeout: Duration::from_secs(600),
            small_job_patience: Duration::from_millis(50),
            drain_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(15),
        }
    }
}

/// What every handler sees.
struct Api {
    service: Arc<dyn JobService>,
    tokens: TokenVerifier,
    token_table: Arc<TokenTable>,
    sessions: Sessions,
    /// Whether cookies may travel over TLS only.
    secure: bool,
    audit: Option<AuditLog>,
    pacing: Pacing,
    /// How many denials a second are written down.
    denials_audited: DefaultDirectRateLimiter,
    ready: ReadyProbe,
    allowed_hosts: Vec<String>,
    cors_origins: Vec<String>,
    eval: Arc<EvalEngine>,
    /// As they were at the start.
    limits: HttpLimits,
    metrics: Arc<Metrics>,
    profiler: Profiler,
    /// As they are now: for those that may change meanwhile.
    live: Live<HttpLimits>,
    in_flight: Semaphore,
    clients: guard::Clients,
    streams: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    pulse: Arc<Pulse>,
    /// Cancelled when the server is to stop.
    stop: CancellationToken,
}

impl Api {
    /// What the dashboard needs of it.
    fn ui(&self) -> Ui {
        Ui {
            service: Arc::clone(&self.service),
            pulse: Arc::clone(&self.pulse),
            watchers: Arc::clone(&self.watchers),
            keep_alive: self.limits.keep_alive_interval,
            stop: self.stop.clone(),
        }
    }
}

type ApiState = axum::extract::State<Arc<Api>>;

/// The table of paths. What is not a page stands in the API's document ([`openapi`]), too.
fn routes() -> Routes {
    Routes::default()
        .route(JOBS_PATH, post(jobs::submit).get(jobs::list))
        // `{job}` is a whole segment: `17:cancel` too is matched here, and told apart in the handler.
        .route(BATCH_PATH, post(batch::submit))
        .route(EVAL_PATH, post(eval::evaluate))
        .route(CHECK_PATH, post(eval::check))
        .route(&format!("{JOBS_PATH}/{{job}}"), get(jobs::show).post(jobs::act).delete(jobs::forget))
        .route(&format!("{JOBS_PATH}/{{job}}/explain"), get(jobs::explain))
        .route(&format!("{JOBS_PATH}/{{job}}/detail"), get(detail::detail))
        .route(&format!("{JOBS_PATH}/{{job}}/shards"), get(detail::shards))
        .route(&format!("{JOBS_PATH}/{{job}}/attempts"), get(detail::attempts))
        .route(&format!("{JOBS_PATH}/{{job}}/events"), get(streams::events))
        .route(&format!("{JOBS_PATH}/{{job}}/results"), get(streams::results))
        .route(SCHEDULES_PATH, get(schedules::list).post(schedules::add))
        .route(
            &format!("{SCHEDULES_PATH}/{{schedule}}"),
            get(schedules::show).post(schedules::act).delete(schedules::remove),
        )
        .route(UPLOADS_PATH, put(streams::upload))
        .route(NODES_PATH, get(cluster::nodes))
        .route(&format!("{NODES_PATH}/{{node}}"), post(cluster::act))
        .route(&format!("{NODES_PATH}/{{node}}/attempts"), get(detail::node_attempts))
        .route(CLUSTER_PATH, get(events::cluster))
        .route(EVENTS_PATH, get(events::events))
        .route(TOKENS_PATH, get(tokens::list).post(tokens::add))
        .route(&format!("{TOKENS_PATH}/{{token}}"), delete(tokens::revoke))
        .route(LOGIN_PATH, get(sessions::form).post(sessions::log_in))
        .route(LOGOUT_PATH, post(sessions::log_out))
        .route(METRICS_PATH, get(metrics::scrape))
        .route(CPU_PROFILE_PATH, get(debug::cpu_profile))
        .route(HEAP_PATH, get(debug::heap))
        .route(THREADS_PATH, get(debug::threads))
        .route(VERSION_PATH, get(cluster::version))
        .route(HEALTH_PATH, get(cluster::health))
        .route(READY_PATH, get(cluster::ready))
        .route(DOCUMENT_PATH, get(openapi::document))
        .pages(openapi::pages())
}

fn router(api: Arc<Api>) -> Router {
    let router = routes()
        .into_router()
        .merge(ui::routes(api.ui()))
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(compress::layer())
        .with_state(api.clone())
        .merge(grpc::router(&api))
        .layer(middleware::from_fn(trace::trace))
        .layer(middleware::from_fn_with_state(api.clone(), guard::guard))
        // Outermost, so that what the guard refuses is counted too.
        .layer(middleware::from_fn_with_state(api.clone(), metrics::measure))
        .layer(middleware::from_fn_with_state(api.clone(), grpc::speak));
    match cors(&api.cors_origins) {
        Some(layer) => router.layer(layer),
        None => router,
    }
}

/// Tells browsers which pages of other origins may ask; without any, nothing at all. Cookies are never theirs to send.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let asked = [IDEMPOTENCY_KEY_HEADER, TRACEPARENT_HEADER, "last-event-id"].map(HeaderName::from_static);
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE].into_iter().chain(asked).collect::<Vec<_>>())
            .expose_headers([header::LOCATION, header::RETRY_AFTER]),
    )
}

/// Whether a path is asked by machines all the time, and tells nobody anything of one request.
fn is_probe(path: &str) -> bool {
    matches!(path, HEALTH_PATH | READY_PATH | grpc::HEALTH_CHECK_PATH)
}

async fn no_such_route(uri: axum::http::Uri) -> Refusal {
    Refusal::new(ErrorKind::NotFound, "no_such_route", format!("there is nothing at {:?}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: axum::http::Uri) -> Response {
    let message = format!("{:?} does not take {method}; the header Allow names what it takes", uri.path());
    let refusal = Refusal::new(ErrorKind::Usage, "method_not_allowed", message);
    (jobs::allowed(uri.path()), refusal.with_status(StatusCode::METHOD_NOT_ALLOWED)).into_response()
}
