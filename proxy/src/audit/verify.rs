//! Goes along an audit log and says which line does not fit first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::chain::{Misfit, Place, Walk};
use super::folder::{self, HEAD};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The number of the first line that is there.
    pub first: u64,
    /// The last line that fits.
    pub last: Place,
    /// The first line that does not.
    pub misfit: Option<Spot>,
}

/// Where something does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// Why.
    pub why: Misfit,
}

/// Goes along all files of a folder, and asks the head.
///
/// # Errors
/// When a file cannot be read.
pub fn folder(folder: &Path) -> io::Result<Found> {
    // The head first: lines may be added while we read, and then there are more than it says.
    let head = head(folder)?;
    let files = folder::files(folder)?;
    walk(&files, &head)
}

/// Goes along one file; the head is asked where the file is the last of its folder.
///
/// # Errors
/// When a file cannot be read.
pub fn file(path: &Path) -> io::Result<Found> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let head = head(folder)?;
    let last = folder::files(folder)?
        .last()
        .is_some_and(|last| last.file_name() == path.file_name());
    walk(&[path.to_owned()], if last { &head } else { &Head::None })
}

enum Head {
    None,
    Unreadable,
    At(Place),
}

fn head(folder: &Path) -> io::Result<Head> {
    match fs::read_to_string(folder.join(HEAD)) {
        Ok(text) => Ok(Place::read(&text).map_or(Head::Unreadable, Head::At)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Head::None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Head::Unreadable),
        Err(error) => Err(error),
    }
}

fn walk(files: &[PathBuf], head: &Head) -> io::Result<Found> {
    let mut walk = Walk::default();
    let mut headed = false;
    let mut last_place = (PathBuf::new(), 0);
    for path in files {
        let bytes = fs::read(path)?;
        let begins = folder::first(path);
        if bytes.is_empty() && files.last() != Some(path) {
            return Ok(found(&walk, Some(((path.clone(), 1), Misfit::Torn))));
        }
        for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let place = (path.clone(), number + 1);
            let stepped = match line.strip_suffix(b"\n") {
                Some(line) => walk.step(line).and_then(|place| noted(line, place)),
                None => Err(Misfit::Torn),
            };
            // A file is named after the line that it begins with.
            let stepped = stepped.and_then(|place| match begins {
                Some(begins) if number == 0 && begins != place.number => {
                    Err(Misfit::Number(place.number))
                }
                _ => Ok(place),
            });
            let checked = stepped.and_then(|place| match head {
                Head::At(head) if head.number == place.number => {
                    headed = *head == place;
                    if headed { Ok(()) } else { Err(Misfit::Head) }
                }
                _ => Ok(()),
            });
            if let Err(why) = checked {
                return Ok(found(&walk, Some((place, why))));
            }
            last_place = place;
        }
    }
    let lacks = match head {
        Head::At(_) => !headed,
        Head::Unreadable => true,
        // A log with lines has a head.
        Head::None => false,
    };
    Ok(found(&walk, lacks.then_some((last_place, Misfit::Head))))
}

/// A first line may say that what was before did not fit.
fn noted(line: &[u8], place: Place) -> Result<Place, Misfit> {
    let value: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
    match value.get("fits") {
        Some(serde_json::Value::Bool(false)) => Err(Misfit::Noted),
        _ => Ok(place),
    }
}

fn found(walk: &Walk, misfit: Option<((PathBuf, usize), Misfit)>) -> Found {
    Found {
        first: walk.first,
        last: walk.last.unwrap_or_default(),
        misfit: misfit.map(|((file, line), why)| Spot { file, line, why }),
    }
}
