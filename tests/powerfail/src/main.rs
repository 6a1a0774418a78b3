//! `powerfail MOUNT --control SOCKET [--ordered-metadata] [--torn] [--seed N]`: mounts an empty file system whose power
//! can be cut. Prints a line once it is there; unmounts when told to stop or when standard input closes.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

use fuser::{Config, MountOption};
use powerfail::control;
use powerfail::disk::{Attributes, Disk, Order, Rules};
use powerfail::mount::Mounted;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::time::SystemTime;

const USAGE: &str = "usage: powerfail MOUNT --control SOCKET [--ordered-metadata] [--torn] [--seed N]";

struct Options {
    mount: PathBuf,
    control: PathBuf,
    rules: Rules,
    seed: u64,
}

fn options() -> Option<Options> {
    let (mut mount, mut control, mut seed) = (None, None, 0);
    let mut rules = Rules { order: Order::Strict, torn: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--control" => control = Some(PathBuf::from(arguments.next()?)),
            "--ordered-metadata" => rules.order = Order::Journal,
            "--torn" => rules.torn = true,
            "--seed" => seed = arguments.next()?.parse().ok()?,
            _ if mount.is_none() && !argument.starts_with('-') => mount = Some(PathBuf::from(argument)),
            _ => return None,
        }
    }
    Some(Options { mount: mount?, control: control?, rules, seed })
}

fn run(options: &Options) -> io::Result<()> {
    let root = Attributes { mode: 0o755, uid: 0, gid: 0, changed: SystemTime::now() };
    let disk = Arc::new(Mutex::new(Disk::new(options.rules, options.seed, root)));
    let listener = UnixListener::bind(&options.control)?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("powerfail".to_owned()), MountOption::NoAtime];
    let session = fuser::spawn_mount(Mounted::new(disk.clone()), &options.mount, &config)?;
    println!(r#"{{"event":"ready"}}"#);
    let (stop, stopped) = mpsc::channel();
    std::thread::spawn({
        let stop = stop.clone();
        move || stop.send(io::copy(&mut io::stdin(), &mut io::sink()).map(|_| ()))
    });
    std::thread::spawn(move || stop.send(control::serve(&listener, &disk)));
    let result = stopped.recv().unwrap_or(Ok(()));
    session.umount_and_join()?;
    std::fs::remove_file(&options.control)?;
    result
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("powerfail: mount at {}: {error}", options.mount.display());
            ExitCode::FAILURE
        }
    }
}
