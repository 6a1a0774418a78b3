//! A look at Parquet's Thrift structures before the `parquet` crate decodes them: it recurses and allocates as a footer
//! or a page header says, so that what they say is checked here first.

use super::{PAGE_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_NODES_MAX};

/// Levels that any Thrift structure may nest.
const DEPTH_MAX: usize = 64;

/// Why a structure is refused; the end of the bytes apart, as more of them may help.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The bytes end within the structure.
    Short,
    /// It is not valid.
    Bad(String),
}

fn bad(text: &str) -> Trouble {
    Trouble::Bad(text.to_string())
}

/// What a page's header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// 0 and 3 are data, 2 is a dictionary, 1 an index.
    pub(super) kind: i64,
    /// Bytes after decompression.
    pub(super) uncompressed: i64,
    /// Bytes in the file.
    pub(super) compressed: i64,
    /// Values, nulls included.
    pub(super) values: i64,
    /// Bytes of the header itself.
    pub(super) header_len: usize,
}

impl PageHeader {
    /// Whether the page holds rows.
    pub(super) fn is_data(&self) -> bool {
        matches!(self.kind, 0 | 3)
    }

    /// Reads a page's header from the start of `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Trouble> {
        let mut input = Input { bytes, at: 0 };
        let mut page = Self { kind: -1, values: -1, ..Self::default() };
        input.fields(0, |input, id, ty| {
            match (id, ty) {
                (1, 4..=6) => page.kind = input.integer()?,
                (2, 4..=6) => page.uncompressed = input.integer()?,
                (3, 4..=6) => page.compressed = input.integer()?,
                // Of data, of a dictionary, of data in version 2: each has its number of values first.
                (5 | 7 | 8, 12) => input.fields(1, |input, id, ty| match (id, ty) {
                    (1, 4..=6) => input.integer().map(|values| page.values = values),
                    _ => input.skip(ty, 2),
                })?,
                _ => input.skip(ty, 1)?,
            }
            Ok(())
        })?;
        page.header_len = input.at;
        let limit = i64::try_from(PAGE_BYTES_MAX).unwrap_or(i64::MAX);
        let fits = |bytes: i64| (0..=limit).contains(&bytes);
        if !(0..=3).contains(&page.kind) {
            return Err(bad("a page is of no known kind"));
        }
        if !fits(page.compressed) || !fits(page.uncompressed) {
            return Err(Trouble::Bad(format!("a page has {} bytes, over {limit}", page.uncompressed)));
        }
        if page.kind != 1 && !(0..=i64::from(i32::MAX)).contains(&page.values) {
            return Err(bad("a page does not say how many values it has"));
        }
        Ok(page)
    }
}

/// Checks a footer: a structure within the bytes, with a schema that does not nest too deep.
pub(super) fn check_footer(bytes: &[u8]) -> Result<(), Trouble> {
    let mut input = Input { bytes, at: 0 };
    let mut children = Vec::new();
    input.fields(0, |input, id, ty| match (id, ty) {
        (2, 9) => {
            let (count, element) = input.list()?;
            if element != 12 || count > SCHEMA_NODES_MAX {
                return Err(Trouble::Bad(format!("the schema has {count} nodes, over {SCHEMA_NODES_MAX}")));
            }
            for _ in 0..count {
                let mut own = 0;
                input.fields(1, |input, id, ty| match (id, ty) {
                    (5, 4..=6) => input.integer().map(|count| own = count),
                    _ => input.skip(ty, 2),
                })?;
                children.push(own);
            }
            Ok(())
        }
        _ => input.skip(ty, 1),
    })?;
    check_tree(&children)
}

/// Checks a tree given by each node's number of children, in order of depth first.
fn check_tree(children: &[i64]) -> Result<(), Trouble> {
    // Children that the open nodes still miss.
    let mut open: Vec<i64> = Vec::new();
    for (at, count) in children.iter().enumerate() {
        if at > 0 && open.is_empty() {
            return Err(bad("the schema has two roots"));
        }
        if !(0..children.len() as i64).contains(count) {
            return Err(bad("a node of the schema has more children than there are nodes"));
        }
        if let Some(missing) = open.last_mut() {
            *missing -= 1;
        }
        open.push(*count);
        if open.len() > SCHEMA_DEPTH_MAX + 1 {
            return Err(Trouble::Bad(format!("columns nest deeper than {SCHEMA_DEPTH_MAX} levels")));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    if open.is_empty() { Ok(()) } else { Err(bad("the schema misses nodes")) }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, Trouble> {
        let byte = *self.bytes.get(self.at).ok_or(Trouble::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, Trouble> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(bad("a number has too many bytes"))
    }

    /// A number in zigzag form.
    fn integer(&mut self) -> Result<i64, Trouble> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn advance(&mut self, len: u64) -> Result<(), Trouble> {
        let left = (self.bytes.len() - self.at) as u64;
        if len > left {
            return Err(Trouble::Short);
        }
        self.at += len as usize;
        Ok(())
    }

    /// Calls `field` with each field's id and type; it reads the value.
    fn fields(
        &mut self,
        depth: usize,
        mut field: impl FnMut(&mut Self, i64, u8) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        if depth > DEPTH_MAX {
            return Err(bad("structures nest too deep"));
        }
        let mut id = 0_i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            id = match head >> 4 {
                0 => self.integer()?,
                delta => id.wrapping_add(i64::from(delta)),
            };
            field(self, id, head & 0x0f)?;
        }
    }

    /// Count and type of a list's elements; each takes a byte at least.
    fn list(&mut self) -> Result<(usize, u8), Trouble> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        if count > (self.bytes.len() - self.at) as u64 {
            return Err(Trouble::Short);
        }
        Ok((count as usize, head & 0x0f))
    }

    fn skip(&mut self, ty: u8, depth: usize) -> Result<(), Trouble> {
        match ty {
            // A field of a boolean holds it in its type.
            1 | 2 => Ok(()),
            3 => self.advance(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.advance(8),
            8 => {
                let len = self.varint()?;
                self.advance(len)
            }
            9 | 10 => {
                let (count, element) = self.list()?;
                for _ in 0..count {
                    self.skip_element(element, depth + 1)?;
                }
                Ok(())
            }
            11 => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let types = self.byte()?;
                if count > (self.bytes.len() - self.at) as u64 {
                    return Err(Trouble::Short);
                }
                for _ in 0..count {
                    self.skip_element(types >> 4, depth + 1)?;
                    self.skip_element(types & 0x0f, depth + 1)?;
                }
                Ok(())
            }
            12 => self.fields(depth + 1, |input, _, ty| input.skip(ty, depth + 1)),
            13 => self.advance(16),
            _ => Err(bad("a field is of no known type")),
        }
    }

    /// Elements of lists and maps are never empty.
    fn skip_element(&mut self, ty: u8, depth: usize) -> Result<(), Trouble> {
        if depth > DEPTH_MAX {
            return Err(bad("structures nest too deep"));
        }
        if matches!(ty, 1 | 2) { self.advance(1) } else { self.skip(ty, depth) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Trouble, check_footer, check_tree};

    #[test]
    fn trees_are_whole_and_not_too_deep() {
        assert_eq!(check_tree(&[2, 0, 1, 0]), Ok(()));
        assert_eq!(check_tree(&[0]), Ok(()));
        assert!(check_tree(&[2, 0]).is_err());
        assert!(check_tree(&[1, 0, 0]).is_err());
        assert!(check_tree(&[1, i64::from(i32::MAX)]).is_err());
        assert!(check_tree(&[1, -1]).is_err());
        let chain = |depth: usize| [vec![1; depth], vec![0]].concat();
        assert_eq!(check_tree(&chain(32)), Ok(()));
        assert!(matches!(check_tree(&chain(33)), Err(Trouble::Bad(text)) if text.contains("32")));
    }

    #[test]
    fn nests_and_counts_without_end_are_refused() {
        // Lists of lists of lists.
        assert!(matches!(check_footer(&[0x19; 100_000]), Err(Trouble::Bad(_))));
        // Structures within structures.
        assert!(matches!(check_footer(&[0x1c; 100_000]), Err(Trouble::Bad(_))));
        // A list of billions of elements in four bytes.
        assert_eq!(check_footer(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Trouble::Short));
        assert_eq!(check_footer(&[]), Err(Trouble::Short));
        assert_eq!(check_footer(&[0]), Ok(()));
    }
}
