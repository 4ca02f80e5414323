//! A tar archive of a few small text files, which is how the Engine takes files into a container.
//!
//! Format: POSIX.1-1988 ustar, <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html>.

use std::collections::BTreeMap;

/// The unit of the format.
const BLOCK: usize = 512;

/// An archive with these files, owned by root and readable by all. Paths are taken from `/` on.
///
/// # Errors
/// When a path is longer than the 100 bytes of the format.
pub fn of(files: &BTreeMap<String, String>) -> anyhow::Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (path, text) in files {
        let path = path.trim_start_matches('/');
        anyhow::ensure!(
            path.len() <= 100,
            "{path} is too long a path for an archive"
        );
        archive.extend(header(path, text.len()));
        archive.extend(text.as_bytes());
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks end it.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

fn header(path: &str, size: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::of;
    use std::collections::BTreeMap;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn the_systems_tar_reads_it() -> anyhow::Result<()> {
        let text = "x".repeat(700);
        let files = BTreeMap::from([
            ("/opt/a.conf".to_owned(), text.clone()),
            ("/b".to_owned(), String::new()),
        ]);
        let dir = tempfile::tempdir()?;
        let mut tar = Command::new("tar")
            .args(["-xf", "-", "-C"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .spawn()?;
        tar.stdin
            .take()
            .expect("it is piped")
            .write_all(&of(&files)?)?;
        assert!(tar.wait()?.success());
        assert_eq!(
            std::fs::read_to_string(dir.path().join("opt/a.conf"))?,
            text
        );
        assert_eq!(std::fs::read_to_string(dir.path().join("b"))?, "");
        Ok(())
    }
}
