//! Requirement 1: who has no certificate of the cluster, no secret, or another name than it says, does not get in; and
//! none of them keeps others out.

use super::support::{Cluster, DEADLINE, trust_of, until, within};
use crate::ids::{NodeId, Role};
use crate::link::handshake::{Channel, read_preface, write_preface};
use crate::link::node::cluster_name;
use crate::link::{LINK_VERSION, LinkLimits};
use crate::trust::identity::http_client_config;
use crate::trust::proof::Side;
use crate::trust::{CertificateFiles, ClusterSecret, NodeTrust, OwnCertificate, Pki, node_name};
use prost::Message;
use rustls_pki_types::ServerName;
use sha2::{Digest, Sha256};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use uuid::Uuid;

// The messages of ractor_cluster's handshake, as an attacker would write them.

#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    connection_string: String,
    #[prost(uint64, tag = "4")]
    connection_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Challenge {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "3")]
    challenge: u32,
    #[prost(string, tag = "4")]
    connection_string: String,
}

#[derive(Clone, PartialEq, Message)]
struct Reply {
    #[prost(uint32, tag = "1")]
    challenge: u32,
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Auth {
    #[prost(message, optional, tag = "1")]
    name: Option<Name>,
    #[prost(message, optional, tag = "4")]
    challenge: Option<Challenge>,
    #[prost(message, optional, tag = "5")]
    reply: Option<Reply>,
}

#[derive(Clone, PartialEq, Message)]
struct Network {
    #[prost(message, optional, tag = "1")]
    auth: Option<Auth>,
}

fn name_message(name: &str) -> Auth {
    let name = Name { name: name.to_owned(), connection_string: "elsewhere:1".to_owned(), connection_id: 1 };
    Auth { name: Some(name), ..Auth::default() }
}

async fn tell<S: AsyncWrite + Unpin>(stream: &mut S, auth: Auth) -> io::Result<()> {
    let bytes = Network { auth: Some(auth) }.encode_to_vec();
    stream.write_u64(bytes.len() as u64).await?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// The node server's challenge to an announced name.
async fn challenge<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, name: &str) -> io::Result<Challenge> {
    tell(stream, name_message(name)).await?;
    loop {
        let mut bytes = vec![0; stream.read_u64().await? as usize];
        stream.read_exact(&mut bytes).await?;
        if let Some(challenge) = Network::decode(&bytes[..]).unwrap().auth.and_then(|auth| auth.challenge) {
            return Ok(challenge);
        }
    }
}

/// Waits for the other end to close, whatever it says before.
async fn closed<S: AsyncRead + Unpin>(stream: &mut S) {
    within("the close", async {
        let mut bytes = [0; 4096];
        while !matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)) {}
    })
    .await;
}

async fn tcp(address: SocketAddr) -> TcpStream {
    within("the connect", TcpStream::connect(address)).await.unwrap()
}

async fn tls(address: SocketAddr, config: Arc<rustls::ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let server_name = ServerName::try_from("quipu").unwrap();
    within("the TLS handshake", TlsConnector::from(config).connect(server_name, tcp(address).await)).await
}

async fn link_tls(cluster: &Cluster, trust: &NodeTrust) -> io::Result<TlsStream<TcpStream>> {
    tls(cluster.address(), trust.link_client_config().unwrap()).await
}

/// A party with an identity of the cluster, up to where ractor_cluster begins.
async fn insider(cluster: &Cluster, trust: &NodeTrust) -> TlsStream<TcpStream> {
    let mut stream = link_tls(cluster, trust).await.unwrap();
    let channel = Channel::of_client(stream.get_ref().1).unwrap();
    let master = within("the preface", read_preface(&mut stream, Side::Server, &channel, trust)).await.unwrap();
    assert_eq!(master, cluster.name);
    write_preface(&mut stream, Side::Client, &channel, trust).await.unwrap();
    stream
}

/// In TLS 1.3 the client is done before the server has seen its certificate: the refusal comes with the first read.
async fn refused(cluster: &Cluster, shaken: io::Result<TlsStream<TcpStream>>) {
    if let Ok(mut stream) = shaken {
        let read = within("the refusal", stream.read_u8()).await;
        assert!(read.is_err(), "the master spoke: {read:?}");
    }
    until("the count", || cluster.master.stats().handshakes_failed == 1).await;
    assert_eq!(cluster.master.stats().peers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_tcp_gets_no_answer_of_the_node_server() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let mut stream = tcp(cluster.address()).await;
    let answer = within("the close", challenge(&mut stream, "worker-x@a")).await;
    assert!(answer.is_err(), "a challenge without TLS: {answer:?}");
    until("the count", || cluster.master.stats().handshakes_failed == 1).await;
    cluster.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_without_a_client_certificate_is_refused() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    // It even knows the cluster's authority.
    let ca = cluster.secret.ca_pem("link-tests").unwrap();
    let config = http_client_config(ca.as_bytes()).unwrap();
    // With the right name, so that the client has no objection of its own.
    let name = ServerName::try_from(cluster.name.to_string()).expect("random node ids make short names");
    let shaken = within("TLS", TlsConnector::from(Arc::new(config)).connect(name, tcp(cluster.address()).await)).await;
    assert!(shaken.is_ok(), "the client has no objection: {:?}", shaken.err());
    refused(&cluster, shaken).await;
    cluster.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_of_another_cluster_is_refused() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let foreign_secret = ClusterSecret::generate().unwrap();
    let foreign = trust_of(&foreign_secret, node_name(Role::Worker, &NodeId::random(Role::Worker), Uuid::new_v4()));
    // As itself it does not trust the master; so with the cluster's own eyes and its foreign certificate.
    let own = link_tls(&cluster, &foreign).await;
    assert!(own.is_err(), "the foreign worker trusts this master");
    until("the count", || cluster.master.stats().handshakes_failed == 1).await;
    let mut config = Arc::unwrap_or_clone(cluster.worker_trust().link_client_config().unwrap());
    config.client_auth_cert_resolver = foreign.link_identity().clone();
    let mut stream = tls(cluster.address(), Arc::new(config)).await.unwrap();
    let read = within("the refusal", stream.read_u8()).await;
    assert!(read.is_err(), "the master spoke: {read:?}");
    until("the count", || cluster.master.stats().handshakes_failed == 2).await;
    cluster.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_other_than_the_certificates_is_refused_in_the_preface() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let (certified, announced) = (cluster.worker_trust(), cluster.worker_trust());
    let mut stream = link_tls(&cluster, &certified).await.unwrap();
    let channel = Channel::of_client(stream.get_ref().1).unwrap();
    read_preface(&mut stream, Side::Server, &channel, &certified).await.unwrap();
    write_preface(&mut stream, Side::Client, &channel, &announced).await.unwrap();
    closed(&mut stream).await;
    until("the count", || cluster.master.stats().handshakes_failed == 1).await;
    cluster.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_other_than_the_certificates_is_refused_by_the_node_server() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let trust = cluster.worker_trust();
    let mut stream = insider(&cluster, &trust).await;
    let victim = cluster.worker_trust();
    let asked = within("the challenge", challenge(&mut stream, &cluster_name(victim.name()))).await.unwrap();
    // Its own cookie is no secret: the answer is right, only the name is not.
    let mut digest = Sha256::new();
    digest.update(asked.challenge.to_be_bytes());
    digest.update(b"quipu/v1/link");
    let reply = Reply { challenge: 1, digest: digest.finalize().to_vec() };
    tell(&mut stream, Auth { reply: Some(reply), ..Auth::default() }).await.unwrap();
    closed(&mut stream).await;
    until("the count", || cluster.master.stats().impostors == 1).await;
    assert_eq!(cluster.master.stats().peers, 0);
    cluster.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn master_does_not_link_to_a_master() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let other = trust_of(&cluster.secret, node_name(Role::Master, &NodeId::random(Role::Master), Uuid::new_v4()));
    let mut stream = insider(&cluster, &other).await;
    closed(&mut stream).await;
    assert_eq!(cluster.master.stats().handshakes_failed, 1);
}

/// Certificates of an own authority for one name, good for `Pki::Own`.
fn own_certificate(folder: &Path, dns: &str) -> OwnCertificate {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![dns.to_owned()]).unwrap();
    params.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap();
    let files = OwnCertificate {
        files: CertificateFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") },
        authorities: folder.join("authorities.pem"),
    };
    std::fs::write(&files.files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.files.key, key.serialize_pem()).unwrap();
    std::fs::write(&files.authorities, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    files
}

// With an own authority, others than this cluster's nodes may have certificates of it: they lack the secret.
#[tokio::test]
async fn certificate_without_the_secret_fails_the_proof() {
    let folder = tempfile::tempdir().unwrap();
    let files = own_certificate(folder.path(), "seven.example");
    let id = NodeId::try_from("seven".to_owned()).unwrap();
    let make = |secret: &ClusterSecret, role| {
        let name = node_name(role, &id, Uuid::new_v4());
        NodeTrust::new(secret, "own", name, &Pki::Own(files.clone()), SystemTime::now()).unwrap()
    };
    let secret = ClusterSecret::generate().unwrap();
    let master = make(&secret, Role::Master);
    for (worker, good) in
        [(make(&secret, Role::Worker), true), (make(&ClusterSecret::generate().unwrap(), Role::Worker), false)]
    {
        let (near, far) = tokio::io::duplex(1 << 16);
        let acceptor = tokio_rustls::TlsAcceptor::from(master.link_server_config().unwrap());
        let connector = TlsConnector::from(worker.link_client_config().unwrap());
        let name = ServerName::try_from("ignored").unwrap();
        let (server, client) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        let at_server = Channel::of_server(server.get_ref().1).unwrap();
        let at_client = Channel::of_client(client.get_ref().1).unwrap();
        assert_eq!(at_server.token, at_client.token);
        write_preface(&mut client, Side::Client, &at_client, &worker).await.unwrap();
        let read = read_preface(&mut server, Side::Client, &at_server, &master).await;
        assert_eq!(read.is_ok(), good, "{:?}", read.err());
        // A proof that comes back to its maker is of the wrong side.
        write_preface(&mut server, Side::Server, &at_server, &master).await.unwrap();
        let reflected = read_preface(&mut client, Side::Client, &at_client, &master).await;
        assert!(reflected.is_err());
    }
}

#[tokio::test]
async fn foreign_protocols_and_versions_are_told_apart() {
    let secret = ClusterSecret::generate().unwrap();
    let trust = trust_of(&secret, node_name(Role::Worker, &NodeId::random(Role::Worker), Uuid::new_v4()));
    let certified = crate::trust::CertificateNames::of(&trust.link_identity().current().cert[0]);
    let channel = Channel { proof: [0; 32], token: [0; 16], certified };
    let mut good = Vec::new();
    write_preface(&mut good, Side::Server, &channel, &trust).await.unwrap();
    let read = async |bytes: Vec<u8>| {
        let error = read_preface(&mut &bytes[..], Side::Server, &channel, &trust).await.unwrap_err();
        error.to_string()
    };
    assert_eq!(read(good.clone()).await, "this node dialed itself");
    assert!(read(b"HTTP/1.1 400 Bad Request".to_vec()).await.contains("does not speak"));
    let mut newer = good.clone();
    newer[4] = LINK_VERSION + 1;
    let message = read(newer).await;
    assert!(message.contains("version 2") && message.contains("this node 1"), "{message}");
    let mut long_name = good.clone();
    long_name[13] = 255;
    assert!(read(long_name).await.contains("malformed"));
    let mut many_proofs = good.clone();
    let count_at = 14 + usize::from(good[13]);
    many_proofs[count_at] = 9;
    assert!(read(many_proofs).await.contains("malformed"));
    for cut in 0..good.len() {
        read(good[..cut].to_vec()).await;
    }
}

// The reflection of ractor_cluster's handshake needs a listener that answers; its own, on loopback, answers nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_servers_own_listener_answers_nobody() {
    let cluster = Cluster::start(LinkLimits::default()).await;
    let trust = cluster.worker_trust();
    let mut stream = insider(&cluster, &trust).await;
    // The challenge tells its port.
    let told = within("the challenge", challenge(&mut stream, &cluster_name(trust.name()))).await.unwrap();
    let port: u16 = told.connection_string.rsplit(':').next().unwrap().parse().unwrap();
    let inner: SocketAddr = ([127, 0, 0, 1], port).into();

    let mut plain = tcp(inner).await;
    let answer = within("the close", challenge(&mut plain, "worker-x@a")).await;
    assert!(answer.is_err(), "a challenge without TLS: {answer:?}");
    let shaken = tls(inner, trust.link_client_config().unwrap()).await;
    assert!(shaken.is_err(), "it took a certificate of the cluster, which only the link may");
    drop(stream);
    cluster.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_do_not_block_accepts() {
    // Only by pushing out the oldest can a worker get in before the deadline of the tests.
    let limits = LinkLimits { handshake_timeout: 10 * DEADLINE, handshakes_max: 8, ..LinkLimits::default() };
    let cluster = Cluster::start(limits).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(tcp(cluster.address()).await);
    }
    cluster.still_serves().await;
    assert!(cluster.master.stats().handshakes_evicted >= 32);
    closed(&mut silent[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_client_is_dropped_after_the_handshake_timeout() {
    let limits = LinkLimits { handshake_timeout: Duration::from_millis(200), ..LinkLimits::default() };
    let cluster = Cluster::start(limits).await;
    let mut before_tls = tcp(cluster.address()).await;
    closed(&mut before_tls).await;
    let mut before_preface = link_tls(&cluster, &cluster.worker_trust()).await.unwrap();
    closed(&mut before_preface).await;
    until("the count", || cluster.master.stats().handshakes_failed == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_frame_before_authentication_closes_at_its_header() {
    let cluster = Cluster::start(LinkLimits { preauth_timeout: 10 * DEADLINE, ..LinkLimits::default() }).await;
    let mut stream = insider(&cluster, &cluster.worker_trust()).await;
    stream.write_u64((16 << 20) + 1).await.unwrap();
    stream.flush().await.unwrap();
    closed(&mut stream).await;
    let mut stream = insider(&cluster, &cluster.worker_trust()).await;
    stream.write_all(&[0, 0, 0, 0, 0, 0, 0, 1, 0xff]).await.unwrap();
    stream.flush().await.unwrap();
    closed(&mut stream).await;
    cluster.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_before_authentication_is_bounded_in_bytes_and_time() {
    let limits = LinkLimits { preauth_timeout: Duration::from_millis(500), ..LinkLimits::default() };
    let cluster = Cluster::start(limits).await;
    let mut stream = insider(&cluster, &cluster.worker_trust()).await;
    // Frames that a node server would put into its mailbox, each an actor message.
    let mut flood = Vec::new();
    for _ in 0..4096 {
        flood.extend(4_u64.to_be_bytes());
        flood.extend([0x12, 0x02, 0x0a, 0x00]);
    }
    let start = Instant::now();
    let mut sent = 0_usize;
    within("the close", async {
        while stream.write_all(&flood).await.is_ok() && stream.flush().await.is_ok() {
            sent += flood.len();
        }
    })
    .await;
    // What both sockets buffer, at most a few MB; without a budget it goes on for as long as it likes.
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    assert!(start.elapsed() < DEADLINE / 2, "{:?}", start.elapsed());
    cluster.still_serves().await;
}

// Requirement 5: the process gave its old link up, which this end has not noticed: the new one replaces it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newer_connection_of_a_process_replaces_the_older() {
    let cluster = Cluster::start(LinkLimits { preauth_timeout: 10 * DEADLINE, ..LinkLimits::default() }).await;
    let trust = cluster.worker_trust();
    let mut older = insider(&cluster, &trust).await;
    within("the challenge", challenge(&mut older, &cluster_name(trust.name()))).await.unwrap();
    let mut newer = insider(&cluster, &trust).await;
    closed(&mut older).await;
    within("the challenge", challenge(&mut newer, &cluster_name(trust.name()))).await.unwrap();
}
