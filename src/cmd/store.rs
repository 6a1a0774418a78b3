//! `quipu store`: looks after the data folder of a master that does not run.

use crate::cmd::Context;
use crate::failure::{Exit, Failure, sanitise};
use crate::output::Format;
use clap::{Args, Subcommand};
use quipu_master::store::backup::{Transferred, export, import};
use quipu_master::store::verify::{Compacted, StoreReport, compact, stats, verify};
use quipu_master::store::{Layout, StoreError};
use quipu_shared::config::Overrides;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Check, back up and restore the data folder of a master
///
/// No master may use the folder meanwhile: stop it first. It goes on where it was when it is started again.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  quipu store verify --data-dir /var/lib/quipu
  quipu store export backup.tar --data-dir /var/lib/quipu
  quipu store import backup.tar --data-dir /var/lib/quipu-restored
  quipu master --data-dir /var/lib/quipu-restored

Exit codes:
    0  done; verify has found nothing wrong
   65  verify has found something, the store or the backup is damaged or of another version
   66  there is no store in the folder, or no backup
   70  the disk, or the system, refuses
   75  a master uses the folder")]
pub(crate) enum StoreCommand {
    /// Read everything and say what is wrong
    ///
    /// Jobs, shards, results, uploads, schedules and keys are read, held against their digests and against each other.
    /// Nothing is changed without --accept-loss.
    Verify(VerifyArgs),
    /// Count what is in the store
    Stats(FolderArgs),
    /// Drop what was overwritten, to win back room
    Compact(FolderArgs),
    /// Write jobs, results, uploads and schedules to one file
    ///
    /// The file is a tar archive with a digest of each of its parts. Run `quipu store verify` before: what is damaged
    /// is exported as it is.
    Export(ExportArgs),
    /// Make a data folder of an exported file
    ///
    /// The folder must have no store. A backup that is damaged is refused, and nothing is left of it. The new store has
    /// an id of its own: workers give nothing that they compute for the old one to the new one.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    /// The master's data folder [env: QUIPU_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Form of the output: table or json
    #[arg(short = 'O', long, value_name = "FORM", default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    folder: FolderArgs,

    /// Go on with what is there, where acknowledged commands are lost
    ///
    /// A master refuses to start on such a store. With this the loss is accepted: the jobs that are lost stay lost, and
    /// numbers of jobs may be given a second time.
    #[arg(long)]
    accept_loss: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file to write; it must not be there
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The exported file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    folder: FolderArgs,
}

impl StoreCommand {
    fn folder(&self) -> &FolderArgs {
        match self {
            Self::Verify(VerifyArgs { folder, .. })
            | Self::Stats(folder)
            | Self::Compact(folder)
            | Self::Export(ExportArgs { folder, .. })
            | Self::Import(ImportArgs { folder, .. }) => folder,
        }
    }

    /// What the command line says of the configuration.
    pub(crate) fn override_config(&self, overrides: &mut Overrides) {
        overrides.set("--data-dir", "cluster.data_dir", self.folder().data_dir.as_ref());
    }

    pub(crate) fn run(&self, context: &Context) -> Result<(), Failure> {
        let format = self.folder().format;
        if !matches!(format, Format::Table | Format::Json) {
            return Err(Failure::usage("a store is shown as table or json").hint("give -O json"));
        }
        let data_dir = context.config().cluster.data_dir.clone().ok_or_else(|| {
            Failure::usage("no data folder is given")
                .hint("give --data-dir DIR, as to the master, or set QUIPU_DATA_DIR")
        })?;
        match self {
            Self::Verify(args) => {
                let report = verify(&data_dir, args.accept_loss).map_err(|error| failure(&error))?;
                print(format, &report, lines(&report))?;
                if args.accept_loss && report.lost > 0 {
                    context.ui.warn(&format!("{} acknowledged commands are given up", report.lost));
                }
                match report.problem_count {
                    0 => Ok(()),
                    count => Err(Failure::new(
                        Exit::Data,
                        format!("the store in {} has {count} {}", data_dir.display(), problems(count)),
                    )),
                }
            }
            Self::Stats(_) => {
                let report = stats(&data_dir).map_err(|error| failure(&error))?;
                print(format, &report, lines(&report))
            }
            Self::Compact(_) => {
                let done = compact(&data_dir).map_err(|error| failure(&error))?;
                let Compacted { bytes_before, bytes_after } = done;
                print(format, &done, vec![("before", bytes(bytes_before)), ("after", bytes(bytes_after))])
            }
            Self::Export(args) => {
                let done = export(&data_dir, &args.file).map_err(|error| failure(&error))?;
                print(format, &done, transferred(done, &args.file))
            }
            Self::Import(args) => {
                File::open(&args.file).map_err(|error| Failure::read(&error, &args.file.display()))?;
                let done = import(&args.file, &data_dir).map_err(|error| failure(&error))?;
                print(format, &done, transferred(done, &Layout::new(&data_dir).data_dir))
            }
        }
    }
}

/// Trouble with a store as a failure of a command that is about it.
fn failure(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Locked { .. } | StoreError::Busy { .. } => Exit::TryAgain,
        StoreError::Missing { .. } => Exit::NoInput,
        StoreError::Exists { .. } => Exit::Usage,
        StoreError::Format { .. }
        | StoreError::Truncated { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Backup { .. } => Exit::Data,
        StoreError::Io { .. } | StoreError::Stopped(_) => Exit::Internal,
    };
    Failure::new(exit, error.to_string())
}

fn print(format: Format, value: &impl Serialize, lines: Vec<(&'static str, String)>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from).and_then(|()| writeln!(out))
        }
        _ => lines.iter().try_for_each(|(name, text)| writeln!(out, "{name:<12} {}", sanitise(text))),
    };
    written.and_then(|()| out.flush()).map_err(|error| Failure::write(&error, &"standard output"))
}

fn lines(report: &StoreReport) -> Vec<(&'static str, String)> {
    let jobs: Vec<String> = report.jobs.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let mut lines = vec![
        ("store", report.store.clone()),
        ("format", report.format.to_string()),
        ("commands", format!("{}, {} of them acknowledged", report.last_applied, report.acknowledged)),
        ("jobs", if jobs.is_empty() { "none".into() } else { jobs.join(", ") }),
        ("schedules", report.schedules.to_string()),
        ("shards", report.shards.to_string()),
        ("keys", report.keys.to_string()),
        ("tables", bytes(report.table_bytes)),
        ("results", bytes(report.result_bytes)),
        ("uploads", report.uploads.to_string()),
    ];
    lines.extend(report.problems.iter().map(|problem| ("problem", problem.clone())));
    let untold = report.problem_count - report.problems.len() as u64;
    if untold > 0 {
        lines.push(("problems", format!("{untold} more")));
    }
    lines
}

fn transferred(done: Transferred, to: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("written", to.display().to_string()),
        ("records", done.records.to_string()),
        ("files", done.files.to_string()),
        ("bytes", done.bytes.to_string()),
    ]
}

fn bytes(count: u64) -> String {
    format!("{count} bytes in files")
}

fn problems(count: u64) -> &'static str {
    if count == 1 { "problem" } else { "problems" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_its_exit_code() {
        let path = PathBuf::from("/data");
        for (error, exit) in [
            (StoreError::Locked { path: path.clone() }, Exit::TryAgain),
            (StoreError::Missing { path: path.clone() }, Exit::NoInput),
            (StoreError::Exists { path: path.clone(), fix: "give a new file" }, Exit::Usage),
            (StoreError::Format { path: path.clone(), found: "9".into() }, Exit::Data),
            (StoreError::Truncated { path: path.clone(), found: 1, acknowledged: 2 }, Exit::Data),
            (StoreError::Backup { path: path.clone(), problem: "cut".into() }, Exit::Data),
            (StoreError::io("read", &path, "no room"), Exit::Internal),
        ] {
            let failure = failure(&error);
            assert_eq!(failure.exit, exit, "{error:?}");
            assert!(failure.message.contains("/data"), "{error}");
        }
    }

    #[test]
    fn a_report_is_told_in_lines() {
        let mut report = StoreReport { store: "s".into(), problem_count: 3, ..StoreReport::default() };
        report.jobs.insert("succeeded", 2);
        report.problems.push("job 1 has no spec".into());
        let lines = lines(&report);
        assert!(lines.contains(&("jobs", "2 succeeded".into())), "{lines:?}");
        assert!(lines.contains(&("problem", "job 1 has no spec".into())), "{lines:?}");
        assert_eq!(lines.last(), Some(&("problems", "2 more".into())));
    }
}
