//! The file system as FUSE shows it to programs. Nothing is cached in the kernel, so that a power cut is seen at once;
//! shared writable memory maps, which need the kernel's cache, are refused (`ENODEV`).

use crate::disk::{Attributes, Body, Disk, Inode, Node, Trouble};
use crate::file::{Contents, PAGE_BYTES};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The kernel asks again every time.
const TTL: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);
const HANDLE: FileHandle = FileHandle(0);
/// What `statfs` says; the true limit is memory.
const FREE_PAGES: u64 = 1 << 24;

/// A disk that is mounted.
pub struct Mounted(Arc<Mutex<Disk>>);

impl Mounted {
    /// Shows this disk.
    pub fn new(disk: Arc<Mutex<Disk>>) -> Self {
        Self(disk)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Trouble> for Errno {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Dead => Errno::EIO,
            Trouble::Missing => Errno::ENOENT,
            Trouble::Exists => Errno::EEXIST,
            Trouble::NotAFolder => Errno::ENOTDIR,
            Trouble::IsAFolder => Errno::EISDIR,
            Trouble::NotEmpty => Errno::ENOTEMPTY,
            Trouble::Unknown => Errno::EINVAL,
        }
    }
}

fn kind(body: &Body) -> FileType {
    match body {
        Body::File(_) => FileType::RegularFile,
        Body::Folder(_) => FileType::Directory,
        Body::Link(_) => FileType::Symlink,
    }
}

fn attributes(inode: Inode, node: &Node) -> FileAttr {
    let (size, pages) = match &node.body {
        Body::File(contents) => (contents.size(), contents.pages()),
        Body::Folder(entries) => (entries.len() as u64, 1),
        Body::Link(target) => (target.len() as u64, 0),
    };
    let Attributes { mode, uid, gid, changed } = node.attributes;
    FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: pages * PAGE_BYTES / 512,
        atime: changed,
        mtime: changed,
        ctime: changed,
        crtime: changed,
        kind: kind(&node.body),
        perm: mode,
        nlink: node.links + u32::from(matches!(node.body, Body::Folder(_))),
        uid,
        gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn fresh(request: &Request, mode: u32, umask: u32) -> Attributes {
    let mode = u16::try_from(mode & !umask & 0o7777).unwrap_or(0);
    Attributes { mode, uid: request.uid(), gid: request.gid(), changed: SystemTime::now() }
}

fn answer(reply: ReplyEmpty, result: Result<(), Trouble>) {
    match result {
        Ok(()) => reply.ok(),
        Err(trouble) => reply.error(trouble.into()),
    }
}

fn answer_entry(reply: ReplyEntry, result: Result<FileAttr, Trouble>) {
    match result {
        Ok(attributes) => reply.entry(&TTL, &attributes, GENERATION),
        Err(trouble) => reply.error(trouble.into()),
    }
}

fn create(disk: &mut Disk, parent: INodeNo, name: &OsStr, body: Body, new: Attributes) -> Result<FileAttr, Trouble> {
    let inode = disk.create(parent.0, name, body, new)?;
    Ok(attributes(inode, disk.node(inode)?))
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disk = self.disk();
        let found = disk.lookup(parent.0, name).and_then(|inode| Ok(attributes(inode, disk.node(inode)?)));
        answer_entry(reply, found);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.disk().node(inode.0) {
            Ok(node) => reply.attr(&TTL, &attributes(inode.0, node)),
            Err(trouble) => reply.error(trouble.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        let mut set = || {
            if let Some(size) = size {
                disk.resize(inode.0, size, SystemTime::now())?;
            }
            disk.set_attributes(inode.0, |attributes| {
                if let Some(mode) = mode {
                    attributes.mode = u16::try_from(mode & 0o7777).unwrap_or(0);
                }
                attributes.uid = uid.unwrap_or(attributes.uid);
                attributes.gid = gid.unwrap_or(attributes.gid);
                match mtime {
                    Some(TimeOrNow::SpecificTime(time)) => attributes.changed = time,
                    Some(TimeOrNow::Now) => attributes.changed = SystemTime::now(),
                    None => {}
                }
            })?;
            Ok(attributes(inode.0, disk.node(inode.0)?))
        };
        match set() {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(trouble) => reply.error(Trouble::into(trouble)),
        }
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        match self.disk().node(inode.0) {
            Ok(Node { body: Body::Link(target), .. }) => reply.data(target.as_bytes()),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(trouble) => reply.error(trouble.into()),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let body = Body::Folder(BTreeMap::new());
        answer_entry(reply, create(&mut self.disk(), parent, name, body, fresh(request, mode, umask)));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let body = Body::Link(target.as_os_str().to_owned());
        answer_entry(reply, create(&mut self.disk(), parent, name, body, fresh(request, 0o777, 0)));
    }

    fn link(&self, _: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut disk = self.disk();
        let linked = disk.link(inode.0, parent.0, name).and_then(|()| Ok(attributes(inode.0, disk.node(inode.0)?)));
        answer_entry(reply, linked);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.disk().unlink(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.disk().remove_folder(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let result = if (flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            let keep = flags.contains(RenameFlags::RENAME_NOREPLACE);
            self.disk().rename((parent.0, name), (new_parent.0, new_name), keep)
        } else {
            Err(Trouble::Unknown)
        };
        answer(reply, result);
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.disk().opened(inode.0) {
            Ok(()) => reply.opened(HANDLE, FopenFlags::FOPEN_DIRECT_IO),
            Err(trouble) => reply.error(trouble.into()),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = self.disk();
        let body = Body::File(Contents::default());
        let created = create(&mut disk, parent, name, body, fresh(request, mode, umask));
        match created.and_then(|attributes| disk.opened(attributes.ino.0).map(|()| attributes)) {
            Ok(attributes) => reply.created(&TTL, &attributes, GENERATION, HANDLE, FopenFlags::FOPEN_DIRECT_IO),
            Err(trouble) => reply.error(trouble.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        count: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().read(inode.0, offset, usize::try_from(count).unwrap_or(0)) {
            Ok(bytes) => reply.data(&bytes),
            Err(trouble) => reply.error(trouble.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(inode.0, offset, bytes, SystemTime::now()) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            Err(trouble) => reply.error(trouble.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Closing a file syncs nothing.
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.disk().closed(inode.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer(reply, self.disk().sync(inode.0));
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer(reply, self.disk().sync(inode.0));
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = self.disk();
        let entries = match disk.entries(inode.0) {
            Ok(entries) => entries,
            Err(trouble) => return reply.error(trouble.into()),
        };
        let own = [(OsStr::new("."), inode.0), (OsStr::new(".."), inode.0)];
        let all = own.into_iter().chain(entries.iter().map(|(name, inode)| (name.as_os_str(), *inode)));
        for (at, (name, entry)) in (1_u64..).zip(all).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let kind = disk.node(entry).map_or(FileType::RegularFile, |node| kind(&node.body));
            if reply.add(INodeNo(entry), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let used = self.disk().pages();
        let (page, free) = (4096, FREE_PAGES.saturating_sub(used));
        reply.statfs(FREE_PAGES, free, free, 1 << 20, 1 << 20, page, 255, page);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        // Callers fall back to writing.
        reply.error(Errno::EOPNOTSUPP);
    }
}
