//! The hosts file of `quipu up --hosts`: one host a line.
//!
//! ```text
//! # the big ones
//! crunch@10.0.0.11 slots=16 zone=rack-1
//! node7.example    port=2222           # its sshd listens elsewhere
//! gw               advertise=10.0.0.9  # a name of ~/.ssh/config: say which address others reach it at
//! ```

use std::net::IpAddr;

/// Hosts in one file: each is an ssh process of this machine, and more than this is a matter for a service manager.
pub(crate) const HOSTS_MAX: usize = 256;
/// Longest name: as DNS has it.
const NAME_BYTES_MAX: usize = 253;
/// Longest zone: as gossip has it.
const ZONE_BYTES_MAX: usize = 64;
/// Slots of one worker, as `--slots` takes them.
const SLOTS_MAX: u32 = 1024;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Which line, from 1.
    pub(crate) line: usize,
    /// Whom to log in as, where ssh should not decide.
    pub(crate) user: Option<String>,
    /// Name, address, or alias of the ssh configuration.
    pub(crate) name: String,
    /// Port of its sshd, where ssh should not decide.
    pub(crate) port: Option<u16>,
    /// Executors, where it should not be one a core.
    pub(crate) slots: Option<u32>,
    /// Where it stands.
    pub(crate) zone: Option<String>,
    /// Address that other nodes reach it at, where that is not what its name resolves to.
    pub(crate) advertise: Option<IpAddr>,
}

/// Why the file is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct HostsError {
    /// Which line, from 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) problem: HostsProblem,
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostsProblem {
    /// The line does not begin with a host.
    #[error("{0:?} is not [user@]host: letters, digits, '.', '_', '-' (not first), or an IPv6 address")]
    Name(String),
    /// A word behind the host is no option.
    #[error("{0:?} is no option; there are slots=N, zone=Z, port=P and advertise=IP")]
    Option(String),
    /// An option stands twice.
    #[error("{0} stands twice")]
    Repeated(String),
    /// An option's value does not fit.
    #[error("{option}={value:?} is not {expected}")]
    Value {
        /// Which option.
        option: &'static str,
        /// As given.
        value: String,
        /// What would fit.
        expected: &'static str,
    },
    /// A host has two lines.
    #[error("{name} stands on line {first} already; one worker uses all of a machine, slots=N says how much of it")]
    Duplicate {
        /// The host.
        name: String,
        /// Its first line.
        first: usize,
    },
    /// There are too many.
    #[error("more than {HOSTS_MAX} hosts; start that many workers by a service manager (scripts/systemd)")]
    TooMany,
    /// There is no host at all.
    #[error("the file names no host")]
    Empty,
}

/// Reads a hosts file. What stands behind a `#` at the beginning of a word is a comment.
pub(crate) fn parse(text: &str) -> Result<Vec<Host>, HostsError> {
    let mut hosts: Vec<Host> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let refuse = |problem| HostsError { line, problem };
        let mut words = text.split_whitespace().take_while(|word| !word.starts_with('#'));
        let Some(target) = words.next() else { continue };
        let host = host(line, target, words).map_err(refuse)?;
        let same = |other: &&Host| other.name.eq_ignore_ascii_case(&host.name) && other.port == host.port;
        if let Some(other) = hosts.iter().find(same) {
            return Err(refuse(HostsProblem::Duplicate { name: host.name, first: other.line }));
        }
        if hosts.len() == HOSTS_MAX {
            return Err(refuse(HostsProblem::TooMany));
        }
        hosts.push(host);
    }
    if hosts.is_empty() {
        Err(HostsError { line: text.lines().count().max(1), problem: HostsProblem::Empty })
    } else {
        Ok(hosts)
    }
}

fn host<'a>(line: usize, target: &str, options: impl Iterator<Item = &'a str>) -> Result<Host, HostsProblem> {
    let (user, name) = match target.rsplit_once('@') {
        Some((user, name)) => (Some(user), name),
        None => (None, target),
    };
    // ssh takes IPv6 addresses without brackets.
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let word = |text: &str| {
        // What begins with '-' would be an option of ssh, and one such option runs commands on this machine.
        !text.is_empty()
            && !text.starts_with('-')
            && text.len() <= NAME_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if !user.is_none_or(word) || !(word(name) || name.parse::<IpAddr>().is_ok()) {
        return Err(HostsProblem::Name(target.to_owned()));
    }
    let (user, name) = (user.map(ToOwned::to_owned), name.to_owned());
    let mut host = Host { line, user, name, port: None, slots: None, zone: None, advertise: None };
    for word in options {
        let (option, value) = word.split_once('=').ok_or_else(|| HostsProblem::Option(word.to_owned()))?;
        let refuse = |option, expected| HostsProblem::Value { option, value: value.to_owned(), expected };
        let repeated = match option {
            "slots" => {
                let slots = value.parse().ok().filter(|slots| (1..=SLOTS_MAX).contains(slots));
                host.slots.replace(slots.ok_or_else(|| refuse("slots", "a number from 1 to 1024"))?).is_some()
            }
            "zone" => {
                let zone = zone(value);
                host.zone.replace(zone.ok_or_else(|| refuse("zone", ZONE_EXPECTED))?).is_some()
            }
            "port" => {
                let port = value.parse().ok().filter(|port| *port != 0);
                host.port.replace(port.ok_or_else(|| refuse("port", "a port of an sshd, from 1 to 65535"))?).is_some()
            }
            "advertise" => {
                let address = value.parse().ok().filter(|address: &IpAddr| !address.is_unspecified());
                host.advertise.replace(address.ok_or_else(|| refuse("advertise", "an IP address"))?).is_some()
            }
            _ => return Err(HostsProblem::Option(word.to_owned())),
        };
        if repeated {
            return Err(HostsProblem::Repeated(option.to_owned()));
        }
    }
    Ok(host)
}

const ZONE_EXPECTED: &str = "1 to 64 letters, digits, '.', '_' or '-'";

fn zone(text: &str) -> Option<String> {
    let fits = (1..=ZONE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, proptest};

    fn problem(text: &str) -> (usize, String) {
        let error = parse(text).unwrap_err();
        (error.line, error.problem.to_string())
    }

    #[test]
    fn lines_may_have_users_options_and_comments() {
        let text = "# ours\n\n  a.example  # the first\ncrunch@10.0.0.1 slots=4 zone=rack-1 port=2222\n[fd00::1]\tadvertise=fd00::1\n";
        let hosts = parse(text).unwrap();
        let plain = Host {
            line: 3,
            user: None,
            name: "a.example".into(),
            port: None,
            slots: None,
            zone: None,
            advertise: None,
        };
        assert_eq!(hosts[0], plain);
        let crunch = Host {
            line: 4,
            user: Some("crunch".into()),
            name: "10.0.0.1".into(),
            port: Some(2222),
            slots: Some(4),
            zone: Some("rack-1".into()),
            advertise: None,
        };
        assert_eq!(hosts[1], crunch);
        let six = Host { line: 5, name: "fd00::1".into(), advertise: "fd00::1".parse().ok(), ..plain };
        assert_eq!(hosts[2..], [six]);
    }

    #[test]
    fn windows_line_ends_are_taken() {
        assert_eq!(parse("a slots=2\r\nb\r\n").unwrap().len(), 2);
    }

    #[test]
    fn refusals_name_the_line_and_the_fix() {
        assert_eq!(problem("a\nb slots=0").0, 2);
        assert_eq!(problem("a slots=0").1, "slots=\"0\" is not a number from 1 to 1024");
        assert_eq!(problem("a slots=2 slots=3").1, "slots stands twice");
        assert!(problem("a cores=2").1.contains("there are slots=N"));
        assert!(problem("a b").1.contains("\"b\" is no option"));
        assert!(problem("a port=0").1.contains("1 to 65535"));
        assert!(problem("a zone=").1.contains("letters"));
        assert!(problem("a advertise=0.0.0.0").1.contains("an IP address"));
        assert!(problem("a\n\nA").1.starts_with("A stands on line 1 already"));
        assert_eq!(problem("# nobody\n\n"), (2, "the file names no host".into()));
        assert_eq!(problem(""), (1, "the file names no host".into()));
    }

    #[test]
    fn hosts_that_ssh_or_a_shell_would_misread_are_refused() {
        for target in [
            "-oProxyCommand=x",
            "-a",
            "-u@a",
            "u@-a",
            "@a",
            "a@",
            "a;b",
            "a$b",
            "`a`",
            "a/b",
            "a:b:c",
            "é",
            "u@v@w",
            "::g",
        ] {
            assert!(matches!(parse(target).unwrap_err().problem, HostsProblem::Name(_)), "{target}");
        }
    }

    #[test]
    fn too_many_hosts_are_refused_at_the_line_that_is_too_much() {
        let text: String = (0..=HOSTS_MAX).map(|n| format!("h{n}\n")).collect();
        assert_eq!(parse(&text).unwrap_err(), HostsError { line: HOSTS_MAX + 1, problem: HostsProblem::TooMany });
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_host_is_an_option(text in "[-a-z@:#=. \n\\[\\]0-9]{0,200}|\\PC{0,100}") {
            for host in parse(&text).unwrap_or_default() {
                prop_assert!(!host.name.starts_with('-') && !host.name.is_empty());
                prop_assert!(host.user.is_none_or(|user| !user.starts_with('-') && !user.is_empty()));
            }
        }
    }
}
