//! Argument lists: what they hold, what they never hold, and what a shell makes of them.

use super::*;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
use quipu_shared::ids::NodeId;
use quipu_shared::trust::ClusterSecret;

fn common() -> Common {
    Common {
        cluster_id: "quipu".into(),
        log_level: "info".into(),
        log_format: "text".into(),
        config_file: Some("/etc/quipu/here.toml".into()),
        profile: Some("prod".into()),
    }
}

fn master() -> MasterPlan {
    MasterPlan {
        node_id: "master".into(),
        http: "127.0.0.1:0".parse().unwrap(),
        rpc: "127.0.0.1:0".parse().unwrap(),
        gossip: "127.0.0.1:7400".parse().unwrap(),
        advertise: None,
        data_dir: Some("/var/lib/quipu".into()),
    }
}

fn worker() -> WorkerPlan {
    WorkerPlan {
        node_id: "worker-1".into(),
        seed: "10.0.0.1:7400".parse().unwrap(),
        advertise: "10.0.0.2".parse().unwrap(),
        slots: Some(4),
        zone: Some("rack-1".into()),
    }
}

fn host() -> Host {
    Host {
        line: 1,
        user: Some("crunch".into()),
        name: "a.example".into(),
        port: Some(2222),
        slots: None,
        zone: None,
        advertise: None,
    }
}

fn ready() -> Ready {
    Ready::parse(
        br#"{"event":"ready","node_id":"master","http":"http://127.0.0.1:41","rpc":"127.0.0.1:42","gossip":"127.0.0.1:43","pid":1}"#,
    )
    .unwrap()
}

fn words(invocation: &Invocation) -> Vec<String> {
    invocation.args.iter().map(|arg| arg.to_str().unwrap().to_owned()).collect()
}

#[test]
fn masters_get_their_addresses_and_a_lifeline() {
    let args: Vec<_> = master().args(&common()).into_iter().map(|arg| arg.into_string().unwrap()).collect();
    let expected = [
        "master",
        "--node-id=master",
        "--cluster-id=quipu",
        "--secret-file=-",
        "--until-stdin-closes",
        "--log-level=info",
        "--log-format=text",
        "--http=127.0.0.1:0",
        "--rpc=127.0.0.1:0",
        "--gossip=127.0.0.1:7400",
        "--data-dir",
        "/var/lib/quipu",
        "--config",
        "/etc/quipu/here.toml",
        "--profile",
        "prod",
    ];
    assert_eq!(args, expected);
}

#[test]
fn restarted_masters_keep_the_ports_of_their_first_start() {
    let mut plan = master();
    plan.pin(&ready());
    let ports = [plan.http.port(), plan.rpc.port(), plan.gossip.port()];
    assert_eq!(ports, [41, 42, 7400], "a port that was asked for stays");
    let later = Ready::parse(
        br#"{"event":"ready","node_id":"master","http":"http://127.0.0.1:51","rpc":"127.0.0.1:52","gossip":"127.0.0.1:53","pid":1}"#,
    );
    plan.pin(&later.unwrap());
    assert_eq!([plan.http.port(), plan.rpc.port(), plan.gossip.port()], ports);
}

#[test]
fn seeds_are_where_others_reach_the_master() {
    let mut plan = master();
    assert_eq!(plan.seed(&ready()).unwrap().to_string(), "127.0.0.1:43");
    plan.advertise = "10.0.0.1".parse().ok();
    assert_eq!(plan.seed(&ready()).unwrap().to_string(), "10.0.0.1:43");
    plan.advertise = None;
    let mut everywhere = ready();
    everywhere.gossip = "0.0.0.0:43".parse().unwrap();
    assert_eq!(plan.seed(&everywhere), None);
}

#[test]
fn workers_listen_everywhere_only_where_others_must_reach_them() {
    let args = worker().args(&common());
    assert!(args.contains(&"--gossip=0.0.0.0:0".to_owned()), "{args:?}");
    let near = WorkerPlan { advertise: "127.0.0.1".parse().unwrap(), ..worker() };
    assert!(near.args(&common()).contains(&"--gossip=127.0.0.1:0".to_owned()));
    assert_eq!(bind_for("fd00::1".parse().unwrap(), 7400).to_string(), "[::]:7400");
}

#[test]
fn ssh_gets_the_users_options_first_and_the_host_behind_two_dashes() {
    let ssh = split_ssh("ssh -i 'my key' -o BatchMode=no").unwrap();
    let invocation = over_ssh(&ssh, &host(), "quipu", &["worker".into(), "--zone=a b".into()]).unwrap();
    assert_eq!(invocation.program, "ssh");
    let words = words(&invocation);
    assert_eq!(words[..5], ["-i", "my key", "-o", "BatchMode=no", "-T"]);
    assert_eq!(
        words[words.len() - 7..],
        ["-p", "2222", "-l", "crunch", "--", "a.example", "exec quipu worker '--zone=a b'"]
    );
}

#[test]
fn ssh_commands_without_words_are_refused() {
    for text in ["", "  ", "''", "ssh 'open"] {
        assert_eq!(split_ssh(text), None, "{text:?}");
    }
}

#[test]
fn zero_bytes_can_not_be_passed_on() {
    assert_eq!(over_ssh(&[], &host(), "a\0b", &[]), Err(QuoteError("a\0b".into())));
}

proptest! {
    #[test]
    fn shells_read_remote_arguments_as_they_were(args in prop::collection::vec("[^\0]{0,20}", 0..6)) {
        let invocation = over_ssh(&[], &host(), "quipu", &args).unwrap();
        let command = invocation.args.last().unwrap().to_str().unwrap();
        let read = shlex::split(command).unwrap();
        prop_assert_eq!(&read[..2], ["exec", "quipu"]);
        prop_assert_eq!(&read[2..], &args[..]);
    }

    #[test]
    fn no_argument_holds_the_secret(key in any::<[u8; 32]>(), zone in "[a-z]{0,10}", slots in any::<Option<u32>>()) {
        let secret = ClusterSecret::from_bytes(key).to_line();
        let plan = WorkerPlan { zone: Some(zone), slots, ..worker() };
        let ssh = over_ssh(&[], &host(), "quipu", &plan.args(&common())).unwrap();
        let near = plan.args(&common()).into_iter().map(OsString::from);
        for arg in ssh.args.into_iter().chain(near).chain(master().args(&common())) {
            prop_assert!(!arg.to_string_lossy().contains(secret.as_str()));
        }
    }

    #[test]
    fn names_of_hosts_make_names_of_nodes(name in "[A-Za-z0-9._:-]{1,253}", number in 0_usize..1000) {
        let id = node_id_of(&Host { name, ..host() }, number);
        prop_assert!(NodeId::try_from(id.clone()).is_ok(), "{}", id);
    }
}

/// Not what a library says of shells, but what a shell says.
#[test]
fn sh_reads_remote_arguments_as_they_were() {
    let args: Vec<String> = ["", "a b", "$HOME", "`id`", "it's", "\\", "*", "a\nb", "~", "!x", "#y", "\"", "-n", "é"]
        .map(String::from)
        .to_vec();
    let mut all = vec!["%s\\0".to_owned()];
    all.extend(args.iter().cloned());
    let invocation = over_ssh(&[], &host(), "printf", &all).unwrap();
    let output = std::process::Command::new("sh").arg("-c").arg(invocation.args.last().unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let read: Vec<String> =
        output.stdout.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
    assert_eq!(read[..args.len()], args[..]);
}
