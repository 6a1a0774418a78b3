//! Where the fields and records of CSV bytes end: 64 bytes at a time, without a branch for each.
//!
//! The idea is simdjson's (Langdale and Lemire, "Parsing gigabytes of JSON per second", 2019): every byte is compared
//! with the few that mean something, which gives a bit a byte, and whether a byte stands within quotes is the parity of
//! the quotes before it. That holds as long as every quote that opens stands where one may; a block of 64 bytes in which
//! one does not is gone through byte by byte.

use multiversion::multiversion;
use multiversion::target::match_target;

/// Bytes of a block: one bit of a word each.
pub(crate) const BLOCK: usize = 64;
/// Blocks that are scanned at once: enough that choosing the code for the processor costs nothing, few enough that what
/// comes out stays in its nearest cache.
const BLOCKS: usize = 64;
/// Bytes that are scanned at once.
pub(crate) const WINDOW: usize = BLOCK * BLOCKS;

/// What the next byte may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A quote opens: a field begins here, or quotes were just closed and go on if doubled.
    Open,
    /// A quote is text: the field has begun without one, or its quotes are closed.
    Plain,
    /// Text within quotes.
    Quoted,
}

/// What was found in up to [`WINDOW`] bytes: bit `i` of word `w` stands for byte `64 * w + i`.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    /// Delimiters outside quotes.
    pub(crate) delimiters: [u64; BLOCKS],
    /// `\n` and `\r` outside quotes.
    pub(crate) ends: [u64; BLOCKS],
    /// Every `\n`.
    pub(crate) line_feeds: [u64; BLOCKS],
}

impl Marks {
    /// Nothing found.
    pub(crate) const NONE: Self = Self { delimiters: [0; BLOCKS], ends: [0; BLOCKS], line_feeds: [0; BLOCKS] };
}

/// Which bytes of a block are what.
#[derive(Clone, Copy)]
struct Found {
    quotes: u64,
    line_feeds: u64,
    returns: u64,
    delimiters: u64,
}

/// Scans the bytes, at most [`WINDOW`] of them, of which the first is in `state`; gives the state after the last. Words
/// of blocks behind the last byte keep what they held.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"))]
pub(crate) fn scan(bytes: &[u8], delimiter: u8, mut state: State, marks: &mut Marks) -> State {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let words = marks.delimiters.iter_mut().zip(&mut marks.ends).zip(&mut marks.line_feeds);
    let mut padded = [0; BLOCK];
    if let Some(room) = padded.get_mut(..rest.len()) {
        room.copy_from_slice(rest);
    }
    let last = (!rest.is_empty()).then_some((&padded, rest.len()));
    for ((block, len), ((delimiters, ends), line_feeds)) in
        blocks.iter().map(|block| (block, BLOCK)).chain(last).zip(words)
    {
        let found = match_target! {
            "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt" => find_avx2(block, delimiter),
            _ => find(block, delimiter),
        };
        let (inside, after) =
            quoted(found, state, len).unwrap_or_else(|| quoted_by_bytes(block, delimiter, state, len));
        // Padding is zeros, which are neither delimiters nor line ends.
        *delimiters = found.delimiters & !inside;
        *ends = (found.line_feeds | found.returns) & !inside;
        *line_feeds = found.line_feeds;
        state = after;
    }
    state
}

/// Which bytes stand within quotes, and the state after `len` of them; `None` where a quote stands in the middle of a
/// field that has not begun with one.
#[inline(always)]
fn quoted(found: Found, state: State, len: usize) -> Option<(u64, State)> {
    let Found { quotes, line_feeds, returns, delimiters } = found;
    let carry = if state == State::Quoted { u64::MAX } else { 0 };
    // From an opening quote on, up to the closing one, which is outside.
    let inside = parity(quotes) ^ carry;
    let (opening, closing) = (quotes & inside, quotes & !inside);
    let before_open = delimiters | line_feeds | returns | closing;
    if opening & !(before_open << 1 | u64::from(state == State::Open)) != 0 {
        return None;
    }
    let last = 1_u64 << (len.wrapping_sub(1) & 63);
    let after = match () {
        () if inside & last != 0 => State::Quoted,
        () if before_open & last != 0 => State::Open,
        () => State::Plain,
    };
    Some((inside, after))
}

/// Bit `i` is the parity of the bits up to and with `i`.
#[inline(always)]
fn parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// As [`quoted`], for every text.
#[cold]
fn quoted_by_bytes(block: &[u8; BLOCK], delimiter: u8, mut state: State, len: usize) -> (u64, State) {
    let mut inside = 0;
    for (index, byte) in block.iter().take(len).enumerate() {
        state = match (state, *byte) {
            (State::Quoted, b'"') => State::Open,
            (State::Quoted, _) => State::Quoted,
            (State::Open, b'"') => State::Quoted,
            (_, b'\n' | b'\r') => State::Open,
            (_, byte) if byte == delimiter => State::Open,
            (_, _) => State::Plain,
        };
        inside |= u64::from(state == State::Quoted) << index;
    }
    (inside, state)
}

#[inline(always)]
fn find(block: &[u8; BLOCK], delimiter: u8) -> Found {
    Found {
        quotes: equal(block, b'"'),
        line_feeds: equal(block, b'\n'),
        returns: equal(block, b'\r'),
        delimiters: equal(block, delimiter),
    }
}

/// Which bytes are `needle`, eight at a time in a word.
#[inline(always)]
fn equal(block: &[u8; BLOCK], needle: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    /// Brings the top bits of eight bytes together in the uppermost one.
    const GATHER: u64 = 0x0002_0408_1020_4081;
    let needles = u64::from_le_bytes([needle; 8]);
    let mut bits = 0;
    for (index, bytes) in block.as_chunks::<8>().0.iter().enumerate() {
        let differences = u64::from_le_bytes(*bytes) ^ needles;
        // The top bit of a byte is set where the byte is not zero; no byte carries into the next.
        let differs = ((differences & LOW).wrapping_add(LOW) | differences) & !LOW;
        let equals = differs ^ !LOW;
        bits |= (equals.wrapping_mul(GATHER) >> 56) << (8 * index);
    }
    bits
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn find_avx2(block: &[u8; BLOCK], delimiter: u8) -> Found {
    use std::arch::x86_64::{_mm256_cmpeq_epi8, _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_setr_epi64x};
    let load = |bytes: &[u8; 32]| {
        let [a, b, c, d] = [0, 1, 2, 3].map(|word| {
            let mut bits = [0; 8];
            bits.copy_from_slice(&bytes[8 * word..8 * word + 8]);
            i64::from_le_bytes(bits)
        });
        _mm256_setr_epi64x(a, b, c, d)
    };
    let (halves, _) = block.as_chunks::<32>();
    let (low, high) = (load(&halves[0]), load(&halves[1]));
    let equal = |needle: u8| {
        let needles = _mm256_set1_epi8(needle.cast_signed());
        let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, needles)).cast_unsigned();
        let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, needles)).cast_unsigned();
        u64::from(low) | u64::from(high) << 32
    };
    Found { quotes: equal(b'"'), line_feeds: equal(b'\n'), returns: equal(b'\r'), delimiters: equal(delimiter) }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Marks, State, WINDOW, equal, quoted_by_bytes, scan};
    use proptest::prelude::{any, prop_assert_eq, prop_oneof, proptest};
    use proptest::strategy::{Just, Strategy};

    type Bits = (Vec<bool>, Vec<bool>, State);

    /// Delimiters and line ends by the state machine alone.
    fn expected(bytes: &[u8], delimiter: u8, mut state: State) -> Bits {
        let (mut delimiters, mut ends) = (Vec::new(), Vec::new());
        for byte in bytes {
            let mut block = [0; BLOCK];
            block[0] = *byte;
            let (inside, after) = quoted_by_bytes(&block, delimiter, state, 1);
            delimiters.push(inside == 0 && *byte == delimiter);
            ends.push(inside == 0 && matches!(byte, b'\n' | b'\r'));
            state = after;
        }
        (delimiters, ends, state)
    }

    /// The same by [`scan`], in pieces of this size.
    fn scanned(bytes: &[u8], delimiter: u8, mut state: State, piece: usize) -> Bits {
        let (mut delimiters, mut ends) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut marks = Marks::NONE;
            state = scan(piece, delimiter, state, &mut marks);
            for index in 0..piece.len() {
                let bit = |words: &[u64]| words[index / BLOCK] >> (index % BLOCK) & 1 == 1;
                assert_eq!(bit(&marks.line_feeds), piece[index] == b'\n');
                delimiters.push(bit(&marks.delimiters));
                ends.push(bit(&marks.ends));
            }
        }
        (delimiters, ends, state)
    }

    #[test]
    fn words_of_eight_find_every_byte_value() {
        for needle in 0..=u8::MAX {
            for shift in 0..4 {
                let block: [u8; BLOCK] = std::array::from_fn(|index| (64 * shift + index) as u8);
                let at = usize::from(needle).wrapping_sub(64 * shift);
                let bit = if at < BLOCK { 1_u64 << at } else { 0 };
                assert_eq!(equal(&block, needle), bit, "{needle} {shift}");
                assert_eq!(equal(&[needle; BLOCK], needle), u64::MAX);
            }
        }
    }

    #[test]
    fn quotes_at_the_edge_of_a_block_open_and_close_like_others() {
        for lead in 0..=2 * BLOCK {
            for tail in
                ["\"a,b\",c\n", "\"\"\"\"\n", "x\"y\",\"z\"\r\n", "\"a\"\"b,\n\",\"c", "\"a\"b\",\"\n", ",\"\",\"\n"]
            {
                let text = format!(
                    "{}{tail}{tail}{tail}",
                    "x".repeat(lead.saturating_sub(1)) + if lead > 0 { "," } else { "" }
                );
                assert_eq!(
                    scanned(text.as_bytes(), b',', State::Open, WINDOW),
                    expected(text.as_bytes(), b',', State::Open),
                    "{text:?}"
                );
            }
        }
    }

    fn state() -> impl Strategy<Value = State> {
        prop_oneof![Just(State::Open), Just(State::Plain), Just(State::Quoted)]
    }

    proptest! {
        #[test]
        fn soups_scan_like_the_state_machine(
            text in "[\",\r\nab;]{0,200}", semicolon in any::<bool>(), state in state(), piece in 1_usize..=WINDOW
        ) {
            let delimiter = if semicolon { b';' } else { b',' };
            let piece = if piece > 400 { WINDOW } else { piece };
            prop_assert_eq!(scanned(text.as_bytes(), delimiter, state, piece), expected(text.as_bytes(), delimiter, state));
        }

        #[test]
        fn tables_scan_like_the_state_machine(
            cells in proptest::collection::vec("[ab1]{0,12}[,\n]|\"([ab,\n]|\"\"){0,30}\"(,|\r\n)|a\"{1,2}b,", 0..100)
        ) {
            let text = cells.concat();
            for piece in [1, 63, 64, 65, 200, WINDOW] {
                prop_assert_eq!(
                    scanned(text.as_bytes(), b',', State::Open, piece), expected(text.as_bytes(), b',', State::Open)
                );
            }
        }

        #[test]
        fn any_bytes_scan_like_the_state_machine(bytes in proptest::collection::vec(any::<u8>(), 0..200), state in state()) {
            prop_assert_eq!(scanned(&bytes, b'\t', state, WINDOW), expected(&bytes, b'\t', state));
        }
    }
}
