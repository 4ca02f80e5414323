//! A short stable hash of a value, to see whether what runs is what is wanted.
//!
//! Not for secrets and not against adversaries. FNV-1a (64 bit) because, unlike the standard
//! library's hashers, it gives the same figure in every release: a new release of ours must not
//! restart every server. Constants: <http://www.isthe.com/chongo/tech/comp/fnv/>.

use serde::Serialize;

/// The fingerprint of a value's JSON form, as 16 hexadecimal digits.
///
/// Maps inside `value` must be ordered ones, or the figure would vary.
pub fn of<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_vec(value).expect("plain values with string keys always serialise");
    of_bytes(&json)
}

/// The fingerprint of bytes, as 16 hexadecimal digits.
pub fn of_bytes(bytes: &[u8]) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::of_bytes;

    #[test]
    fn is_the_published_fnv_1a() {
        assert_eq!(of_bytes(b""), "cbf29ce484222325");
        assert_eq!(of_bytes(b"foobar"), "85944171f73967e8");
    }
}
