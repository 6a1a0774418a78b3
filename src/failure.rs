//! Failures of a command: one place decides exit codes and how an error reads.

use quipu_shared::service::{ErrorKind, Place, ServiceError};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use unicode_width::UnicodeWidthChar;

/// Exit codes, as docs and `--help` name them. The numbers above 63 are those of sysexits.h where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// A row or a formula failed.
    Evaluation = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The one formula does not parse or is refused, or the data is not what it says.
    Data = 65,
    /// An input is missing or unreadable.
    NoInput = 66,
    /// No master could be reached.
    Unavailable = 69,
    /// A defect, or trouble of this machine (disk full).
    Internal = 70,
    /// Over a limit; try again.
    TryAgain = 75,
    /// Not allowed.
    NotAllowed = 77,
    /// The configuration is wrong.
    Config = 78,
    /// The job's deadline passed.
    Deadline = 124,
    /// Interrupted.
    Interrupted = 130,
    /// Whoever read standard output has gone: what a shell shows for a process that SIGPIPE ended.
    BrokenPipe = 141,
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::TooLarge => Self::Data,
            ErrorKind::NotFound => Self::NoInput,
            ErrorKind::Evaluation => Self::Evaluation,
            ErrorKind::Cancelled => Self::Interrupted,
            ErrorKind::Deadline => Self::Deadline,
            ErrorKind::Busy => Self::TryAgain,
            ErrorKind::Unauthenticated | ErrorKind::Forbidden => Self::NotAllowed,
            ErrorKind::Unreachable => Self::Unavailable,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

/// Why a command ends with something else than 0.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process's exit code.
    pub(crate) exit: Exit,
    /// For people; empty where everything has been said already (failed rows, a broken pipe).
    pub(crate) message: String,
    /// Where in a formula.
    pub(crate) place: Option<Place>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure with a message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), place: None, hint: None }
    }

    /// A failure of which nothing more is to be said.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, String::new())
    }

    /// A wrong command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Trouble with writing output: a reader that has gone is no error worth a message.
    pub(crate) fn write(error: &io::Error, to: &dyn fmt::Display) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::BrokenPipe),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::new(Exit::NotAllowed, format!("write {to}: {error}"))
            }
            io::ErrorKind::NotFound => Self::usage(format!("write {to}: its folder does not exist")),
            _ => Self::new(Exit::Internal, format!("write {to}: {error}")),
        }
    }

    /// Trouble with reading an input.
    pub(crate) fn read(error: &io::Error, from: &dyn fmt::Display) -> Self {
        Self::new(Exit::NoInput, format!("read {from}: {error}"))
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let hint = match (error.kind, error.retry_after_s) {
            (_, Some(seconds)) => Some(format!("try again in {seconds} s")),
            (ErrorKind::Unreachable, None) => {
                Some("check --cluster and that a master runs there; without --cluster the command needs none".into())
            }
            (ErrorKind::Unauthenticated, None) => Some("give --token-file or --secret-file of that cluster".into()),
            _ => None,
        };
        Self { exit: error.kind.into(), message: error.message, place: error.place, hint }
    }
}

impl From<quipu::Error> for Failure {
    fn from(error: quipu::Error) -> Self {
        match error {
            quipu::Error::Service(error) => error.into(),
            quipu::Error::Argument { .. } => Self::usage(error.to_string()),
            _ => Self::new(Exit::Internal, error.to_string()),
        }
    }
}

/// How wide the excerpt of a formula around its error may be; the rest is cut with an ellipsis.
const EXCERPT_WIDTH_MAX: usize = 72;

/// Writes `error: ...` with the formula, a caret and the hint. Trouble with writing it is ignored: there is nowhere
/// left to say so.
pub(crate) fn print(failure: &Failure, out: &mut dyn Write, colour: bool) {
    if failure.message.is_empty() {
        return;
    }
    let (red, cyan, plain) = if colour { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{red}error:{plain} {}\n", sanitise(&failure.message));
    if let Some(place) = &failure.place
        && let Some(excerpt) = Excerpt::of(place)
    {
        let at = format!("  {}:{} | ", place.line, place.column);
        let blank = format!("{:>1$}", "| ", at.len());
        text.push_str(&format!("{at}{}\n{blank}{}{red}^{plain}\n", excerpt.line, " ".repeat(excerpt.caret)));
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("{cyan}hint:{plain} {}\n", sanitise(hint)));
    }
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The line of a formula with an error, cut to a width, and where its caret goes.
#[derive(Debug, PartialEq, Eq)]
struct Excerpt {
    line: String,
    caret: usize,
}

impl Excerpt {
    /// `None` where the place is outside of its formula.
    fn of(place: &Place) -> Option<Self> {
        let line = place.formula.split('\n').nth(place.line.checked_sub(1)? as usize)?;
        let characters: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let at = place.column.checked_sub(1)? as usize;
        // One behind the end is where an unfinished formula fails.
        if at > characters.len() {
            return None;
        }
        let first = at.saturating_sub(EXCERPT_WIDTH_MAX / 2);
        let last = characters.len().min(first + EXCERPT_WIDTH_MAX);
        let (before, after) = (if first > 0 { "…" } else { "" }, if last < characters.len() { "…" } else { "" });
        let shown: String = characters[first..last].iter().collect();
        let lead: usize = characters[first..at].iter().map(|c| c.width().unwrap_or(0)).sum();
        Some(Self { line: format!("{before}{shown}{after}"), caret: lead + before.chars().count() })
    }
}

/// Text of others for a terminal: control characters other than line breaks and tabs are shown, not obeyed.
pub(crate) fn sanitise(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if harmful(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(formula: &str, line: u32, column: u32) -> Place {
        Place { formula: formula.into(), line, column }
    }

    fn printed(failure: &Failure) -> String {
        let mut out = Vec::new();
        print(failure, &mut out, false);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn caret_stands_below_the_place() {
        let failure = Failure {
            place: Some(place("1 + +", 1, 5)),
            hint: Some("say more".into()),
            ..Failure::new(Exit::Data, "no value")
        };
        assert_eq!(printed(&failure), "error: no value\n  1:5 | 1 + +\n      |     ^\nhint: say more\n");
    }

    #[test]
    fn caret_of_an_unfinished_formula_stands_behind_it() {
        assert_eq!(Excerpt::of(&place("1 +", 1, 4)), Some(Excerpt { line: "1 +".into(), caret: 3 }));
        assert_eq!(Excerpt::of(&place("1 +", 1, 5)), None);
        assert_eq!(Excerpt::of(&place("1 +", 2, 1)), None);
        assert_eq!(Excerpt::of(&place("1 +", 0, 0)), None);
    }

    #[test]
    fn wide_characters_move_the_caret() {
        assert_eq!(Excerpt::of(&place("\"数\" +", 1, 6)).map(|e| e.caret), Some(6));
    }

    #[test]
    fn long_formulas_are_cut_around_the_place() {
        let formula = format!("{}?{}", "1+".repeat(3000), "+1".repeat(3000));
        let excerpt = Excerpt::of(&place(&formula, 1, 6001)).unwrap();
        assert!(excerpt.line.chars().count() <= EXCERPT_WIDTH_MAX + 2);
        assert_eq!(excerpt.line.chars().nth(excerpt.caret), Some('?'));
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(sanitise("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\n");
        assert!(matches!(sanitise("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn nothing_is_said_of_a_broken_pipe() {
        let failure = Failure::write(&io::Error::from(io::ErrorKind::BrokenPipe), &"standard output");
        assert_eq!((failure.exit, printed(&failure)), (Exit::BrokenPipe, String::new()));
    }
}
