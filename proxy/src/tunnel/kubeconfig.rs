//! Which files say where a cluster is, and what they say together. Must not speak to a cluster.

use std::ffi::OsStr;
use std::path::PathBuf;

use comind_model::ingress::Cluster;
use kube::config::{Kubeconfig, KubeconfigError};

use super::refusal::chain;

/// The files, in the order in which they count.
pub fn files(cluster: &Cluster) -> Vec<PathBuf> {
    let home = std::env::home_dir();
    match &cluster.kubeconfig {
        Some(file) => vec![file.clone()],
        None => usual(std::env::var_os("KUBECONFIG").as_deref(), home),
    }
}

/// What kubectl takes: the list in `KUBECONFIG`, else the one below the home folder. Pure.
fn usual(list: Option<&OsStr>, home: Option<PathBuf>) -> Vec<PathBuf> {
    let listed: Vec<PathBuf> = list.map_or_else(Vec::new, |list| {
        let all = std::env::split_paths(list);
        all.filter(|file| !file.as_os_str().is_empty()).collect()
    });
    match listed.is_empty() {
        false => listed,
        true => home
            .map(|home| home.join(".kube/config"))
            .into_iter()
            .collect(),
    }
}

/// All of them as one: of two that say the same thing the first counts, and a file of a list that is
/// not there says nothing, as with kubectl.
///
/// # Errors
/// When one cannot be read, or none is there.
pub fn read(cluster: &Cluster) -> Result<Kubeconfig, String> {
    together(&files(cluster))
}

fn together(files: &[PathBuf]) -> Result<Kubeconfig, String> {
    let mut all: Option<Kubeconfig> = None;
    let mut missing = Vec::new();
    for file in files {
        let told =
            |error: KubeconfigError| format!("kubeconfig {}: {}", file.display(), chain(&error));
        if files.len() > 1 && !file.exists() {
            missing.push(file.display().to_string());
            continue;
        }
        let one = Kubeconfig::read_from(file).map_err(told)?;
        all = Some(match all {
            Some(before) => before.merge(one).map_err(told)?,
            None => one,
        });
    }
    all.ok_or_else(|| match missing.is_empty() {
        true => "there is no kubeconfig: name one, or set KUBECONFIG".to_owned(),
        false => format!("kubeconfig: none of {} is there", missing.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_counts_before_the_home_folder() {
        let home = || Some(PathBuf::from("/home/me"));
        let of = |list: Option<&str>| usual(list.map(OsStr::new), home());
        assert_eq!(of(None), [PathBuf::from("/home/me/.kube/config")]);
        assert_eq!(of(Some("")), [PathBuf::from("/home/me/.kube/config")]);
        assert_eq!(
            of(Some(":/a::/b")),
            [PathBuf::from("/a"), PathBuf::from("/b")]
        );
        assert_eq!(usual(None, None), Vec::<PathBuf>::new());
    }

    #[test]
    fn several_files_are_one_and_the_first_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, server: &str, context: &str| {
            let file = dir.path().join(name);
            let text = format!(
                "{{apiVersion: v1, kind: Config, current-context: {context}, \
                 clusters: [{{name: c, cluster: {{server: '{server}'}}}}], \
                 contexts: [{{name: {context}, context: {{cluster: c, user: u}}}}], users: []}}"
            );
            std::fs::write(&file, text).unwrap();
            file
        };
        let gone = dir.path().join("gone");
        let files = [
            gone.clone(),
            write("a", "https://a", "one"),
            write("b", "https://b", "two"),
        ];
        let all = together(&files).unwrap();
        assert_eq!(all.current_context.as_deref(), Some("one"));
        let contexts: Vec<&str> = all.contexts.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(contexts, ["one", "two"]);
        assert_eq!(all.clusters.len(), 1);
        // The only one that is named has to be there.
        assert!(
            together(std::slice::from_ref(&gone))
                .unwrap_err()
                .contains("gone")
        );
        assert!(
            together(&[gone.clone(), gone])
                .unwrap_err()
                .contains("none of")
        );
        assert!(together(&[]).unwrap_err().contains("KUBECONFIG"));
        std::fs::write(dir.path().join("bad"), "{").unwrap();
        assert!(
            together(&[dir.path().join("bad")])
                .unwrap_err()
                .contains("bad")
        );
    }
}
