//! Partials as bytes: what is not one gives an error, and nothing worse.

use super::{NUMERIC, any_blocks, booleans, ints, reduced, set};
use crate::reduce::{PARTIAL_BYTES_MAX, ReduceError, ReducerSet};
use proptest::prelude::{any, prop_assert_eq, proptest};

proptest! {
    #[test]
    fn bytes_read_back_as_themselves(blocks in any_blocks()) {
        let bytes = reduced(NUMERIC, &blocks).to_bytes();
        prop_assert_eq!(ReducerSet::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn random_bytes_are_no_partial(bytes in proptest::collection::vec(any::<u8>(), 0..200), versioned in any::<bool>()) {
        let mut bytes = bytes;
        if versioned {
            bytes.insert(0, 2);
        }
        if let Ok(set) = ReducerSet::from_bytes(&bytes) {
            let _ = set.finish(0, 0);
        }
    }

    #[test]
    fn damaged_bytes_never_panic(
        blocks in any_blocks(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let whole = reduced(NUMERIC, &blocks);
        let mut bytes = whole.to_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(set) = ReducerSet::from_bytes(&bytes) {
            let mut other = whole.clone();
            let _ = other.merge(set.clone());
            let _ = other.finish(0, 0);
            let mut doubled = set.clone();
            let _ = doubled.merge(set);
            let _ = doubled.finish(0, 0);
        }
    }
}

#[test]
fn each_sort_of_garbage_has_its_error() {
    assert_eq!(ReducerSet::from_bytes(&[]).unwrap_err(), ReduceError::Corrupt("it is empty"));
    assert_eq!(ReducerSet::from_bytes(&[9, 1]).unwrap_err(), ReduceError::Version { found: 9, known: 2 });
    assert_eq!(
        ReducerSet::from_bytes(&vec![1; PARTIAL_BYTES_MAX + 1]).unwrap_err(),
        ReduceError::TooLarge(PARTIAL_BYTES_MAX + 1)
    );
    let mut bytes = reduced("sum", &[ints(&[1])]).to_bytes();
    bytes.push(0);
    assert_eq!(ReducerSet::from_bytes(&bytes).unwrap_err(), ReduceError::Corrupt("it goes on after its end"));
    // A million reductions of a byte each would take 32 MB.
    let many = [vec![2, 0xc0, 0x84, 0x3d], vec![0; 1_000_000]].concat();
    assert_eq!(ReducerSet::from_bytes(&many).unwrap_err(), ReduceError::Corrupt("it is cut short or damaged"));
    // A list that claims to have 2^60 reductions.
    let claim = [2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1];
    assert_eq!(ReducerSet::from_bytes(&claim).unwrap_err(), ReduceError::Corrupt("it is cut short or damaged"));
}

#[test]
fn partials_of_other_jobs_do_not_merge() {
    let mut sum = set("sum");
    assert_eq!(sum.merge(set("mean")), Err(ReduceError::Mismatch));
    assert_eq!(sum.merge(set("sum,mean")), Err(ReduceError::Mismatch));
    let other_inputs = ReducerSet::new(&[crate::spec::Reduction::Sum], &["x".into()], false).unwrap();
    assert_eq!(sum.merge(other_inputs), Err(ReduceError::Mismatch));
}

#[test]
fn partials_are_small() {
    let bytes = reduced("sum,mean,min,max,variance", &[ints(&[1, 2, 3])]).to_bytes();
    assert!(bytes.len() < 100, "{} bytes", bytes.len());
    let bytes = reduced("any,all,count", &[booleans(&[true])]).to_bytes();
    assert!(bytes.len() < 40, "{} bytes", bytes.len());
}
