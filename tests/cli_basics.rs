//! What needs no cluster: help, version, completions, secrets, and wrong command lines.

mod cli_support;

use cli_support::{run, run_in};
use std::os::unix::fs::PermissionsExt;

#[test]
fn help_and_version_are_for_everyone() {
    let help = run(&["--help"]).ok();
    for text in ["eval", "map", "sweep", "sample", "Exit codes", "--cluster"] {
        assert!(help.contains(text), "{text} in\n{help}");
    }
    assert!(run(&["-h"]).ok().len() < help.len());
    assert_eq!(run(&["--version"]).ok(), format!("quipu {}\n", env!("CARGO_PKG_VERSION")));
    for command in ["eval", "map", "sweep", "sample", "job", "node", "status", "secret", "completions"] {
        let help = run(&[command, "--help"]).ok();
        assert!(help.contains("Examples:"), "{command}:\n{help}");
    }
}

#[test]
fn wrong_command_lines_end_with_2() {
    for args in [
        &[][..],
        &["evil"],
        &["eval"],
        &["eval", "--quite", "1"],
        &["eval", "1", "-f", "x"],
        &["eval", "1", "-O", "xml"],
        &["eval", "1", "-v", "x"],
        &["eval", "1", "-v", "1x=1"],
        &["eval", "1", "-v", "x=1", "-v", "x=2"],
        &["eval", "1", "--deadline", "soon"],
        &["sweep", "x"],
        &["sweep", "x", "--over", "x"],
        &["sweep", "x", "--over", "x=1", "--reduce", "median"],
        &["sweep", "x", "--over", "x=1", "-o", "out.xyz"],
        &["sample", "u", "--draw", "u=uniform(0,1)"],
        &["sample", "u", "-n", "0", "--draw", "u=uniform(0,1)"],
        &["sample", "u", "-n", "1", "--draw", "u=poisson(1)"],
        &["map", "x"],
        &["job", "list"],
        &["node", "list"],
        &["status"],
        &["secret", "token"],
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{args:?} {ran:?}");
        assert!(!ran.err.is_empty() && !ran.err.contains("panicked"), "{args:?} {ran:?}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).ok();
        for word in ["sweep", "reduce", "cluster"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn secret_gives_clients_their_token_and_ca() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.secret");
    let secret = run(&["secret", "new"]).ok();
    assert_eq!(secret.trim_end().len(), 43, "{secret}");
    assert_ne!(secret, run(&["secret", "new"]).ok());
    std::fs::write(&path, &secret).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let wide = run_in(folder.path(), &["secret", "token", "--secret-file", "cluster.secret"]).fails(78);
    assert!(wide.contains("chmod 600"), "{wide}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let token = run_in(folder.path(), &["secret", "token", "--secret-file", "cluster.secret"]).ok();
    assert!(!token.contains(secret.trim_end()) && token.trim_end().len() >= 32, "{token}");
    let again = run_in(folder.path(), &["secret", "token", "--secret-file", "cluster.secret"]).ok();
    assert_eq!(token, again);
    let ca = run_in(folder.path(), &["secret", "ca", "--secret-file", "cluster.secret"]).ok();
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----") && ca.ends_with("-----END CERTIFICATE-----\n"), "{ca}");
    run_in(folder.path(), &["secret", "ca", "--secret-file", "missing"]).fails(66);
}
