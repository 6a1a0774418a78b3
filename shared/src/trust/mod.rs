//! Trust: one secret is the whole cluster.
//!
//! From the cluster secret every node derives the same keys and the same certificate authority, byte for byte, and
//! signs a certificate for itself with it. So a secret file is all that an operator hands out, and whoever holds it is
//! the whole cluster. With own certificates ([`Pki::Own`]) the derived authority is not trusted; the secret is still
//! needed, since both ends of a link prove that they hold it ([`proof`]).
//!
//! Reading order: [`secret`] (the file and what is derived from it), [`authority`] (the certificate authority),
//! [`identity`] (a node's certificate and its TLS configurations), [`verify`] (names in certificates), [`proof`].

pub mod authority;
pub mod identity;
pub mod proof;
pub mod secret;
pub mod verify;

pub use authority::{Authority, NodeKeyError};
pub use identity::{CertificateFiles, CertifiedIdentity, NodeTrust, OwnCertificate, Pki, TrustError};
pub use proof::SecretProof;
pub use secret::{ClusterSecret, HttpTokens, SecretError, random_token};
pub use verify::{CertificateNames, NodeName, NodeNameError, node_name};

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// The cryptography that every TLS configuration here is built with; nothing relies on a process default.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes the same cryptography the process default, for libraries that ask for one (reqwest). May be called again.
pub fn install_crypto_provider() {
    // An error means that a default is already there, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests;
