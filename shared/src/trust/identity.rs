//! A node's certificates, and the TLS configurations made of them.

use super::authority::{Authority, NodeKeyError, Signed, VALID_AFTER};
use super::crypto_provider;
use super::proof::SecretProof;
use super::secret::ClusterSecret;
use super::verify::{CertificateNames, ChainVerifier, NodeName};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// How often certificates are looked at: far more often than they expire, so that one failure does no harm.
const RENEWAL_CHECK: Duration = Duration::from_secs(60 * 60);

/// Why a node has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A key or certificate could not be made.
    #[error(transparent)]
    NodeKey(#[from] NodeKeyError),
    /// A PEM file can't be read or holds something else.
    #[error("read {what} from {path}: {problem}")]
    Pem {
        /// What it should hold.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Key and certificate do not fit together, or the TLS library refuses them.
    #[error("set up TLS with {what}: {problem}")]
    Tls {
        /// Which certificate.
        what: String,
        /// What is wrong.
        problem: String,
    },
}

/// Where a node's certificates come from.
#[derive(Clone, Debug)]
pub enum Pki {
    /// From the cluster secret.
    Derived,
    /// From files; then the derived authority is not trusted.
    Own(OwnCertificate),
}

/// `--tls-cert`, `--tls-key` and `--tls-ca`: PEM files, for the link and for HTTP.
///
/// One DNS name of the certificate must begin with the node's id as its first label, and the certificate must be good
/// for server and client use.
#[derive(Clone, Debug)]
pub struct OwnCertificate {
    /// The certificate.
    pub files: CertificateFiles,
    /// The authorities that are trusted.
    pub authorities: PathBuf,
}

/// A certificate as PEM files, which are read again now and then: who renews it only writes them anew.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate and its intermediates.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl CertificateFiles {
    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TrustError> {
        let chain = read_certificates("a certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TrustError::Pem {
            what: "a private key",
            path: self.key.clone(),
            problem: error.to_string(),
        })?;
        Ok((chain, key))
    }
}

fn read_certificates(what: &'static str, path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let fail = |problem: String| TrustError::Pem { what, path: path.clone(), problem };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(|all| all.collect::<Result<_, _>>())
        .map_err(|error| fail(error.to_string()))?;
    if found.is_empty() { Err(fail("it holds no certificate".to_owned())) } else { Ok(found) }
}

/// A certificate that can be exchanged under a running server or client: new connections use the new one.
#[derive(Debug)]
pub struct CertifiedIdentity {
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    made_at: SystemTime,
}

impl CertifiedIdentity {
    fn new(key: CertifiedKey, made_at: SystemTime) -> Self {
        Self { current: RwLock::new(Current { key: Arc::new(key), made_at }) }
    }

    /// The certificate in use.
    pub fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).key.clone()
    }

    /// Whether half of its life is over, or the clock went back to before it was made.
    fn is_due(&self, now: SystemTime) -> bool {
        let made_at = self.current.read().unwrap_or_else(PoisonError::into_inner).made_at;
        now.duration_since(made_at).map_or(true, |age| age >= VALID_AFTER / 2)
    }

    fn replace(&self, key: CertifiedKey, made_at: SystemTime) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current { key: Arc::new(key), made_at };
    }
}

impl CertifiedIdentity {
    /// Takes what stands in the files now; says whether it is another certificate.
    fn reread(&self, files: &CertificateFiles, provider: &CryptoProvider, now: SystemTime) -> Result<bool, TrustError> {
        let key = certify_own(files, provider)?;
        let renewed = key.cert != self.current().cert;
        if renewed {
            self.replace(key, now);
        }
        Ok(renewed)
    }
}

impl ResolvesServerCert for CertifiedIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for CertifiedIdentity {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// What a node needs to be trusted and to trust: its certificates, the cluster's authorities, and the secret's proof.
pub struct NodeTrust {
    name: NodeName,
    source: Source,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    proof: SecretProof,
    link: Arc<CertifiedIdentity>,
    http: Mutex<Vec<(HttpSource, Arc<CertifiedIdentity>)>>,
}

/// Where a certificate of the HTTP server comes from.
enum HttpSource {
    /// The derived authority signs for these names.
    Signed(Vec<String>),
    Files(CertificateFiles),
}

/// Who signs.
enum Source {
    Derived(Box<Authority>),
    Own(OwnCertificate),
}

impl fmt::Debug for NodeTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTrust").field("name", &self.name).finish_non_exhaustive()
    }
}

impl NodeTrust {
    /// Certificates for a node of this name, as of `now`.
    pub fn new(
        secret: &ClusterSecret,
        cluster_id: &str,
        name: NodeName,
        pki: &Pki,
        now: SystemTime,
    ) -> Result<Self, TrustError> {
        let provider = crypto_provider();
        let mut roots = RootCertStore::empty();
        let source = match pki {
            Pki::Derived => {
                let mut authorities = Authority::derive_all(secret, cluster_id)?;
                for authority in &authorities {
                    add_root(&mut roots, authority.certificate().clone(), "the derived authority")?;
                }
                Source::Derived(Box::new(authorities.swap_remove(0)))
            }
            Pki::Own(files) => {
                for certificate in read_certificates("authorities", &files.authorities)? {
                    add_root(&mut roots, certificate, &files.authorities.display().to_string())?;
                }
                Source::Own(files.clone())
            }
        };
        let link = match &source {
            Source::Derived(authority) => certify(authority.sign_node(name.as_str(), now)?, &provider)?,
            Source::Own(own) => certify_own(&own.files, &provider)?,
        };
        let link = Arc::new(CertifiedIdentity::new(link, now));
        let roots = Arc::new(roots);
        let proof = SecretProof::new(secret, cluster_id);
        let trust = Self { name, source, roots, provider, proof, link, http: Mutex::default() };
        trust.check_own_name()?;
        Ok(trust)
    }

    /// Says at the start, and not at the first refused connection, that an own certificate has the wrong name.
    fn check_own_name(&self) -> Result<(), TrustError> {
        let current = self.link.current();
        let names = current
            .cert
            .first()
            .map_or_else(|| CertificateNames::of(&CertificateDer::from(&[][..])), CertificateNames::of);
        if self.accepts_name(&names, &self.name) {
            return Ok(());
        }
        Err(TrustError::Tls {
            what: "the node's certificate".to_owned(),
            problem: format!(
                "it has {names}, and none begins with the node's id {}: give --node-id or another certificate",
                self.name.without_boot()
            ),
        })
    }

    /// The node's own name.
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Proofs of the secret.
    pub fn proof(&self) -> &SecretProof {
        &self.proof
    }

    /// The certificate of the link.
    pub fn link_identity(&self) -> &Arc<CertifiedIdentity> {
        &self.link
    }

    /// Whether a peer's certificate lets it announce this name.
    pub fn accepts_name(&self, names: &CertificateNames, announced: &NodeName) -> bool {
        match self.source {
            Source::Derived(_) => names.is_exactly(announced),
            Source::Own(_) => names.begins_with(announced),
        }
    }

    /// The link's accepting end: TLS 1.3, and a client certificate is required.
    pub fn link_server_config(&self) -> Result<Arc<ServerConfig>, TrustError> {
        let fail = |problem: String| TrustError::Tls { what: "the link's certificate".to_owned(), problem };
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), self.provider.clone())
            .build()
            .map_err(|error| fail(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| fail(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.link.clone());
        // Links live long: resuming saves nothing, and every session is to show its certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// The link's dialing end.
    pub fn link_client_config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        let verifier = Arc::new(ChainVerifier { roots: self.roots.clone(), provider: self.provider.clone() });
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| TrustError::Tls { what: "the link's certificate".to_owned(), problem: error.to_string() })?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.link.clone());
        config.resumption = Resumption::disabled();
        // The address is no name; see `ChainVerifier`.
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    /// The HTTP server's end: with the certificate of these files, else with the node's own, else with one that the
    /// derived authority signs for these host names and addresses.
    ///
    /// TLS 1.2 and 1.3, no client certificate. A derived authority signs with Ed25519, which browsers do not take:
    /// they need files.
    pub fn http_server_config(
        &self,
        hosts: &[String],
        files: Option<&CertificateFiles>,
        now: SystemTime,
    ) -> Result<Arc<ServerConfig>, TrustError> {
        let source = match (files, &self.source) {
            (Some(files), _) => Some((HttpSource::Files(files.clone()), certify_own(files, &self.provider)?)),
            (None, Source::Derived(authority)) => {
                let key = certify(authority.sign_http(hosts, now)?, &self.provider)?;
                Some((HttpSource::Signed(hosts.to_vec()), key))
            }
            (None, Source::Own(_)) => None,
        };
        let identity = match source {
            None => self.link.clone(),
            Some((source, key)) => {
                let identity = Arc::new(CertifiedIdentity::new(key, now));
                let mut made = self.http.lock().unwrap_or_else(PoisonError::into_inner);
                made.push((source, identity.clone()));
                identity
            }
        };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError::Tls { what: "the HTTP certificate".to_owned(), problem: error.to_string() })?
            .with_no_client_auth()
            .with_cert_resolver(identity);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Looks every hour whether a certificate is due, for as long as it is polled: to be spawned by the node.
    pub async fn keep_renewed(self: Arc<Self>) {
        loop {
            tokio::time::sleep(RENEWAL_CHECK).await;
            match self.renew_if_due(SystemTime::now()) {
                Ok(true) => tracing::info!(node_name = %self.name, "renewed the node's certificates"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "renew the node's certificates"),
            }
        }
    }

    /// Signs new certificates where half of their life is over (own ones are read again each time); says whether it
    /// did. What fails leaves the old certificate in use.
    pub fn renew_if_due(&self, now: SystemTime) -> Result<bool, TrustError> {
        let mut renewed = match &self.source {
            Source::Own(own) => self.link.reread(&own.files, &self.provider, now)?,
            Source::Derived(authority) if self.link.is_due(now) => {
                let signed = authority.sign_node(self.name.as_str(), now)?;
                self.link.replace(certify(signed, &self.provider)?, now);
                true
            }
            Source::Derived(_) => false,
        };
        for (source, identity) in self.http.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            renewed |= match (source, &self.source) {
                (HttpSource::Files(files), _) => identity.reread(files, &self.provider, now)?,
                (HttpSource::Signed(hosts), Source::Derived(authority)) if identity.is_due(now) => {
                    identity.replace(certify(authority.sign_http(hosts, now)?, &self.provider)?, now);
                    true
                }
                (HttpSource::Signed(_), _) => false,
            };
        }
        Ok(renewed)
    }
}

impl ClusterSecret {
    /// The certificates of the derived authorities as PEM: what an HTTP client takes with `--ca-file`.
    pub fn ca_pem(&self, cluster_id: &str) -> Result<String, NodeKeyError> {
        Ok(Authority::derive_all(self, cluster_id)?.iter().map(Authority::pem).collect())
    }
}

/// An HTTP client's side: trusts the certificates of a PEM text, and nothing else.
pub fn http_client_config(ca_pem: &[u8]) -> Result<ClientConfig, TrustError> {
    let fail = |problem: String| TrustError::Tls { what: "the given authorities".to_owned(), problem };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        add_root(&mut roots, certificate, "the given authorities")?;
    }
    if roots.is_empty() {
        return Err(fail("there is no certificate in it".to_owned()));
    }
    Ok(ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn add_root(roots: &mut RootCertStore, certificate: CertificateDer<'static>, what: &str) -> Result<(), TrustError> {
    roots.add(certificate).map_err(|error| TrustError::Tls { what: what.to_owned(), problem: error.to_string() })
}

fn certify(signed: Signed, provider: &CryptoProvider) -> Result<CertifiedKey, TrustError> {
    CertifiedKey::from_der(vec![signed.certificate], signed.key, provider)
        .map_err(|error| TrustError::Tls { what: "a signed certificate".to_owned(), problem: error.to_string() })
}

fn certify_own(files: &CertificateFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TrustError> {
    let (chain, key) = files.load()?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| TrustError::Tls { what: files.certificate.display().to_string(), problem: error.to_string() })
}
