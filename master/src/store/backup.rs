//! Backups: a store with its results and uploads as one tar file, and back.
//!
//! `manifest.json` first, then `records` (frames of table, key and value), then `results/ID` and `uploads/DIGEST`, and
//! `digests.json` last: the BLAKE3 of each of them. An import is made aside and checked against that before it becomes the
//! store of its folder, and gets an id of its own: leases of the original are not its leases.

use super::disk::FolderLock;
use super::files::sync_folder;
use super::kv::Writes;
use super::reads::Reads;
use super::record::{FORMAT_VERSION, META_KEY, Meta, Table, decode, encode};
use super::{Layout, Opened, StoreError, Unchecked};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes of records that are committed at once.
const COMMIT_BYTES: usize = 8 << 20;
/// Bytes of a key or value at most: more is no record of a store.
const FRAME_BYTES_MAX: u32 = 1 << 30;
/// Bytes of the manifest, or of the digests of millions of files, at most.
const JSON_BYTES_MAX: u64 = 1 << 30;
/// How the folder is called in which an import is made.
const STAGING_PREFIX: &str = ".import-";

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u8,
    store: String,
    last_applied: u64,
    records: u64,
}

/// What was exported or imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Transferred {
    /// Records of all tables.
    pub records: u64,
    /// Files of results and uploads.
    pub files: u64,
    /// Bytes of all of these.
    pub bytes: u64,
}

/// Writes a data folder that no master uses to a new file.
///
/// # Errors
/// Where the folder can't be read or the file can't be written; it is not left half written.
pub fn export(data_dir: &Path, target: &Path) -> Result<Transferred, StoreError> {
    let opened = Opened::existing(data_dir)?.checked(data_dir)?;
    let failed = |error: io::Error| StoreError::io("write the backup", target, error);
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut done = Transferred::default();
    let mut digests = BTreeMap::new();
    {
        let mut tar = tar::Builder::new(BufWriter::new(part.as_file_mut()));
        let records = frames(&opened, folder, &mut done)?;
        let manifest = Manifest {
            format: FORMAT_VERSION,
            store: opened.meta.id.to_string(),
            last_applied: opened.meta.last_applied,
            records: done.records,
        };
        let manifest = serde_json::to_vec(&manifest).unwrap_or_default();
        append(&mut tar, "manifest.json", manifest.len() as u64, &manifest[..]).map_err(failed)?;
        digests.insert("manifest.json".to_owned(), blake3::hash(&manifest).to_hex().to_string());
        add_file(&mut tar, "records", records.path(), &mut digests).map_err(failed)?;
        let layout = Layout::new(data_dir);
        for (prefix, folder) in [("results", layout.results()), ("uploads", layout.uploads())] {
            for path in files_of(&folder).map_err(failed)? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                if !is_file_name(prefix, name) {
                    continue;
                }
                done.bytes += add_file(&mut tar, &format!("{prefix}/{name}"), &path, &mut digests).map_err(failed)?;
                done.files += 1;
            }
        }
        let digests = serde_json::to_vec(&digests).unwrap_or_default();
        append(&mut tar, "digests.json", digests.len() as u64, &digests[..]).map_err(failed)?;
        tar.into_inner().and_then(|mut file| file.flush()).map_err(failed)?;
    }
    part.as_file().sync_all().map_err(failed)?;
    part.persist_noclobber(target).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Exists { path: target.to_owned(), fix: "give a new file" },
        _ => failed(error.error),
    })?;
    sync_folder(folder).map_err(failed)?;
    Ok(done)
}

/// Writes every record to a temporary file.
fn frames(opened: &Opened, folder: &Path, done: &mut Transferred) -> Result<tempfile::NamedTempFile, StoreError> {
    let failed = |error: io::Error| StoreError::io("write the backup's records", folder, error);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut out = BufWriter::new(file.as_file_mut());
    for (number, table) in Table::ALL.into_iter().enumerate() {
        opened.kv().scan(table, &[], &[0xff; 300], &mut |key, value| {
            done.records += 1;
            done.bytes += (key.len() + value.len()) as u64;
            let parts: [&[u8]; 5] = [
                &[u8::try_from(number).unwrap_or(u8::MAX)],
                &(key.len() as u32).to_le_bytes(),
                &(value.len() as u32).to_le_bytes(),
                key,
                value,
            ];
            parts.into_iter().try_for_each(|part| out.write_all(part)).map_err(failed)?;
            Ok(true)
        })?;
    }
    out.flush().map_err(failed)?;
    drop(out);
    Ok(file)
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, len: u64, bytes: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(len);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, bytes)
}

fn add_file(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    path: &Path,
    digests: &mut BTreeMap<String, String>,
) -> io::Result<u64> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut reader = Hashing { inner: BufReader::new(file).take(len), hasher: blake3::Hasher::new() };
    append(tar, name, len, &mut reader)?;
    digests.insert(name.to_owned(), reader.hasher.finalize().to_hex().to_string());
    Ok(len)
}

fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<io::Result<_>>()?;
    files.sort();
    Ok(files)
}

/// Names that the master gives: a job's number, an upload's digest. Others stay out, and can't lead anywhere.
fn is_file_name(prefix: &str, name: &str) -> bool {
    match prefix {
        "results" => !name.is_empty() && name.len() <= 20 && name.bytes().all(|byte| byte.is_ascii_digit()),
        "uploads" => name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()),
        _ => false,
    }
}

struct Hashing<R> {
    inner: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..len]);
        Ok(len)
    }
}

/// Makes a data folder of a backup. The folder must have no store. Where that fails, nothing is left of it.
///
/// # Errors
/// Where the backup is damaged or of another version, or the folder can't be written.
pub fn import(source: &Path, data_dir: &Path) -> Result<Transferred, StoreError> {
    let is_new = !data_dir.exists();
    let _lock = FolderLock::take(data_dir)?;
    let imported = import_locked(source, data_dir);
    if imported.is_err() && is_new {
        // Nothing but the lock is in it; what can't be removed does no harm.
        let _ = fs::remove_file(data_dir.join("lock")).and_then(|()| fs::remove_dir(data_dir));
    }
    imported
}

/// Imports aside, and then gives everything its place: the store last, since without it there is no data folder.
fn import_locked(source: &Path, data_dir: &Path) -> Result<Transferred, StoreError> {
    let failed = |error: io::Error| StoreError::io("make a data folder", data_dir, error);
    let folders = |data_dir: &Path| {
        let layout = Layout::new(data_dir);
        [layout.results(), layout.uploads(), layout.store()]
    };
    for folder in folders(data_dir) {
        match fs::read_dir(&folder).map(|mut files| files.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(StoreError::Exists { path: folder, fix: "import into a new data folder" }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    for file in fs::read_dir(data_dir).map_err(failed)? {
        let file = file.map_err(failed)?;
        if file.file_name().to_string_lossy().starts_with(STAGING_PREFIX) {
            // Of an import that was killed: the lock says that none runs.
            fs::remove_dir_all(file.path()).map_err(failed)?;
        }
    }
    let staging = tempfile::Builder::new().prefix(STAGING_PREFIX).tempdir_in(data_dir).map_err(failed)?;
    let imported = import_into(source, staging.path())?;
    for (from, to) in folders(staging.path()).into_iter().zip(folders(data_dir)) {
        // An empty folder makes way.
        fs::rename(from, to).map_err(failed)?;
    }
    sync_folder(data_dir).map_err(failed)?;
    Ok(imported)
}

fn import_into(source: &Path, data_dir: &Path) -> Result<Transferred, StoreError> {
    let failed = |error: io::Error| StoreError::io("write what is imported", data_dir, error);
    let bad = |problem: String| StoreError::Backup { path: source.to_owned(), problem };
    let damaged = |error: io::Error| bad(error.to_string());
    let layout = Layout::new(data_dir);
    let Unchecked { mut opened, .. } = Opened::on_disk_unchecked(data_dir)?;
    let file = File::open(source).map_err(|error| StoreError::io("read the backup", source, error))?;
    let mut tar = tar::Archive::new(BufReader::new(file));
    let (mut manifest, mut expected) = (None::<Manifest>, None::<BTreeMap<String, String>>);
    let (mut found, mut done) = (BTreeMap::new(), Transferred::default());
    for entry in tar.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
        let mut reader = Hashing { inner: entry, hasher: blake3::Hasher::new() };
        match name.as_str() {
            "manifest.json" => manifest = Some(json(&mut reader).map_err(bad)?),
            "digests.json" => {
                expected = Some(json(&mut reader).map_err(bad)?);
                continue;
            }
            "records" => {
                let Some(Manifest { format, .. }) = &manifest else {
                    return Err(bad("its manifest is missing".into()));
                };
                if *format != FORMAT_VERSION {
                    return Err(bad(format!("it has format {format}, and this quipu reads {FORMAT_VERSION}")));
                }
                read_frames(&mut reader, &opened, &mut done, &bad)?;
            }
            _ => {
                let target = match name.split_once('/') {
                    Some(("results", file)) if is_file_name("results", file) => layout.results().join(file),
                    Some(("uploads", file)) if is_file_name("uploads", file) => layout.uploads().join(file),
                    _ => return Err(bad(format!("it has a file {name:.80}, which is none of a store"))),
                };
                let mut file = File::create_new(&target).map_err(failed)?;
                done.bytes += copy(&mut reader, &mut file).map_err(|(reads, error)| match reads {
                    true => damaged(error),
                    false => failed(error),
                })?;
                file.sync_all().map_err(failed)?;
                done.files += 1;
            }
        }
        found.insert(name, reader.hasher.finalize().to_hex().to_string());
    }
    let (Some(manifest), Some(expected)) = (manifest, expected) else {
        return Err(bad("its end is missing".into()));
    };
    if found != expected || done.records != manifest.records {
        return Err(bad("what is in it does not have the digests that it names".into()));
    }
    let bytes = opened.kv().get(Table::Meta, META_KEY)?;
    // A store that never decided anything has no head.
    let meta = bytes.map_or(Ok(Meta::default()), |bytes| decode(Table::Meta, &bytes))?;
    if meta.last_applied != manifest.last_applied {
        return Err(bad(format!("its last command is {}, and should be {}", meta.last_applied, manifest.last_applied)));
    }
    let meta = Meta { id: uuid::Uuid::new_v4(), ..meta };
    let head = Writes::from([((Table::Meta, META_KEY.to_vec()), Some(Bytes::from(encode(&meta))))]);
    opened.kv().commit(head)?;
    if let Some(mark) = &mut opened.mark {
        mark.set(meta.last_applied)?;
    }
    for folder in [layout.results(), layout.uploads(), layout.store()] {
        sync_folder(&folder).map_err(failed)?;
    }
    Ok(done)
}

/// A small document.
fn json<T: DeserializeOwned>(reader: &mut impl Read) -> Result<T, String> {
    let mut text = Vec::new();
    reader.take(JSON_BYTES_MAX).read_to_end(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

/// Copies; an error comes with whether reading failed.
fn copy(reader: &mut impl Read, file: &mut File) -> Result<u64, (bool, io::Error)> {
    let (mut buffer, mut copied) = (vec![0; 64 << 10], 0);
    loop {
        let len = match reader.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err((true, error)),
        };
        file.write_all(&buffer[..len]).map_err(|error| (false, error))?;
        copied += len as u64;
    }
}

fn read_frames(
    reader: &mut impl Read,
    opened: &Opened,
    done: &mut Transferred,
    bad: &dyn Fn(String) -> StoreError,
) -> Result<(), StoreError> {
    let (mut writes, mut waiting) = (Writes::new(), 0);
    while let Some((table, key, value)) = read_frame(reader).map_err(bad)? {
        done.records += 1;
        done.bytes += (key.len() + value.len()) as u64;
        waiting += key.len() + value.len();
        writes.insert((table, key), Some(value.into()));
        if waiting > COMMIT_BYTES {
            opened.kv().commit(std::mem::take(&mut writes))?;
            waiting = 0;
        }
    }
    opened.kv().commit(writes)
}

/// A record: table, key and value.
type Frame = (Table, Vec<u8>, Vec<u8>);

/// The next record; none at the end.
fn read_frame(reader: &mut impl Read) -> Result<Option<Frame>, String> {
    let text = |error: io::Error| error.to_string();
    let mut head = [0; 9];
    if reader.read(&mut head[..1]).map_err(text)? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut head[1..]).map_err(text)?;
    let table = Table::ALL.get(usize::from(head[0])).copied().ok_or("a record of no table")?;
    let number = |bytes: &[u8]| bytes.try_into().map_or(u32::MAX, u32::from_le_bytes);
    let mut part = |len: u32| {
        if len > FRAME_BYTES_MAX {
            return Err("a record is too large".to_owned());
        }
        // What is not there takes no memory.
        let mut bytes = Vec::new();
        reader.take(u64::from(len)).read_to_end(&mut bytes).map_err(text)?;
        if bytes.len() == len as usize { Ok(bytes) } else { Err("a record is cut".to_owned()) }
    };
    Ok(Some((table, part(number(&head[1..5]))?, part(number(&head[5..9]))?)))
}
