//! The cluster secret: its file, and the keys derived from it.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hkdf::Hkdf;
use sha2::Sha256;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a secret: a full HKDF-SHA256 key, so that it can't be guessed.
pub const SECRET_BYTES: usize = 32;
/// Secrets in one file: a rotation needs two; more than this is a mistake.
pub const SECRETS_MAX: usize = 8;
/// Longest secret file that is read: it holds a few short lines and comments.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Names the folder of a service's credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// Permission bits of group and others, none of which a secret file may have.
const MODE_OTHERS: u32 = 0o077;

/// HKDF info of the keys that seal gossip.
pub const INFO_GOSSIP: &str = "quipu/v1/gossip";
/// HKDF info of the certificate authority's seed.
pub const INFO_CA: &str = "quipu/v1/ca";
/// HKDF info of the HTTP bearer token.
pub const INFO_HTTP_TOKEN: &str = "quipu/v1/http-token";
/// HKDF info of the key that proves the secret on the link.
pub const INFO_LINK_PROOF: &str = "quipu/v1/link-proof";

/// base64url; padding is neither written nor required, and accepted where another tool wrote it.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a secret can't be had. Never holds any of its text.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be opened, read or written.
    #[error("{doing} secret file {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Others could read it.
    #[error("secret file {path} has mode {mode:04o}, so that others can get at it: run `chmod 600 {path}`")]
    ModeTooWide {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A line is not a secret.
    #[error(
        "{path}, line {line}: not a secret of {SECRET_BYTES} bytes in base64url (43 characters, as \
         `quipu secret new` prints): {problem}"
    )]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing but blanks and comments.
    #[error("secret file {path} holds no secret: put the line that `quipu secret new` prints into it")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// More secrets than a rotation needs.
    #[error("secret file {path} holds more than {SECRETS_MAX} secrets: delete those that are no longer in use")]
    TooMany {
        /// Which file.
        path: PathBuf,
    },
    /// Larger than any secret file.
    #[error("secret file {path} is larger than {FILE_BYTES_MAX} bytes: is this the right file?")]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("get random bytes for a secret: {0}")]
    Random(String),
}

#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
struct Key([u8; SECRET_BYTES]);

/// The secrets of a cluster: the first signs, all are accepted, so that a secret can be replaced node by node.
///
/// Wiped from memory when dropped; its `Debug` form shows only how many there are.
#[derive(Clone)]
pub struct ClusterSecret {
    /// At least one, at most [`SECRETS_MAX`].
    keys: Vec<Key>,
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterSecret({} secrets)", self.keys.len())
    }
}

impl ClusterSecret {
    /// A new random secret.
    pub fn generate() -> Result<Self, SecretError> {
        let mut key = Key([0; SECRET_BYTES]);
        getrandom::fill(&mut key.0).map_err(|error| SecretError::Random(error.to_string()))?;
        Ok(Self { keys: vec![key] })
    }

    /// One secret from its bytes.
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self { keys: vec![Key(bytes)] }
    }

    /// The first secret as the line that stands in a secret file, without its newline.
    pub fn to_line(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64URL.encode(self.keys[0].0))
    }

    /// All secrets as the lines of a secret file, each with its newline: what a node reads from standard input.
    pub fn to_lines(&self) -> Zeroizing<String> {
        // Reserved in full, so that growing leaves no copy behind.
        let mut lines = Zeroizing::new(String::with_capacity(self.keys.len() * (SECRET_BYTES.div_ceil(3) * 4 + 1)));
        for key in &self.keys {
            lines.push_str(&Zeroizing::new(BASE64URL.encode(key.0)));
            lines.push('\n');
        }
        lines
    }

    /// How many secrets are accepted.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Reads a secret file: one secret a line; blank lines and lines that begin with `#` are skipped.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let io = |source| SecretError::Io { doing: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // The open file is asked, not the path, so that it can't be exchanged in between.
        let metadata = file.metadata().map_err(io)?;
        let mode = metadata.mode() & 0o7777;
        if mode & MODE_OTHERS != 0 && !is_credential(path, std::env::var_os(CREDENTIALS).as_deref()) {
            return Err(SecretError::ModeTooWide { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(Vec::new());
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(SecretError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&text, path)
    }

    /// Parses the content of a secret file; `path` is for messages.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, SecretError> {
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let refuse = |problem: String| SecretError::Line { path: path.to_owned(), line: index + 1, problem };
            // The decoder's own error would quote a character of the secret.
            let bytes = Zeroizing::new(BASE64URL.decode(line).map_err(|_| refuse("it is not base64url".to_owned()))?);
            let bytes: [u8; SECRET_BYTES] =
                bytes.as_slice().try_into().map_err(|_| refuse(format!("it has {} bytes", bytes.len())))?;
            let key = Key(bytes);
            if keys.contains(&key) {
                continue;
            }
            if keys.len() == SECRETS_MAX {
                return Err(SecretError::TooMany { path: path.to_owned() });
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(SecretError::Empty { path: path.to_owned() }) } else { Ok(Self { keys }) }
    }

    /// Reads a secret file, or makes one with a new secret (mode 0600) where there is none.
    ///
    /// Two processes that start at once end up with the same secret: the file appears whole, and only once.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        match Self::read(path) {
            Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let secret = Self::generate()?;
        let io = |source| SecretError::Io { doing: "create", path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
        let name = format!(".{}.new", uuid::Uuid::new_v4().simple());
        let fresh = folder.join(name);
        let linked = secret.write_new(&fresh).and_then(|()| std::fs::hard_link(&fresh, path));
        let removed = std::fs::remove_file(&fresh);
        match linked {
            Ok(()) => {
                removed.map_err(io)?;
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
                Ok(secret)
            }
            // Another process was first: its secret is the cluster's.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(path),
            Err(error) => Err(io(error)),
        }
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let line = self.to_line();
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    /// HKDF-SHA256 of the first secret, with the cluster id as salt.
    pub fn derive(&self, cluster_id: &str, info: &str) -> [u8; 32] {
        expand(&self.keys[0], cluster_id, info)
    }

    /// The same for every secret, in the file's order.
    pub fn derive_all(&self, cluster_id: &str, info: &str) -> Vec<[u8; 32]> {
        self.keys.iter().map(|key| expand(key, cluster_id, info)).collect()
    }

    /// Keys that seal gossip; the first seals, all open.
    pub fn gossip_keys(&self, cluster_id: &str) -> Vec<[u8; 32]> {
        self.derive_all(cluster_id, INFO_GOSSIP)
    }

    /// The bearer tokens of the HTTP API.
    pub fn http_tokens(&self, cluster_id: &str) -> HttpTokens {
        let tokens =
            self.derive_all(cluster_id, INFO_HTTP_TOKEN).into_iter().map(|key| Zeroizing::new(BASE64URL.encode(key)));
        HttpTokens { tokens: tokens.collect() }
    }
}

/// A text of 256 random bits after a prefix, for tokens and sessions.
///
/// # Errors
/// Where the operating system gives no random bytes.
pub fn random_token(prefix: &str) -> Result<Zeroizing<String>, SecretError> {
    let mut key = Key([0; SECRET_BYTES]);
    getrandom::fill(&mut key.0).map_err(|error| SecretError::Random(error.to_string()))?;
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + SECRET_BYTES.div_ceil(3) * 4));
    text.push_str(prefix);
    BASE64URL.encode_string(key.0, &mut text);
    Ok(text)
}

/// Whether systemd guards this file (`LoadCredential=`). It gives a service's user access by an access control list, whose
/// mask stands where the group's permissions are.
fn is_credential(path: &Path, folder: Option<&OsStr>) -> bool {
    let plain = path.components().all(|part| part != Component::ParentDir);
    plain && folder.map(Path::new).is_some_and(|folder| folder.is_absolute() && path.starts_with(folder))
}

fn expand(key: &Key, cluster_id: &str, info: &str) -> [u8; 32] {
    let mut out = [0; 32];
    Hkdf::<Sha256>::new(Some(cluster_id.as_bytes()), &key.0)
        .expand(info.as_bytes(), &mut out)
        .expect("32 bytes are fewer than HKDF-SHA256's 8,160");
    out
}

/// Bearer tokens, one for each secret. `Debug` shows only how many.
#[derive(Clone)]
pub struct HttpTokens {
    tokens: Vec<Zeroizing<String>>,
}

impl fmt::Debug for HttpTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpTokens({} tokens)", self.tokens.len())
    }
}

impl HttpTokens {
    /// The token that a client sends.
    pub fn first(&self) -> &str {
        &self.tokens[0]
    }

    /// Whether a client's token is one of these, in a time that tells nothing about them.
    pub fn verify(&self, presented: &str) -> bool {
        let mut found = Choice::from(0);
        for token in &self.tokens {
            found |= token.as_bytes().ct_eq(presented.as_bytes());
        }
        found.into()
    }
}

#[cfg(test)]
mod tests {
    use super::{ClusterSecret, is_credential};
    use std::ffi::OsStr;
    use std::path::Path;

    #[test]
    fn only_files_of_the_credentials_folder_are_guarded_by_systemd() {
        let folder = Some(OsStr::new("/run/credentials/quipu.service"));
        assert!(is_credential(Path::new("/run/credentials/quipu.service/secret"), folder));
        assert!(!is_credential(Path::new("/run/credentials/quipu.service/../secret"), folder));
        assert!(!is_credential(Path::new("/etc/quipu/secret"), folder));
        assert!(!is_credential(Path::new("/etc/quipu/secret"), None));
        assert!(!is_credential(Path::new("secret"), Some(OsStr::new(""))));
    }

    #[test]
    fn lines_hold_all_secrets_in_order() {
        let (one, two) = (ClusterSecret::from_bytes([1; 32]), ClusterSecret::from_bytes([2; 32]));
        let text = format!("# old one last\n{}\n\n{}\n", *two.to_line(), *one.to_line());
        let both = ClusterSecret::parse(text.as_bytes(), Path::new("x")).unwrap();
        assert_eq!(*both.to_lines(), format!("{}\n{}\n", *two.to_line(), *one.to_line()));
    }
}
