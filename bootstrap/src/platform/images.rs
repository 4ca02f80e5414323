//! The images that the platform's pods run: a common root file system with one program each, made on
//! this machine. Programs and folders in, recipes out; making them is the cluster's.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cluster::host::image::{Base, Recipe};
use crate::cluster::host::steps::{BUILT, alone};
use crate::programs::Programs;

/// The links that choose a role of Argo CD's one program.
const ROLES: [&str; 6] = [
    "argocd-application-controller",
    "argocd-applicationset-controller",
    "argocd-cmp-server",
    "argocd-k8s-auth",
    "argocd-repo-server",
    "argocd-server",
];
/// Argo CD's user and git's, as Argo CD's manifests have it.
const USER: u64 = 999;

/// The images' names.
#[derive(Clone, Debug)]
pub struct Images {
    /// Argo CD with Helm and Kustomize.
    pub argocd: String,
    /// Redis, for Argo CD and for the platform.
    pub redis: String,
    /// git and a server for it.
    pub git: String,
    /// Whatever opens what was sealed.
    pub sealed_secrets: String,
    /// PostgreSQL.
    pub postgresql: String,
    /// MinIO.
    pub minio: String,
    /// Prometheus.
    pub prometheus: String,
    /// Alertmanager.
    pub alertmanager: String,
    /// This program.
    pub comind_ops: String,
}

/// The images with what goes into them.
pub type Recipes = Vec<(String, Recipe)>;

/// What Argo CD needs, what comes after it, and how all of them are called.
///
/// # Errors
/// When a program is missing or cannot be read.
pub fn recipes(
    programs: &Programs,
    base: &Base,
    own: PathBuf,
) -> Result<(Recipes, Recipes, Images)> {
    let named = |recipe: Recipe| -> Result<(String, Recipe)> { Ok((recipe.reference()?, recipe)) };
    let deb = |name: &str| programs.find(name, BUILT);
    let first = vec![
        named(argocd(programs, base)?)?,
        named(on(base, "redis", "999:999", &["/usr/bin/redis-server"]))?,
        named(git(base))?,
        named(alone(programs, "/bin/sealed-secrets-controller")?)?,
    ];
    let then = vec![
        named(postgresql(base))?,
        named(program(
            base,
            "usr/local/bin/minio",
            programs.find("minio", BUILT)?,
            "1000:1000",
        ))?,
        named(program(
            base,
            "usr/local/bin/prometheus",
            deb("prometheus")?,
            "65534:65534",
        ))?,
        named(alertmanager(base, deb("prometheus-alertmanager")?))?,
        named(program(
            base,
            "usr/local/bin/comind-ops",
            own,
            "65532:65532",
        ))?,
    ];
    let name = |wanted: &str| {
        let mut all = first.iter().chain(&then);
        let found = all.find(|(_, one)| one.name == wanted);
        let (reference, _) = found.with_context(|| format!("there is no image {wanted}"))?;
        Ok(reference.clone())
    };
    let images = Images::named(name)?;
    Ok((first, then, images))
}

impl Images {
    /// Each under another name.
    pub fn renamed(&self, name: impl Fn(&str) -> String) -> Self {
        Self {
            argocd: name(&self.argocd),
            redis: name(&self.redis),
            git: name(&self.git),
            sealed_secrets: name(&self.sealed_secrets),
            postgresql: name(&self.postgresql),
            minio: name(&self.minio),
            prometheus: name(&self.prometheus),
            alertmanager: name(&self.alertmanager),
            comind_ops: name(&self.comind_ops),
        }
    }

    /// Each by what it is.
    ///
    /// # Errors
    /// Those of `name`.
    pub fn named(name: impl Fn(&str) -> Result<String>) -> Result<Self> {
        Ok(Self {
            argocd: name("argocd")?,
            redis: name("redis")?,
            git: name("git")?,
            sealed_secrets: name("sealed-secrets-controller")?,
            postgresql: name("postgresql")?,
            minio: name("minio")?,
            prometheus: name("prometheus")?,
            alertmanager: name("alertmanager")?,
            comind_ops: name("comind-ops")?,
        })
    }
}

/// Something that runs on the root file system.
fn on(base: &Base, name: &'static str, user: &'static str, entry: &[&'static str]) -> Recipe {
    Recipe {
        name,
        base: Some(base.clone()),
        entrypoint: entry.to_vec(),
        user,
        ..Recipe::default()
    }
}

/// A program of this machine, in the path under its image's name.
fn program(base: &Base, to: &'static str, from: PathBuf, user: &'static str) -> Recipe {
    let name = to.rsplit('/').next().unwrap_or(to);
    Recipe {
        files: vec![(to, from)],
        ..on(base, name, user, &[name])
    }
}

/// With the words of its messages, which it does not start without.
fn alertmanager(base: &Base, from: PathBuf) -> Recipe {
    let mut recipe = program(base, "usr/local/bin/alertmanager", from, "65534:65534");
    for file in [
        "usr/share/prometheus/alertmanager/default.tmpl",
        "usr/share/prometheus/alertmanager/email.tmpl",
    ] {
        recipe.files.push((file, Path::new("/").join(file)));
    }
    recipe
}

fn git(base: &Base) -> Recipe {
    Recipe {
        folders: vec![("srv/git", USER)],
        ..on(base, "git", "999:999", &["/usr/bin/tini", "--"])
    }
}

/// It is told what the official image is told.
fn postgresql(base: &Base) -> Recipe {
    let start = ["/bin/sh", "/usr/local/bin/start-postgresql"];
    Recipe {
        texts: vec![
            (
                "usr/local/bin/start-postgresql",
                include_str!("../../manifests/start-postgresql").to_owned(),
            ),
            // initdb wants to know whom it runs as.
            ("etc/passwd", users("postgres", "/var/lib/postgresql")),
        ],
        ..on(base, "postgresql", "999:999", &start)
    }
}

fn argocd(programs: &Programs, base: &Base) -> Result<Recipe> {
    let mut files = Vec::new();
    for (to, name) in [
        ("usr/local/bin/argocd", "argocd"),
        ("usr/local/bin/helm", "helm"),
        ("usr/local/bin/kustomize", "kustomize"),
    ] {
        files.push((to, programs.find(name, BUILT)?));
    }
    Ok(Recipe {
        folders: [
            "home/argocd",
            "app",
            "app/config",
            "app/config/ssh",
            "app/config/tls",
            "app/config/gpg",
            "app/config/gpg/source",
            "app/config/gpg/keys",
        ]
        .map(|folder| (folder, USER))
        .to_vec(),
        // git and ssh want to know whom they run as.
        texts: vec![("etc/passwd", users("argocd", "/home/argocd"))],
        files,
        links: ROLES
            .iter()
            .map(|role| (format!("usr/local/bin/{role}"), "argocd"))
            .collect(),
        ..on(base, "argocd", "999:999", &["/usr/bin/tini", "--"])
    })
}

/// The users of an image, one of whom runs its program.
fn users(name: &str, home: &str) -> String {
    format!(
        "root:x:0:0:root:/root:/bin/sh\n{name}:x:{USER}:{USER}::{home}:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
    )
}
