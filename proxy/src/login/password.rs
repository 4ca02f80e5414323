//! Whether a password fits a hash. Slow by design: the caller does it where nothing else waits.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier as _};
use comind_model::login::Hidden;

/// Whether this is the hash of that password, by bcrypt or argon2. Takes its time.
pub fn fits(hash: &Hidden, password: &[u8]) -> bool {
    let hash = hash.reveal();
    if !hash.starts_with("$argon2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}
