//! Secrets that stand in files of their own, such as a mounted Kubernetes Secret.
//! Must not know whose secret it is.

use std::io;
use std::path::Path;

use super::files::bounded;
use crate::secret::Secret;

/// No password or token is longer; anything that is, is the wrong file.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads a secret from a file, without the line break at its end. The error says what to do.
pub fn read(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let bytes = bounded(path, MAX_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "secret file {shown} does not exist; create it with the secret as its only line"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "secret file {shown} may not be read; give the user who runs this read permission"
            )
        }
        _ => format!("failed to read secret file {shown}: {error}"),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        format!("secret file {shown} is not text in UTF-8; it holds the secret as its only line")
    })?;
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() {
        return Err(format!(
            "secret file {shown} is empty; write the secret into it"
        ));
    }
    Ok(Secret::new(secret))
}
