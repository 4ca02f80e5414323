//! Under which names the platform's pages are reached, and at which port of this machine. Pure.

use serde::Serialize;

use crate::cluster::env::Env;
use crate::platform::git;
use crate::platform::logins::MINIO_USER;
use crate::platform::source::Source;
use crate::services::table::{Look, plain, trimmed};

/// The names of a page: one that every resolver should know, and one for those that do not.
pub fn hosts(name: &str) -> [String; 2] {
    [
        format!("{name}.localhost"),
        format!("{name}.127.0.0.1.nip.io"),
    ]
}

/// The ingress' port on this machine's loopback; each environment has its own.
pub fn port(env: Env) -> u16 {
    match env {
        Env::Dev => 8081,
        Env::Stage => 8082,
        Env::Qa => 8083,
        Env::Prod => 8084,
    }
}

/// The ingress' port on the node, as its chart has it.
pub const NODE_PORT: u16 = 30080;

/// The ports of nodes that people and this machine need, and where they are on loopback if the nodes
/// themselves cannot be reached.
pub fn mapped(env: Env) -> Vec<(u16, u16)> {
    vec![(NODE_PORT, port(env)), (git::NODE_PORT, git::port(env))]
}

/// A page of the platform.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub url: String,
    /// Who logs in, where somebody has to. `comind-ops gitops login` has the passwords.
    pub user: Option<&'static str>,
}

/// The platform's pages.
pub fn pages(env: Env, source: &Source) -> Vec<Page> {
    let page = |name, user| Page {
        name,
        url: format!("http://{}:{}/", hosts(name)[0], port(env)),
        user,
    };
    let mut all = vec![
        page("comind", None),
        page("argocd", Some("admin")),
        page("prometheus", None),
        page("alertmanager", None),
        page("minio", Some(MINIO_USER)),
    ];
    if source.is_own() {
        all.push(page("git", Some(git::USER)));
    }
    all
}

/// The pages as a table for people.
pub fn table(pages: &[Page], look: Look) -> String {
    let mut table = plain(look);
    table.set_header(["PAGE", "URL", "USER"]);
    for page in pages {
        table.add_row([page.name, &page.url, page.user.unwrap_or("-")]);
    }
    trimmed(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_has_a_line_and_each_environment_a_port() {
        insta::assert_snapshot!(table(&pages(Env::Dev, &Source::Own), Look::default()), @"
        PAGE          URL                                  USER
        comind        http://comind.localhost:8081/        -
        argocd        http://argocd.localhost:8081/        admin
        prometheus    http://prometheus.localhost:8081/    -
        alertmanager  http://alertmanager.localhost:8081/  -
        minio         http://minio.localhost:8081/         comind
        git           http://git.localhost:8081/           comind
        ");
        let ports = Env::ALL.into_iter().flat_map(mapped).map(|(_, here)| here);
        let ports: std::collections::BTreeSet<u16> = ports.collect();
        assert_eq!(ports.len(), 8);
    }
}
