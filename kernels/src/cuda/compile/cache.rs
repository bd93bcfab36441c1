//! Compiled kernels on disk.

use std::io::{Error, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use sha2::{Digest, Sha256};

use super::{Image, ImageKind, Variant, nvrtc};
use crate::cuda::Version;
use crate::cuda::error::Result;

/// First bytes of an entry. Another layout needs another.
const MAGIC: &[u8; 8] = b"slimker2";
/// Bytes before the hash: magic, compiler, lengths of image and log.
const FACTS: usize = 8 + 8 + 16;
/// Bytes before what is packed, image and log: with the hash of all else.
const HEADER: usize = FACTS + 32;
/// How hard to pack, of 10: harder costs more than it saves.
const LEVEL: u8 = 6;

/// What an image depends on, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    name: String,
    kind: ImageKind,
}

impl Key {
    /// The key of a variant's image of that kind: its source with all headers, the options, and the
    /// compiler's version unless that is left open.
    ///
    /// # Errors
    /// The source includes what is not embedded.
    pub fn new(variant: &Variant, kind: ImageKind, compiler: Option<Version>) -> Result<Self> {
        let mut hash = Sha256::new();
        variant.source.hash(&mut hash)?;
        for option in nvrtc::options(variant) {
            hash.update((option.len() as u64).to_le_bytes());
            hash.update(option);
        }
        if let Some(Version(major, minor)) = compiler {
            hash.update(major.to_le_bytes());
            hash.update(minor.to_le_bytes());
        }
        let hash: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
        let source = Path::new(variant.source.name).file_stem();
        let source = source.map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(Self { name: format!("{source}-{hash}"), kind })
    }

    /// The name of the file that holds the image.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.name, self.kind.extension())
    }
}

/// A folder of compiled kernels. Any number of processes may use it at the same time: entries appear
/// complete or not at all.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// A cache in `folder`, which is made when something is put there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The cache of this user: the folder in `SLIMPIPE_KERNEL_CACHE`, or the one that belongs to slimpipe in
    /// the XDG cache folder. None if the environment has no home for it.
    pub fn of_user() -> Option<Self> {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(folder) = variable("SLIMPIPE_KERNEL_CACHE") {
            return Some(Self::new(folder));
        }
        let absolute = variable("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
        let caches = absolute.or_else(|| Some(variable("HOME")?.join(".cache")))?;
        Some(Self::new(caches.join("slimpipe/kernels")))
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many images it holds, and their bytes.
    pub fn size(&self) -> (u64, u64) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let kinds = [ImageKind::Cubin, ImageKind::Ptx].map(ImageKind::extension);
        entries
            .filter(|entry| {
                let path = entry.path();
                path.extension().is_some_and(|is| kinds.iter().any(|kind| is == *kind))
            })
            .filter_map(|entry| entry.metadata().ok())
            .fold((0, 0), |(images, bytes), file| (images + 1, bytes + file.len()))
    }

    /// The image of that key. An entry that is cut short or was changed counts as none.
    pub fn get(&self, key: &Key) -> Option<Image> {
        decode(&std::fs::read(self.folder.join(key.file_name())).ok()?, key.kind)
    }

    /// Keeps an image.
    ///
    /// # Errors
    /// The folder cannot be made or written to.
    pub fn put(&self, key: &Key, image: &Image) -> Result<(), Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        std::fs::create_dir_all(&self.folder)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".{}.{}-{number}", key.file_name(), std::process::id());
        let unfinished = self.folder.join(name);
        let write = || {
            let mut file = std::fs::File::create_new(&unfinished)?;
            file.write_all(&encode(image))?;
            file.sync_all()?;
            std::fs::rename(&unfinished, self.folder.join(key.file_name()))
        };
        write().inspect_err(|error| {
            if error.kind() != ErrorKind::AlreadyExists {
                let _ = std::fs::remove_file(&unfinished);
            }
        })
    }
}

fn encode(image: &Image) -> Vec<u8> {
    let Image { bytes, log, compiler, .. } = image;
    let packed = compress_to_vec(&[bytes, log.as_bytes()].concat(), LEVEL);
    let mut entry = Vec::with_capacity(HEADER + packed.len());
    entry.extend(MAGIC);
    entry.extend(compiler.0.to_le_bytes());
    entry.extend(compiler.1.to_le_bytes());
    entry.extend((bytes.len() as u64).to_le_bytes());
    entry.extend((log.len() as u64).to_le_bytes());
    entry.extend(hash(&entry, &packed));
    entry.extend(packed);
    entry
}

fn hash(facts: &[u8], packed: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(facts).chain_update(packed).finalize().into()
}

fn decode(entry: &[u8], kind: ImageKind) -> Option<Image> {
    let (header, packed) = entry.split_at_checked(HEADER)?;
    let number = |at: usize, len: usize| {
        header[at..at + len].iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte))
    };
    if !header.starts_with(MAGIC) || header[FACTS..] != hash(&header[..FACTS], packed) {
        return None;
    }
    let (image_len, log_len) = (number(16, 8), number(24, 8));
    let len = usize::try_from(image_len.checked_add(log_len)?).ok()?;
    let mut bytes = decompress_to_vec_with_limit(packed, len).ok()?;
    if bytes.len() != len {
        return None;
    }
    let log = String::from_utf8(bytes.split_off(image_len as usize)).ok()?;
    let compiler = Version(number(8, 4) as u32, number(12, 4) as u32);
    Some(Image { kind, bytes, log, compiler })
}
