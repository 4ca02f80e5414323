//! What is to be reached, in which clusters, and under which hosts. Pure.

use std::net::SocketAddr;
use std::sync::Arc;

use comind_model::ingress::Cluster;

use super::profile::Profile;

/// A context's part of a host's name is at most so long.
const LABEL: usize = 40;

/// What is to be reached, and where we listen.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The clusters; of several each has a label.
    pub sites: Vec<Site>,
    /// Our port, on loopback.
    pub port: u16,
}

/// One cluster.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its part of hosts' names, where there are several.
    pub label: Option<String>,
    /// The cluster.
    pub cluster: Cluster,
    /// Its ingress, as it is reached from here.
    pub ingress: Option<SocketAddr>,
    /// The services.
    pub profiles: Vec<Profile>,
}

impl Wish {
    /// Where a service of a site is reached.
    pub fn url(&self, site: &Site, profile: &Profile) -> String {
        let below = profile.below.as_deref().unwrap_or_default();
        format!("http://{}:{}{below}/", site.host(profile), self.port)
    }

    /// The start page.
    pub fn start(&self) -> String {
        format!("http://localhost:{}/", self.port)
    }
}

impl Site {
    /// These services of that cluster.
    pub fn new(
        label: Option<String>,
        cluster: Cluster,
        ingress: Option<SocketAddr>,
        mut profiles: Vec<Profile>,
    ) -> Self {
        let shared = Arc::new(cluster.clone());
        for profile in &mut profiles {
            profile.service.cluster = Some(shared.clone());
        }
        Self {
            label,
            cluster,
            ingress,
            profiles,
        }
    }

    /// As people call it.
    pub fn name(&self) -> String {
        let label = || self.label.clone().unwrap_or_default();
        self.cluster.context.clone().unwrap_or_else(label)
    }

    /// The host of a service.
    pub fn host(&self, profile: &Profile) -> String {
        match &self.label {
            Some(label) => format!("{}.{label}.localhost", profile.name),
            None => format!("{}.localhost", profile.name),
        }
    }
}

/// A part of a host's name for each context, whatever it is called: contexts are named freely, as
/// `admin@prod` or `arn:aws:eks:eu-west-1:1234:cluster/prod`, and hosts are not.
pub fn labels(contexts: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for context in contexts {
        let plain = label(context);
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let mut free = std::iter::once(plain.clone()).chain(numbered);
        all.extend(free.find(|one| !all.contains(one)));
    }
    all
}

fn label(context: &str) -> String {
    let byte = |byte: u8| match byte.to_ascii_lowercase() {
        good @ (b'a'..=b'z' | b'0'..=b'9') => char::from(good),
        _ => '-',
    };
    let text: String = context.bytes().map(byte).collect();
    let words: Vec<&str> = text.split('-').filter(|word| !word.is_empty()).collect();
    let text = words.join("-");
    // The end tells contexts apart more often than the beginning.
    let text = text[text.len().saturating_sub(LABEL)..].trim_start_matches('-');
    match text {
        "" => "context".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(contexts: &[&str]) -> Vec<String> {
        let contexts: Vec<String> = contexts.iter().map(|&one| one.to_owned()).collect();
        labels(&contexts)
    }

    #[test]
    fn contexts_become_parts_of_hosts() {
        let all = of(&[
            "work",
            "Admin@Prod",
            "gke_shop_eu-west1-b_main",
            "admin/prod",
            "…",
        ]);
        let wanted = [
            "work",
            "admin-prod",
            "gke-shop-eu-west1-b-main",
            "admin-prod-2",
            "context",
        ];
        assert_eq!(all, wanted);
        let arn = "arn:aws:eks:eu-central-1:123456789012:cluster/payments";
        assert_eq!(of(&[arn]), ["central-1-123456789012-cluster-payments"]);
    }

    proptest! {
        #[test]
        fn every_context_has_a_label_of_its_own(contexts: Vec<String>) {
            let all = labels(&contexts);
            prop_assert_eq!(all.len(), contexts.len());
            for (number, one) in all.iter().enumerate() {
                prop_assert!(!all[..number].contains(one));
                prop_assert!(one.len() <= 63 && !one.starts_with('-') && !one.ends_with('-'));
                prop_assert!(one.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
            }
        }
    }
}
