//! Reads `Authorization`. Pure.
//! Sources: RFC 7617, RFC 6750; names of schemes in any case.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The longest that is looked at.
const LONGEST: usize = 4096;

/// With or without padding, as clients differ in that.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The value after this scheme, where there is exactly one header with it.
fn after<'h>(headers: &'h HeaderMap, scheme: &[u8]) -> Option<&'h [u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let value = all.next()?.as_bytes();
    if all.next().is_some() || value.len() > LONGEST {
        return None;
    }
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (named, rest) = value.split_at(space);
    named
        .eq_ignore_ascii_case(scheme)
        .then(|| rest.trim_ascii())
}

/// A token.
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    after(headers, b"bearer").filter(|token| !token.is_empty())
}

/// Name and password.
pub fn basic(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let pair = BASE64.decode(after(headers, b"basic")?).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some((pair[..colon].to_vec(), pair[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(lines: &[&'static str]) -> HeaderMap {
        let pairs = lines
            .iter()
            .map(|line| (AUTHORIZATION, HeaderValue::from_static(line)));
        pairs.collect()
    }

    #[test]
    fn what_is_asked_for_is_read_and_nothing_else() {
        let pair = Some((b"ada".to_vec(), b"x:y".to_vec()));
        assert_eq!(basic(&asked(&["bAsIc YWRhOng6eQ=="])), pair);
        assert_eq!(basic(&asked(&["Basic YWRhOng6eQ"])), pair);
        assert_eq!(bearer(&asked(&["Bearer  t"])), Some(&b"t"[..]));
        for bad in [
            &[][..],
            &["Basic"],
            &["Basic YWRh"],
            &["Bearer a", "Bearer a"],
            &["Bearer "],
        ] {
            assert_eq!(
                (basic(&asked(bad)), bearer(&asked(bad))),
                (None, None),
                "{bad:?}"
            );
        }
    }
}
