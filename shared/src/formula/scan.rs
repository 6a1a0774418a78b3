//! An iterative pass over a formula's text that finds the same tokens as evalexpr, with their places.
//!
//! It does not replace evalexpr's tokeniser: it runs before it, to refuse what would hurt and to know where things
//! stand.

use super::error::{ErrorCode, FormulaError, echo};
use super::limits::FormulaLimits;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A variable that is read.
    Name,
    /// A variable that is assigned.
    Target,
    /// A function: a name with a value right of it.
    Function,
    /// A number or boolean.
    Literal,
    /// A string.
    Text,
    Open,
    Close,
    Comma,
    Semicolon,
    Plus,
    Minus,
    /// A minus with no value left of it.
    Negate,
    Star,
    Slash,
    Percent,
    Hat,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    And,
    Or,
    Not,
    Assign,
    PlusAssign,
    MinusAssign,
    StarAssign,
    SlashAssign,
    PercentAssign,
    HatAssign,
    AndAssign,
    OrAssign,
}

impl Kind {
    /// Whether a value can begin with this token.
    pub(super) fn begins_value(self) -> bool {
        matches!(self, Self::Name | Self::Target | Self::Function | Self::Literal | Self::Text | Self::Open)
    }

    /// Whether a value can end with this token.
    pub(super) fn ends_value(self) -> bool {
        matches!(self, Self::Name | Self::Target | Self::Function | Self::Literal | Self::Text | Self::Close)
    }

    /// Whether this is `=` or one of its relatives.
    pub(super) fn is_assignment(self) -> bool {
        matches!(
            self,
            Self::Assign
                | Self::PlusAssign
                | Self::MinusAssign
                | Self::StarAssign
                | Self::SlashAssign
                | Self::PercentAssign
                | Self::HatAssign
                | Self::AndAssign
                | Self::OrAssign
        )
    }
}

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    /// What it is.
    pub(super) kind: Kind,
    /// First byte.
    pub(super) start: usize,
    /// Byte after the last.
    pub(super) end: usize,
    /// The name of a variable or function; empty for others. Differs from the text where a comment stands inside.
    pub(super) name: String,
}

/// A piece of text whose meaning may depend on its neighbours.
#[derive(Debug)]
enum Piece {
    White,
    Text,
    Word(String),
    Sign(char),
}

struct Placed {
    piece: Piece,
    start: usize,
    end: usize,
}

/// The tokens of a formula, or the first thing in it that no token begins with.
pub(super) fn scan(text: &str, limits: &FormulaLimits) -> Result<Vec<Token>, FormulaError> {
    limits.check_bytes(text)?;
    join(text, &pieces(text)?, limits)
}

/// First pass: characters to words, strings and signs; comments vanish without separating words, as in evalexpr.
fn pieces(text: &str) -> Result<Vec<Placed>, FormulaError> {
    let mut found: Vec<Placed> = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((start, character)) = rest.next() {
        let end = start + character.len_utf8();
        match character {
            '"' => {
                let end = string_end(text, start)?;
                while rest.next_if(|&(at, _)| at < end).is_some() {}
                found.push(Placed { piece: Piece::Text, start, end });
            }
            '/' if matches!(rest.peek(), Some((_, '/' | '*'))) => {
                let end = comment_end(text, start)?;
                while rest.next_if(|&(at, _)| at < end).is_some() {}
            }
            '+' | '-' | '*' | '/' | '%' | '^' | '(' | ')' | ',' | ';' | '=' | '!' | '>' | '<' | '&' | '|' => {
                found.push(Placed { piece: Piece::Sign(character), start, end });
            }
            _ if character.is_whitespace() => found.push(Placed { piece: Piece::White, start, end }),
            _ if character.is_control() => {
                return Err(FormulaError::at(
                    ErrorCode::UnexpectedCharacter,
                    format!("the control character U+{:04X} stands outside a string: remove it", u32::from(character)),
                    text,
                    start,
                ));
            }
            _ => match found.last_mut() {
                Some(Placed { piece: Piece::Word(word), end: last, .. }) => {
                    word.push(character);
                    *last = end;
                }
                _ => found.push(Placed { piece: Piece::Word(character.into()), start, end }),
            },
        }
    }
    Ok(found)
}

/// The byte after the string that begins at `start`.
fn string_end(text: &str, start: usize) -> Result<usize, FormulaError> {
    let mut rest = text[start + 1..].char_indices();
    while let Some((at, character)) = rest.next() {
        match character {
            '"' => return Ok(start + 1 + at + 1),
            '\\' => match rest.next() {
                Some((_, '"' | '\\')) => {}
                Some((_, other)) => {
                    return Err(FormulaError::at(
                        ErrorCode::IllegalEscape,
                        format!("\\{} is no escape: strings know \\\" and \\\\ only", echo(&other.to_string())),
                        text,
                        start + 1 + at,
                    ));
                }
                None => break,
            },
            _ => {}
        }
    }
    Err(FormulaError::at(
        ErrorCode::UnmatchedQuote,
        "the string that begins here does not end: close it with \"".into(),
        text,
        start,
    ))
}

/// The byte after the comment that begins at `start`.
fn comment_end(text: &str, start: usize) -> Result<usize, FormulaError> {
    let body = &text[start + 2..];
    if text[start..].starts_with("//") {
        return Ok(body.find('\n').map_or(text.len(), |at| start + 2 + at + 1));
    }
    match body.find("*/") {
        Some(at) => Ok(start + 2 + at + 2),
        None => Err(FormulaError::at(
            ErrorCode::UnmatchedComment,
            "the comment that begins here does not end: close it with */".into(),
            text,
            start,
        )),
    }
}

/// Second pass: pieces to tokens, as evalexpr joins them.
fn join(text: &str, pieces: &[Placed], limits: &FormulaLimits) -> Result<Vec<Token>, FormulaError> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = 0;
    while let Some(first) = pieces.get(at) {
        let sign = |offset: usize| match pieces.get(at + offset) {
            Some(Placed { piece: Piece::Sign(sign), .. }) => Some(*sign),
            _ => None,
        };
        let mut name = String::new();
        let (kind, used) = match &first.piece {
            Piece::White => {
                at += 1;
                continue;
            }
            Piece::Text => (Kind::Text, 1),
            Piece::Word(word) => {
                if is_literal(word) {
                    (Kind::Literal, 1)
                } else if let (Some(sign @ ('+' | '-')), Some(Placed { piece: Piece::Word(power), .. })) =
                    (sign(1), pieces.get(at + 2))
                    && format!("{word}{sign}{power}").parse::<f64>().is_ok()
                {
                    (Kind::Literal, 3)
                } else {
                    name.clone_from(word);
                    (Kind::Name, 1)
                }
            }
            Piece::Sign(first_sign) => match operator(*first_sign, sign(1), sign(2)) {
                Some(joined) => joined,
                None => {
                    return Err(FormulaError::at(
                        ErrorCode::UnexpectedCharacter,
                        format!("a single {first_sign} is no operator: write {first_sign}{first_sign}"),
                        text,
                        first.start,
                    ));
                }
            },
        };
        if tokens.len() >= limits.tokens_max {
            return Err(FormulaError::at(
                ErrorCode::TooManyTokens,
                format!("the formula has more than {} tokens (tokens_max): split it", limits.tokens_max),
                text,
                first.start,
            ));
        }
        let end = pieces.get(at + used - 1).map_or(first.end, |last| last.end);
        tokens.push(Token { kind, start: first.start, end, name });
        at += used;
    }
    classify(&mut tokens);
    Ok(tokens)
}

/// Whether evalexpr takes a word as a number or boolean.
pub(super) fn is_literal(word: &str) -> bool {
    let integer = match word.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).is_ok(),
        None => word.parse::<i64>().is_ok(),
    };
    integer || word.parse::<f64>().is_ok() || word.parse::<bool>().is_ok()
}

/// The operator that begins with these signs, and how many of them it takes.
fn operator(first: char, second: Option<char>, third: Option<char>) -> Option<(Kind, usize)> {
    let with_equals = second == Some('=');
    let pick = |plain, joined| Some(if with_equals { (joined, 2) } else { (plain, 1) });
    match first {
        '(' => Some((Kind::Open, 1)),
        ')' => Some((Kind::Close, 1)),
        ',' => Some((Kind::Comma, 1)),
        ';' => Some((Kind::Semicolon, 1)),
        '+' => pick(Kind::Plus, Kind::PlusAssign),
        '-' => pick(Kind::Minus, Kind::MinusAssign),
        '*' => pick(Kind::Star, Kind::StarAssign),
        '/' => pick(Kind::Slash, Kind::SlashAssign),
        '%' => pick(Kind::Percent, Kind::PercentAssign),
        '^' => pick(Kind::Hat, Kind::HatAssign),
        '=' => pick(Kind::Assign, Kind::Equal),
        '!' => pick(Kind::Not, Kind::NotEqual),
        '>' => pick(Kind::Greater, Kind::GreaterEqual),
        '<' => pick(Kind::Less, Kind::LessEqual),
        '&' if second == Some('&') => Some(if third == Some('=') { (Kind::AndAssign, 3) } else { (Kind::And, 2) }),
        '|' if second == Some('|') => Some(if third == Some('=') { (Kind::OrAssign, 3) } else { (Kind::Or, 2) }),
        _ => None,
    }
}

/// Tells variables, targets and functions apart, and the two meanings of a minus, by their neighbours.
fn classify(tokens: &mut [Token]) {
    for at in 0..tokens.len() {
        let next = tokens.get(at + 1).map(|token| token.kind);
        let follows_value = at > 0 && tokens[at - 1].kind.ends_value();
        let token = &mut tokens[at];
        match (token.kind, next) {
            (Kind::Name, Some(next)) if next.is_assignment() => token.kind = Kind::Target,
            (Kind::Name, Some(next)) if next.begins_value() => token.kind = Kind::Function,
            (Kind::Minus, _) if !follows_value => token.kind = Kind::Negate,
            _ => {}
        }
    }
}
