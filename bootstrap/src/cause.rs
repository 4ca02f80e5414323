//! What an error comes down to, and whether it passes by itself.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind as Kind};

/// A failure that passes by itself, in words: who meets it tries again while there is time.
#[derive(Debug)]
pub struct Passing(pub String);

impl fmt::Display for Passing {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl Error for Passing {}

/// Whether anything in an error's chain passes by itself.
pub fn passes(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let api = cause.downcast_ref::<kube::Error>();
        cause.is::<Passing>() || api.is_some_and(of_api_passes)
    })
}

/// Whether an API server is only late, busy, or without its etcd for a moment. One that nobody has started is
/// not waited for.
pub fn of_api_passes(error: &kube::Error) -> bool {
    if let kube::Error::Api(status) = error {
        return matches!(status.code, 429 | 500 | 502..=504);
    }
    let mut cause = error.source();
    while let Some(one) = cause {
        let io = one.downcast_ref::<io::Error>().map(io::Error::kind);
        if let Some(Kind::TimedOut | Kind::ConnectionReset | Kind::UnexpectedEof) = io {
            return true;
        }
        cause = one.source();
    }
    false
}

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

    #[test]
    fn an_etcd_that_is_late_passes_and_a_refusal_does_not() {
        let api = |code: u16, message: &str| {
            let status = kube::core::Status::failure(message, "").with_code(code);
            anyhow::Error::from(kube::Error::Api(Box::new(status))).context("cannot look at a")
        };
        assert!(super::passes(&api(500, "etcdserver: request timed out")));
        assert!(super::passes(&api(429, "storage is (re)initializing")));
        assert!(!super::passes(&api(403, "forbidden")));
        assert!(!super::passes(&api(422, "invalid")));
        let told = anyhow::Error::from(super::Passing("late".into())).context("cannot make a");
        assert!(super::passes(&told));
        assert_eq!(format!("{told:#}"), "cannot make a: late");
    }
}
