//! Keeps documents true: shown commands print what is shown, and every dependency has its row.

mod cli_support;

use cli_support::{finish, quipu};
use std::path::Path;
use std::process::{Command, Stdio};

/// How a command of the README begins.
const PROMPT: &str = "$ ";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// A command of a document, and what it prints there.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    line: usize,
    command: String,
    output: String,
}

/// Commands in the blocks that are fenced as `console`, with the lines up to the next command or the block's end.
fn shown(document: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let (mut within, mut fenced) = (false, false);
    for (at, line) in document.lines().enumerate() {
        if line.starts_with("```") {
            within = !fenced && line == "```console";
            fenced = !fenced;
        } else if within && let Some(command) = line.strip_prefix(PROMPT) {
            found.push(Shown { line: at + 1, command: command.to_owned(), output: String::new() });
        } else if within {
            let shown = found.last_mut().unwrap_or_else(|| panic!("line {}: output without a command", at + 1));
            shown.output.push_str(line);
            shown.output.push('\n');
        }
    }
    found
}

/// Runs a line in a shell in which `quipu` is the binary under test.
fn run(line: &str) -> cli_support::Ran {
    // Only for its environment, which has none of the caller's settings.
    let clean = quipu(&[]);
    let mut shell = Command::new("sh");
    for (name, value) in clean.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.arg("-c").arg(format!("quipu() {{ \"$0\" \"$@\"; }}\n{line}")).arg(clean.get_program());
    shell.current_dir(root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(shell.spawn().expect("start a shell"), Vec::new())
}

#[test]
fn documents_show_what_commands_print() {
    for (document, commands_min) in [("README.md", 5), ("docs/ENGINE.md", 2)] {
        let commands = shown(&text(document));
        assert!(commands.len() >= commands_min, "{document} shows commands: {commands:?}");
        for Shown { line, command, output } in commands {
            assert!(command.starts_with("quipu "), "{document}, line {line}: only quipu is run here: {command}");
            let ran = run(&command);
            assert_eq!(ran.out, output, "{document}, line {line}: {command}\n{}", ran.err);
        }
    }
}

#[test]
fn shown_commands_are_those_of_console_blocks() {
    let document =
        "```console\n$ quipu a\n1\n2\n$ quipu b\n```\n$ no\n```sh\n$ no\n```\n```console\n$ quipu c\n3\n```\n";
    let shown: Vec<_> = shown(document).into_iter().map(|shown| (shown.line, shown.command, shown.output)).collect();
    let expected = [(2, "quipu a", "1\n2\n"), (5, "quipu b", ""), (12, "quipu c", "3\n")];
    assert_eq!(shown, expected.map(|(line, command, output)| (line, command.to_owned(), output.to_owned())));
}

/// Names in the workspace's table of dependencies, its own crates left out.
fn dependencies() -> Vec<String> {
    let manifest = text("Cargo.toml");
    let table = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    table
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned()))
        .filter(|name| !name.starts_with("quipu-"))
        .collect()
}

#[test]
fn every_dependency_has_its_row_and_every_row_its_dependency() {
    let document = text("docs/DEPENDENCIES.md");
    let mut rows: Vec<String> =
        document.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    let mut names = dependencies();
    assert!(names.len() > 10, "the manifest has dependencies: {names:?}");
    rows.sort();
    names.sort();
    assert_eq!(rows, names, "rows of docs/DEPENDENCIES.md (left) and keys of [workspace.dependencies] (right)");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let documents =
        ["README", "CONTRIBUTING", "docs/BENCHMARKS", "docs/CLUSTER", "docs/DEPENDENCIES", "examples/README"];
    for document in documents.map(|name| format!("{name}.md")) {
        let folder = root().join(&document);
        let folder = folder.parent().expect("a file is in a folder");
        let text = text(&document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !target.contains("://") && !file.is_empty() && !folder.join(file).exists() {
                broken.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
