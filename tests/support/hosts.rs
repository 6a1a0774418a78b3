//! Hosts of a test's own: network namespaces, which need root and iproute2.

use std::process::{Command, Stdio};

/// A command of iproute2, or what it complained about.
fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// One namespace for the master, one for each worker, each worker on a cable of its own to the master.
pub struct Hosts {
    prefix: String,
    /// How many workers' hosts there are.
    pub workers: usize,
    owned: bool,
}

impl Hosts {
    /// Makes them; they go with this value.
    pub fn new(workers: usize) -> Result<Self, String> {
        let hosts = Self { prefix: format!("qp{}", std::process::id()), workers, owned: true };
        let master = hosts.master();
        ip(&["netns", "add", &master])?;
        ip(&["-n", &master, "link", "set", "lo", "up"])?;
        ip(&["-n", &master, "addr", "add", &format!("{}/32", Self::HOME), "dev", "lo"])?;
        for worker in 0..workers {
            let (name, cable, end) = (hosts.worker(worker), format!("m{worker}"), format!("w{worker}"));
            let subnet = |host| format!("{}/30", hosts.address(worker, host));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &master, "link", "add", &cable, "type", "veth", "peer", "name", &end, "netns", &name])?;
            ip(&["-n", &master, "addr", "add", &subnet(1), "dev", &cable])?;
            ip(&["-n", &name, "addr", "add", &subnet(2), "dev", &end])?;
            ip(&["-n", &master, "link", "set", &cable, "up"])?;
            ip(&["-n", &name, "link", "set", &end, "up"])?;
            // Everything else of the cluster is reached through the master's host.
            ip(&["-n", &name, "route", "add", "default", "via", &hosts.address(worker, 1)])?;
        }
        let forward = ["netns", "exec", &master, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
        ip(&forward)?;
        Ok(hosts)
    }

    /// An address of the master's host that stays whatever becomes of cables.
    pub const HOME: &str = "10.77.255.1";

    /// Hosts that another process has made, by the name of the master's.
    pub fn of(master: &str, workers: usize) -> Self {
        let prefix = master.strip_suffix('m').expect("the name of a master's host").to_owned();
        Self { prefix, workers, owned: false }
    }

    /// Name of the master's host.
    pub fn master(&self) -> String {
        format!("{}m", self.prefix)
    }

    /// Name of a worker's host.
    pub fn worker(&self, worker: usize) -> String {
        format!("{}w{worker}", self.prefix)
    }

    /// Address of the master's (1) or the worker's (2) end of a worker's cable.
    pub fn address(&self, worker: usize, host: u8) -> String {
        format!("10.77.{worker}.{host}")
    }

    /// The same command on one of the hosts.
    pub fn on(&self, host: &str, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", host]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        there.stdin(Stdio::null());
        there
    }

    /// Cuts a worker's cable (`down`) or mends it (`up`).
    pub fn cable(&self, worker: usize, state: &str) {
        ip(&["-n", &self.master(), "link", "set", &format!("m{worker}"), state]).expect("the cable is there");
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        for name in (0..self.workers).map(|worker| self.worker(worker)).chain([self.master()]) {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}
