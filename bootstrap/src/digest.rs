//! What bytes are by their SHA-256, taken once while they are read or written for something else.

use std::io::{self, Read, Write};

use ring::digest::{Context, SHA256};

/// A reader or a writer that keeps what has come through it in mind.
pub struct Seen<T> {
    inner: T,
    size: u64,
    digest: Context,
}

impl<T> Seen<T> {
    /// Nothing has come through yet.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            size: 0,
            digest: Context::new(&SHA256),
        }
    }

    /// How much it was in bytes, and its SHA-256 in hexadecimal digits.
    pub fn finish(self) -> (u64, String) {
        (self.size, hex(self.digest.finish().as_ref()))
    }

    fn note(&mut self, piece: &[u8]) {
        self.digest.update(piece);
        self.size += piece.len() as u64;
    }
}

impl<R: Read> Read for Seen<R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(piece)?;
        self.note(&piece[..length]);
        Ok(length)
    }
}

impl<W: Write> Write for Seen<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(piece)?;
        self.note(&piece[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The length and the SHA-256 of what is read.
///
/// # Errors
/// When it cannot be read.
pub fn of(from: impl Read) -> io::Result<(u64, String)> {
    let mut seen = Seen::new(from);
    let mut piece = vec![0; 256 * 1024];
    while seen.read(&mut piece)? > 0 {}
    Ok(seen.finish())
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&SHA256, bytes).as_ref())
}

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn length_and_sum_are_those_of_sha256sum() -> std::io::Result<()> {
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::of(&b"abc"[..])?, (3, sum.to_owned()));
        assert_eq!(super::of_bytes(b"abc"), sum);
        let mut written = super::Seen::new(std::io::sink());
        std::io::copy(&mut &b"abc"[..], &mut written)?;
        assert_eq!(written.finish(), (3, sum.to_owned()));
        Ok(())
    }
}
