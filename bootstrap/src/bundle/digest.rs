//! What a file is, read once while it is used for something else.

use std::io::Read;

use ring::digest::{Context, SHA256};

/// A reader that keeps what has come through it in mind.
pub(super) struct Seen<R> {
    from: R,
    size: u64,
    digest: Context,
}

impl<R: Read> Seen<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            size: 0,
            digest: Context::new(&SHA256),
        }
    }

    /// How much it was, and its SHA-256.
    pub(super) fn finish(self) -> (u64, String) {
        (self.size, hex(self.digest.finish().as_ref()))
    }
}

impl<R: Read> Read for Seen<R> {
    fn read(&mut self, piece: &mut [u8]) -> std::io::Result<usize> {
        let length = self.from.read(piece)?;
        self.digest.update(&piece[..length]);
        self.size += length as u64;
        Ok(length)
    }
}

/// The length and the SHA-256 of what is read.
pub(super) fn of(from: impl Read) -> std::io::Result<(u64, String)> {
    let mut seen = Seen::new(from);
    let mut piece = vec![0; 256 * 1024];
    while seen.read(&mut piece)? > 0 {}
    Ok(seen.finish())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn length_and_sum_are_those_of_sha256sum() -> std::io::Result<()> {
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::of(&b"abc"[..])?, (3, sum.to_owned()));
        Ok(())
    }
}
