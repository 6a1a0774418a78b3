use super::authority::Authority;
use super::identity::http_client_config;
use super::proof::Side;
use super::secret::{INFO_CA, INFO_GOSSIP, INFO_HTTP_TOKEN, SECRETS_MAX};
use super::{
    CertificateFiles, CertificateNames, ClusterSecret, NodeName, NodeTrust, OwnCertificate, Pki, SecretError,
    SecretProof,
};
use super::{TrustError, install_crypto_provider, node_name};
use crate::ids::{NodeId, Role};
use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::ServerName;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

fn secret(byte: u8) -> ClusterSecret {
    ClusterSecret::from_bytes([byte; 32])
}

fn both(first: u8, second: u8) -> ClusterSecret {
    let text = format!("{}\n{}\n", *secret(first).to_line(), *secret(second).to_line());
    ClusterSecret::parse(text.as_bytes(), Path::new("both")).unwrap()
}

fn name(role: Role) -> NodeName {
    node_name(role, &NodeId::random(role), Uuid::new_v4())
}

fn trust(secret: &ClusterSecret, role: Role, now: SystemTime) -> NodeTrust {
    NodeTrust::new(secret, "test", name(role), &Pki::Derived, now).unwrap()
}

fn write(folder: &Path, file: &str, text: &str, mode: u32) -> PathBuf {
    let path = folder.join(file);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// A TLS handshake in memory.
fn handshake(
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
    host: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let mut client = ClientConnection::new(client, ServerName::try_from(host.to_owned()).unwrap())?;
    let mut server = ServerConnection::new(server)?;
    // TLS 1.3 needs three flights; a few more than any version needs.
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

#[test]
fn secret_file_takes_comments_blanks_and_several_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("# a comment\n\n  {}  \r\n{}=\n", *secret(1).to_line(), *secret(2).to_line());
    let read = ClusterSecret::read(&write(folder.path(), "s", &text, 0o600)).unwrap();
    assert_eq!(read.count(), 2);
    assert_eq!(read.derive("c", INFO_GOSSIP), secret(1).derive("c", INFO_GOSSIP));
    assert_eq!(read.gossip_keys("c")[1], secret(2).gossip_keys("c")[0]);
}

#[test]
fn wide_mode_is_refused_with_its_fix() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o640, 0o604, 0o660, 0o601] {
        let path = write(folder.path(), &format!("s{mode}"), &secret(1).to_line(), mode);
        let error = ClusterSecret::read(&path).unwrap_err();
        assert!(matches!(error, SecretError::ModeTooWide { .. }), "{error}");
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
    }
    let path = write(folder.path(), "narrow", &secret(1).to_line(), 0o400);
    assert!(ClusterSecret::read(&path).is_ok());
}

#[test]
fn bad_lines_name_file_and_line_and_no_content() {
    let line = secret(7).to_line().to_string();
    let short = &line[..40];
    let long = format!("{line}{line}");
    let foreign = format!("{}!", &line[..42]);
    for bad in [short, &long, &foreign, "hunter2"] {
        let text = format!("# first\n{line}\n{bad}\n");
        let error = ClusterSecret::parse(text.as_bytes(), Path::new("the/file")).unwrap_err().to_string();
        assert!(error.starts_with("the/file, line 3:"), "{error}");
        assert!(!error.contains(bad) && !error.contains(&line[..8]), "{error}");
    }
    assert!(matches!(ClusterSecret::parse(b"# none\n", Path::new("f")), Err(SecretError::Empty { .. })));
    let many: String = (0..=SECRETS_MAX as u8).map(|byte| format!("{}\n", *secret(byte).to_line())).collect();
    assert!(matches!(ClusterSecret::parse(many.as_bytes(), Path::new("f")), Err(SecretError::TooMany { .. })));
}

#[test]
fn debug_forms_show_no_secret() {
    let shown = format!("{:?} {:?} {:?}", secret(7), secret(7).http_tokens("c"), SecretProof::new(&secret(7), "c"));
    assert!(!shown.contains(&secret(7).to_line()[..6]) && !shown.contains("7, 7"), "{shown}");
    assert!(!shown.contains(&secret(7).http_tokens("c").first()[..6]), "{shown}");
}

#[test]
fn missing_secret_file_is_made_once_with_a_narrow_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/state/secret");
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || ClusterSecret::load_or_create(&path).unwrap().to_line().to_string())
        })
        .collect();
    let lines: Vec<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(lines.iter().all(|line| *line == lines[0] && line.len() == 43));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "temporary files stay behind: {left:?}");
    assert_ne!(*ClusterSecret::generate().unwrap().to_line(), lines[0]);
}

#[test]
fn unreadable_file_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "s", "garbage", 0o600);
    assert!(matches!(ClusterSecret::load_or_create(&path), Err(SecretError::Line { line: 1, .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "garbage");
    let missing = ClusterSecret::read(&folder.path().join("none")).unwrap_err();
    assert!(matches!(missing, SecretError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound));
}

#[test]
fn derived_keys_differ_by_cluster_purpose_and_secret() {
    let derived = [
        secret(1).derive("a", INFO_GOSSIP),
        secret(1).derive("b", INFO_GOSSIP),
        secret(1).derive("a", INFO_CA),
        secret(1).derive("a", INFO_HTTP_TOKEN),
        secret(2).derive("a", INFO_GOSSIP),
    ];
    for (i, one) in derived.iter().enumerate() {
        assert!(derived[i + 1..].iter().all(|other| other != one));
    }
}

#[test]
fn http_tokens_of_all_secrets_are_accepted_and_no_others() {
    let tokens = both(1, 2).http_tokens("c");
    assert!(tokens.verify(secret(1).http_tokens("c").first()));
    assert!(tokens.verify(secret(2).http_tokens("c").first()));
    assert_eq!(tokens.first(), secret(1).http_tokens("c").first());
    let cut = &tokens.first()[..42];
    for wrong in ["", "x", cut, secret(3).http_tokens("c").first(), secret(1).http_tokens("d").first()] {
        assert!(!tokens.verify(wrong));
    }
}

#[test]
fn authority_is_the_same_byte_for_byte() {
    let make = |secret: &ClusterSecret, id: &str| Authority::derive_all(secret, id).unwrap().remove(0);
    let one = make(&secret(1), "prod");
    assert_eq!(one.certificate(), make(&secret(1), "prod").certificate());
    assert_eq!(one.pem(), secret(1).ca_pem("prod").unwrap());
    assert_ne!(one.certificate(), make(&secret(2), "prod").certificate());
    assert_ne!(one.certificate(), make(&secret(1), "test").certificate());
    // Pinned: a change of these bytes locks nodes of the old and the new version out of each other's cluster.
    let digest = blake3::hash(one.certificate()).to_hex();
    assert_eq!(&digest[..16], "c5b40aedde1544dc", "the derived authority has changed");
}

#[test]
fn node_certificates_serve_both_ends_of_a_link() {
    let now = SystemTime::now();
    let (master, worker) = (trust(&secret(1), Role::Master, now), trust(&secret(1), Role::Worker, now));
    let (client, server) =
        handshake(worker.link_client_config().unwrap(), master.link_server_config().unwrap(), "ignored").unwrap();
    assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let seen = CertificateNames::of(&server.peer_certificates().unwrap()[0]);
    assert!(master.accepts_name(&seen, worker.name()) && !master.accepts_name(&seen, master.name()));
    let seen = CertificateNames::of(&client.peer_certificates().unwrap()[0]);
    assert!(worker.accepts_name(&seen, master.name()) && !worker.accepts_name(&seen, &name(Role::Master)));
}

#[test]
fn certificates_of_another_cluster_are_refused_at_both_ends() {
    let now = SystemTime::now();
    let ours = trust(&secret(1), Role::Master, now);
    let theirs = trust(&secret(2), Role::Worker, now);
    let mixed = |client: &NodeTrust, server: &NodeTrust| {
        handshake(client.link_client_config().unwrap(), server.link_server_config().unwrap(), "x").map(drop)
    };
    assert!(mixed(&theirs, &ours).is_err());
    assert!(mixed(&ours, &theirs).is_err());
    let other_id = NodeTrust::new(&secret(1), "other", name(Role::Worker), &Pki::Derived, now).unwrap();
    assert!(mixed(&other_id, &ours).is_err());
}

#[test]
fn link_needs_a_client_certificate() {
    let now = SystemTime::now();
    let master = trust(&secret(1), Role::Master, now);
    let bare = http_client_config(secret(1).ca_pem("test").unwrap().as_bytes()).unwrap();
    assert!(handshake(Arc::new(bare), master.link_server_config().unwrap(), master.name().as_str()).is_err());
}

#[test]
fn rotation_links_neighbouring_steps() {
    // Old; old and new; new and old; new: each step talks with the one before and after it.
    let steps = [secret(1), both(1, 2), both(2, 1), secret(2)];
    let now = SystemTime::now();
    let nodes: Vec<NodeTrust> = steps.iter().map(|secret| trust(secret, Role::Worker, now)).collect();
    for pair in nodes.windows(2) {
        for (client, server) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            handshake(client.link_client_config().unwrap(), server.link_server_config().unwrap(), "x").unwrap();
            let proofs = client.proof().make(Side::Client, &[9; 32], "n");
            assert!(server.proof().check(Side::Client, &[9; 32], "n", &proofs));
        }
    }
    let proofs = nodes[0].proof().make(Side::Client, &[9; 32], "n");
    assert!(!nodes[3].proof().check(Side::Client, &[9; 32], "n", &proofs));
}

#[test]
fn proof_is_bound_to_side_session_and_name() {
    let proof = SecretProof::new(&secret(1), "c");
    let made = proof.make(Side::Client, &[1; 32], "n");
    assert!(proof.check(Side::Client, &[1; 32], "n", &made));
    assert!(!proof.check(Side::Server, &[1; 32], "n", &made), "reflected");
    assert!(!proof.check(Side::Client, &[2; 32], "n", &made), "relayed");
    assert!(!proof.check(Side::Client, &[1; 32], "m", &made), "renamed");
    assert!(!proof.check(Side::Client, &[1; 32], "n", &[]), "empty");
}

#[test]
fn certificates_are_renewed_at_half_life_under_a_running_server() {
    let day = Duration::from_secs(24 * 3600);
    let start = SystemTime::now();
    let master = trust(&secret(1), Role::Master, start - 4 * day);
    let server = master.link_server_config().unwrap();
    let http = master.http_server_config(&["localhost".to_owned()], None, start - 4 * day).unwrap();
    let before = master.link_identity().current();
    assert!(!master.renew_if_due(start - day).unwrap(), "three days are less than half");
    assert!(master.renew_if_due(start).unwrap());
    assert!(!master.renew_if_due(start).unwrap(), "once is enough");
    let after = master.link_identity().current();
    assert_ne!(before.cert, after.cert);
    let worker = trust(&secret(1), Role::Worker, start);
    let (client, _) = handshake(worker.link_client_config().unwrap(), server, "x").unwrap();
    assert_eq!(client.peer_certificates().unwrap()[0], after.cert[0], "the running server uses the new one");
    let ca = http_client_config(secret(1).ca_pem("test").unwrap().as_bytes()).unwrap();
    handshake(Arc::new(ca), http, "localhost").unwrap();
}

#[tokio::test(start_paused = true)]
async fn running_node_looks_after_its_certificates_every_hour() {
    // Made four days ago by the system's clock, which does not move with the paused one: due at the first look.
    let master = Arc::new(trust(&secret(1), Role::Master, SystemTime::now() - Duration::from_secs(4 * 24 * 3600)));
    let before = master.link_identity().current();
    let keeper = tokio::spawn(master.clone().keep_renewed());
    tokio::time::sleep(Duration::from_secs(3599)).await;
    assert_eq!(master.link_identity().current().cert, before.cert);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_ne!(master.link_identity().current().cert, before.cert);
    keeper.abort();
}

#[test]
fn expired_and_future_certificates_are_refused() {
    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::now();
    let worker = trust(&secret(1), Role::Worker, now);
    for (made_at, good) in [(now - 8 * day, false), (now + day, false), (now + Duration::from_secs(1800), true)] {
        let master = trust(&secret(1), Role::Master, made_at);
        let shaken = handshake(worker.link_client_config().unwrap(), master.link_server_config().unwrap(), "x");
        assert_eq!(shaken.is_ok(), good, "{:?}", shaken.err());
    }
}

#[test]
fn http_certificate_has_the_hosts_and_no_others() {
    let now = SystemTime::now();
    let master = trust(&secret(1), Role::Master, now);
    let server = master.http_server_config(&["calc.example".to_owned(), "127.0.0.1".to_owned()], None, now).unwrap();
    let client = Arc::new(http_client_config(both(2, 1).ca_pem("test").unwrap().as_bytes()).unwrap());
    handshake(client.clone(), server.clone(), "calc.example").unwrap();
    handshake(client.clone(), server.clone(), "127.0.0.1").unwrap();
    assert!(handshake(client, server.clone(), "other.example").is_err());
    let stranger = http_client_config(secret(2).ca_pem("test").unwrap().as_bytes()).unwrap();
    assert!(handshake(Arc::new(stranger), server, "calc.example").is_err());
    assert!(http_client_config(b"no pem").is_err());
}

#[test]
fn http_may_have_a_certificate_of_its_own_beside_derived_ones() {
    let now = SystemTime::now();
    let folder = tempfile::tempdir().unwrap();
    let own = own_files(folder.path(), &["calc.example"]);
    let master = trust(&secret(1), Role::Master, now);
    let server = master.http_server_config(&[], Some(&own.files), now).unwrap();
    let client =
        |own: &OwnCertificate| Arc::new(http_client_config(&std::fs::read(&own.authorities).unwrap()).unwrap());
    handshake(client(&own), server.clone(), "calc.example").unwrap();
    // One that has connected before would go on with its session.
    let before = client(&own);
    assert!(!master.renew_if_due(now).unwrap(), "unchanged files");
    let renewed = own_files(folder.path(), &["calc.example"]);
    assert!(master.renew_if_due(now).unwrap());
    handshake(client(&renewed), server.clone(), "calc.example").unwrap();
    assert!(handshake(before, server, "calc.example").is_err(), "another authority has signed the new one");
    assert!(
        master
            .http_server_config(&[], Some(&CertificateFiles { certificate: "/no".into(), key: "/no".into() }), now)
            .is_err()
    );
}

/// An own authority, new at each call, and a certificate with these names in files.
fn own_files(folder: &Path, dns: &[&str]) -> OwnCertificate {
    let hosts: Vec<String> = dns.iter().map(|&host| host.to_owned()).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(hosts).unwrap();
    params.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let certificate = params.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap();
    OwnCertificate {
        files: CertificateFiles {
            certificate: write(folder, "cert.pem", &certificate.pem(), 0o644),
            key: write(folder, "key.pem", &key.serialize_pem(), 0o600),
        },
        authorities: write(folder, "ca.pem", &ca_pem, 0o644),
    }
}

#[test]
fn own_certificates_replace_the_derived_authority() {
    let folder = tempfile::tempdir().unwrap();
    let files = own_files(folder.path(), &["worker-7.example", "localhost"]);
    let now = SystemTime::now();
    let own_name = node_name(Role::Worker, &NodeId::try_from("worker-7".to_owned()).unwrap(), Uuid::new_v4());
    let own = NodeTrust::new(&secret(1), "test", own_name, &Pki::Own(files.clone()), now).unwrap();
    let link = |client: &NodeTrust, server: &NodeTrust| {
        handshake(client.link_client_config().unwrap(), server.link_server_config().unwrap(), "x").map(drop)
    };
    link(&own, &own).unwrap();
    let derived = trust(&secret(1), Role::Worker, now);
    assert!(link(&derived, &own).is_err() && link(&own, &derived).is_err());
    let ca = std::fs::read(&files.authorities).unwrap();
    let http = own.http_server_config(&[], None, now).unwrap();
    handshake(Arc::new(http_client_config(&ca).unwrap()), http, "localhost").unwrap();

    assert!(!own.renew_if_due(now).unwrap(), "unchanged files");
    std::fs::write(&files.files.certificate, "torn").unwrap();
    assert!(own.renew_if_due(now).is_err());
    link(&own, &own).unwrap();
    own_files(folder.path(), &["worker-7.example"]);
    assert!(own.renew_if_due(now).unwrap(), "replaced files");
}

#[test]
fn own_certificate_of_another_name_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let files = own_files(folder.path(), &["worker-8.example"]);
    let own_name = node_name(Role::Worker, &NodeId::try_from("worker-7".to_owned()).unwrap(), Uuid::new_v4());
    let error = NodeTrust::new(&secret(1), "test", own_name, &Pki::Own(files), SystemTime::now()).unwrap_err();
    assert!(matches!(error, TrustError::Tls { .. }));
    assert!(error.to_string().contains("worker-8.example") && error.to_string().contains("worker-7"), "{error}");
}

#[test]
fn node_names_begin_with_the_role_and_end_with_the_boot_id() {
    let boot = Uuid::new_v4();
    let id = |text: &str| NodeId::try_from(text.to_owned()).unwrap();
    let made = node_name(Role::Worker, &id("worker-1a2b"), boot);
    assert_eq!(made.as_str(), format!("worker-1a2b-{boot}"));
    let given = node_name(Role::Master, &id("worker-x"), boot);
    assert_eq!(given.as_str(), format!("master-worker-x-{boot}"));
    assert_eq!(node_name(Role::Worker, &id("workers"), boot).without_boot(), "worker-workers");
    for name in [made, given, node_name(Role::Worker, &id(&"z".repeat(64)), boot)] {
        let parsed = NodeName::parse(name.as_str()).unwrap();
        assert_eq!((parsed.role(), parsed.boot_id()), (name.role(), boot));
        assert_eq!(parsed, name);
    }
}

#[test]
fn other_text_is_no_node_name() {
    let boot = Uuid::new_v4();
    let long = format!("worker-{}-{boot}", "a".repeat(100));
    let upper = format!("worker-A-{boot}");
    let no_id = format!("worker--{boot}");
    let role = format!("client-a-{boot}");
    let wide = format!("worker-é-{boot}");
    let no_hyphen = format!("worker-a{boot}");
    for bad in ["", "worker", "worker-a", &boot.to_string(), &long, &upper, &no_id, &role, &wide, &no_hyphen] {
        assert!(NodeName::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn own_certificate_names_match_by_their_first_label() {
    let names = |dns: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let files = own_files(folder.path(), dns);
        let pem = std::fs::read(files.files.certificate).unwrap();
        CertificateNames::of(
            &<rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(&pem).unwrap(),
        )
    };
    let node = node_name(Role::Worker, &NodeId::try_from("seven".to_owned()).unwrap(), Uuid::new_v4());
    for good in ["seven.example", "worker-seven", "Worker-Seven.example"] {
        assert!(names(&["x.example", good]).begins_with(&node), "{good}");
    }
    for bad in ["seventy.example", "x.seven", "sev"] {
        assert!(!names(&[bad]).begins_with(&node), "{bad}");
    }
    assert!(!names(&[]).begins_with(&node));
}

#[test]
fn provider_can_be_installed_twice() {
    install_crypto_provider();
    install_crypto_provider();
    assert!(rustls::crypto::CryptoProvider::get_default().is_some());
}
