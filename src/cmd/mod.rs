//! Commands: one file each. This one has what they share: the command line's top, and the session that they run in.

mod args;
mod argv;
mod cluster;
mod command;
mod completions;
mod config;
mod eval;
mod explain;
#[cfg(test)]
mod fake;
mod formulas;
mod input;
mod job;
mod map;
mod master;
mod node;
mod notes;
mod parse;
mod patience;
mod queue;
mod reload;
mod rows;
mod runner;
mod sample;
mod schedule;
mod secret;
mod select;
mod serve;
mod signals;
mod status;
mod store;
mod submit;
mod submit_many;
mod sweep;
mod token;
mod top;
mod up;
mod worker;

pub(crate) use node::state_name;

use self::reload::Sources;
use crate::failure::{self, Exit, Failure};
use crate::output::progress::{Progress, ProgressMode};
use clap::{CommandFactory, Parser, Subcommand};
use quipu::Cluster;
use quipu_shared::access::Namespace;
use quipu_shared::config::{Config, Loaded, LogFormat, Overrides, Surroundings};
use quipu_shared::service::JobService;
use quipu_shared::telemetry::{self, TraceParent};
use signals::Signals;
use std::fmt;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// A calculator for one formula or a billion rows, on this machine or on a cluster of them
///
/// Without --cluster every command runs on a cluster inside this process: nothing listens, nothing is to be set up.
/// With it, the same command goes to a cluster over HTTP and gives the same output, bit for bit.
#[derive(Debug, Parser)]
#[command(name = "quipu", version, propagate_version = true, max_term_width = 110, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Examples:
  quipu eval '10 + 2 * 3'
  quipu map 'price * qty' sales.csv --as revenue -o revenue.csv
  quipu sweep 'math::exp(-x * x)' --over x=-6.0:6.0/10000000 --reduce mean
  quipu sample 'if(x*x + y*y <= 1.0, 4.0, 0.0)' -n 10000000 --draw 'x=uniform(0,1)' \\
      --draw 'y=uniform(0,1)' --seed 7 --reduce mean

Exit codes:
    0  done
    1  a row failed, or one of several formulas
    2  the command line is wrong
   65  the one formula does not parse or is refused, data is not what it says, or a job is not in the right state
   66  an input is missing, or there is no such job
   69  no master can be reached
   70  a defect, or trouble of this machine
   75  over a limit, and not to wait (--no-wait): try again
   77  not allowed
   78  the configuration is wrong
  124  the deadline passed
  130  interrupted
  141  whoever read the output has gone (the job is cancelled)";

/// Options of every command. They stand above the environment (`QUIPU_...`), that above the files.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Use the cluster at this address instead of one inside this process [env: QUIPU_CLUSTER]
    #[arg(long, global = true, value_name = "URL")]
    cluster: Option<String>,

    /// Name of the cluster, as its nodes have it [env: QUIPU_CLUSTER_ID] [default: quipu]
    #[arg(long, global = true, value_name = "NAME")]
    cluster_id: Option<String>,

    /// File with the cluster's secret; gives token and CA [env: QUIPU_SECRET_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// File with a token for the cluster's HTTP interface [env: QUIPU_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// File with the CA certificate of the cluster's HTTP interface [env: QUIPU_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Namespace of what is submitted and listed [env: QUIPU_NAMESPACE]
    #[arg(long, global = true, value_name = "NAME")]
    namespace: Option<Namespace>,

    /// Executors of the cluster inside this process, or of a worker; 0 is one a core [env: QUIPU_SLOTS] [default: 0]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1024))]
    slots: Option<u32>,

    /// Read this configuration file instead of the searched ones [env: QUIPU_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Profile of the configuration: dev, prod, or one of a file [env: QUIPU_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,

    /// Show progress on standard error
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    progress: ProgressMode,

    /// Say nothing on standard error but errors
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Log to standard error: off, error, warn, info, debug, trace [env: QUIPU_LOG_LEVEL]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,

    /// Form of the log [env: QUIPU_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_name = "FORM")]
    log_format: Option<LogFormatArg>,

    /// Export traces to this collector (OTLP over gRPC) [env: QUIPU_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, global = true, value_name = "URL")]
    otlp_endpoint: Option<String>,
}

/// [`LogFormat`] on the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormatArg {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

impl Globals {
    /// Reads the configuration with these options, and those of the command, on top.
    fn load(&self, command: &Command) -> Result<(Sources, Loaded), Failure> {
        let format = self.log_format.map(|format| match format {
            LogFormatArg::Text => LogFormat::Text,
            LogFormatArg::Json => LogFormat::Json,
        });
        let mut overrides = Overrides::new();
        overrides
            .set("--cluster", "client.cluster", self.cluster.as_ref())
            .set("--cluster-id", "cluster.id", self.cluster_id.as_ref())
            .set("--secret-file", "cluster.secret_file", self.secret_file.as_ref())
            .set("--token-file", "client.token_file", self.token_file.as_ref())
            .set("--ca-file", "client.ca_file", self.ca_file.as_ref())
            .set("--namespace", "client.namespace", self.namespace.as_ref())
            .set("--slots", "worker.slots", self.slots)
            .set("--log-level", "log.level", self.log_level.as_ref())
            .set("--log-format", "log.format", format)
            .set("--otlp-endpoint", "telemetry.otlp_endpoint", self.otlp_endpoint.as_ref())
            .profile(self.profile.clone())
            .file(self.config.clone());
        match command {
            Command::Master(args) => args.override_config(&mut overrides),
            Command::Worker(args) => args.override_config(&mut overrides),
            Command::Up(args) => args.override_config(&mut overrides),
            Command::Store(command) => command.override_config(&mut overrides),
            _ => {}
        }
        let sources = Sources { surroundings: Surroundings::of_process(), overrides };
        let loaded = sources.load().map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
        Ok((sources, loaded))
    }
}

/// What a command is run with.
pub(crate) struct Context {
    loaded: Loaded,
    /// What it was loaded from.
    sources: Sources,
    ui: Ui,
    /// What `--config` names; nodes that a command starts read it too.
    config_file: Option<PathBuf>,
    /// The trace that the command's requests and jobs belong to.
    trace: TraceParent,
}

impl Context {
    /// The configuration, flags included.
    pub(crate) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// For commands about a cluster that outlives them: the one inside this process has nothing to tell.
    fn require_cluster(&self) -> Result<(), Failure> {
        match self.config().client.cluster {
            Some(_) => Ok(()),
            None => Err(Failure::usage("no cluster is given, and the one inside this process ends with its command")
                .hint("give --cluster URL or set QUIPU_CLUSTER")),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Evaluate a formula, or a batch of them
    Eval(eval::EvalArgs),
    /// Compute a formula for each row of a table
    Map(map::MapArgs),
    /// Compute a formula for each point of a grid
    Sweep(sweep::SweepArgs),
    /// Compute a formula for many random draws
    Sample(sample::SampleArgs),
    /// Show how a formula is evaluated, and what it costs
    Explain(explain::ExplainArgs),
    /// Hand a job over to a cluster and return at once
    #[command(subcommand)]
    Submit(submit::SubmitCommand),
    /// List, watch and end jobs of a cluster
    #[command(subcommand)]
    Job(job::JobCommand),
    /// List, pause and remove recurring jobs
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// List and drain nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Show the cluster in a few lines
    Status(status::StatusArgs),
    /// Watch nodes and jobs in the terminal
    Top(top::TopArgs),
    /// Run a master node
    Master(master::MasterArgs),
    /// Run a worker node
    Worker(worker::WorkerArgs),
    /// Start a master and workers, and keep them up
    Up(up::UpArgs),
    /// Check, back up and restore the data folder of a master
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Show the configuration, and where each value comes from
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Make the cluster's secret, and what clients need of it
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Make, list and revoke tokens of a cluster
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

impl Command {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Eval(args) => args.run(context).await,
            Self::Map(args) => args.run(context).await,
            Self::Sweep(args) => args.run(context).await,
            Self::Sample(args) => args.run(context).await,
            Self::Explain(args) => args.run(context),
            Self::Submit(command) => command.run(context).await,
            Self::Job(command) => command.run(context).await,
            Self::Schedule(command) => command.run(context).await,
            Self::Node(command) => command.run(context).await,
            Self::Status(args) => args.run(context).await,
            Self::Top(args) => args.run(context).await,
            Self::Master(args) => args.run(context).await,
            Self::Worker(args) => args.run(context).await,
            Self::Up(args) => args.run(context).await,
            Self::Store(command) => command.run(context),
            Self::Config(command) => command.run(context),
            Self::Secret(command) => command.run(context.config()),
            Self::Token(command) => command.run(context).await,
            Self::Completions(args) => args.run(&mut Cli::command()),
        }
    }

    /// Its name on the command line, without those of commands within it.
    fn name(&self) -> &'static str {
        match self {
            Self::Eval(_) => "eval",
            Self::Map(_) => "map",
            Self::Sweep(_) => "sweep",
            Self::Sample(_) => "sample",
            Self::Explain(_) => "explain",
            Self::Submit(_) => "submit",
            Self::Job(_) => "job",
            Self::Schedule(_) => "schedule",
            Self::Node(_) => "node",
            Self::Status(_) => "status",
            Self::Master(_) => "master",
            Self::Worker(_) => "worker",
            Self::Up(_) => "up",
            Self::Store(_) => "store",
            Self::Config(_) => "config",
            Self::Secret(_) => "secret",
            Self::Completions(_) => "completions",
            Self::Token(_) => "token",
            Self::Top(_) => "top",
        }
    }

    /// Whether it runs nodes, which log the course of things.
    fn is_node(&self) -> bool {
        matches!(self, Self::Master(_) | Self::Worker(_) | Self::Up(_))
    }

    /// Whether it talks to a cluster; the others do without the threads of a runtime.
    fn needs_runtime(&self) -> bool {
        !matches!(self, Self::Explain(_) | Self::Store(_) | Self::Config(_) | Self::Secret(_) | Self::Completions(_))
    }
}

/// Threads of the runtime: formulas run on executors of their own, so these only carry messages.
const RUNTIME_THREADS: usize = 2;
/// What client commands log unless told otherwise: what a person must act on.
const LOG_LEVEL: &str = "error";

/// Runs the command line.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(argv::mark_formulas(std::env::args_os(), &Cli::command())) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. A reader that has gone does not want to know.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let ui = Ui::detect(&cli.globals);
    match run(cli, ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure::print(&failure, &mut io::stderr(), ui.colour);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(cli: Cli, ui: Ui) -> Result<(), Failure> {
    let (sources, loaded) = cli.globals.load(&cli.command)?;
    for warning in &loaded.warnings {
        ui.warn(warning);
    }
    start_log(&loaded, cli.command.is_node())?;
    let mut runtime = if cli.command.needs_runtime() {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(RUNTIME_THREADS);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, format!("start the runtime: {error}")))?;
    // Nodes begin to export when they know who they are.
    let mut span = {
        let _within = runtime.enter();
        command::begin(&loaded.config, &cli.command)?
    };
    let trace = span.context().unwrap_or_else(|| TraceParent::new_sampled(loaded.config.telemetry.sample_ratio));
    let context = Context { loaded, sources, ui, config_file: cli.globals.config.clone(), trace };
    let result = runtime.block_on(cli.command.run(&context));
    command::end(&mut span, &result);
    drop(span);
    telemetry::export::stop();
    // A thread that still reads standard input must not hold the process.
    runtime.shutdown_background();
    result
}

/// Logs to standard error.
fn start_log(loaded: &Loaded, is_node: bool) -> Result<(), Failure> {
    // What goes on inside a cluster in this process is nobody's business, in whatever profile.
    let built_in = |source: &String| source == "default" || source.starts_with("profile ");
    let chosen = loaded.sources.get("log.level").is_some_and(|source| !built_in(source));
    let level = if chosen || is_node { &loaded.config.log.level } else { LOG_LEVEL };
    telemetry::init(loaded.config.log.format, level).map_err(|error| Failure::new(Exit::Config, error.to_string()))
}

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    stdout_terminal: bool,
    stderr_terminal: bool,
    colour: bool,
    quiet: bool,
    progress: ProgressMode,
}

impl Ui {
    fn detect(globals: &Globals) -> Self {
        let stderr_terminal = io::stderr().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            stdout_terminal: io::stdout().is_terminal(),
            stderr_terminal,
            colour: stderr_terminal && !set("NO_COLOR") && !dumb,
            quiet: globals.quiet,
            progress: globals.progress,
        }
    }

    /// Progress of a job whose rows go to standard output (`rows_to_stdout`) or elsewhere.
    fn progress(&self, rows_to_stdout: bool) -> Progress {
        Progress::new(self.progress, self.quiet, self.stderr_terminal, rows_to_stdout && self.stdout_terminal)
    }

    /// Whether notes are welcome: on a terminal only.
    fn takes_notes(&self) -> bool {
        self.stderr_terminal && !self.quiet
    }

    /// Says something on standard error that is no error, where that is welcome.
    fn note(&self, text: fmt::Arguments<'_>) {
        if self.takes_notes() {
            self.say(text);
        }
    }

    /// Says on standard error what looks like a mistake but need not be one.
    fn warn(&self, text: &str) {
        if !self.quiet {
            self.say(format_args!("warning: {text}"));
        }
    }

    /// Says something on standard error, wherever it goes.
    fn say(&self, text: fmt::Arguments<'_>) {
        use std::io::Write;
        let _ = writeln!(io::stderr(), "{}", failure::sanitise(&text.to_string()));
    }
}

/// A command at work: its cluster, its terminal, its interrupts.
pub(crate) struct Session {
    service: Arc<dyn JobService>,
    /// Keeps an embedded cluster alive.
    _cluster: Option<Cluster>,
    /// Whether the cluster is in other processes.
    remote: bool,
    ui: Ui,
    signals: Signals,
    /// W3C trace context of the command: its jobs belong to one trace.
    traceparent: String,
}

impl Session {
    /// Opens the cluster that the configuration names.
    async fn open(context: &Context) -> Result<Self, Failure> {
        let signals =
            Signals::listen().map_err(|error| Failure::new(Exit::Internal, format!("listen for signals: {error}")))?;
        let cluster = cluster::open(context.config(), context.ui, context.trace).await?;
        Ok(Self {
            service: Arc::clone(cluster.service()),
            _cluster: Some(cluster),
            remote: context.config().client.cluster.is_some(),
            ui: context.ui,
            signals,
            traceparent: context.trace.to_string(),
        })
    }

    fn note(&self, text: fmt::Arguments<'_>) {
        self.ui.note(text);
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_has_help() {
        fn check(command: &clap::Command, path: &str) {
            for option in command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
                assert!(option.get_help().is_some(), "{path} {} has no help", option.get_id());
                assert!(!option.is_hide_set(), "{path} {} is hidden", option.get_id());
            }
            for inner in command.get_subcommands() {
                let path = format!("{path} {}", inner.get_name());
                assert!(inner.get_about().is_some(), "{path} has no help");
                let leads_on = path == "quipu" || inner.has_subcommands();
                assert!(leads_on || path.matches(' ').count() > 1 || inner.get_after_long_help().is_some(), "{path}");
                check(inner, &path);
            }
        }
        check(&Cli::command(), "quipu");
    }
}
