//! The line of JSON by which a node says that it is ready.

use serde::Deserialize;
use std::net::SocketAddr;

/// What a node says of itself once it is ready. Unknown keys are left alone: a newer node may say more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Ready {
    event: Event,
    /// Its name.
    pub(crate) node_id: String,
    /// URL of its HTTP API, if it has one.
    #[serde(default)]
    pub(crate) http: Option<String>,
    /// Where it listens for workers, if it does.
    #[serde(default)]
    pub(crate) rpc: Option<SocketAddr>,
    /// Where it gossips.
    pub(crate) gossip: SocketAddr,
    /// Its process id, on its own machine.
    pub(crate) pid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Ready,
}

impl Ready {
    /// `None` for a line that is something else: shells of other machines like to greet.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Port of its HTTP API.
    pub(crate) fn http_port(&self) -> Option<u16> {
        self.http.as_ref()?.trim_end_matches('/').rsplit_once(':')?.1.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Ready;

    #[test]
    fn ready_lines_are_told_from_greetings() {
        let line = br#"{"event":"ready","role":"master","node_id":"master","http":"https://[::1]:7402","rpc":"[::1]:7401","gossip":"[::1]:7400","pid":7,"new":1}"#;
        let ready = Ready::parse(line).unwrap();
        assert_eq!((ready.http_port(), ready.gossip.port(), ready.pid), (Some(7402), 7400, 7));
        let worker =
            br#"{"event":"ready","role":"worker","node_id":"w","http":null,"rpc":null,"gossip":"127.0.0.1:1","pid":7}"#;
        assert_eq!(Ready::parse(worker).unwrap().http_port(), None);
        for line in [
            &b"Welcome to node7"[..],
            b"",
            b"{}",
            br#"{"event":"stopped","node_id":"w","gossip":"127.0.0.1:1","pid":7}"#,
        ] {
            assert_eq!(Ready::parse(line), None);
        }
    }
}
