//! What an error comes down to.

use std::error::Error;

/// The deepest cause's text. What is around it often says only what was tried, which whoever asks
/// knows already.
pub fn root(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_deepest_cause_is_told() {
        let error = anyhow::anyhow!("disk full")
            .context("cannot write")
            .context("cannot start");
        assert_eq!(super::root(error.as_ref()), "disk full");
    }
}
