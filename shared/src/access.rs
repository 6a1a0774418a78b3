//! Who asks, and what they may: tokens have a role and, unless they are the operators' own, a namespace.

use crate::ids::TokenId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use utoipa::ToSchema;

/// Longest name of a namespace: that of a DNS label (RFC 1123).
pub const NAMESPACE_BYTES_MAX: usize = 63;
/// Longest name of a token.
pub const TOKEN_NAME_BYTES_MAX: usize = 128;
/// The namespace of who names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What a token allows. Each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessRole {
    /// Look at jobs, results and nodes.
    Read,
    /// Submit, cancel and forget jobs, too; evaluate formulas.
    Submit,
    /// Drain nodes, make and revoke tokens, take profiles, too.
    Operate,
}

impl AccessRole {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Submit, Self::Operate];

    /// Its name, as people and programs write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for AccessRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AccessRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| format!("{text:?} is no role; there are read, submit and operate"))
    }
}

/// A part of the cluster that sees nothing of the others: jobs, schedules and tokens belong to one, and quotas are its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the one of who names none.
    pub fn is_default(&self) -> bool {
        &*self.0 == DEFAULT_NAMESPACE
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(DEFAULT_NAMESPACE.into())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.0.as_ref().to_owned()
    }
}

impl TryFrom<String> for Namespace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Namespace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = (1..=NAMESPACE_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| plain(byte) || byte == b'-')
            && text.bytes().next().is_some_and(plain)
            && text.bytes().last().is_some_and(plain);
        if fits {
            return Ok(Self(text.into()));
        }
        let shown: String = text.chars().take(NAMESPACE_BYTES_MAX + 1).collect();
        Err(format!(
            "{shown:?} is no namespace: it takes 1 to {NAMESPACE_BYTES_MAX} lower-case letters, digits and hyphens, with no \
             hyphen at its ends"
        ))
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token that they came with; none for the cluster's own, which its secret gives.
    pub token: Option<TokenId>,
    /// Its name, for the audit log.
    pub name: Arc<str>,
    /// What they may.
    pub role: AccessRole,
    /// The namespace that they are kept to; none for all of them.
    pub namespace: Option<Namespace>,
}

impl Caller {
    /// Who holds the cluster's own token, or is this process itself.
    pub fn cluster() -> Self {
        Self { token: None, name: "cluster".into(), role: AccessRole::Operate, namespace: None }
    }

    /// Whether they may see what belongs to a namespace.
    pub fn sees(&self, namespace: &Namespace) -> bool {
        self.namespace.as_ref().is_none_or(|own| own == namespace)
    }
}

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// For people, and for the audit log.
    pub name: String,
    /// What it allows.
    pub role: AccessRole,
    /// The namespace that it is kept to; none for all of them.
    #[serde(default)]
    pub namespace: Option<Namespace>,
    /// Milliseconds until it is worth nothing; none for a token without end.
    #[serde(default)]
    pub expires_in_ms: Option<u64>,
    /// Requests a second that it is good for; none for what the master's configuration says.
    #[serde(default)]
    pub requests_per_s: Option<u32>,
}

/// A token as it can be looked at: its text is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id.
    pub id: TokenId,
    /// For people, and for the audit log.
    pub name: String,
    /// What it allows.
    pub role: AccessRole,
    /// The namespace that it is kept to; none for all of them.
    pub namespace: Option<Namespace>,
    /// Unix time at which it was made.
    pub created_at_ms: u64,
    /// Unix time from which on it is worth nothing.
    pub expires_at_ms: Option<u64>,
    /// Requests a second that it is good for, where that is its own.
    pub requests_per_s: Option<u32>,
}

/// A token that was just made, with its text, which is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedToken {
    /// What can be looked at later.
    pub token: TokenView,
    /// The bearer token.
    pub secret: String,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Drop for IssuedToken {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

#[cfg(test)]
mod tests {
    use super::{AccessRole, Caller, IssuedToken, Namespace, TokenView};
    use crate::ids::TokenId;

    #[test]
    fn roles_include_those_before_them() {
        assert!(AccessRole::Read < AccessRole::Submit && AccessRole::Submit < AccessRole::Operate);
        for role in AccessRole::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("root".parse::<AccessRole>().is_err());
    }

    #[test]
    fn namespaces_are_dns_labels() {
        for good in ["default", "a", "team-7", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<Namespace>().expect(good).as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "é", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<Namespace>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Namespace>("\"../x\"").is_err());
    }

    #[test]
    fn who_has_a_namespace_sees_that_one_alone() {
        let (mine, other): (Namespace, Namespace) = ("mine".parse().unwrap(), "other".parse().unwrap());
        let caller = Caller { namespace: Some(mine.clone()), ..Caller::cluster() };
        assert!(caller.sees(&mine) && !caller.sees(&other));
        assert!(Caller::cluster().sees(&other));
    }

    #[test]
    fn the_text_of_a_token_is_not_in_its_debug_form() {
        let view = TokenView {
            id: TokenId(1),
            name: "ci".into(),
            role: AccessRole::Read,
            namespace: None,
            created_at_ms: 0,
            expires_at_ms: None,
            requests_per_s: None,
        };
        let issued = IssuedToken { token: view, secret: "qp_secret".into() };
        assert!(!format!("{issued:?}").contains("qp_secret"));
    }
}
