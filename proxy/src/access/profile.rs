//! The services that are known by name. Pure.

use comind_model::ingress::Service;

use crate::request::strict::path_is_plain;

/// A service that people reach by `http://NAME.localhost:PORT/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Where it is in the cluster.
    pub service: Service,
    /// What it needs.
    pub needs: Needs,
    /// It believes to be below this path (`/console`), which a proxy before it takes away.
    pub below: Option<String>,
}

/// What a program needs beyond being passed on as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// gRPC calls to `localhost` itself are for it. Browsers take `*.localhost` for this machine;
    /// command lines ask a name server, which need not know such a name.
    pub calls: bool,
    /// It speaks TLS or does not, as it is installed: that has to be found out.
    pub perhaps_tls: bool,
}

/// It is passed on as it is.
const NOTHING: Needs = Needs {
    calls: false,
    perhaps_tls: false,
};
/// Page and command line at one port, with TLS of its own making unless told otherwise.
const ARGOCD: Needs = Needs {
    calls: true,
    perhaps_tls: true,
};

/// Known by heart: what `comind-ops bootstrap` makes, and what is commonly beside it.
const KNOWN: [(&str, &str, Needs); 8] = [
    ("comind", "monitoring/comind-ops:http", NOTHING),
    ("grafana", "monitoring/grafana:http", NOTHING),
    ("prometheus", "monitoring/prometheus:http", NOTHING),
    ("alertmanager", "monitoring/alertmanager:http", NOTHING),
    ("argocd", "argocd/argocd-server:http", ARGOCD),
    ("minio", "platform-@ENV@/minio:console", NOTHING),
    ("elasticmq", "platform-@ENV@/elasticmq:ui", NOTHING),
    ("git", "platform/git:http", NOTHING),
];

/// Ports at which TLS may be spoken.
const PERHAPS_TLS: [&str; 3] = ["https", "443", "8443"];

/// All that are known, in an environment.
pub fn known(env: &str) -> Vec<Profile> {
    let made = |(name, service, needs): &(&str, &str, Needs)| Profile {
        name: (*name).to_owned(),
        service: service
            .replace("@ENV@", env)
            .parse()
            .unwrap_or_else(|_| unreachable!("the table is tested")),
        needs: *needs,
        below: None,
    };
    KNOWN.iter().map(made).collect()
}

/// Those that are asked for: a known name, or `NAME=NAMESPACE/SERVICE:PORT[/PATH]`; all where none is.
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
                "`{text}` is not known; write one of {}, or NAME=NAMESPACE/SERVICE:PORT[/PATH]",
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
    let (service, below) = parted(service)?;
    let service: Service = service.parse()?;
    let needs = Needs {
        perhaps_tls: PERHAPS_TLS.contains(&&*service.port),
        ..NOTHING
    };
    Ok(Profile {
        name: name.to_owned(),
        service,
        needs,
        below,
    })
}

/// A service, and the path that it believes to be below.
fn parted(text: &str) -> Result<(&str, Option<String>), String> {
    let port = text.find(':').unwrap_or(text.len());
    let Some(slash) = text[port..].find('/') else {
        return Ok((text, None));
    };
    let (service, path) = text.split_at(port + slash);
    let below = path.trim_end_matches('/');
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let good = below.bytes().all(inside) && !below.contains("//") && path_is_plain(below);
    match (good, below.is_empty()) {
        (true, true) => Ok((service, None)),
        (true, false) => Ok((service, Some(below.to_owned()))),
        (false, _) => Err(format!("`{path}` is no path; write /console or /minio/ui")),
    }
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
        let asked = ["shop=user-apps/shop:https".to_owned(), "argocd".to_owned()];
        let all = wanted(&asked, "qa").unwrap();
        assert!(all.iter().all(|profile| profile.needs.perhaps_tls));
        assert!(all[1].needs.calls && !all[0].needs.calls);
        for (text, below) in [
            ("m=a/b:console", None),
            ("m=a/b:console/", None),
            ("m=a/b:9001/console/", Some("/console")),
            ("m=a/b:9001/minio/ui", Some("/minio/ui")),
        ] {
            let one = wanted(&[text.to_owned()], "qa").unwrap().remove(0);
            assert_eq!(one.below.as_deref(), below, "{text}");
        }
        for bad in [
            &["grafan"][..],
            &["a_b=c/d:1"],
            &["a=c/d"],
            &["a=c/d:1/../e"],
            &["a=c/d:1//e"],
            &["a=c/d:1/e?f"],
            &["git", "git"],
        ] {
            let bad: Vec<String> = bad.iter().map(|text| (*text).to_owned()).collect();
            assert!(wanted(&bad, "qa").is_err(), "{bad:?}");
        }
    }
}
