//! Formulas that begin with a minus sign.
//!
//! `quipu eval '-2^2' -O json` is what people type. clap can take values with a leading hyphen, but then takes `-Ojson`
//! for one as well. So arguments that can't be options are marked before clap sees them, and the mark is taken off
//! when they are read.

use std::ffi::OsString;

/// Stands before a marked argument: a character that nobody types.
const MARK: char = '\u{1}';
/// Commands that take formulas.
const COMMANDS: [&str; 4] = ["eval", "map", "sweep", "sample"];

/// Marks what begins with a hyphen and is no option of the command.
pub(crate) fn mark_formulas(arguments: impl IntoIterator<Item = OsString>, root: &clap::Command) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let Some(at) = arguments.iter().position(|a| COMMANDS.iter().any(|c| a == c)) else { return arguments };
    // `job list --name eval` has the word, but not the command.
    let outer = arguments[..at].iter().skip(1).find_map(|a| root.find_subcommand(a));
    let parent = match outer {
        None => root,
        Some(outer) if outer.get_name() == "submit" => outer,
        Some(_) => return arguments,
    };
    let Some(command) = parent.find_subcommand(&arguments[at]) else { return arguments };
    let options = || command.get_arguments().chain(root.get_arguments());
    let is_short = |c: char| c == 'h' || c == 'V' || options().any(|option| option.get_short() == Some(c));
    for argument in arguments[at + 1..].iter_mut().take_while(|a| *a != "--") {
        let Some(text) = argument.to_str() else { continue };
        let option = match text.strip_prefix('-') {
            // A hyphen alone is a file name.
            None | Some("") => true,
            Some(rest) => match rest.strip_prefix('-') {
                Some(long) => long.starts_with(|c: char| c.is_ascii_lowercase()),
                None => rest.starts_with(is_short),
            },
        };
        if !option {
            *argument = format!("{MARK}{text}").into();
        }
    }
    arguments
}

/// A formula as it was typed.
pub(crate) fn formula(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.strip_prefix(MARK).unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::Cli;
    use clap::CommandFactory;

    fn marked(arguments: &[&str]) -> Vec<bool> {
        let arguments = arguments.iter().map(OsString::from);
        mark_formulas(arguments, &Cli::command()).iter().map(|a| a.to_string_lossy().starts_with(MARK)).collect()
    }

    #[test]
    fn formulas_are_told_from_options() {
        for (argument, formula) in [
            ("-2^2", true),
            ("-(x)", true),
            ("-x", true),
            ("--1", true),
            ("1 - 2", false),
            ("-", false),
            ("-Ojson", false),
            ("-vx=3", false),
            ("-q", false),
            ("-h", false),
            ("--quite", false),
            ("--output=x", false),
        ] {
            assert_eq!(marked(&["quipu", "eval", argument]), [false, false, formula], "{argument}");
        }
        assert!(marked(&["quipu", "-q", "sweep", "-x", "--over", "x=1"])[3]);
        assert_eq!(marked(&["quipu", "submit", "eval", "-2", "-q"]), [false, false, false, true, false]);
        assert_eq!(marked(&["quipu", "submit", "sweep", "-x", "--cron", "x"])[3..], [true, false, false]);
    }

    #[test]
    fn nothing_is_marked_behind_two_hyphens_or_in_other_commands() {
        assert_eq!(marked(&["quipu", "eval", "--", "-2"]), [false; 4]);
        assert_eq!(marked(&["quipu", "job", "show", "-2"]), [false; 4]);
        assert_eq!(marked(&["quipu", "-2"]), [false; 2]);
        assert_eq!(marked(&["quipu", "job", "list", "--name", "eval", "-n", "5"]), [false; 7]);
    }

    #[test]
    fn mark_is_taken_off() {
        assert_eq!(formula("\u{1}-2").unwrap(), "-2");
        assert_eq!(formula("2").unwrap(), "2");
    }
}
