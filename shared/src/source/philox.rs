//! Philox4x32-10: random bits as a pure function of key and counter.
//!
//! Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (2011). Nothing but 32-bit integer
//! arithmetic, so the bits are the same everywhere.

use multiversion::multiversion;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u64; 2] = [0xd251_1f53, 0xcd9e_8d57];
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Two words of 32 bits for each round.
type Keys = [[u64; 2]; ROUNDS];

/// The random words of one variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    keys: Keys,
}

impl Stream {
    /// The key is the first eight bytes of BLAKE3 over a tag, the seed and the name.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"quipu/v1/draw").update(&seed.to_le_bytes()).update(name.as_bytes());
        let hash = hasher.finalize();
        let (words, _) = hash.as_bytes().as_chunks::<4>();
        Self { keys: keys([u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1])]) }
    }

    /// The word of draw `i` at its `attempt`-th try: half of the block at counter (i / 2, attempt).
    pub(super) fn word(&self, i: u64, attempt: u32) -> u64 {
        let [low, high] = self.pair(i / 2, attempt);
        if i.is_multiple_of(2) { low } else { high }
    }

    /// The words of draws from `first` on, at their first try.
    pub(super) fn words(&self, first: u64, out: &mut [u64]) {
        // The second half of a block, where the range begins with it.
        let odd = usize::from(!first.is_multiple_of(2)).min(out.len());
        let (head, out) = out.split_at_mut(odd);
        head.fill_with(|| self.word(first, 0));
        let counter = first.div_ceil(2);
        let (pairs, rest) = out.as_chunks_mut::<2>();
        let count = pairs.len() as u64;
        write_pairs(&self.keys, counter, pairs);
        rest.fill_with(|| self.word((counter + count) * 2, 0));
    }

    #[inline(always)]
    fn pair(&self, counter: u64, attempt: u32) -> [u64; 2] {
        let [a, b, c, d] = philox([low(counter), high(counter), attempt.into(), 0], &self.keys);
        [a | b << 32, c | d << 32]
    }
}

/// Counters that go through the rounds together: enough for the widest vectors, twice over to hide their latency.
const LANES: usize = 16;

/// Writes the words of consecutive counters at their first try.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn write_pairs(keys: &Keys, counter: u64, pairs: &mut [[u64; 2]]) {
    let mut counter = counter;
    for chunk in pairs.chunks_mut(LANES) {
        let (mut a, mut b, mut c, mut d) = ([0; LANES], [0; LANES], [0; LANES], [0; LANES]);
        for (l, (a, b)) in (0..).zip(a.iter_mut().zip(&mut b)) {
            let counter = counter.wrapping_add(l);
            (*a, *b) = (low(counter), high(counter));
        }
        for key in keys {
            for l in 0..LANES {
                let first = low(a[l]).wrapping_mul(MULTIPLIERS[0]);
                let second = low(c[l]).wrapping_mul(MULTIPLIERS[1]);
                (a[l], b[l]) = (high(second) ^ b[l] ^ key[0], low(second));
                (c[l], d[l]) = (high(first) ^ d[l] ^ key[1], low(first));
            }
        }
        for (l, pair) in chunk.iter_mut().enumerate().take(LANES) {
            *pair = [a[l] | b[l] << 32, c[l] | d[l] << 32];
        }
        counter = counter.wrapping_add(LANES as u64);
    }
}

fn keys(key: [u32; 2]) -> Keys {
    let step = |i: usize, round: usize| u64::from(key[i].wrapping_add(KEY_STEPS[i].wrapping_mul(round as u32)));
    std::array::from_fn(|round| [step(0, round), step(1, round)])
}

#[inline(always)]
fn low(x: u64) -> u64 {
    x & 0xffff_ffff
}

#[inline(always)]
fn high(x: u64) -> u64 {
    x >> 32
}

/// The ten rounds. Words of 32 bits stand in 64, as vector units multiply them.
#[inline(always)]
fn philox([mut a, mut b, mut c, mut d]: [u64; 4], keys: &Keys) -> [u64; 4] {
    for key in keys {
        let first = low(a).wrapping_mul(MULTIPLIERS[0]);
        let second = low(c).wrapping_mul(MULTIPLIERS[1]);
        (a, b) = (high(second) ^ b ^ key[0], low(second));
        (c, d) = (high(first) ^ d ^ key[1], low(first));
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::{Stream, keys, philox};

    /// Known answers published with Random123 (`kat_vectors`, philox4x32 10).
    #[test]
    fn published_answers_come_out() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, answer) in cases {
            assert_eq!(philox(counter.map(|word: u32| word.into()), &keys(key)), answer);
        }
    }

    #[test]
    fn any_range_of_words_has_the_words_of_its_draws() {
        let stream = Stream::new(7, "u");
        for first in [0, 1, 5, 16, u64::from(u32::MAX) * 2 - 3] {
            for len in [0, 1, 2, 15, 16, 17, 100] {
                let mut words = vec![0; len];
                stream.words(first, &mut words);
                let expected: Vec<u64> = (0..len as u64).map(|i| stream.word(first + i, 0)).collect();
                assert_eq!(words, expected, "{len} words from {first} on");
            }
        }
    }

    #[test]
    fn seed_name_and_attempt_all_change_the_words() {
        let word = Stream::new(7, "u").word(3, 0);
        assert_ne!(word, Stream::new(8, "u").word(3, 0));
        assert_ne!(word, Stream::new(7, "v").word(3, 0));
        assert_ne!(word, Stream::new(7, "u").word(3, 1));
        assert_ne!(word, Stream::new(7, "u").word(2, 0));
    }
}
