//! The services that are known by name. Pure.

use comind_model::ingress::Service;

/// A service that people reach by `http://NAME.localhost:PORT/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Where it is in the cluster.
    pub service: Service,
}

/// Known by heart: what `comind-ops bootstrap` makes, and what is commonly beside it.
const KNOWN: [(&str, &str); 8] = [
    ("comind", "monitoring/comind-ops:http"),
    ("grafana", "monitoring/grafana:http"),
    ("prometheus", "monitoring/prometheus:http"),
    ("alertmanager", "monitoring/alertmanager:http"),
    ("argocd", "argocd/argocd-server:http"),
    ("minio", "platform-@ENV@/minio:console"),
    ("elasticmq", "platform-@ENV@/elasticmq:ui"),
    ("git", "platform/git:http"),
];

/// All that are known, in an environment.
pub fn known(env: &str) -> Vec<Profile> {
    let made = |(name, service): &(&str, &str)| Profile {
        name: (*name).to_owned(),
        service: service
            .replace("@ENV@", env)
            .parse()
            .unwrap_or_else(|_| unreachable!("the table is tested")),
    };
    KNOWN.iter().map(made).collect()
}

/// Those that are asked for: a known name, or `NAME=NAMESPACE/SERVICE:PORT`; all where none is.
///
/// # Errors
/// When one is neither.
pub fn wanted(asked: &[String], env: &str) -> Result<Vec<Profile>, String> {
    let known = known(env);
    if asked.is_empty() {
        return Ok(known);
    }
    let mut all: Vec<Profile> = Vec::new();
    for text in asked {
        let profile = one(text, &known)?;
        if all.iter().any(|before| before.name == profile.name) {
            return Err(format!("`{}` is asked for twice", profile.name));
        }
        all.push(profile);
    }
    Ok(all)
}

fn one(text: &str, known: &[Profile]) -> Result<Profile, String> {
    let Some((name, service)) = text.split_once('=') else {
        let found = known.iter().find(|profile| profile.name == text).cloned();
        return found.ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|profile| profile.name.as_str()).collect();
            format!(
                "`{text}` is not known; write one of {}, or NAME=NAMESPACE/SERVICE:PORT",
                names.join(", ")
            )
        });
    };
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(inside) {
        return Err(format!(
            "`{name}` cannot be a part of a host's name; use a-z, 0-9 and -"
        ));
    }
    Ok(Profile {
        name: name.to_owned(),
        service: service.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_good_and_names_are_found() {
        let all = known("qa");
        assert_eq!(all.len(), KNOWN.len());
        assert_eq!(all[5].service.to_string(), "platform-qa/minio:console");
        assert_eq!(wanted(&[], "qa"), Ok(all));
        let asked = ["grafana", "shop=user-apps/shop:80"].map(str::to_owned);
        let names: Vec<_> = wanted(&asked, "qa")
            .unwrap()
            .into_iter()
            .map(|profile| profile.name)
            .collect();
        assert_eq!(names, ["grafana", "shop"]);
        for bad in [&["grafan"][..], &["a_b=c/d:1"], &["a=c/d"], &["git", "git"]] {
            let bad: Vec<String> = bad.iter().map(|text| (*text).to_owned()).collect();
            assert!(wanted(&bad, "qa").is_err(), "{bad:?}");
        }
    }
}
