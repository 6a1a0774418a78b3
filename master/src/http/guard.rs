//! Which requests get in: Host, Origin, token and role, and how many at a time. What is changed or refused is audited.

use super::policy::{Need, is_audited, need};
use super::refusal::Refusal;
use super::{Api, ApiState, callers};
use crate::access::audit::AuditEntry;
use crate::ui::{KEPT_FOR_GOOD, login};
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use quipu_shared::access::{AccessRole, Caller};
use quipu_shared::service::ErrorKind;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Seconds after which to try again when too many requests or streams are open: most requests take milliseconds.
pub(super) const BUSY_RETRY_AFTER_S: u64 = 1;

/// Characters of a path that the audit log has of it.
const AUDITED_PATH_CHARS_MAX: usize = 256;

/// The address on which a connection came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalIp(pub(super) Option<IpAddr>);

pub(super) async fn guard(State(api): ApiState, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let crowded = is_crowded(&request);
    let peer = request.extensions().get::<PeerIp>().map(|peer| peer.0);
    let wants_page = method == Method::GET && accepts_html(request.headers());
    let mut caller = None;
    let mut response = match admit(&api, &request, &mut caller) {
        Ok(_place) => {
            if let Some(caller) = &caller {
                request.extensions_mut().insert(caller.clone());
            }
            AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
                // The panic's message is on stderr already; it may name things that are not the client's business.
                let message = "the request hit a defect; the master's log has more";
                Refusal::new(ErrorKind::Internal, "panic", message).into_response()
            })
        }
        Err(refusal) => refuse(refusal, wants_page),
    };
    // The request's place is given back by now.
    match api.pacing.delay(caller.as_ref(), &response) {
        Duration::ZERO => {}
        delay => tokio::time::sleep(delay).await,
    }
    let headers = response.headers_mut();
    // Files of the dashboard may be kept; their names change with them.
    if headers.get(header::CACHE_CONTROL).is_none_or(|wanted| wanted != KEPT_FOR_GOOD) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if crowded {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(entry) = audited(&api, caller.as_ref(), &method, &path, &response)
        && let Some(log) = &api.audit
    {
        log.write(AuditEntry { peer, ..entry }).await;
    }
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(%method, path, status = response.status().as_u16(), elapsed_ms, "request answered");
    response
}

/// Whether a connection came when all places were taken: it gets one answer, and is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowded(pub(super) bool);

/// A refusal, as a page where a browser asks for one and has not logged in.
fn refuse(refusal: Refusal, wants_page: bool) -> Response {
    let response = refusal.into_response();
    if wants_page && response.status() == StatusCode::UNAUTHORIZED {
        return login::response(StatusCode::UNAUTHORIZED, None);
    }
    response
}

/// Whether somebody asked for what is not theirs.
fn is_denial(response: &Response) -> bool {
    matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|text| text.split(',')).any(|range| range.trim().starts_with("text/html"))
}

/// What is written down of a request: who changed something, or was refused; of the latter no more than somebody could
/// read.
fn audited(api: &Api, caller: Option<&Caller>, method: &Method, path: &str, response: &Response) -> Option<AuditEntry> {
    let status = response.status();
    let written = if is_denial(response) {
        api.denials_audited.check().is_ok()
    } else {
        caller.is_some() && is_audited(method, path)
    };
    if !written {
        return None;
    }
    let path: String = path.chars().take(AUDITED_PATH_CHARS_MAX).collect();
    let mut entry = AuditEntry::new(caller, method.as_str(), &path, status.as_u16());
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    entry.location = location.map(ToOwned::to_owned);
    Some(entry)
}

/// The address that a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerIp(pub(super) IpAddr);

/// Requests in flight of each client that has one.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<HashMap<IpAddr, usize>>);

impl Clients {
    /// A further request of this client; none where it has `max` already.
    fn enter(&self, peer: IpAddr, max: usize) -> Option<ClientPlace<'_>> {
        let client = client_of(peer);
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(client).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(ClientPlace { clients: self, client })
    }
}

/// Who counts as one client: an address of IPv4, a network of IPv6, in which one machine has as many addresses as it
/// likes.
fn client_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

/// A client's request in flight.
struct ClientPlace<'a> {
    clients: &'a Clients,
    client: IpAddr,
}

impl Drop for ClientPlace<'_> {
    fn drop(&mut self) {
        let mut clients = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// A request's places among those in flight.
struct Place<'a> {
    _total: tokio::sync::SemaphorePermit<'a>,
    _client: Option<ClientPlace<'a>>,
}

/// Lets a request in, with its place among those in flight (probes need none). Says who asks as soon as that is known: of
/// who is denied something, too.
fn admit<'a>(api: &'a Api, request: &Request, caller: &mut Option<Caller>) -> Result<Option<Place<'a>>, Refusal> {
    let local = request.extensions().get::<LocalIp>().and_then(|ip| ip.0);
    let host = request_host(request)?;
    if !host_allowed(&host, local, &api.allowed_hosts) {
        let message = format!(
            "host {:?} is not one of this master's names; call it by its address, or add the name to its allowed hosts",
            host.host()
        );
        return Err(Refusal::new(ErrorKind::Forbidden, "host_not_allowed", message));
    }
    check_origin(request.headers(), &host, &api.cors_origins)?;
    match need(request.method(), request.uri().path()) {
        Need::Nothing => return Ok(None),
        _ if is_crowded(request) => {
            let max = api.limits.connections_max;
            let message = format!("{max} connections are open already (limits.connections_max)");
            return Err(
                Refusal::new(ErrorKind::Busy, "too_many_connections", message).retry_after_s(BUSY_RETRY_AFTER_S)
            );
        }
        Need::Place => {}
        Need::Role(role) => {
            let known = callers::authenticate(api, request.method(), request.headers())?;
            check_role(caller.insert(known), role)?;
        }
    }
    let peer = request.extensions().get::<PeerIp>().map(|peer| peer.0);
    take_place(api, peer).map(Some)
}

fn check_role(caller: &Caller, role: AccessRole) -> Result<(), Refusal> {
    if caller.role < role {
        let message = format!("the token {:?} has the role {}, and this takes {role}", caller.name, caller.role);
        return Err(Refusal::new(ErrorKind::Forbidden, "role", message));
    }
    if let (AccessRole::Operate, Some(namespace)) = (role, &caller.namespace) {
        let message =
            format!("the token {:?} is kept to namespace {namespace}, and this concerns all of them", caller.name);
        return Err(Refusal::new(ErrorKind::Forbidden, "other_namespace", message));
    }
    Ok(())
}

fn take_place(api: &Api, peer: Option<IpAddr>) -> Result<Place<'_>, Refusal> {
    let max = api.live.get().requests_per_client_max;
    let client = match peer.map(|peer| api.clients.enter(peer, max)) {
        Some(None) => {
            let message =
                format!("{max} requests of this client are in flight already (limits.requests_per_client_max)");
            return Err(
                Refusal::new(ErrorKind::Busy, "too_many_requests_of_client", message).retry_after_s(BUSY_RETRY_AFTER_S)
            );
        }
        place => place.flatten(),
    };
    match api.in_flight.try_acquire() {
        Ok(total) => Ok(Place { _total: total, _client: client }),
        Err(_) => Err(Refusal::new(
            ErrorKind::Busy,
            "too_many_requests",
            format!(
                "{} requests are in flight already (limits.requests_in_flight_max)",
                api.limits.requests_in_flight_max
            ),
        )
        .retry_after_s(BUSY_RETRY_AFTER_S)),
    }
}

fn is_crowded(request: &Request) -> bool {
    request.extensions().get::<Crowded>().is_some_and(|crowded| crowded.0)
}

/// The host that the client means: that of an absolute request line, else the one `Host` header.
fn request_host(request: &Request) -> Result<Authority, Refusal> {
    let bad = |message: &str| Refusal::new(ErrorKind::Usage, "bad_host", message);
    let header = single(request.headers(), &header::HOST)?;
    let named = match (request.uri().authority(), header) {
        (Some(authority), _) => authority.clone(),
        (None, Some(text)) => text.parse::<Authority>().map_err(|_| bad("the Host header is not a host and a port"))?,
        (None, None) => return Err(bad("there is no Host header")),
    };
    if named.as_str().contains('@') {
        return Err(bad("the host has a user name in it"));
    }
    Ok(named)
}

/// Whether a client may call the master by this host. A page of another site that makes its own name resolve to this
/// address (DNS rebinding) still sends its own name.
fn host_allowed(host: &Authority, local: Option<IpAddr>, allowed: &[String]) -> bool {
    let name = host.host();
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let ip = ip.to_canonical();
        if ip.is_loopback() || local.is_some_and(|local| local.to_canonical() == ip) {
            return true;
        }
    }
    name.eq_ignore_ascii_case("localhost") || allowed.iter().any(|a| a.eq_ignore_ascii_case(name) || a == bare)
}

/// Browsers name the site that a request comes from; other clients send no Origin.
fn check_origin(headers: &HeaderMap, host: &Authority, others: &[String]) -> Result<(), Refusal> {
    let Some(origin) = single(headers, &header::ORIGIN)? else {
        return Ok(());
    };
    let same = matches!(origin.split_once("://"),
        Some(("http" | "https", authority)) if authority.eq_ignore_ascii_case(host.as_str()));
    if same || others.iter().any(|other| other == origin) {
        return Ok(());
    }
    let message = format!("requests from the origin {origin:?} are not allowed, only from this host's own pages");
    Err(Refusal::new(ErrorKind::Forbidden, "origin_not_allowed", message))
}

/// The value of a header that may stand once.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(bad_header(name, "stands more than once"));
    }
    match first.map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(bad_header(name, "is not visible ASCII")),
    }
}

fn bad_header(name: &HeaderName, what: &str) -> Refusal {
    Refusal::new(ErrorKind::Usage, "bad_header", format!("the header {name} {what}"))
        .with_status(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::{Clients, host_allowed};
    use std::net::IpAddr;

    #[test]
    fn clients_are_counted_apart_and_forgotten() {
        let clients = Clients::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = clients.enter(ip("192.0.2.1"), 1);
        assert!(first.is_some() && clients.enter(ip("::ffff:192.0.2.1"), 1).is_none());
        assert!(clients.enter(ip("192.0.2.2"), 1).is_some());
        drop(first);
        assert!(clients.enter(ip("192.0.2.1"), 1).is_some());
        let network = clients.enter(ip("2001:db8::1"), 1);
        assert!(network.is_some() && clients.enter(ip("2001:db8::2"), 1).is_none());
        assert!(clients.enter(ip("2001:db8:0:1::1"), 1).is_some());
        drop(network);
        assert!(clients.0.lock().unwrap().is_empty());
    }

    #[test]
    fn hosts_are_loopback_the_connections_address_or_listed() {
        let allowed = ["quipu.example".to_owned(), "203.0.113.9".to_owned(), "2001:db8::9".to_owned()];
        let local = Some("::ffff:192.0.2.7".parse().unwrap());
        let ok = |host: &str| host_allowed(&host.parse().unwrap(), local, &allowed);
        for host in [
            "localhost",
            "LocalHost:7700",
            "127.0.0.1:7700",
            "127.8.8.8",
            "[::1]:7700",
            "192.0.2.7:7700",
            "QUIPU.example:443",
            "203.0.113.9",
            "[2001:db8::9]:1",
        ] {
            assert!(ok(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "192.0.2.8", "127.0.0.1.evil.example", "[::2]", "0.0.0.0"]
        {
            assert!(!ok(host), "{host}");
        }
    }
}
