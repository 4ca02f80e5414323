//! Which kind of cluster `auto` picks, and why: a pure rule over what was found.

use crate::cluster::kind::Kind;

/// What was found on this machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// What made this environment's cluster before.
    pub before: Option<Kind>,
    /// The context that was named.
    pub context: Option<String>,
    /// Why k3d cannot make one; `Ok` says why it can.
    pub k3d: Option<Result<String, String>>,
    /// What a cluster of plain processes lacks here.
    pub host_lacks: Option<String>,
}

/// A choice and its reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// What was chosen.
    pub kind: Kind,
    /// Why.
    pub because: String,
}

/// Chooses. What is asked for, or what was made before; else k3d where it can make one; else plain
/// processes. A cluster that is there already is never taken unasked.
///
/// # Errors
/// When another kind was made before, or with both reasons when neither can be made.
pub fn choose(asked: Option<Kind>, found: &Found) -> Result<Choice, String> {
    let choice = |kind, because: &str| {
        Ok(Choice {
            kind,
            because: because.to_owned(),
        })
    };
    let named = found.context.as_ref().map(|_| Kind::Existing);
    match (asked.or(named), found.before) {
        (Some(asked), Some(before)) if asked != before => {
            let (asked, before) = (asked.name(), before.name());
            return Err(format!(
                "this environment's cluster was made by {before}, not by {asked}; remove it first (comind-ops destroy), or choose another ENV"
            ));
        }
        (_, Some(kind)) => return choice(kind, "the cluster was made so"),
        (Some(kind), None) if asked.is_some() => return choice(kind, "it was asked for"),
        (Some(kind), None) => return choice(kind, "a context was named"),
        (None, None) => {}
    }
    let why_not = match &found.k3d {
        Some(Ok(why)) => return choice(Kind::K3d, why),
        Some(Err(why)) => why.as_str(),
        None => "nobody looked for k3d",
    };
    match &found.host_lacks {
        None => choice(Kind::Host, why_not),
        Some(lack) => Err(format!(
            "a cluster can be made neither by k3d ({why_not}) nor of plain processes ({lack}); --cluster existing uses one that is there"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_stays_and_another_kind_is_refused() {
        let found = Found {
            before: Some(Kind::K3d),
            ..Found::default()
        };
        let again = choose(None, &found).expect("it was made");
        assert_eq!(again.kind, Kind::K3d);
        assert!(choose(Some(Kind::K3d), &found).is_ok());
        let refused = choose(Some(Kind::Host), &found).expect_err("two clusters");
        assert!(refused.contains("made by k3d, not by host"), "{refused}");
    }

    #[test]
    fn k3d_where_it_can_else_host_and_the_reason_is_told() {
        let mut found = Found {
            k3d: Some(Ok("Docker answers and k3d is here".into())),
            ..Found::default()
        };
        assert_eq!(choose(None, &found).map(|one| one.kind), Ok(Kind::K3d));
        found.k3d = Some(Err("k3d is not installed".into()));
        let host = choose(None, &found).expect("plain processes");
        assert_eq!(host.kind, Kind::Host);
        assert_eq!(host.because, "k3d is not installed");
        found.host_lacks = Some("it needs root".into());
        let neither = choose(None, &found).expect_err("neither");
        assert!(
            neither.contains("k3d is not installed") && neither.contains("needs root"),
            "{neither}"
        );
    }

    #[test]
    fn one_that_is_there_is_used_only_when_it_is_named() {
        let mut found = Found {
            k3d: Some(Ok("it could".into())),
            ..Found::default()
        };
        assert_eq!(
            choose(Some(Kind::Existing), &found).map(|one| one.kind),
            Ok(Kind::Existing)
        );
        found.context = Some("work".into());
        let named = choose(None, &found).expect("it is named");
        assert_eq!(
            (named.kind, named.because.as_str()),
            (Kind::Existing, "a context was named")
        );
    }
}
