//! What both ends say right after TLS, before ractor_cluster sees the stream.
//!
//! The accepting end speaks first: who it is, its clock, and its proofs of the cluster's secret; then the dialing end
//! does the same. So a dialer that has a link to this master already leaves before the master has acted on it.

use super::LINK_VERSION;
use crate::trust::proof::{PROOF_BYTES, Side};
use crate::trust::secret::SECRETS_MAX;
use crate::trust::verify::NODE_NAME_BYTES_MAX;
use crate::trust::{CertificateNames, NodeName, NodeTrust};
use rustls_pki_types::CertificateDer;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// First bytes of a preface: tells a foreign protocol from a foreign version.
const MAGIC: [u8; 4] = *b"QLNK";
/// Clocks further apart than this are reported: gossip drops datagrams that are older.
const CLOCK_SKEW_S_MAX: u64 = 60;
/// TLS exporter label (RFC 8446, section 7.5); its context tells the two uses apart.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-quipu-link";

/// Why a connection did not become a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("{0}{hint}", hint = certificate_hint(.0))]
    Io(#[from] io::Error),
    #[error("it took longer than {0:?}")]
    Timeout(std::time::Duration),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the peer does not speak the link's protocol")]
    Foreign,
    #[error("the peer speaks version {0} of the link, this node {LINK_VERSION}: run one version of quipu")]
    Version(u8),
    #[error("the peer's preface is malformed")]
    Malformed,
    #[error("the peer showed no certificate")]
    NoCertificate,
    #[error("the peer calls itself {announced}, but its certificate is for {certified}")]
    WrongName { announced: String, certified: String },
    #[error("{0} has another cluster secret")]
    WrongSecret(String),
    #[error("{0} is not a {1}")]
    WrongRole(String, crate::ids::Role),
    #[error("this node dialed itself")]
    Oneself,
    #[error("there is a link to {0} already")]
    Duplicate(NodeName),
    #[error("there are {0} peers already")]
    Full(usize),
}

/// What a person can do about a certificate that is not taken.
fn certificate_hint(error: &io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => {
            ": do both nodes have the same cluster id, secret or authorities, and are their clocks right?"
        }
        _ => "",
    }
}

/// Names one TLS session; only its two ends know it.
pub(super) type SessionToken = [u8; 16];

/// What both ends derive from their TLS session.
pub(super) struct Channel {
    pub(super) proof: [u8; 32],
    pub(super) token: SessionToken,
    pub(super) certified: CertificateNames,
}

impl Channel {
    pub(super) fn of_server(tls: &rustls::ServerConnection) -> Result<Self, HandshakeError> {
        Self::new(tls.peer_certificates(), |proof, token| {
            tls.export_keying_material(proof, EXPORTER_LABEL, Some(b"proof"))?;
            tls.export_keying_material(token, EXPORTER_LABEL, Some(b"session")).map(drop)
        })
    }

    pub(super) fn of_client(tls: &rustls::ClientConnection) -> Result<Self, HandshakeError> {
        Self::new(tls.peer_certificates(), |proof, token| {
            tls.export_keying_material(proof, EXPORTER_LABEL, Some(b"proof"))?;
            tls.export_keying_material(token, EXPORTER_LABEL, Some(b"session")).map(drop)
        })
    }

    fn new(
        certificates: Option<&[CertificateDer<'_>]>,
        export: impl FnOnce(&mut [u8; 32], &mut SessionToken) -> Result<(), rustls::Error>,
    ) -> Result<Self, HandshakeError> {
        let leaf = certificates.and_then(<[_]>::first).ok_or(HandshakeError::NoCertificate)?;
        let mut channel = Self { proof: [0; 32], token: [0; 16], certified: CertificateNames::of(leaf) };
        export(&mut channel.proof, &mut channel.token)?;
        Ok(channel)
    }
}

/// Sends this node's preface.
pub(super) async fn write_preface<S: AsyncWrite + Unpin>(
    stream: &mut S,
    side: Side,
    channel: &Channel,
    trust: &NodeTrust,
) -> Result<(), HandshakeError> {
    let name = trust.name().as_str();
    let proofs = trust.proof().make(side, &channel.proof, name);
    let mut bytes = Vec::with_capacity(16 + name.len() + proofs.len() * PROOF_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.push(LINK_VERSION);
    bytes.extend_from_slice(&unix_s().to_be_bytes());
    bytes.push(u8::try_from(name.len()).map_err(|_| HandshakeError::Malformed)?);
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(u8::try_from(proofs.len()).map_err(|_| HandshakeError::Malformed)?);
    proofs.iter().for_each(|proof| bytes.extend_from_slice(proof));
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads and checks the peer's preface; `side` is the peer's. Reads not a byte more.
pub(super) async fn read_preface<S: AsyncRead + Unpin>(
    stream: &mut S,
    side: Side,
    channel: &Channel,
    trust: &NodeTrust,
) -> Result<NodeName, HandshakeError> {
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(HandshakeError::Foreign);
    }
    let version = stream.read_u8().await?;
    if version != LINK_VERSION {
        return Err(HandshakeError::Version(version));
    }
    let clock_s = stream.read_u64().await?;
    let mut name = [0; NODE_NAME_BYTES_MAX];
    let name = name.get_mut(..stream.read_u8().await?.into()).ok_or(HandshakeError::Malformed)?;
    stream.read_exact(name).await?;
    let mut proofs = [[0; PROOF_BYTES]; SECRETS_MAX];
    let proofs = proofs.get_mut(..stream.read_u8().await?.into()).ok_or(HandshakeError::Malformed)?;
    for proof in &mut *proofs {
        stream.read_exact(proof).await?;
    }

    let name = std::str::from_utf8(name).map_err(|_| HandshakeError::Malformed)?;
    let name = NodeName::parse(name).map_err(|_| HandshakeError::Malformed)?;
    if !trust.accepts_name(&channel.certified, &name) {
        let (announced, certified) = (name.to_string(), channel.certified.to_string());
        return Err(HandshakeError::WrongName { announced, certified });
    }
    if !trust.proof().check(side, &channel.proof, name.as_str(), proofs) {
        return Err(HandshakeError::WrongSecret(name.to_string()));
    }
    if name == *trust.name() {
        return Err(HandshakeError::Oneself);
    }
    let skew_s = clock_s.abs_diff(unix_s());
    if skew_s > CLOCK_SKEW_S_MAX {
        tracing::warn!(node_name = %name, skew_s, "clock of a peer differs: set both clocks, or gossip will fail");
    }
    Ok(name)
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
