//! The model: what programs see, what is durable, and what happens to the difference when the power is cut.
//!
//! Every file and folder is there twice, once as seen and once as durable. A change is made to what is seen and noted;
//! a sync copies what was noted to the durable side. A power cut throws away what is seen and starts again from the
//! durable side, under new inode numbers, so that handles from before it are dead for good.

use crate::chance::Chance;
use crate::file::{Contents, Dirt};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

/// Number of a file or folder; never used twice.
pub type Inode = u64;
/// The root folder, before and after a power cut.
pub const ROOT: Inode = 1;

/// Why a request can't be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The power is off, or the handle is from before it was.
    Dead,
    /// There is nothing of this name.
    Missing,
    /// The name is taken.
    Exists,
    /// A folder was needed.
    NotAFolder,
    /// A file was needed.
    IsAFolder,
    /// The folder has entries.
    NotEmpty,
    /// The model does not know this request.
    Unknown,
}

/// When changes of folders become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By a sync of the folder itself, as POSIX promises and no more.
    Strict,
    /// In the order in which they were made, by the next sync of anything, as by ext4's journal.
    Journal,
}

/// How a disk treats changes and power cuts.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// When changes of folders become durable.
    pub order: Order,
    /// Whether some of what was not synced survives a cut, by chance, as on a disk that was writing already.
    pub torn: bool,
}

/// Who owns a file or folder and who may use it.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u16,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub changed: SystemTime,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Body {
    /// Bytes.
    File(Contents),
    /// Names.
    Folder(BTreeMap<OsString, Inode>),
    /// The path that a symbolic link names.
    Link(OsString),
}

/// A file, folder or symbolic link.
#[derive(Clone, Debug)]
pub struct Node {
    /// Owner and permissions; durable at once, since nothing that is tested hangs on them.
    pub attributes: Attributes,
    /// What it holds.
    pub body: Body,
    /// Names that it has.
    pub links: u32,
    opens: u32,
}

/// A name that was given, given to something else (`Some`) or taken away (`None`).
#[derive(Clone, Debug)]
struct Change {
    folder: Inode,
    name: OsString,
    to: Option<Inode>,
    /// Changes of one request have the same number: within a folder they become durable together.
    request: u64,
}

/// What was done and what was lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Requests that change or sync something.
    pub changes: u64,
    /// Of these, syncs.
    pub syncs: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Pages that cuts have lost.
    pub pages_lost: u64,
    /// Changes of folders that cuts have lost.
    pub entries_lost: u64,
}

/// The whole file system.
#[derive(Debug)]
pub struct Disk {
    rules: Rules,
    chance: Chance,
    seen: BTreeMap<Inode, Node>,
    durable: BTreeMap<Inode, Node>,
    dirt: BTreeMap<Inode, Dirt>,
    unsynced: Vec<Change>,
    last: Inode,
    powered: bool,
    /// Changes until the power is cut.
    countdown: Option<u64>,
    /// What was done and what was lost.
    pub counts: Counts,
}

impl Disk {
    /// An empty file system.
    pub fn new(rules: Rules, seed: u64, root: Attributes) -> Self {
        let root = Node { attributes: root, body: Body::Folder(BTreeMap::new()), links: 1, opens: 0 };
        let nodes = BTreeMap::from([(ROOT, root)]);
        Self {
            rules,
            chance: Chance::new(seed),
            seen: nodes.clone(),
            durable: nodes,
            dirt: BTreeMap::new(),
            unsynced: Vec::new(),
            last: ROOT,
            powered: true,
            countdown: None,
            counts: Counts::default(),
        }
    }

    /// Whether requests are answered.
    pub fn powered(&self) -> bool {
        self.powered
    }

    /// Pages and changes of folders that a cut would lose now.
    pub fn at_stake(&self) -> (u64, u64) {
        (self.dirt.values().map(|dirt| dirt.pages.len() as u64).sum(), self.unsynced.len() as u64)
    }

    /// Bytes of pages that are held.
    pub fn pages(&self) -> u64 {
        self.seen.values().map(|node| if let Body::File(contents) = &node.body { contents.pages() } else { 0 }).sum()
    }

    /// A node as it is seen.
    pub fn node(&self, inode: Inode) -> Result<&Node, Trouble> {
        if !self.powered {
            return Err(Trouble::Dead);
        }
        self.seen.get(&inode).ok_or(Trouble::Dead)
    }

    /// The entries of a folder.
    pub fn entries(&self, folder: Inode) -> Result<&BTreeMap<OsString, Inode>, Trouble> {
        match &self.node(folder)?.body {
            Body::Folder(entries) => Ok(entries),
            _ => Err(Trouble::NotAFolder),
        }
    }

    /// What a name stands for.
    pub fn lookup(&self, folder: Inode, name: &OsStr) -> Result<Inode, Trouble> {
        self.entries(folder)?.get(name).copied().ok_or(Trouble::Missing)
    }

    /// Bytes of a file.
    pub fn read(&self, file: Inode, offset: u64, count: usize) -> Result<Vec<u8>, Trouble> {
        match &self.node(file)?.body {
            Body::File(contents) => Ok(contents.read(offset, count)),
            _ => Err(Trouble::IsAFolder),
        }
    }

    /// Counts a request that changes something; the armed one finds the power cut.
    fn change(&mut self) -> Result<(), Trouble> {
        if !self.powered {
            return Err(Trouble::Dead);
        }
        self.counts.changes += 1;
        match self.countdown {
            Some(0) => {
                self.cut();
                Err(Trouble::Dead)
            }
            Some(left) => {
                self.countdown = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn contents(&mut self, file: Inode) -> Result<(&mut Contents, &mut Dirt, &mut Attributes), Trouble> {
        let node = self.seen.get_mut(&file).ok_or(Trouble::Dead)?;
        match &mut node.body {
            Body::File(contents) => Ok((contents, self.dirt.entry(file).or_default(), &mut node.attributes)),
            _ => Err(Trouble::IsAFolder),
        }
    }

    /// Writes bytes.
    pub fn write(&mut self, file: Inode, offset: u64, bytes: &[u8], now: SystemTime) -> Result<(), Trouble> {
        self.change()?;
        let (contents, dirt, attributes) = self.contents(file)?;
        contents.write(offset, bytes, dirt);
        attributes.changed = now;
        Ok(())
    }

    /// Cuts or lengthens a file.
    pub fn resize(&mut self, file: Inode, size: u64, now: SystemTime) -> Result<(), Trouble> {
        self.change()?;
        let (contents, dirt, attributes) = self.contents(file)?;
        contents.resize(size, dirt);
        attributes.changed = now;
        Ok(())
    }

    /// Changes owner, permissions or time.
    pub fn set_attributes(&mut self, inode: Inode, set: impl Fn(&mut Attributes)) -> Result<(), Trouble> {
        self.node(inode)?;
        for nodes in [&mut self.seen, &mut self.durable] {
            if let Some(node) = nodes.get_mut(&inode) {
                set(&mut node.attributes);
            }
        }
        Ok(())
    }

    fn name(&mut self, folder: Inode, name: &OsStr, to: Option<Inode>) {
        // Callers have looked the folder up.
        let Some(Node { body: Body::Folder(entries), .. }) = self.seen.get_mut(&folder) else { return };
        let before = match to {
            Some(to) => entries.insert(name.to_owned(), to),
            None => entries.remove(name),
        };
        if let Some(node) = to.and_then(|to| self.seen.get_mut(&to)) {
            node.links += 1;
        }
        if let Some(before) = before {
            if let Some(node) = self.seen.get_mut(&before) {
                node.links = node.links.saturating_sub(1);
            }
            self.drop_if_unused(before);
        }
        let request = self.counts.changes;
        self.unsynced.push(Change { folder, name: name.to_owned(), to, request });
    }

    fn drop_if_unused(&mut self, inode: Inode) {
        if inode != ROOT && self.seen.get(&inode).is_some_and(|node| node.links == 0 && node.opens == 0) {
            self.seen.remove(&inode);
            self.dirt.remove(&inode);
        }
    }

    /// Makes a file, folder or symbolic link. Its durable self is empty, and has no name until that is synced.
    pub fn create(
        &mut self,
        folder: Inode,
        name: &OsStr,
        body: Body,
        attributes: Attributes,
    ) -> Result<Inode, Trouble> {
        self.change()?;
        if self.entries(folder)?.contains_key(name) {
            return Err(Trouble::Exists);
        }
        self.last += 1;
        let node = Node { attributes, body, links: 0, opens: 0 };
        self.seen.insert(self.last, node.clone());
        self.durable.insert(self.last, node);
        self.name(folder, name, Some(self.last));
        Ok(self.last)
    }

    /// Gives a file one more name.
    pub fn link(&mut self, inode: Inode, folder: Inode, name: &OsStr) -> Result<(), Trouble> {
        self.change()?;
        if matches!(self.node(inode)?.body, Body::Folder(_)) {
            return Err(Trouble::IsAFolder);
        }
        if self.entries(folder)?.contains_key(name) {
            return Err(Trouble::Exists);
        }
        self.name(folder, name, Some(inode));
        Ok(())
    }

    /// Takes away a file's name.
    pub fn unlink(&mut self, folder: Inode, name: &OsStr) -> Result<(), Trouble> {
        self.change()?;
        let inode = self.lookup(folder, name)?;
        if matches!(self.node(inode)?.body, Body::Folder(_)) {
            return Err(Trouble::IsAFolder);
        }
        self.name(folder, name, None);
        Ok(())
    }

    /// Takes away an empty folder.
    pub fn remove_folder(&mut self, folder: Inode, name: &OsStr) -> Result<(), Trouble> {
        self.change()?;
        if !self.entries(self.lookup(folder, name)?)?.is_empty() {
            return Err(Trouble::NotEmpty);
        }
        self.name(folder, name, None);
        Ok(())
    }

    /// Moves a name, in place of what is at the new one unless `keep`.
    pub fn rename(
        &mut self,
        (folder, name): (Inode, &OsStr),
        (new_folder, new_name): (Inode, &OsStr),
        keep: bool,
    ) -> Result<(), Trouble> {
        self.change()?;
        let inode = self.lookup(folder, name)?;
        let is_folder = |body: &Body| matches!(body, Body::Folder(_));
        match self.lookup(new_folder, new_name) {
            Ok(_) if keep => return Err(Trouble::Exists),
            Ok(there) if there == inode => return Ok(()),
            Ok(there) => match (is_folder(&self.node(inode)?.body), is_folder(&self.node(there)?.body)) {
                (true, false) => return Err(Trouble::NotAFolder),
                (false, true) => return Err(Trouble::IsAFolder),
                (true, true) if !self.entries(there)?.is_empty() => return Err(Trouble::NotEmpty),
                _ => {}
            },
            Err(Trouble::Missing) => {}
            Err(trouble) => return Err(trouble),
        }
        self.name(new_folder, new_name, Some(inode));
        self.name(folder, name, None);
        Ok(())
    }

    /// A handle was opened; what has one stays when its last name goes.
    pub fn opened(&mut self, inode: Inode) -> Result<(), Trouble> {
        self.node(inode)?;
        if let Some(node) = self.seen.get_mut(&inode) {
            node.opens += 1;
        }
        Ok(())
    }

    /// A handle was closed.
    pub fn closed(&mut self, inode: Inode) {
        if let Some(node) = self.seen.get_mut(&inode) {
            node.opens = node.opens.saturating_sub(1);
            self.drop_if_unused(inode);
        }
    }

    /// Makes a file's bytes or a folder's entries durable.
    pub fn sync(&mut self, inode: Inode) -> Result<(), Trouble> {
        self.change()?;
        self.node(inode)?;
        self.counts.syncs += 1;
        if self.rules.order == Order::Journal {
            self.commit(|_| true);
            for (file, dirt) in &mut self.dirt {
                if let Some(Node { body: Body::File(durable), .. }) = self.durable.get_mut(file) {
                    durable.sync_cut(dirt);
                }
            }
        }
        match (self.seen.get(&inode).map(|node| &node.body), self.durable.get_mut(&inode).map(|node| &mut node.body)) {
            (Some(Body::File(seen)), Some(Body::File(durable))) => {
                durable.sync(seen, &mut self.dirt.remove(&inode).unwrap_or_default());
            }
            (Some(Body::Folder(_)), _) => self.commit(|change| change.folder == inode),
            _ => {}
        }
        Ok(())
    }

    /// Makes some changes of folders durable, in the order in which they were made.
    fn commit(&mut self, which: impl Fn(&Change) -> bool) {
        let changes;
        (changes, self.unsynced) = std::mem::take(&mut self.unsynced).into_iter().partition(which);
        for change in changes {
            self.apply(change);
        }
    }

    fn apply(&mut self, change: Change) {
        if let Some(Node { body: Body::Folder(entries), .. }) = self.durable.get_mut(&change.folder) {
            match change.to {
                Some(to) => entries.insert(change.name, to),
                None => entries.remove(&change.name),
            };
        }
    }

    /// The request after `changes` further ones that change or sync something finds the power cut.
    pub fn arm(&mut self, changes: u64) {
        self.countdown = Some(changes);
    }

    /// Cuts the power: what was not synced is gone, and nothing is answered until [`Disk::restore`].
    pub fn cut(&mut self) {
        if !self.powered {
            return;
        }
        self.powered = false;
        self.countdown = None;
        self.counts.cuts += 1;
        let mut dirt = std::mem::take(&mut self.dirt);
        if self.rules.torn {
            self.tear(&mut dirt);
        }
        self.counts.pages_lost += dirt.values().map(|dirt| dirt.pages.len() as u64).sum::<u64>();
        self.counts.entries_lost += self.unsynced.len() as u64;
        self.unsynced.clear();
        self.start_again();
    }

    /// Lets a part of what was not synced survive; what is left in `dirt` and `unsynced` is lost.
    fn tear(&mut self, dirt: &mut BTreeMap<Inode, Dirt>) {
        for (file, dirt) in dirt {
            let seen = self.seen.get(file).map(|node| &node.body);
            let durable = self.durable.get_mut(file).map(|node| &mut node.body);
            let (Some(Body::File(seen)), Some(Body::File(durable))) = (seen, durable) else { continue };
            let pages: Vec<u64> = dirt.pages.iter().copied().collect();
            let survivors: BTreeSet<u64> = match self.chance.up_to(2) {
                0 => BTreeSet::new(),
                1 => pages[..self.chance.up_to(pages.len())].iter().copied().collect(),
                _ => pages.into_iter().filter(|_| self.chance.coin()).collect(),
            };
            // A file is cut before its later pages are written.
            if !survivors.is_empty() || self.chance.coin() {
                durable.sync_cut(dirt);
            }
            durable.survive(seen, &survivors);
            dirt.pages.retain(|page| !survivors.contains(page));
        }
        let folders: BTreeSet<Inode> = match self.rules.order {
            Order::Strict => self.unsynced.iter().map(|change| change.folder).collect(),
            Order::Journal => BTreeSet::from([ROOT]),
        };
        for folder in folders {
            let of_log = |change: &Change, rules: Rules| rules.order == Order::Journal || change.folder == folder;
            let rules = self.rules;
            let requests: BTreeSet<u64> =
                self.unsynced.iter().filter(|change| of_log(change, rules)).map(|change| change.request).collect();
            let kept = self.chance.up_to(requests.len());
            let Some(last) = kept.checked_sub(1).and_then(|at| requests.into_iter().nth(at)) else { continue };
            self.commit(|change| of_log(change, rules) && change.request <= last);
        }
    }

    /// What is seen becomes what is durable, under new numbers.
    fn start_again(&mut self) {
        let mut new: BTreeMap<Inode, Inode> = BTreeMap::from([(ROOT, ROOT)]);
        let mut nodes: BTreeMap<Inode, Node> = BTreeMap::new();
        let mut links: BTreeMap<Inode, u32> = BTreeMap::new();
        let mut ahead = vec![ROOT];
        while let Some(old) = ahead.pop() {
            let Some(mut node) = self.durable.remove(&old) else { continue };
            if let Body::Folder(entries) = &mut node.body {
                for inode in entries.values_mut() {
                    let number = *new.entry(*inode).or_insert_with(|| {
                        self.last += 1;
                        ahead.push(*inode);
                        self.last
                    });
                    *inode = number;
                    *links.entry(number).or_default() += 1;
                }
            }
            node.opens = 0;
            nodes.insert(new[&old], node);
        }
        for (inode, node) in &mut nodes {
            node.links = links.get(inode).copied().unwrap_or(1);
        }
        self.durable.clone_from(&nodes);
        self.seen = nodes;
    }

    /// Gives the power back.
    pub fn restore(&mut self) {
        self.powered = true;
    }
}

#[cfg(test)]
mod tests;
