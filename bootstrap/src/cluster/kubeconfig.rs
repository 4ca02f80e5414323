//! The user's own kubeconfig: our context goes in and out, everything else stays as it is; and one
//! context out of several files. Pure but for `merge_into`, `remove_from` and `all_of`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::store;

/// The lists that a context is spread over.
const LISTS: [&str; 3] = ["clusters", "users", "contexts"];

/// The file that kubectl would read: the first of `KUBECONFIG`, or `~/.kube/config`.
pub fn users_file(kubeconfig: Option<&str>, home: Option<&Path>) -> Option<PathBuf> {
    let first = kubeconfig.and_then(|list| list.split(':').find(|path| !path.is_empty()));
    first
        .map(PathBuf::from)
        .or_else(|| home.map(|home| home.join(".kube/config")))
}

/// The files that kubectl would read: all of `KUBECONFIG`, or `~/.kube/config`.
pub fn users_files(kubeconfig: Option<&str>, home: Option<&Path>) -> Vec<PathBuf> {
    let listed = kubeconfig.unwrap_or_default().split(':');
    let listed: Vec<PathBuf> = listed
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect();
    match listed.is_empty() {
        true => home
            .map(|home| home.join(".kube/config"))
            .into_iter()
            .collect(),
        false => listed,
    }
}

/// What several files say together: of each name the first that has it, as kubectl does. Paths in
/// them become absolute, since ours lies elsewhere.
///
/// # Errors
/// When one cannot be read or is no kubeconfig.
pub fn all_of(files: &[PathBuf]) -> Result<Value> {
    let mut all = json!({ "current-context": "" });
    for file in files {
        let mut one = read(file)?;
        if let Some(dir) = file.parent() {
            absolute(&mut one, dir);
        }
        for list in LISTS {
            let mut entries = all[list].as_array().cloned().unwrap_or_default();
            for entry in one[list].as_array().into_iter().flatten() {
                if !entries.iter().any(|known| known["name"] == entry["name"]) {
                    entries.push(entry.clone());
                }
            }
            all[list] = entries.into();
        }
        if all["current-context"] == "" && one["current-context"].is_string() {
            all["current-context"] = one["current-context"].clone();
        }
    }
    Ok(all)
}

/// The keys that name files, in entries of these lists.
const PATHS: [(&str, &str, &str); 4] = [
    ("clusters", "cluster", "certificate-authority"),
    ("users", "user", "client-certificate"),
    ("users", "user", "client-key"),
    ("users", "user", "tokenFile"),
];

fn absolute(config: &mut Value, dir: &Path) {
    for (list, of, key) in PATHS {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            if let Some(path) = entry[of][key].as_str() {
                let path = std::path::absolute(dir.join(path)).unwrap_or_else(|_| dir.join(path));
                entry[of][key] = path.display().to_string().into();
            }
        }
    }
}

/// One context of `all` alone, with its cluster and its user, all three under `name`.
///
/// # Errors
/// When there is no such context; the message names those that are there.
pub fn only(all: &Value, context: &str, name: &str) -> Result<Value> {
    let entry = |list: &str, wanted: &Value| {
        let mut entries = all[list].as_array().into_iter().flatten();
        entries.find(|entry| entry["name"] == *wanted).cloned()
    };
    let Some(mut found) = entry("contexts", &context.into()) else {
        let names = all["contexts"].as_array().into_iter().flatten();
        let names: Vec<&str> = names.filter_map(|one| one["name"].as_str()).collect();
        bail!(
            "there is no context {context:?} in the kubeconfig; there are: {}",
            names.join(", ")
        );
    };
    let missing = |what: &str| format!("the context {context} names a {what} that is not there");
    let mut cluster =
        entry("clusters", &found["context"]["cluster"]).with_context(|| missing("cluster"))?;
    let mut user = entry("users", &found["context"]["user"]).with_context(|| missing("user"))?;
    for one in [&mut found, &mut cluster, &mut user] {
        one["name"] = name.into();
    }
    found["context"]["cluster"] = name.into();
    found["context"]["user"] = name.into();
    Ok(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [cluster], "users": [user], "contexts": [found],
    }))
}

/// Where the API of a kubeconfig's only cluster is.
pub fn server(config: &Value) -> &str {
    config["clusters"][0]["cluster"]["server"]
        .as_str()
        .unwrap_or("?")
}

/// `into` with the entries of `ours`. It becomes the current context only where there is none.
///
/// # Errors
/// When an entry of that name is there that is not like ours: it would be somebody else's.
pub fn merged(into: &Value, ours: &Value, replace: bool) -> Result<Value> {
    let mut all = into.clone();
    if !all.is_object() {
        all = json!({ "apiVersion": "v1", "kind": "Config" });
    }
    for list in LISTS {
        if !all[list].is_array() {
            all[list] = json!([]);
        }
        let entries = all[list].as_array_mut().context("it is a list")?;
        for ours in ours[list].as_array().into_iter().flatten() {
            let known = entries
                .iter()
                .position(|entry| entry["name"] == ours["name"]);
            match known {
                Some(at) if entries[at] == *ours => {}
                Some(at) if replace => entries[at] = ours.clone(),
                Some(_) => bail!(
                    "{} {} is there already, and it is not ours; rename it (kubectl config rename-context)",
                    &list[..list.len() - 1],
                    ours["name"]
                ),
                None => entries.push(ours.clone()),
            }
        }
    }
    if all["current-context"]
        .as_str()
        .unwrap_or_default()
        .is_empty()
    {
        all["current-context"] = ours["current-context"].clone();
    }
    Ok(all)
}

/// `from` without the entries named `name`.
pub fn without(from: &Value, name: &str) -> Value {
    let mut left = from.clone();
    for list in LISTS {
        if let Some(entries) = left[list].as_array_mut() {
            entries.retain(|entry| entry["name"] != name);
        }
    }
    if left["current-context"] == name {
        left["current-context"] = "".into();
    }
    left
}

/// Puts our context into the user's file; says whether that changed it. What we have put there
/// before (noted in `note`) is replaced, what is somebody else's is not.
///
/// # Errors
/// When a context of that name is somebody else's, or the file cannot be read or written.
pub fn merge_into(file: &Path, ours: &str, note: &Path) -> Result<bool> {
    let ours = parse(ours)?;
    let before = read(file)?;
    let known = store::read(note)?.is_some_and(|noted| noted == file.display().to_string());
    let after = merged(&before, &ours, known)
        .with_context(|| format!("cannot put the cluster into {}", file.display()))?;
    if after == before {
        return Ok(false);
    }
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    // First: a run that is cut off in between may then go on.
    store::write(note, file.display().to_string().as_bytes())?;
    store::write(file, format!("{after:#}\n").as_bytes())?;
    Ok(true)
}

/// Takes our context out of the file that it was put into.
///
/// # Errors
/// When the file cannot be read or written.
pub fn remove_from(note: &Path, name: &str) -> Result<bool> {
    let Some(file) = store::read(note)?.map(PathBuf::from) else {
        return Ok(false);
    };
    let before = read(&file)?;
    let after = without(&before, name);
    if after != before {
        store::write(&file, format!("{after:#}\n").as_bytes())?;
    }
    store::remove(note)?;
    Ok(after != before)
}

fn read(file: &Path) -> Result<Value> {
    let text = store::read(file)?.unwrap_or_default();
    match text.trim().is_empty() {
        true => Ok(Value::Null),
        false => parse(&text).with_context(|| format!("{} is no kubeconfig", file.display())),
    }
}

/// A kubeconfig's text.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<Value> {
    Ok(serde_saphyr::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(secret: &str) -> Value {
        json!({
            "current-context": "comind-ops-dev",
            "clusters": [{ "name": "comind-ops-dev", "cluster": { "server": "https://10.231.0.2:6443" } }],
            "users": [{ "name": "comind-ops-dev", "user": { "client-key-data": secret } }],
            "contexts": [{ "name": "comind-ops-dev", "context": { "cluster": "comind-ops-dev", "user": "comind-ops-dev" } }],
        })
    }

    #[test]
    fn others_stay_as_they_are() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (file, note) = (dir.path().join("deep/config"), dir.path().join("note"));
        std::fs::create_dir_all(dir.path().join("deep"))?;
        let theirs = "apiVersion: v1\nkind: Config\ncurrent-context: work\nclusters:\n- name: work\n  cluster: { server: 'https://work' }\npreferences: { colors: true }\n";
        std::fs::write(&file, theirs)?;
        assert!(merge_into(&file, &ours("a").to_string(), &note)?);
        assert!(!merge_into(&file, &ours("a").to_string(), &note)?);
        // Renewed certificates replace what is ours.
        assert!(merge_into(&file, &ours("b").to_string(), &note)?);
        let now = read(&file)?;
        assert_eq!(now["current-context"], "work");
        assert_eq!(now["clusters"].as_array().map(Vec::len), Some(2));
        assert_eq!(now["users"][0]["user"]["client-key-data"], "b");
        assert!(remove_from(&note, "comind-ops-dev")?);
        let left = read(&file)?;
        assert_eq!(left["clusters"], parse(theirs)?["clusters"]);
        assert_eq!(left["preferences"]["colors"], true);
        // A context of that name that we did not put there is not touched.
        std::fs::write(&file, ours("theirs").to_string())?;
        let error = merge_into(&file, &ours("a").to_string(), &note).expect_err("not ours");
        assert!(format!("{error:#}").contains("not ours"), "{error:#}");
        Ok(())
    }

    #[test]
    fn one_context_of_several_files() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::write(
            &one,
            "contexts: [{ name: work, context: { cluster: c, user: u, namespace: shop } }]\nclusters: [{ name: c, cluster: { server: 'https://a', certificate-authority: ca.crt } }]\n",
        )?;
        std::fs::write(
            &other,
            "current-context: work\nusers: [{ name: u, user: { token: t } }]\nclusters: [{ name: c, cluster: { server: 'https://b' } }]\n",
        )?;
        let all = all_of(&[one, other, dir.path().join("absent")])?;
        assert_eq!(all["current-context"], "work");
        let ours = only(&all, "work", "comind-ops-dev")?;
        assert_eq!(server(&ours), "https://a");
        assert_eq!(ours["contexts"][0]["context"]["user"], "comind-ops-dev");
        assert_eq!(ours["contexts"][0]["context"]["namespace"], "shop");
        assert_eq!(ours["users"][0]["user"]["token"], "t");
        let authority = dir.path().join("ca.crt").display().to_string();
        let cluster = &ours["clusters"][0]["cluster"];
        assert_eq!(cluster["certificate-authority"], authority);
        let error = only(&all, "x", "y").expect_err("no such context");
        insta::assert_snapshot!(error, @r#"there is no context "x" in the kubeconfig; there are: work"#);
        Ok(())
    }

    #[test]
    fn the_file_that_kubectl_reads() {
        let home = Some(Path::new("/home/a"));
        assert_eq!(users_file(Some(":/x:/y"), home), Some("/x".into()));
        assert_eq!(
            users_file(Some(""), home),
            Some("/home/a/.kube/config".into())
        );
        assert_eq!(users_file(None, None), None);
    }
}
