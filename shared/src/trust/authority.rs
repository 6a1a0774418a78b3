//! The derived certificate authority: the same certificate, byte for byte, on every node that holds the secret.

use super::secret::{ClusterSecret, INFO_CA};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// What stands before an Ed25519 seed in its PKCS#8 version 1 form (RFC 8410, section 7).
const PKCS8_ED25519_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Serial number of every derived authority: it must not vary between nodes.
const CA_SERIAL: u8 = 1;
/// A certificate is valid from this long before its making, for peers whose clocks are behind.
pub const VALID_BEFORE: Duration = Duration::from_secs(60 * 60);
/// A certificate is valid for this long after its making.
pub const VALID_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A key or certificate could not be made; names what was being made.
#[derive(Debug, thiserror::Error)]
#[error("make {what}: {problem}")]
pub struct NodeKeyError {
    what: &'static str,
    problem: String,
}

impl NodeKeyError {
    pub(crate) fn new(what: &'static str, problem: impl fmt::Display) -> Self {
        Self { what, problem: problem.to_string() }
    }
}

/// A certificate authority derived from one secret.
pub struct Authority {
    key: KeyPair,
    params: CertificateParams,
    certificate: Certificate,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// A new certificate with its private key.
#[derive(Debug)]
pub struct Signed {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// The authorities of all secrets; the first signs, all are trusted.
    pub fn derive_all(secret: &ClusterSecret, cluster_id: &str) -> Result<Vec<Self>, NodeKeyError> {
        secret.derive_all(cluster_id, INFO_CA).into_iter().map(|seed| Self::from_seed(seed, cluster_id)).collect()
    }

    /// The authority of an Ed25519 seed.
    pub fn from_seed(seed: [u8; 32], cluster_id: &str) -> Result<Self, NodeKeyError> {
        let fail = |error: rcgen::Error| NodeKeyError::new("the cluster's certificate authority", error);
        let seed = Zeroizing::new(seed);
        let mut pkcs8 = Zeroizing::new(PKCS8_ED25519_PREFIX.to_vec());
        pkcs8.extend_from_slice(&*seed);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()), &PKCS_ED25519)
            .map_err(fail)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(cluster_id);
        params.serial_number = Some(SerialNumber::from_slice(&[CA_SERIAL]));
        // Fixed dates, for the same bytes everywhere; the secret's life is the authority's.
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2200, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(fail)?;
        Ok(Self { key, params, certificate })
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// The same as PEM text.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for a node's link, good for both ends of it.
    pub fn sign_node(&self, node_name: &str, now: SystemTime) -> Result<Signed, NodeKeyError> {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(node_name, &[node_name.to_owned()], usages, now)
    }

    /// A certificate for an HTTP server with these host names and addresses.
    pub fn sign_http(&self, hosts: &[String], now: SystemTime) -> Result<Signed, NodeKeyError> {
        self.sign("quipu", hosts, vec![ExtendedKeyUsagePurpose::ServerAuth], now)
    }

    fn sign(
        &self,
        common_name: &str,
        hosts: &[String],
        usages: Vec<ExtendedKeyUsagePurpose>,
        now: SystemTime,
    ) -> Result<Signed, NodeKeyError> {
        let fail = |error: rcgen::Error| NodeKeyError::new("a certificate", error);
        // P-256: what every TLS client can do.
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(common_name);
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into().map_err(fail)?),
            });
        }
        params.not_before = (now - VALID_BEFORE).into();
        params.not_after = (now + VALID_AFTER).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(fail)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Signed { certificate: certificate.der().clone(), key })
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
