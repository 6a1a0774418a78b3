//! Ctrl-C: the first asks the job to stop and the command to tidy up, the second ends the process at once.

use crate::failure::Exit;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Hears SIGINT and SIGTERM from its making on.
#[derive(Clone)]
pub(crate) struct Signals {
    interrupted: watch::Receiver<bool>,
    leftovers: Arc<Mutex<Vec<PathBuf>>>,
}

impl Signals {
    /// Starts to listen; must be called within the runtime.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (sender, interrupted) = watch::channel(false);
        let leftovers = Arc::new(Mutex::new(Vec::<PathBuf>::new()));
        let removed = Arc::clone(&leftovers);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if sender.send_replace(true) {
                    // The command's own task may be stuck in a write to a reader that does not read.
                    for path in removed.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                        let _ = std::fs::remove_file(path);
                    }
                    std::process::exit(i32::from(Exit::Interrupted as u8));
                }
            }
        });
        Ok(Self { interrupted, leftovers })
    }

    /// Signals that never come, for tests.
    #[cfg(test)]
    pub(crate) fn silent() -> (watch::Sender<bool>, Self) {
        let (sender, interrupted) = watch::channel(false);
        (sender, Self { interrupted, leftovers: Arc::default() })
    }

    /// Returns once the first signal has come.
    pub(crate) async fn first(&self) {
        let mut interrupted = self.interrupted.clone();
        if interrupted.wait_for(|came| *came).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Names a temporary file that a second signal removes before the process ends. It need not be taken back when
    /// the file is gone: nothing else gets its random name.
    pub(crate) fn leftover(&self, path: Option<PathBuf>) {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner).extend(path);
    }
}
