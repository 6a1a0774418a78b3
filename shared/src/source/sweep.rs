//! Sweeps: the cartesian product of axes, the last of them fastest.

use super::axis::{Points, PointsKind};
use super::error::SourceError;
use super::text::check_names;
use super::{ROWS_MAX, RowSource, begin_block, booleans, floats, ints, strings};
use crate::BLOCK_ROWS;
use crate::block::{Block, Column};
use crate::spec::{Axis, ColumnType};
use multiversion::multiversion;

/// The points of a sweep.
#[derive(Clone, Debug)]
pub struct SweepSource {
    variables: Vec<String>,
    types: Vec<ColumnType>,
    walks: Vec<Walk>,
    rows: u64,
}

/// An axis within its product.
#[derive(Clone, Debug)]
struct Walk {
    points: Points,
    /// Rows for which a point stays: the product of the later axes' lengths.
    stride: u64,
}

impl SweepSource {
    /// Checks axes.
    ///
    /// # Errors
    /// For names, values and numbers of points that can't be taken.
    pub fn new(axes: &[Axis]) -> Result<Self, SourceError> {
        let variables = check_names("axis", axes.iter().map(|axis| &axis.name))?;
        let mut walks = Vec::with_capacity(axes.len());
        for axis in axes {
            let points =
                Points::new(&axis.values).map_err(|problem| SourceError::Axis { input: axis.name.clone(), problem })?;
            walks.push(Walk { points, stride: 1 });
        }
        let mut rows = 1_u64;
        for walk in walks.iter_mut().rev() {
            walk.stride = rows;
            rows = rows.saturating_mul(walk.points.len);
        }
        if rows > ROWS_MAX {
            let lengths: Vec<String> = walks.iter().map(|walk| walk.points.len.to_string()).collect();
            return Err(SourceError::TooMany { what: "rows", found: lengths.join(" x "), max: ROWS_MAX });
        }
        let types = walks.iter().map(|walk| walk.points.column_type()).collect();
        Ok(Self { variables, types, walks, rows })
    }
}

impl RowSource for SweepSource {
    fn variables(&self) -> &[String] {
        &self.variables
    }

    fn column_types(&self) -> &[ColumnType] {
        &self.types
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn fill(&self, first_row: u64, len: usize, block: &mut Block) {
        begin_block(block, self.walks.len(), first_row, len);
        for (walk, column) in self.walks.iter().zip(&mut block.columns) {
            match &walk.points.kind {
                PointsKind::Ints { start, step } => {
                    let at = |i: u64| start.wrapping_add((i as i64).wrapping_mul(*step));
                    walk.fill(first_row, len, ints(column), at, |i, out| {
                        write_ints(out, at(i), *step);
                    });
                }
                PointsKind::Floats { start, step, last } => {
                    let (start, step, count) = (*start, *step, walk.points.len);
                    let at = |i: u64| match last {
                        Some(last) if i + 1 == count => *last,
                        _ => start + i as f64 * step,
                    };
                    walk.fill(first_row, len, floats(column), at, |i, out| {
                        // Indices stay below 2^53, so adding them as floats is exact; conversions of 32 bits are fast.
                        for (chunk, piece) in out.chunks_mut(BLOCK_ROWS as usize).enumerate() {
                            let base = (i + chunk as u64 * BLOCK_ROWS) as f64;
                            write_floats(piece, start, base, step);
                        }
                        if let Some(last) = last
                            && i + out.len() as u64 == count
                            && let Some(slot) = out.last_mut()
                        {
                            *slot = *last;
                        }
                    });
                }
                PointsKind::List(Column::Int(list)) => walk.fill_list(first_row, len, ints(column), list),
                PointsKind::List(Column::Float(list)) => walk.fill_list(first_row, len, floats(column), list),
                PointsKind::List(Column::Boolean(list)) => walk.fill_list(first_row, len, booleans(column), list),
                PointsKind::List(Column::String(list)) => walk.fill_strings(first_row, len, strings(column), list),
                PointsKind::List(Column::Mixed(_)) => unreachable!("a list has values of one type"),
            }
        }
    }
}

/// `start + (base + k) * step` for each k; there are at most a block's.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn write_floats(out: &mut [f64], start: f64, base: f64, step: f64) {
    for (slot, k) in out.iter_mut().zip(0..BLOCK_ROWS as i32) {
        *slot = start + (base + f64::from(k)) * step;
    }
}

/// `first + k * step` for each k.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn write_ints(out: &mut [i64], first: i64, step: i64) {
    let mut value = first;
    for slot in out {
        *slot = value;
        value = value.wrapping_add(step);
    }
}

impl Walk {
    /// Writes the rows' points: `at` gives one, `run` consecutive ones from an index on.
    fn fill<T: Copy + Default>(
        &self,
        first_row: u64,
        rows: usize,
        out: &mut Vec<T>,
        at: impl Fn(u64) -> T,
        run: impl Fn(u64, &mut [T]),
    ) {
        out.resize(rows, T::default());
        let len = self.points.len;
        // What repeats within the block is computed once and then copied.
        let period = usize::try_from(len.saturating_mul(self.stride)).map_or(rows, |period| period.min(rows));
        let mut left = &mut out[..period];
        let mut index = first_row / self.stride % len;
        if self.stride == 1 {
            while !left.is_empty() {
                let n = usize::try_from(len - index).map_or(left.len(), |n| n.min(left.len()));
                let (now, later) = left.split_at_mut(n);
                run(index, now);
                left = later;
                index = 0;
            }
        } else {
            let mut stays = self.stride - first_row % self.stride;
            while !left.is_empty() {
                let n = usize::try_from(stays).map_or(left.len(), |n| n.min(left.len()));
                let (now, later) = left.split_at_mut(n);
                now.fill(at(index));
                left = later;
                stays = self.stride;
                index = if index + 1 == len { 0 } else { index + 1 };
            }
        }
        let mut done = period;
        while done < rows {
            let n = done.min(rows - done);
            out.copy_within(..n, done);
            done += n;
        }
    }

    fn fill_list<T: Copy + Default>(&self, first_row: u64, rows: usize, out: &mut Vec<T>, list: &[T]) {
        let run = |i: u64, out: &mut [T]| out.copy_from_slice(&list[i as usize..i as usize + out.len()]);
        self.fill(first_row, rows, out, |i| list[i as usize], run);
    }

    /// Strings keep their buffers.
    fn fill_strings(&self, first_row: u64, rows: usize, out: &mut Vec<String>, list: &[String]) {
        out.resize(rows, String::new());
        let mut index = (first_row / self.stride % self.points.len) as usize;
        let mut stays = self.stride - first_row % self.stride;
        for slot in out {
            slot.clone_from(&list[index]);
            stays -= 1;
            if stays == 0 {
                stays = self.stride;
                index = if index + 1 == list.len() { 0 } else { index + 1 };
            }
        }
    }
}
