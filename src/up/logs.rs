//! What nodes say: line by line to standard error under the node's name, or to a file each. The last lines are kept, to
//! be shown when `up` gives a node up.

use crate::failure::sanitise;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, Stderr};

/// Longest line that is carried in one piece; a longer one is cut into several, so that none has to fit into memory.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Lines that are kept of each node: what it said of its end, and some of what led to it.
const TAIL_LINES: usize = 20;

/// Form of what nodes say on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `worker-1 | text`, padded to this width.
    Text {
        /// Of the longest name.
        width: usize,
    },
    /// One JSON object a line, with the node's name as `node`.
    Json,
}

/// A line of a node for standard error, with its line break.
pub(crate) fn decorate(form: Form, node: &str, line: &str) -> String {
    match form {
        Form::Text { width } => format!("{node:width$} | {}\n", sanitise(line)),
        Form::Json => {
            let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line);
            let mut named = serde_json::Map::new();
            named.insert("node".into(), node.into());
            match object {
                Ok(object) => named.extend(object),
                Err(_) => drop(named.insert("message".into(), line.into())),
            }
            format!("{}\n", serde_json::Value::Object(named))
        }
    }
}

/// Standard error, which all nodes share.
#[derive(Clone)]
pub(crate) struct SharedStderr(Arc<tokio::sync::Mutex<Stderr>>);

impl SharedStderr {
    /// The one of this process.
    pub(crate) fn new() -> Self {
        Self(Arc::new(tokio::sync::Mutex::new(tokio::io::stderr())))
    }
}

enum Target {
    Stderr(SharedStderr, Form),
    File(tokio::sync::Mutex<File>),
}

/// The log of one node, over all of its starts.
pub(crate) struct NodeLog {
    node: String,
    target: Target,
    tail: Mutex<VecDeque<String>>,
}

impl NodeLog {
    /// To standard error.
    pub(crate) fn to_stderr(node: &str, stderr: SharedStderr, form: Form) -> Self {
        Self { node: node.to_owned(), target: Target::Stderr(stderr, form), tail: Mutex::default() }
    }

    /// To `FOLDER/NODE.log`, behind what stands there.
    pub(crate) async fn to_folder(node: &str, folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("{node}.log"));
        let file = OpenOptions::new().create(true).append(true).open(path).await?;
        Ok(Self { node: node.to_owned(), target: Target::File(tokio::sync::Mutex::new(file)), tail: Mutex::default() })
    }

    /// Takes a line. Trouble with writing it is ignored: there is nowhere left to say so, and the node must go on.
    async fn line(&self, line: String) {
        match &self.target {
            Target::Stderr(stderr, form) => {
                let text = decorate(*form, &self.node, &line);
                let mut stderr = stderr.0.lock().await;
                let _ = stderr.write_all(text.as_bytes()).await;
                let _ = stderr.flush().await;
            }
            Target::File(file) => {
                let mut file = file.lock().await;
                let _ = file.write_all(format!("{line}\n").as_bytes()).await;
                let _ = file.flush().await;
            }
        }
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }

    /// Takes all that a node says until its end; `heard` looks at each line first and keeps those for which it says so.
    pub(crate) async fn follow(&self, mut from: impl AsyncBufRead + Unpin, mut heard: impl FnMut(&[u8]) -> bool) {
        let mut line = Vec::new();
        // An error of a pipe is its end.
        while let Ok(true) = read_line(&mut from, &mut line).await {
            if !heard(&line) {
                self.line(String::from_utf8_lossy(&line).into_owned()).await;
            }
        }
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Reads a line, or as much of it as is carried in one piece, without its end. `false` at the end of input.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let buffer = from.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(!line.is_empty());
        }
        let room = &buffer[..buffer.len().min(LINE_BYTES_MAX - line.len())];
        let end = room.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&room[..end.unwrap_or(room.len())]);
        let used = end.map_or(room.len(), |at| at + 1);
        from.consume(used);
        if end.is_some() || line.len() == LINE_BYTES_MAX {
            if end.is_some() && line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_lines_stand_under_the_nodes_name_and_obey_no_control_characters() {
        let form = Form::Text { width: 8 };
        assert_eq!(decorate(form, "master", "hello"), "master   | hello\n");
        assert_eq!(decorate(form, "worker-12", "\x1b[2J"), "worker-12 | \\u{1b}[2J\n");
    }

    #[test]
    fn json_lines_stay_json() {
        assert_eq!(decorate(Form::Json, "m", r#"{"level":"INFO"}"#), "{\"node\":\"m\",\"level\":\"INFO\"}\n");
        assert_eq!(
            decorate(Form::Json, "m", "thread \"x\" panicked"),
            "{\"node\":\"m\",\"message\":\"thread \\\"x\\\" panicked\"}\n"
        );
        assert_eq!(decorate(Form::Json, "m", "[1]"), "{\"node\":\"m\",\"message\":\"[1]\"}\n");
    }

    #[tokio::test]
    async fn endless_lines_are_cut_and_the_last_ones_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = NodeLog::to_folder("w", folder.path()).await.unwrap();
        let mut said = vec![b'x'; 2 * LINE_BYTES_MAX];
        said.extend_from_slice(b"\r\nready\n\n\xff\nlast");
        log.follow(&said[..], |line| line == b"ready").await;
        let x = "x".repeat(LINE_BYTES_MAX);
        assert_eq!(log.tail(), [&x, &x, "", "", "\u{fffd}", "last"]);
        let written = std::fs::read_to_string(folder.path().join("w.log")).unwrap();
        assert_eq!(written, format!("{x}\n{x}\n\n\n\u{fffd}\nlast\n"));
    }

    #[tokio::test]
    async fn only_the_last_lines_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = NodeLog::to_folder("w", folder.path()).await.unwrap();
        let said: String = (0..50).map(|n| format!("{n}\n")).collect();
        log.follow(said.as_bytes(), |_| false).await;
        assert_eq!(log.tail().len(), TAIL_LINES);
        assert_eq!(log.tail().last().map(String::as_str), Some("49"));
    }
}
