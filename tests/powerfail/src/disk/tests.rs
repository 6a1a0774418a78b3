use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const ATTRIBUTES: Attributes = Attributes { mode: 0o755, uid: 0, gid: 0, changed: NOW };

fn disk(order: Order) -> Disk {
    Disk::new(Rules { order, torn: false }, 1, ATTRIBUTES)
}

fn file(disk: &mut Disk, name: &str) -> Inode {
    disk.create(ROOT, OsStr::new(name), Body::File(Contents::default()), ATTRIBUTES).unwrap()
}

fn power_cycle(disk: &mut Disk) {
    disk.cut();
    disk.restore();
}

/// Names and bytes of the root.
fn found(disk: &Disk) -> Vec<(String, Vec<u8>)> {
    let entries = disk.entries(ROOT).unwrap();
    entries
        .iter()
        .map(|(name, inode)| (name.to_str().unwrap().to_owned(), disk.read(*inode, 0, 1 << 20).unwrap()))
        .collect()
}

fn expected(files: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

#[test]
fn synced_bytes_stay_and_later_ones_go() {
    for order in [Order::Strict, Order::Journal] {
        let mut disk = disk(order);
        let inode = file(&mut disk, "a");
        disk.write(inode, 0, b"kept", NOW).unwrap();
        disk.sync(inode).unwrap();
        disk.sync(ROOT).unwrap();
        disk.write(inode, 0, b"LOST and more", NOW).unwrap();
        assert_eq!(disk.at_stake(), (1, 0));
        power_cycle(&mut disk);
        assert_eq!(found(&disk), expected(&[("a", b"kept")]));
        assert_eq!(disk.counts.pages_lost, 1);
    }
}

#[test]
fn synced_file_without_its_folder_has_no_name_but_by_the_journal() {
    for (order, files) in [(Order::Strict, vec![]), (Order::Journal, expected(&[("a", b"kept")]))] {
        let mut disk = disk(order);
        let inode = file(&mut disk, "a");
        disk.write(inode, 0, b"kept", NOW).unwrap();
        disk.sync(inode).unwrap();
        power_cycle(&mut disk);
        assert_eq!(found(&disk), files, "{order:?}");
    }
}

#[test]
fn rename_is_whole_and_durable_with_its_folder() {
    let mut disk = disk(Order::Strict);
    for (name, bytes) in [("old", b"1"), ("new", b"2")] {
        let inode = file(&mut disk, name);
        disk.write(inode, 0, bytes, NOW).unwrap();
        disk.sync(inode).unwrap();
    }
    disk.sync(ROOT).unwrap();
    let rename = |disk: &mut Disk| disk.rename((ROOT, OsStr::new("new")), (ROOT, OsStr::new("old")), false).unwrap();
    rename(&mut disk);
    power_cycle(&mut disk);
    assert_eq!(found(&disk), expected(&[("new", b"2"), ("old", b"1")]));
    rename(&mut disk);
    disk.sync(ROOT).unwrap();
    power_cycle(&mut disk);
    assert_eq!(found(&disk), expected(&[("old", b"2")]));
}

#[test]
fn moved_folder_keeps_what_is_in_it() {
    let mut disk = disk(Order::Journal);
    let folder = disk.create(ROOT, OsStr::new("d"), Body::Folder(BTreeMap::new()), ATTRIBUTES).unwrap();
    let inode = disk.create(folder, OsStr::new("a"), Body::File(Contents::default()), ATTRIBUTES).unwrap();
    disk.write(inode, 0, b"kept", NOW).unwrap();
    disk.rename((ROOT, OsStr::new("d")), (ROOT, OsStr::new("e")), false).unwrap();
    assert_eq!(disk.remove_folder(ROOT, OsStr::new("e")), Err(Trouble::NotEmpty));
    disk.sync(inode).unwrap();
    power_cycle(&mut disk);
    let folder = disk.lookup(ROOT, OsStr::new("e")).unwrap();
    let inode = disk.lookup(folder, OsStr::new("a")).unwrap();
    assert_eq!(disk.read(inode, 0, 9).unwrap(), b"kept");
}

#[test]
fn journal_commits_a_name_before_unsynced_bytes() {
    let mut disk = disk(Order::Journal);
    let (empty, other) = (file(&mut disk, "empty"), file(&mut disk, "other"));
    disk.write(empty, 0, b"bytes", NOW).unwrap();
    disk.sync(other).unwrap();
    power_cycle(&mut disk);
    assert_eq!(found(&disk), expected(&[("empty", b""), ("other", b"")]));
}

#[test]
fn cut_of_a_file_is_durable_with_it_or_by_the_journal() {
    for (order, left) in [(Order::Strict, &b"whole"[..]), (Order::Journal, b"wh")] {
        let mut disk = disk(order);
        let inode = file(&mut disk, "a");
        disk.write(inode, 0, b"whole", NOW).unwrap();
        disk.sync(inode).unwrap();
        disk.sync(ROOT).unwrap();
        disk.resize(inode, 2, NOW).unwrap();
        disk.sync(ROOT).unwrap();
        power_cycle(&mut disk);
        assert_eq!(found(&disk), expected(&[("a", left)]), "{order:?}");
    }
}

#[test]
fn handles_from_before_a_cut_are_dead_and_nothing_is_answered_without_power() {
    let mut disk = disk(Order::Strict);
    let inode = file(&mut disk, "a");
    disk.sync(ROOT).unwrap();
    disk.cut();
    assert_eq!(disk.lookup(ROOT, OsStr::new("a")), Err(Trouble::Dead));
    assert_eq!(disk.write(inode, 0, b"x", NOW), Err(Trouble::Dead));
    disk.restore();
    assert_eq!(disk.write(inode, 0, b"x", NOW), Err(Trouble::Dead));
    assert_eq!(disk.sync(inode), Err(Trouble::Dead));
    let again = disk.lookup(ROOT, OsStr::new("a")).unwrap();
    disk.write(again, 0, b"x", NOW).unwrap();
}

#[test]
fn armed_change_finds_the_power_cut_and_is_not_done() {
    let mut disk = disk(Order::Strict);
    let inode = file(&mut disk, "a");
    disk.sync(ROOT).unwrap();
    disk.arm(1);
    disk.write(inode, 0, b"x", NOW).unwrap();
    assert_eq!(disk.sync(inode), Err(Trouble::Dead));
    disk.restore();
    assert_eq!(found(&disk), expected(&[("a", b"")]));
}

#[test]
fn removed_file_comes_back_until_its_folder_is_synced() {
    let mut disk = disk(Order::Strict);
    let inode = file(&mut disk, "a");
    disk.write(inode, 0, b"kept", NOW).unwrap();
    disk.sync(inode).unwrap();
    disk.sync(ROOT).unwrap();
    disk.opened(inode).unwrap();
    disk.unlink(ROOT, OsStr::new("a")).unwrap();
    assert_eq!(disk.read(inode, 0, 4).unwrap(), b"kept", "an open file outlives its name");
    disk.closed(inode);
    assert!(disk.node(inode).is_err());
    power_cycle(&mut disk);
    assert_eq!(found(&disk), expected(&[("a", b"kept")]));
    disk.unlink(ROOT, OsStr::new("a")).unwrap();
    disk.sync(ROOT).unwrap();
    power_cycle(&mut disk);
    assert_eq!(found(&disk), []);
}

/// Every page of a torn file is the old one, the new one, or a hole; over many seeds all of them are seen, and a torn
/// rename has exactly one of its two outcomes.
#[test]
fn torn_cut_keeps_any_part_of_what_was_not_synced_and_all_that_was() {
    const PAGES: u64 = 4;
    let mut outcomes = BTreeSet::new();
    for seed in 0..2000 {
        let mut disk = Disk::new(Rules { order: Order::Strict, torn: true }, seed, ATTRIBUTES);
        let inode = file(&mut disk, "a");
        disk.write(inode, 0, &[1; 8192], NOW).unwrap();
        disk.sync(inode).unwrap();
        disk.sync(ROOT).unwrap();
        disk.write(inode, 0, &vec![2; 4096 * PAGES as usize], NOW).unwrap();
        disk.rename((ROOT, OsStr::new("a")), (ROOT, OsStr::new("b")), false).unwrap();
        power_cycle(&mut disk);
        let files = found(&disk);
        let [(name, bytes)] = &files[..] else { panic!("seed {seed}: {files:?}") };
        let pages: Vec<u8> = bytes.chunks(4096).map(|page| page[0]).collect();
        assert!(bytes.chunks(4096).all(|page| page.iter().all(|byte| *byte == page[0])), "seed {seed}");
        assert!(pages.len() >= 2 && pages[..2].iter().all(|page| *page > 0), "seed {seed}: {pages:?}");
        outcomes.insert((name.clone(), pages));
    }
    let kept_of_two = 4;
    // Of the two new pages: none, the first, the last behind a hole, or both.
    assert_eq!(outcomes.len(), 2 * kept_of_two * 4, "{outcomes:?}");
}
