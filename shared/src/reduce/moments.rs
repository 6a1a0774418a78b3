//! Sample variance over the aligned binary tree of block numbers.
//!
//! Each block gives (count, mean, sum of squared deviations). Node (level, k) of the tree covers blocks `k * 2^level`
//! to `(k + 1) * 2^level - 1` and is the merge of its two children, lower blocks first. A partial keeps the nodes that
//! its blocks complete and no more: a canonical set, whatever the order in which the blocks came.

use super::kernels;
use super::lanes::Mask;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rows have 64-bit numbers and a block has 2^12 of them, so that block numbers have 52 bits.
const LEVEL_MAX: u8 = 52;

/// Count, mean and sum of squared deviations of some rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Moments {
    n: u64,
    mean: f64,
    m2: f64,
}

const EMPTY: Moments = Moments { n: 0, mean: 0.0, m2: 0.0 };
/// Of rows among which one is NaN or infinite.
const fn undefined(n: u64) -> Moments {
    Moments { n, mean: f64::NAN, m2: f64::NAN }
}

impl Moments {
    /// Of one block.
    pub(super) fn of_block<M: Mask>(values: &[f64], mask: M, n: u64) -> Self {
        let Some(origin) = (0..values.len()).find(|&i| mask.valid(i)).map(|i| values[i]) else { return EMPTY };
        if n == 0 {
            return EMPTY;
        }
        // Differences from one of the values: a large common offset then costs no digits.
        let mean = origin + kernels::sum_of_differences(values, mask, origin) / n as f64;
        if !mean.is_finite() {
            // Any value that is not finite has brought us here; differences of finite ones may have too.
            let finite = values.iter().enumerate().all(|(i, x)| x.is_finite() || !mask.valid(i));
            return if finite { Self { n, mean: origin, m2: f64::INFINITY } } else { undefined(n) };
        }
        // What the mean's rounding left over is taken off again (the corrected two-pass algorithm).
        let (left_over, squares) = kernels::deviations(values, mask, mean);
        let m2 = squares - left_over * left_over / n as f64;
        Self { n, mean, m2: if m2.is_nan() { f64::INFINITY } else { m2.max(0.0) } }
    }

    /// Of both; `self` has the lower rows.
    fn then(self, next: Self) -> Self {
        if self.n == 0 {
            return next;
        }
        if next.n == 0 {
            return self;
        }
        let n = self.n.saturating_add(next.n);
        let delta = next.mean - self.mean;
        let share = next.n as f64 / n as f64;
        let mean = self.mean + delta * share;
        let m2 = self.m2 + next.m2 + delta * delta * (self.n as f64 * share);
        if m2.is_nan() {
            undefined(n)
        } else if mean.is_finite() {
            Self { n, mean, m2 }
        } else {
            Self { n, mean: self.mean, m2: f64::INFINITY }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    level: u8,
    moments: Moments,
}

/// Completed nodes by their first block.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tree {
    nodes: BTreeMap<u64, Node>,
}

/// A node as it travels.
#[derive(Serialize, Deserialize)]
pub(super) struct NodeForm {
    first: u64,
    level: u8,
    n: u64,
    mean: u64,
    m2: u64,
}

/// The block at which two partials overlap.
#[derive(Debug, PartialEq)]
pub(super) struct Overlap(pub(super) u64);

impl Tree {
    /// Adds a block that is not yet in.
    pub(super) fn push(&mut self, block: u64, moments: Moments) -> Result<(), Overlap> {
        self.insert(block, Node { level: 0, moments })
    }

    /// Whether any of these blocks is in.
    pub(super) fn overlaps(&self, first: u64, blocks: u64) -> bool {
        let end = first.saturating_add(blocks);
        self.nodes.range(..end).next_back().is_some_and(|(start, node)| start + (1 << node.level) > first)
    }

    fn insert(&mut self, mut first: u64, mut node: Node) -> Result<(), Overlap> {
        if self.overlaps(first, 1 << node.level) {
            return Err(Overlap(first));
        }
        while node.level < LEVEL_MAX {
            let sibling = first ^ (1 << node.level);
            match self.nodes.get(&sibling) {
                Some(found) if found.level == node.level => {
                    let found = found.moments;
                    self.nodes.remove(&sibling);
                    node.moments = if sibling < first { found.then(node.moments) } else { node.moments.then(found) };
                    node.level += 1;
                    first = first.min(sibling);
                }
                _ => break,
            }
        }
        self.nodes.insert(first, node);
        Ok(())
    }

    /// Adds another partial's nodes, or nothing where they overlap.
    pub(super) fn merge(&mut self, other: &Self) -> Result<(), Overlap> {
        for (first, node) in &other.nodes {
            if self.overlaps(*first, 1 << node.level) {
                return Err(Overlap(*first));
            }
        }
        for (first, node) in &other.nodes {
            self.insert(*first, *node)?;
        }
        Ok(())
    }

    /// Merges what is left, with missing blocks as empty: a node whose sibling is missing is its own parent.
    fn root(&self) -> Moments {
        // Level of the lowest node that has both of these among its blocks.
        let meet = |a: u64, b: u64| u64::BITS - (a ^ b).leading_zeros();
        let mut open: Vec<(u64, Moments)> = Vec::new();
        for (&first, node) in &self.nodes {
            while let [.., (a, left), (b, right)] = open[..] {
                if meet(a, b) > meet(b, first) {
                    break;
                }
                open.truncate(open.len() - 2);
                open.push((a, left.then(right)));
            }
            open.push((first, node.moments));
        }
        open.into_iter().rev().fold(EMPTY, |right, (_, left)| left.then(right))
    }

    /// The sample variance; `None` of fewer than two rows.
    pub(super) fn variance(&self) -> Option<f64> {
        let root = self.root();
        (root.n >= 2).then(|| root.m2 / (root.n - 1) as f64)
    }

    pub(super) fn to_form(&self) -> Vec<NodeForm> {
        let form = |(first, node): (&u64, &Node)| NodeForm {
            first: *first,
            level: node.level,
            n: node.moments.n,
            mean: node.moments.mean.to_bits(),
            m2: node.moments.m2.to_bits(),
        };
        self.nodes.iter().map(form).collect()
    }

    pub(super) fn from_form(forms: &[NodeForm]) -> Option<Self> {
        let mut tree = Self::default();
        for form in forms {
            let fits = form.level <= LEVEL_MAX
                && form.first >> LEVEL_MAX == 0
                && form.first & ((1 << form.level) - 1) == 0
                && form.n <= crate::BLOCK_ROWS << form.level.min(51);
            if !fits {
                return None;
            }
            let moments = Moments { n: form.n, mean: f64::from_bits(form.mean), m2: f64::from_bits(form.m2) };
            let moments = if moments.m2.is_nan() { undefined(form.n) } else { moments };
            tree.insert(form.first, Node { level: form.level, moments }).ok()?;
        }
        Some(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::{EMPTY, Moments, Overlap, Tree};
    use crate::reduce::lanes::Dense;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::collections::BTreeMap;

    fn block(number: u64) -> Moments {
        let values = [number as f64 * 0.37 + 1e3, (number * number) as f64 / 7.0, -1.0 / (number + 1) as f64];
        Moments::of_block(&values, Dense, 3)
    }

    /// The aligned tree, by its definition.
    fn node(blocks: &BTreeMap<u64, Moments>, level: u32, index: u64) -> Moments {
        if level == 0 {
            return blocks.get(&index).copied().unwrap_or(EMPTY);
        }
        node(blocks, level - 1, index * 2).then(node(blocks, level - 1, index * 2 + 1))
    }

    proptest! {
        #[test]
        fn root_is_that_of_the_aligned_tree(numbers in proptest::collection::vec((0..200_u64, any::<u32>()), 0..60)) {
            let mut numbers = numbers;
            numbers.sort_by_key(|(_, order)| *order);
            let mut blocks = BTreeMap::new();
            let mut tree = Tree::default();
            for (number, _) in numbers {
                let known = blocks.insert(number, block(number)).is_some();
                prop_assert_eq!(tree.push(number, block(number)), if known { Err(Overlap(number)) } else { Ok(()) });
            }
            prop_assert_eq!(tree.root(), node(&blocks, 8, 0));
            prop_assert_eq!(Tree::from_form(&tree.to_form()), Some(tree));
        }
    }

    #[test]
    fn run_of_blocks_keeps_a_node_a_level_at_most() {
        let mut tree = Tree::default();
        for number in 0..1000 {
            tree.push(number, block(number)).unwrap();
        }
        assert_eq!(tree.nodes.len(), 1000_u64.count_ones() as usize);
        tree.push((1 << 52) - 1, block(1)).unwrap();
        assert!(tree.overlaps(999, 1) && !tree.overlaps(1000, 1) && tree.overlaps(0, u64::MAX));
    }
}
