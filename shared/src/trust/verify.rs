//! Names of nodes, as they stand in certificates and are announced on the link.

use crate::ids::{NodeId, Role};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest node name: a role, a node id, a boot id and two hyphens.
pub const NODE_NAME_BYTES_MAX: usize = 6 + 1 + 64 + 1 + UUID_CHARS;
/// Characters of a UUID with hyphens.
const UUID_CHARS: usize = 36;

/// The name of one start of one node: its role, its id and the boot id, so that a restart never meets its own past.
///
/// A random node id begins with its role already; a given one may not, and gets it here.
pub fn node_name(role: Role, id: &NodeId, boot_id: Uuid) -> NodeName {
    let role_text = role.to_string();
    let named = id.as_str().strip_prefix(&role_text).is_some_and(|rest| rest.starts_with('-'));
    let text = if named { format!("{id}-{boot_id}") } else { format!("{role_text}-{id}-{boot_id}") };
    NodeName { text, role, boot_id }
}

/// A parsed node name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    text: String,
    role: Role,
    boot_id: Uuid,
}

/// Text that is no node name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no node name of the form role-id-<boot uuid>")]
pub struct NodeNameError(String);

impl NodeName {
    /// Parses a name that a peer announced.
    pub fn parse(text: &str) -> Result<Self, NodeNameError> {
        let refuse = || NodeNameError(text.chars().take(NODE_NAME_BYTES_MAX).collect());
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.len() > NODE_NAME_BYTES_MAX || !text.bytes().all(plain) || text.len() < UUID_CHARS + 2 {
            return Err(refuse());
        }
        let (front, boot) = text.split_at(text.len() - UUID_CHARS);
        let boot_id = Uuid::try_parse(boot).map_err(|_| refuse())?;
        let front = front.strip_suffix('-').ok_or_else(refuse)?;
        let role = match front.split_once('-') {
            Some(("master", id)) if !id.is_empty() => Role::Master,
            Some(("worker", id)) if !id.is_empty() => Role::Worker,
            _ => return Err(refuse()),
        };
        Ok(Self { text: text.to_owned(), role, boot_id })
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the node does.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Names this start of it.
    pub fn boot_id(&self) -> Uuid {
        self.boot_id
    }

    /// The name without its boot id, as it stands in a certificate of an own authority.
    pub fn without_boot(&self) -> &str {
        &self.text[..self.text.len() - UUID_CHARS - 1]
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The DNS names of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames(Vec<String>);

impl CertificateNames {
    /// Reads them from a certificate that was verified; none if it has none.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Self(Vec::new()) };
        let Ok(Some(names)) = parsed.subject_alternative_name() else { return Self(Vec::new()) };
        let dns = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Self(dns.collect())
    }

    /// Whether the certificate was made for exactly this start of this node (certificates of a derived authority).
    pub fn is_exactly(&self, name: &NodeName) -> bool {
        self.0 == [name.as_str()]
    }

    /// Whether the first label of one of the names is this node's id, with or without its role (certificates of an own
    /// authority, which can't know the boot id).
    pub fn begins_with(&self, name: &NodeName) -> bool {
        let with_role = name.without_boot();
        let bare = with_role.split_once('-').map_or(with_role, |(_, id)| id);
        self.0
            .iter()
            .filter_map(|dns| dns.split('.').next())
            .any(|label| label.eq_ignore_ascii_case(with_role) || label.eq_ignore_ascii_case(bare))
    }
}

impl fmt::Display for CertificateNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("no name") } else { f.write_str(&self.0.join(", ")) }
    }
}

/// Verifies that a server's certificate chains to the cluster's authorities. Names are checked after the handshake,
/// against what the peer announces: a link's address is no name.
#[derive(Debug)]
pub(crate) struct ChainVerifier {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
