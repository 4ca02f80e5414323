//! Files that the config names in its `*_file` keys: where relative paths begin, and whether
//! their contents changed. Must not know what is in them.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::node::{Entry, Node, Scalar, Value};

/// Keys with this ending name a file.
const SUFFIX: &str = "_file";

/// Larger files are no secrets and no certificates; they are not read.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The folder of the config file, where relative paths begin.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Where there is no file.
    pub(super) fn none() -> Self {
        Self(PathBuf::new())
    }

    pub(super) fn of(file: &Path) -> Self {
        Self(file.parent().unwrap_or(Path::new("")).to_owned())
    }

    /// The same settings with every relative path of a `*_file` key put into this folder.
    pub(super) fn resolve(&self, node: &Node) -> Node {
        let value = match &node.value {
            Value::Scalar(_) => return node.clone(),
            Value::List(items) => {
                Value::List(items.iter().map(|item| self.resolve(item)).collect())
            }
            Value::Map(entries) => Value::Map(
                entries
                    .iter()
                    .map(|entry| self.resolve_entry(entry))
                    .collect(),
            ),
        };
        Node::new(node.place().clone(), value)
    }

    fn resolve_entry(&self, entry: &Entry) -> Entry {
        let value = match named_file(entry) {
            Some(scalar) => {
                let path = self.0.join(&*scalar.text);
                let text = path.to_string_lossy().into();
                let scalar = Scalar {
                    text,
                    ..scalar.clone()
                };
                Node::new(entry.value.place().clone(), Value::Scalar(scalar))
            }
            None => self.resolve(&entry.value),
        };
        Entry {
            value,
            ..entry.clone()
        }
    }
}

fn named_file(entry: &Entry) -> Option<&Scalar> {
    match &entry.value.value {
        Value::Scalar(scalar) if entry.key.ends_with(SUFFIX) && !scalar.is_null() => Some(scalar),
        _ => None,
    }
}

fn named(node: &Node) -> Vec<PathBuf> {
    match &node.value {
        Value::Scalar(_) => Vec::new(),
        Value::List(items) => items.iter().flat_map(named).collect(),
        Value::Map(entries) => entries.iter().flat_map(named_by).collect(),
    }
}

fn named_by(entry: &Entry) -> Vec<PathBuf> {
    match named_file(entry) {
        Some(scalar) => vec![PathBuf::from(&*scalar.text)],
        None => named(&entry.value),
    }
}

/// A file and what it held, told by its hash so that no secret is kept; `None` if it cannot
/// be read.
pub(super) type Fingerprint = (PathBuf, Option<u64>);

/// The files that these settings name, as they are now.
pub(super) fn fingerprints(node: &Node) -> Vec<Fingerprint> {
    let of = |path: PathBuf| {
        let hash = bounded(&path, MAX_BYTES).ok().map(|bytes| {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            hasher.finish()
        });
        (path, hash)
    };
    named(node).into_iter().map(of).collect()
}

/// Reads a whole regular file, or fails if it is larger than `most` bytes.
pub(super) fn bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Asked before opening: to open a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}
