//! Opens the cluster that a command runs on.

use crate::cmd::{Ui, secret};
use crate::failure::{Exit, Failure};
use quipu::Cluster;
use quipu::client::ClientConfig;
use quipu_shared::config::Config;
use quipu_shared::telemetry::TraceParent;
use quipu_shared::trust::{Authority, ClusterSecret};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A token file is one line; a longer one is another file.
const TOKEN_BYTES_MAX: usize = 4096;

/// The cluster that the configuration names.
pub(crate) async fn open(settings: &Config, ui: Ui, trace: TraceParent) -> Result<Cluster, Failure> {
    match &settings.client.cluster {
        Some(url) => {
            let mut config = ClientConfig::new(url, None);
            trust(settings, &mut config)?;
            config.trace = Some(trace);
            config.namespace.clone_from(&settings.client.namespace);
            let told = AtomicBool::new(ui.quiet);
            config.on_away = Some(Arc::new(move |job_goes_on| {
                if !told.swap(true, Ordering::Relaxed) {
                    let job = if job_goes_on { " (the job goes on)" } else { "" };
                    ui.say(format_args!("the master is away; waiting for it{job}"));
                }
            }));
            Ok(Cluster::connect(config)?)
        }
        None => Ok(Cluster::embedded_within(settings.worker.slots, settings.worker.tier, &settings.limits).await?),
    }
}

/// Token and CA: from their files, and what is not given there from the secret.
fn trust(settings: &Config, config: &mut ClientConfig) -> Result<(), Failure> {
    if let Some(path) = &settings.cluster.secret_file {
        let secret = ClusterSecret::read(path).map_err(|error| secret::failure(&error))?;
        let derived = |error| Failure::new(Exit::Internal, format!("derive the CA: {error}"));
        let authorities = Authority::derive_all(&secret, &settings.cluster.id).map_err(derived)?;
        config.ca_pem = Some(authorities.iter().map(Authority::pem).collect::<String>().into_bytes());
        config.token = Some(secret.http_tokens(&settings.cluster.id).first().to_owned());
    }
    if let Some(path) = &settings.client.token_file {
        config.token = Some(token(path)?);
    }
    if let Some(path) = &settings.client.ca_file {
        config.ca_pem = Some(std::fs::read(path).map_err(|error| Failure::read(&error, &path.display()))?);
    }
    Ok(())
}

fn token(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read(path).map_err(|error| Failure::read(&error, &path.display()))?;
    let token = text.trim_ascii();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.iter().all(u8::is_ascii_graphic) {
        let problem = format!("{} holds no token", path.display());
        return Err(Failure::new(Exit::Config, problem).hint("`quipu secret token` prints one"));
    }
    Ok(String::from_utf8_lossy(token).into_owned())
}
