//! A node's configuration while it runs: read again on SIGHUP and when one of its files has changed.
//!
//! What is wrong is logged, and the node goes on with what it had. What is right is compared with what it had: each key
//! that differs is logged with both values, and either applied or said to need a restart.

use quipu_shared::config::{Change, Config, ConfigError, Loaded, Overrides, Surroundings, changes};
use quipu_shared::ids::Role;
use quipu_shared::telemetry;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Time between two looks at the files: soon enough for a person who waits, and a few calls of the system each.
const PERIOD: Duration = Duration::from_secs(2);

/// Where a configuration came from, and comes from again.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) surroundings: Surroundings,
    pub(crate) overrides: Overrides,
}

impl Sources {
    pub(crate) fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(&self.surroundings, &self.overrides)
    }
}

/// What a file looks like from outside: an editor that writes it changes one of these.
type Look = Option<(SystemTime, u64)>;

fn look(file: &Path) -> Look {
    let facts = std::fs::metadata(file).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

/// Follows the configuration of a node.
pub(crate) struct Follower {
    role: Role,
    sources: Sources,
    current: Loaded,
    looks: Vec<Look>,
}

/// What came of a look at the configuration.
#[derive(Debug)]
enum News {
    Nothing,
    Changes(Vec<Change>),
    Refused(ConfigError),
}

impl Follower {
    pub(crate) fn new(role: Role, sources: Sources, current: Loaded) -> Self {
        // Before the first look, whatever has changed since the start counts.
        let looks = current.files.iter().map(|file| look(file)).collect();
        Self { role, sources, current, looks }
    }

    /// Hears SIGHUP from now on, and follows the configuration until the node ends. `apply` gets every new one that
    /// is right; what needs a restart it leaves alone.
    pub(crate) fn spawn(mut self, apply: impl Fn(&Config) + Send + 'static) -> std::io::Result<()> {
        let mut hangup: Signal = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            loop {
                let is_asked = tokio::select! {
                    _ = hangup.recv() => true,
                    () = tokio::time::sleep(PERIOD) => false,
                };
                let news = self.look(is_asked);
                if let (News::Changes(changes), true) = (&news, is_asked) {
                    tracing::info!(changes = changes.len(), "configuration read again, as asked by SIGHUP");
                }
                self.tell(news, &apply);
            }
        });
        Ok(())
    }

    /// Reads the configuration again, if there is reason to.
    fn look(&mut self, is_asked: bool) -> News {
        let looks: Vec<Look> = self.current.files.iter().map(|file| look(file)).collect();
        if std::mem::replace(&mut self.looks, looks) == self.looks && !is_asked {
            return News::Nothing;
        }
        match self.sources.load() {
            Ok(new) => {
                let changes = changes(self.role, &self.current.config, &new.config);
                self.current = new;
                News::Changes(changes)
            }
            Err(error) => News::Refused(error),
        }
    }

    fn tell(&self, news: News, apply: &impl Fn(&Config)) {
        let changes = match news {
            News::Nothing => return,
            News::Refused(error) => {
                tracing::error!(%error, "configuration is wrong, and stays as it was");
                return;
            }
            News::Changes(changes) => changes,
        };
        for Change { key, before, after, is_live } in &changes {
            if *is_live {
                tracing::info!(key, before, after, "configuration changed");
            } else {
                tracing::warn!(key, before, after, "configuration changed; this key needs a restart");
            }
        }
        if changes.iter().any(|change| change.key == "log.level") {
            let level = &self.current.config.log.level;
            if let Err(error) = telemetry::set_level(level) {
                tracing::error!(%error, "log level not changed");
            }
        }
        if changes.iter().any(|change| change.is_live) {
            apply(&self.current.config);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::fs;

    fn follower(folder: &Path) -> Follower {
        let surroundings = Surroundings {
            working_folder: folder.to_owned(),
            environment: BTreeMap::new(),
            system_folder: folder.join("system"),
        };
        let sources = Sources { surroundings, overrides: Overrides::new() };
        let loaded = sources.load().expect("right");
        Follower::new(Role::Master, sources, loaded)
    }

    #[test]
    fn file_that_changes_is_read_and_what_is_live_applied() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("quipu.toml");
        let mut follower = follower(folder.path());
        let applied = RefCell::new(Vec::new());
        let follow = |follower: &mut Follower, is_asked| {
            let news = follower.look(is_asked);
            let told = format!("{news:?}");
            follower.tell(news, &|config: &Config| applied.borrow_mut().push(config.limits.rows_max));
            told
        };
        assert_eq!(follow(&mut follower, false), "Nothing");
        // A file that was not there at the start.
        fs::write(&file, "[limits]\nrows_max = 1000\n").expect("written");
        assert!(follow(&mut follower, false).contains("limits.rows_max"));
        assert_eq!(follow(&mut follower, false), "Nothing");
        // What is wrong is refused with its key, and what was there stays, also for the next comparison.
        fs::write(&file, "[limits]\nrows_max = 0 # wrong\n").expect("written");
        assert!(follow(&mut follower, false).contains("limits.rows_max"));
        assert_eq!(follower.current.config.limits.rows_max, 1_000);
        // What needs a restart is told and not applied.
        fs::write(&file, "[limits]\nrows_max = 1000\ntokens_max = 5\n").expect("written");
        let told = follow(&mut follower, false);
        assert!(told.contains("tokens_max") && told.contains("is_live: false"), "{told}");
        assert_eq!(*applied.borrow(), [1_000]);
        // SIGHUP reads it in any case.
        assert_eq!(follow(&mut follower, true), "Changes([])");
        fs::remove_file(&file).expect("removed");
        assert!(follow(&mut follower, false).contains("limits.rows_max"));
        assert_eq!(applied.borrow().last(), Some(&Config::default().limits.rows_max));
    }
}
