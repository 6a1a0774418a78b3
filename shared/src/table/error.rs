//! What is wrong with a table as a whole. What is wrong with one row is a [`crate::block::RowError`].

/// Why a table can't be read, or a schema can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The reader failed.
    #[error("read the table: {0}")]
    Io(#[from] std::io::Error),
    /// No header record.
    #[error("the table is empty; a CSV file begins with a record that names its columns")]
    NoHeader,
    /// No record of JSON-lines.
    #[error("the table is empty; JSON-lines has one object a line")]
    NoRecords,
    /// UTF-16 or another encoding.
    #[error("the table's header is not UTF-8{hint}; convert the file first, for example with iconv")]
    HeaderEncoding {
        /// What it seems to be.
        hint: &'static str,
    },
    /// A schema would be too large to travel.
    #[error("the table has more than {max} columns")]
    TooManyColumns {
        /// [`super::COLUMNS_MAX`].
        max: usize,
    },
    /// A schema would be too large to travel.
    #[error("the names of the table's columns take more than {max} bytes")]
    HeaderTooLong {
        /// [`super::HEADER_BYTES_MAX`].
        max: usize,
    },
    /// A record over [`super::RECORD_BYTES_MAX`].
    #[error("{place}, which begins at line {line}, is longer than {max} bytes; {hint}")]
    RecordTooLong {
        /// `row N`, counted from 1, or `the header`.
        place: String,
        /// Line from 1.
        line: u64,
        /// The limit.
        max: u64,
        /// The likely cause.
        hint: &'static str,
    },
    /// A block over [`super::BLOCK_BYTES_MAX`].
    #[error("rows {first} to {last} take more than {max} bytes; split long rows, or leave columns out")]
    BlockTooLong {
        /// First row of the block, from 1.
        first: u64,
        /// The row with which it got too long, from 1.
        last: u64,
        /// The limit.
        max: u64,
    },
    /// No line of the sample is a JSON object.
    #[error("line {line} is no JSON object: {reason}; JSON-lines has one object a line")]
    NotJsonLines {
        /// The first such line, from 1.
        line: u64,
        /// What the parser says.
        reason: String,
    },
    /// A separator that can't separate.
    #[error("the delimiter {} can't separate columns; it is one ASCII character, and no quote or line end", .delimiter.escape_ascii())]
    BadDelimiter {
        /// The byte.
        delimiter: u8,
    },
    /// `--types` that is not `NAME=TYPE,...`.
    #[error("--types: {part:?} is not NAME=TYPE")]
    BadTypes {
        /// The part in question.
        part: String,
    },
    /// A type that does not exist.
    #[error("--types: {ty:?} of column {column:?} is no type; there are int, float, boolean and string")]
    UnknownType {
        /// The column.
        column: String,
        /// What stands there.
        ty: String,
    },
    /// A column that the table does not have.
    #[error("--types: the table has no column {column:?}{nearest}; it has {columns}")]
    UnknownColumn {
        /// What was asked for.
        column: String,
        /// `; did you mean ...?` where something is near.
        nearest: String,
        /// Those that it has.
        columns: String,
    },
    /// A column twice in `--types`.
    #[error("--types: column {column:?} is given twice")]
    TypeGivenTwice {
        /// The column.
        column: String,
    },
    /// The computed column has a name that is taken.
    #[error("the table has a column {name:?} already; choose another name for the result with --as")]
    OutputNameTaken {
        /// The name.
        name: String,
    },
    /// The computed column has no usable name.
    #[error("{name:?} can't name the result: {reason}; choose another with --as")]
    OutputName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file in columns was given to what reads text.
    #[error("{format} is no text, and has no records one after the other")]
    NotText {
        /// The form.
        format: &'static str,
    },
    /// A file in columns that is not what it says, or is over a limit.
    #[error("the table is no valid {format}: {reason}")]
    Columnar {
        /// The form that it should have.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// `--types` asks for what the file's values can't be read as.
    #[error("--types: column {column:?} is {stored} in the file, which can't be read as {ty}")]
    TypeOfFile {
        /// The column.
        column: String,
        /// Its type in the file.
        stored: String,
        /// What was asked for.
        ty: &'static str,
    },
    /// A formula reads a column whose type it can't have.
    #[error("column {column:?} is {stored}, which a formula can't read; leave it out of the formula")]
    Unreadable {
        /// The column.
        column: String,
        /// Its type in the file.
        stored: String,
    },
    /// A column has no text, and the output is text.
    #[error("column {column:?} is {stored}, which has no text; write {format}")]
    NoText {
        /// The column.
        column: String,
        /// Its type in the file.
        stored: String,
        /// A form that keeps it.
        format: &'static str,
    },
    /// A schema that no inference makes.
    #[error("the table's schema is not valid: {reason}")]
    BadSchema {
        /// What is wrong with it.
        reason: String,
    },
}

/// Characters of a cell or a name that a message shows.
const SHOWN_CHARS: usize = 40;

/// The text as messages show it: quoted, escaped and cut.
pub(crate) fn shorten(text: &[u8]) -> String {
    // Four bytes a character at most, so that a cell of megabytes is not decoded for a message.
    let head = String::from_utf8_lossy(&text[..text.len().min(4 * SHOWN_CHARS)]);
    let cut = head.chars().count() > SHOWN_CHARS || text.len() > 4 * SHOWN_CHARS;
    let shown: String = head.chars().take(SHOWN_CHARS).collect();
    format!("{shown:?}{}", if cut { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn long_cells_are_cut_and_escaped() {
        assert_eq!(shorten(b"a\"b\x1b"), r#""a\"b\u{1b}""#);
        assert_eq!(shorten(&[b'x'; 40]), format!("{:?}", "x".repeat(40)));
        assert_eq!(shorten(&[b'x'; 41]), format!("{:?}...", "x".repeat(40)));
        assert_eq!(shorten("é".repeat(1000).as_bytes()), format!("{:?}...", "é".repeat(40)));
    }
}
