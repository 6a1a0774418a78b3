//! `quipu up`: a whole cluster from one command, here or over ssh.

use crate::cmd::{Context, secret};
use crate::failure::{Exit, Failure};
use crate::up::fleet::{self, FleetEnd, FleetError, FleetPlan, LogTarget, Place, Up, WorkerSpec};
use crate::up::hosts::{self, Host};
use crate::up::launch::{Common, MasterPlan, bind_for, node_id_of, split_ssh};
use crate::up::policy::RestartPolicy;
use clap::Args;
use quipu_shared::config::{GOSSIP_PORT, LogFormat, Overrides, RPC_PORT};
use quipu_shared::trust::ClusterSecret;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Workers of this machine unless told otherwise: enough that one may die.
const WORKERS: u32 = 2;
/// Workers of this machine: each is a process with threads of its own.
const WORKERS_MAX: i64 = 1024;
/// Longest hosts file that is read: its lines are short.
const HOSTS_BYTES_MAX: u64 = 1 << 20;
/// Longest time that an option takes, in seconds: a day.
const SECONDS_MAX: u64 = 86_400;

/// Start a master and workers, and keep them up
///
/// Nodes are processes: of this machine, or of the machines of a hosts file, over ssh. One that dies is started again,
/// after 0.1 to 10 s; one that dies too often takes everything down, with exit code 70. A worker that was drained stays
/// away.
///
/// Standard output gets one line of JSON when all nodes are ready; logs go to standard error, each line under its node's
/// name.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  quipu up
  quipu up --workers 4 --slots-per-worker 2 --http 127.0.0.1:7402 --log-dir logs
  quipu up --hosts hosts.txt --advertise 10.0.0.1 --ssh 'ssh -i ~/.ssh/cluster' --remote-quipu /opt/quipu/bin/quipu

A hosts file has one worker a line:
  # comment
  [user@]host [slots=N] [zone=Z] [port=P] [advertise=IP]
port is that of the host's sshd; advertise is where other nodes reach it, if not where its name leads. ssh must log in
without asking. The secret goes to nodes through their standard input: it stands in no argument list and is written to no
other machine. Nodes leave when that input ends, so none stays behind when quipu up is killed.

Ctrl-C, SIGTERM or SIGHUP: the workers drain, then the master stops; exit code 0, or 130 where the cluster was not up
yet. A second Ctrl-C kills at once, with exit code 130.")]
pub(crate) struct UpArgs {
    /// Workers of this machine [default: 2, or none with --hosts]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=WORKERS_MAX))]
    workers: Option<u32>,

    /// Executors of each worker of this machine [default: its cores, shared out among the workers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots_per_worker: Option<u32>,

    /// File with hosts to run workers on, over ssh
    #[arg(long, value_name = "FILE", requires = "advertise")]
    hosts: Option<PathBuf>,

    /// IP address that workers of other machines reach the master at
    #[arg(long, value_name = "IP")]
    advertise: Option<IpAddr>,

    /// ssh and options of your own
    #[arg(long, value_name = "COMMAND", default_value = "ssh", requires = "hosts")]
    ssh: String,

    /// quipu on the hosts: a name on the PATH there, or a path
    #[arg(long, value_name = "PATH", default_value = "quipu", requires = "hosts")]
    remote_quipu: String,

    /// Address to serve clients on; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,

    /// Address to listen for workers on [default: a free port of loopback, or port 7401 with --hosts]
    #[arg(long, value_name = "ADDR")]
    rpc: Option<SocketAddr>,

    /// Address of the master's gossip [default: a free port of loopback, or port 7400 with --hosts]
    #[arg(long, value_name = "ADDR")]
    gossip: Option<SocketAddr>,

    /// Folder for the master's uploads and results
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Write each node's log to a file of this folder instead of standard error
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,

    /// Restarts of one node within a minute; when it dies once more, everything is taken down
    #[arg(long, value_name = "N", default_value_t = RestartPolicy::default().restarts_max)]
    restarts_max: u32,

    /// How long all nodes together may take to become ready
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    start_timeout: u64,

    /// How long a node may take to finish what it has; then it is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    stop_timeout: u64,
}

impl UpArgs {
    /// What the command line says of the configuration.
    pub(crate) fn override_config(&self, overrides: &mut Overrides) {
        overrides.set("--http", "master.http", self.http).set("--data-dir", "cluster.data_dir", self.data_dir.as_ref());
    }

    /// Runs the cluster until somebody asks for its end.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let interrupts =
            interrupts().map_err(|error| Failure::new(Exit::Internal, format!("listen for signals: {error}")))?;
        let secret_file = secret_file(context)?;
        let secret = ClusterSecret::load_or_create(&secret_file).map_err(|error| secret::failure(&error))?;
        let secret_file = std::path::absolute(&secret_file).unwrap_or(secret_file);
        let plan = self.plan(context, &secret).await?;
        let workers = plan.workers.len();
        let end = fleet::run(plan, interrupts, |up| announce(context, up, workers, &secret_file)).await;
        match end.map_err(failure)? {
            FleetEnd::Clean => Ok(()),
            FleetEnd::BeforeUp | FleetEnd::Killed => Err(Failure::silent(Exit::Interrupted)),
        }
    }

    async fn plan(&self, context: &Context, secret: &ClusterSecret) -> Result<FleetPlan, Failure> {
        let config = context.config();
        let json = config.log.format == LogFormat::Json;
        let common = Common {
            cluster_id: config.cluster.id.clone(),
            log_level: config.log.level.clone(),
            log_format: if json { "json" } else { "text" }.to_owned(),
            config_file: context.config_file.clone(),
            profile: context.loaded.profile.clone(),
        };
        let bind = |given: Option<SocketAddr>, port| {
            given.unwrap_or_else(|| match self.advertise {
                Some(ip) if self.hosts.is_some() => bind_for(ip, port),
                _ => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            })
        };
        let master = MasterPlan {
            node_id: "master".to_owned(),
            http: config.master.http,
            rpc: bind(self.rpc, RPC_PORT),
            gossip: bind(self.gossip, GOSSIP_PORT),
            advertise: self.advertise,
            data_dir: config.cluster.data_dir.clone(),
        };
        let mut workers = self.workers_here(config.worker.slots, master.gossip.ip());
        if let (Some(path), Some(advertise)) = (&self.hosts, self.advertise) {
            workers.extend(self.workers_of(path, advertise).await?);
        }
        let log = match &self.log_dir {
            None => LogTarget::Stderr { json },
            Some(folder) => {
                std::fs::create_dir_all(folder)
                    .map_err(|error| Failure::usage(format!("create log folder {}: {error}", folder.display())))?;
                LogTarget::Folder(folder.clone())
            }
        };
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::Internal, format!("find this program's own file: {error}")))?;
        Ok(FleetPlan {
            program,
            common,
            master,
            workers,
            secret: Arc::new(secret.to_lines()),
            policy: RestartPolicy { restarts_max: self.restarts_max, ..RestartPolicy::default() },
            start_patience: Duration::from_secs(self.start_timeout),
            stop_patience: Duration::from_secs(self.stop_timeout),
            log,
        })
    }

    fn workers_here(&self, slots_configured: u32, gossip: IpAddr) -> Vec<WorkerSpec> {
        let count = self.workers.unwrap_or(if self.hosts.is_some() { 0 } else { WORKERS });
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        let configured = (slots_configured > 0).then_some(slots_configured);
        let slots = self.slots_per_worker.or(configured).unwrap_or_else(|| (cores / count.max(1)).max(1));
        let near = if gossip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { gossip };
        let worker = |number| WorkerSpec {
            node_id: format!("worker-{number}"),
            place: Place::Here,
            advertise: self.advertise.unwrap_or(near),
            slots: Some(slots),
            zone: None,
        };
        (1..=count).map(worker).collect()
    }

    async fn workers_of(&self, path: &Path, master: IpAddr) -> Result<Vec<WorkerSpec>, Failure> {
        let ssh = split_ssh(&self.ssh).ok_or_else(|| {
            Failure::usage(format!("--ssh {:?} is no command", self.ssh)).hint("such as --ssh 'ssh -i key'")
        })?;
        let hosts = hosts::parse(&read_hosts(path)?).map_err(|error| {
            Failure::new(Exit::Config, format!("{}:{}: {}", path.display(), error.line, error.problem))
        })?;
        let mut workers = Vec::new();
        for (number, host) in (1..).zip(hosts) {
            let advertise = address_of(&host, master).await.map_err(|problem| {
                Failure::new(Exit::Config, format!("{}:{}: {problem}", path.display(), host.line))
                    .hint("say where others reach it: advertise=IP")
            })?;
            workers.push(WorkerSpec {
                node_id: node_id_of(&host, number),
                advertise,
                slots: host.slots,
                zone: host.zone.clone(),
                place: Place::Host { host, ssh: ssh.clone(), remote_quipu: self.remote_quipu.clone() },
            });
        }
        Ok(workers)
    }
}

fn read_hosts(path: &Path) -> Result<String, Failure> {
    let trouble = |error: io::Error| Failure::read(&error, &path.display());
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(HOSTS_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(trouble)?;
    if text.len() as u64 > HOSTS_BYTES_MAX {
        let problem = format!("{} is larger than {HOSTS_BYTES_MAX} bytes: is it a hosts file?", path.display());
        return Err(Failure::new(Exit::Config, problem));
    }
    Ok(text)
}

/// Where other nodes reach a host.
async fn address_of(host: &Host, master: IpAddr) -> Result<IpAddr, String> {
    if let Some(address) = host.advertise.or_else(|| host.name.parse().ok()) {
        return Ok(address);
    }
    // Any port will do: only the address is of interest.
    let found: Vec<IpAddr> = tokio::net::lookup_host((host.name.as_str(), 0))
        .await
        .map_err(|error| format!("look up {}: {error}", host.name))?
        .map(|address| address.ip())
        .collect();
    // A machine's own name often leads to its loopback.
    let fits = |ip: &&IpAddr| ip.is_ipv4() == master.is_ipv4() && (!ip.is_loopback() || master.is_loopback());
    found.iter().find(fits).copied().ok_or_else(|| {
        let kind = if master.is_ipv4() { "IPv4" } else { "IPv6" };
        format!("{} has no {kind} address that the master at {master} can reach, only {found:?}", host.name)
    })
}

/// The secret's file: as configured, or one in the user's state folder.
fn secret_file(context: &Context) -> Result<PathBuf, Failure> {
    if let Some(path) = &context.config().cluster.secret_file {
        if path == Path::new("-") {
            return Err(Failure::usage("the secret of `quipu up` can't come from standard input")
                .hint("give --secret-file FILE; it is made if it is missing"));
        }
        return Ok(path.clone());
    }
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    folder("XDG_STATE_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("quipu").join("secret"))
        .ok_or_else(|| {
            Failure::new(Exit::Config, "there is no folder for the secret: neither XDG_STATE_HOME nor HOME is set")
                .hint("give --secret-file FILE; it is made if it is missing")
        })
}

/// Counts how often somebody has asked for the end. SIGHUP is how a terminal says that it is gone.
fn interrupts() -> io::Result<watch::Receiver<u32>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let (sender, receiver) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
                () = sender.closed() => return,
            }
            sender.send_modify(|count| *count += 1);
        }
    });
    Ok(receiver)
}

/// Says that the cluster is up: a line of JSON for programs, a hint for people at a terminal.
fn announce(context: &Context, up: &Up, workers: usize, secret_file: &Path) {
    let nodes: Vec<serde_json::Value> = up
        .nodes
        .iter()
        .map(|node| serde_json::json!({"node_id": node.node_id, "pid": node.pid, "gossip": node.gossip}))
        .collect();
    let line = serde_json::json!({
        "event": "ready",
        "role": "up",
        "http": up.http,
        "gossip": up.gossip,
        "secret_file": secret_file,
        "workers": workers,
        "pid": std::process::id(),
        "nodes": nodes,
    });
    let mut stdout = io::stdout().lock();
    // A reader that has gone does not want to know, and the cluster is up all the same.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    let word = |text: &str| shlex::try_quote(text).map_or_else(|_| text.to_owned(), |quoted| quoted.into_owned());
    let mut export = format!("QUIPU_SECRET_FILE={}", word(&secret_file.to_string_lossy()));
    if let Some(http) = &up.http {
        export = format!("QUIPU_CLUSTER={} {export}", word(http));
    }
    let id = &context.config().cluster.id;
    if *id != quipu_shared::config::ClusterConfig::default().id {
        export = format!("{export} QUIPU_CLUSTER_ID={}", word(id));
    }
    context
        .ui
        .note(format_args!("the cluster is up with {workers} workers; to use it:\n  export {export}\n  quipu status"));
}

fn failure(error: FleetError) -> Failure {
    let (exit, hint) = match &error {
        FleetError::NoSeed(_) => (Exit::Usage, None),
        FleetError::Quote(_) => (Exit::Config, None),
        FleetError::NotUp { .. } => (Exit::Internal, Some("--start-timeout gives it more time")),
        FleetError::Log { .. } | FleetError::GaveUp { .. } => (Exit::Internal, None),
    };
    let failure = Failure::new(exit, error.to_string());
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
