//! Which runtime `auto` picks, and why: a pure rule over what was found.

use crate::services::runtime::Kind;
use crate::services::settings::RuntimeChoice;

/// What was found on this machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// The runtime that these services were set up with before.
    pub before: Option<Kind>,
    /// Why containers cannot serve; `Ok` says why they can.
    pub docker: Option<Result<String, String>>,
    /// What the host lacks.
    pub host_lacks: Vec<String>,
}

/// A choice and its reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// What was chosen.
    pub kind: Kind,
    /// Why.
    pub because: String,
}

/// Chooses. What was set up stays; else containers where they can serve; else plain processes.
///
/// # Errors
/// With both reasons when neither can serve.
pub fn choose(asked: RuntimeChoice, found: &Found) -> Result<Choice, String> {
    let choice = |kind, because: &str| {
        Ok(Choice {
            kind,
            because: because.to_owned(),
        })
    };
    match (asked, found.before) {
        (RuntimeChoice::Host, _) => return choice(Kind::Host, "it was asked for"),
        (RuntimeChoice::Docker, _) => return choice(Kind::Docker, "it was asked for"),
        (RuntimeChoice::Auto, Some(kind)) => return choice(kind, "the services were set up so"),
        (RuntimeChoice::Auto, None) => {}
    }
    let why_not = match &found.docker {
        Some(Ok(why)) => return choice(Kind::Docker, why),
        Some(Err(why)) => why.as_str(),
        None => "nobody looked for Docker",
    };
    if found.host_lacks.is_empty() {
        return choice(Kind::Host, why_not);
    }
    Err(format!(
        "the services can run neither in Docker ({why_not}) nor as plain processes ({})",
        found.host_lacks.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::{Found, choose};
    use crate::services::runtime::Kind;
    use crate::services::settings::RuntimeChoice;

    fn picked(asked: RuntimeChoice, found: &Found) -> (Kind, String) {
        let choice = choose(asked, found).expect("something can serve");
        (choice.kind, choice.because)
    }

    #[test]
    fn what_is_asked_for_wins_then_what_was_before() {
        let found = Found {
            before: Some(Kind::Docker),
            docker: Some(Err("no daemon".into())),
            host_lacks: Vec::new(),
        };
        assert_eq!(picked(RuntimeChoice::Host, &found).0, Kind::Host);
        assert_eq!(picked(RuntimeChoice::Auto, &found).0, Kind::Docker);
    }

    #[test]
    fn docker_where_it_serves_else_host_and_the_reason_is_told() {
        let mut found = Found {
            docker: Some(Ok("all images are there".into())),
            ..Found::default()
        };
        assert_eq!(picked(RuntimeChoice::Auto, &found).0, Kind::Docker);
        found.docker = Some(Err("no daemon answers".into()));
        let (kind, because) = picked(RuntimeChoice::Auto, &found);
        assert_eq!((kind, because.as_str()), (Kind::Host, "no daemon answers"));
        found.host_lacks = vec!["minio is not installed".into()];
        let error = choose(RuntimeChoice::Auto, &found).expect_err("neither");
        assert!(
            error.contains("no daemon") && error.contains("minio"),
            "{error}"
        );
    }
}
