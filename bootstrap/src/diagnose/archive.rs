//! A packed archive of text files that does not grow beyond its bounds. Must not know what is in
//! them.

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

/// Of a longer file only the end is kept.
const FILE: usize = 2 << 20;
/// Together, before they are packed; what comes then is left out, and named.
const WHOLE: usize = 50 << 20;
/// What the archive needs around a file, at most: its head, and the filling of its last block.
const AROUND: usize = 2048;
/// Kept free for the list of what was left out.
const RESERVE: usize = 1 << 20;

/// An archive in the making.
pub(super) struct Archive {
    builder: Builder<GzEncoder<Vec<u8>>>,
    size: usize,
    whole: usize,
    names: Vec<String>,
    left_out: Vec<String>,
}

impl Archive {
    pub(super) fn new() -> Self {
        Self::up_to(WHOLE)
    }

    fn up_to(whole: usize) -> Self {
        let encoder = GzEncoder::new(Vec::new(), Compression::default());
        Self {
            builder: Builder::new(encoder),
            size: 0,
            whole: whole.saturating_sub(RESERVE),
            names: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Adds a file.
    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let text = end_of(text, FILE);
        if self.size + text.len() + AROUND > self.whole {
            self.left_out.push(name.to_owned());
            return Ok(());
        }
        self.append(name, &text)
    }

    fn append(&mut self, name: &str, text: &str) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(u64::try_from(text.len())?);
        header.set_mode(0o600);
        header.set_mtime(0);
        self.builder
            .append_data(&mut header, name, text.as_bytes())
            .with_context(|| format!("cannot pack {name}"))?;
        self.size += text.len() + AROUND;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// The archive, and the names of what is in it.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Vec<String>)> {
        if !self.left_out.is_empty() {
            let list = format!("These were too much:\n{}\n", self.left_out.join("\n"));
            self.append("left-out.txt", &end_of(&list, RESERVE - AROUND))?;
        }
        let packed = self.builder.into_inner()?.finish()?;
        Ok((packed, self.names))
    }
}

/// A text, or its last lines that fit.
fn end_of(text: &str, most: usize) -> String {
    const CUT: &str = "… the beginning was cut off\n";
    if text.len() <= most {
        return text.to_owned();
    }
    let mut from = text.len() - (most - CUT.len());
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let line = text[from..].find('\n').map_or(from, |at| from + at + 1);
    format!("{CUT}{}", &text[line..])
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_what_is_too_much_is_named() -> Result<()> {
        let mut archive = Archive::up_to(RESERVE + 2 * AROUND + 40);
        archive.add("a/one.txt", "first")?;
        archive.add("two.txt", &"x".repeat(100))?;
        archive.add("three.txt", "last")?;
        let (packed, names) = archive.finish()?;
        assert_eq!(names, ["a/one.txt", "three.txt", "left-out.txt"]);
        let mut unpacked = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
        let mut all = Vec::new();
        for entry in unpacked.entries()? {
            let mut entry = entry?;
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            assert_eq!(entry.header().mode()?, 0o600);
            all.push((entry.path()?.display().to_string(), text));
        }
        assert_eq!(all[0], ("a/one.txt".to_owned(), "first".to_owned()));
        assert_eq!(all[2].1, "These were too much:\ntwo.txt\n");
        Ok(())
    }

    #[test]
    fn the_end_of_a_long_text_is_kept_in_whole_lines() {
        assert_eq!(end_of("a\nb\n", 4), "a\nb\n");
        let long = format!("{}\nab€\nlast\n", "é".repeat(100));
        for most in 40..60 {
            let end = end_of(&long, most);
            assert!(end.len() <= most && end.ends_with("last\n"), "{end}");
            assert!(end.starts_with("… the beginning was cut off\n"), "{end}");
        }
    }
}
