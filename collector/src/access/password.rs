//! Hashes of passwords: reading, checking and making them. Slow by design, so the caller does
//! this where nothing else waits. Must not know users.

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use ring::rand::{SecureRandom, SystemRandom};

/// What bcrypt costs; each step doubles it. Prometheus' documents use 10, OWASP at least that.
const BCRYPT_COST: u32 = 12;
/// bcrypt reads no further.
const BCRYPT_LONGEST: usize = 71;
/// More memory than this for one check (64 times what RFC 9106 calls its second choice would be
/// 4 GiB) is a slip in the hash's parameters.
const ARGON2_MEMORY_KIB: u32 = 1 << 20;
/// The same of the passes over it.
const ARGON2_PASSES: u32 = 64;

/// The hash of a password. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Bcrypt(String),
    Argon2(String),
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Hash {
    /// Reads `$2b$…` (bcrypt, also `$2a$`, `$2x$`, `$2y$`) or `$argon2id$…`.
    ///
    /// # Errors
    /// Says what to do, and nothing of the text: that may be the password itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("$argon2") {
            let unfit =
                || "is no hash of argon2; make one with `comind-ops hash-password --argon2`";
            let hash = PasswordHash::new(text).map_err(|_| unfit().to_owned())?;
            let parameter = |name: &str| hash.params.get_decimal(name);
            if hash.hash.is_none() || hash.salt.is_none() {
                return Err(unfit().to_owned());
            }
            if parameter("m") > Some(ARGON2_MEMORY_KIB) || parameter("t") > Some(ARGON2_PASSES) {
                return Err(format!(
                    "wants more than {ARGON2_MEMORY_KIB} KiB or {ARGON2_PASSES} passes for one check; \
                     make one with `comind-ops hash-password --argon2`"
                ));
            }
            return Ok(Self(Kind::Argon2(text.to_owned())));
        }
        let parts: Result<bcrypt::HashParts, _> = text.parse();
        parts.map_err(|_| {
            "is no hash of bcrypt or argon2; make one with `comind-ops hash-password`".to_owned()
        })?;
        Ok(Self(Kind::Bcrypt(text.to_owned())))
    }

    /// Whether this is the hash of that password. Takes its time.
    pub fn fits(&self, password: &[u8]) -> bool {
        match &self.0 {
            Kind::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Kind::Argon2(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
        }
    }
}

/// Makes a hash by bcrypt, which Prometheus' web config takes as well.
///
/// # Errors
/// When bcrypt would ignore the end of the password.
pub fn bcrypt_hash(password: &str) -> Result<String, String> {
    not_empty(password)?;
    if password.len() > BCRYPT_LONGEST {
        return Err(format!(
            "bcrypt reads {BCRYPT_LONGEST} bytes and this password has {}; use --argon2 or a shorter one",
            password.len()
        ));
    }
    bcrypt::non_truncating_hash(password, BCRYPT_COST)
        .map_err(|error| format!("failed to hash the password: {error}"))
}

/// Makes a hash by argon2id with the library's parameters (OWASP's).
///
/// # Errors
/// When the system gives no randomness.
pub fn argon2_hash(password: &str) -> Result<String, String> {
    not_empty(password)?;
    let mut salt = [0_u8; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| "failed to get random bytes for the salt".to_owned())?;
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| format!("failed to hash the password: {error}"))?;
    Ok(hash.to_string())
}

fn not_empty(password: &str) -> Result<(), String> {
    match password {
        "" => Err("the password is empty".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_and_fits() {
        for hash in [
            bcrypt_hash("fathom").unwrap(),
            argon2_hash("fathom").unwrap(),
        ] {
            let hash = Hash::parse(&hash).unwrap();
            assert!(hash.fits(b"fathom"));
            assert!(!hash.fits(b"Fathom"));
            assert!(!hash.fits(b""));
            assert_eq!(format!("{hash:?}"), "***");
        }
    }

    #[test]
    fn a_hash_by_apache_fits() {
        // The example of the exporter toolkit's tests: htpasswd, cost 10, password "fakepassword".
        let hash = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
        assert!(Hash::parse(hash).unwrap().fits(b"fakepassword"));
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_repeated() {
        let memory = "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$MTIzNDU2Nzg5MDEyMzQ1Ng";
        for text in ["fathom", "", "$2y$10$fathom", "$argon2id$fathom", memory] {
            let error = Hash::parse(text).unwrap_err();
            assert!(!error.contains("fathom"), "{error}");
            assert!(error.contains("hash-password"), "{error}");
        }
    }

    #[test]
    fn bcrypt_is_not_asked_to_cut() {
        assert!(bcrypt_hash(&"x".repeat(72)).is_err());
        assert!(bcrypt_hash("").is_err());
    }
}
