//! The files of the platform's repository: those that it begins with, which are its users' from then
//! on, and the values that are ours. Pure; must not know git or the cluster.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use include_dir::{Dir, include_dir};
use serde_json::{Value, json};

use crate::cluster::env::Env;
use crate::cluster::kind::Kind;
use crate::cluster::ways::Ways;
use crate::platform::hosts::{NODE_PORT, hosts};
use crate::platform::images::Images;
use crate::platform::logins::{MINIO_USER, SECRET};
use crate::platform::source::Source;
use crate::platform::targets;
use crate::services::settings::Settings;

static FIRST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/gitops");
static CHARTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../helm");

/// Which chart lies where in the repository. Its folder's name is that of the application.
const PLACES: [(&str, &str); 7] = [
    ("platform/postgresql", "services/postgresql"),
    ("platform/minio", "services/minio"),
    ("platform/redis", "services/redis"),
    ("comind-ops", "monitoring/comind-ops"),
    ("monitoring/prometheus", "monitoring/prometheus"),
    ("monitoring/alertmanager", "monitoring/alertmanager"),
    ("ingress", "ingress/comind-ingress"),
];

/// Paths in the repository with their texts.
pub type Files = BTreeMap<String, String>;

/// What the repository begins with.
///
/// # Errors
/// When an embedded file is no text.
pub fn first(env: Env, repository: &str) -> Result<Files> {
    let mut all = Files::new();
    add(&mut all, &FIRST, "", "")?;
    for text in all.values_mut() {
        *text = filled(text, env, repository);
    }
    for (from, to) in PLACES {
        let chart = CHARTS.get_dir(from);
        let chart = chart.with_context(|| format!("there is no chart {from}"))?;
        add(&mut all, chart, from, &format!("{to}/"))?;
    }
    Ok(all)
}

/// A text with what differs between platforms.
pub fn filled(text: &str, env: Env, repository: &str) -> String {
    text.replace("@REPOSITORY@", repository)
        .replace("@ENV@", env.name())
}

fn add(all: &mut Files, dir: &Dir<'_>, from: &str, to: &str) -> Result<()> {
    for file in dir.files() {
        let path = file.path().strip_prefix(from).unwrap_or(file.path());
        let text = file.contents_utf8();
        let text = text.with_context(|| format!("{} is no text", path.display()))?;
        all.insert(format!("{to}{}", path.display()), text.to_owned());
    }
    dir.dirs().try_for_each(|dir| add(all, dir, from, to))
}

/// The values that are ours: images that were made here, and addresses.
///
/// # Errors
/// When they cannot be written as YAML.
pub fn made(
    env: Env,
    ways: &Ways,
    source: &Source,
    images: &Images,
    settings: &Settings,
) -> Result<Files> {
    let image = |name: &str| json!({ "name": name, "pullPolicy": ways.pull_policy() });
    let node = ways.node_port(NODE_PORT).ip();
    let mut ingress = json!({ "image": image(&images.comind_ops), "status": [node.to_string()] });
    if ways.kind == Kind::Existing {
        // Others may have ingresses there, and which one is the default is theirs to say.
        ingress["classes"] = json!(["comind"]);
        ingress["class"] = json!({ "default": false });
    }
    let shown = |name: &str| json!({ "hosts": hosts(name) });
    let values: [(&str, Value); 7] = [
        ("postgresql", json!({ "image": image(&images.postgresql) })),
        (
            "minio",
            json!({ "image": image(&images.minio), "console": shown("minio") }),
        ),
        ("redis", json!({ "image": image(&images.redis) })),
        (
            "comind-ops",
            json!({
                "image": image(&images.comind_ops),
                "secret": SECRET,
                "ingress": shown("comind"),
                "config": targets::config(env, ways, source, settings, MINIO_USER),
            }),
        ),
        (
            "prometheus",
            json!({ "image": image(&images.prometheus), "ingress": shown("prometheus") }),
        ),
        (
            "alertmanager",
            json!({ "image": image(&images.alertmanager), "ingress": shown("alertmanager") }),
        ),
        ("comind-ingress", ingress),
    ];
    let mut all = Files::new();
    for (name, value) in values {
        let yaml = serde_saphyr::to_string(&value)
            .with_context(|| format!("cannot write the values of {name}"))?;
        let path = format!("environments/{}/made/{name}.yaml", env.name());
        all.insert(path, format!("{MADE}{yaml}"));
    }
    Ok(all)
}

const MADE: &str =
    "# Written by comind-ops bootstrap, and written anew when it changes. Yours: ../NAME.yaml\n";

/// The applications that come of these files: the folders of their charts.
pub fn applications(files: &Files) -> impl Iterator<Item = &str> {
    let charts = files
        .keys()
        .filter_map(|path| path.strip_suffix("/Chart.yaml"));
    charts.map(|folder| folder.rsplit('/').next().unwrap_or(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_keeps_its_tree() -> Result<()> {
        let files = first(Env::Dev, Source::Own.url())?;
        assert_eq!(applications(&files).count(), PLACES.len());
        for path in [
            "README.md",
            "apps/.gitkeep",
            "platform/platform.yaml",
            "services/redis/templates/redis.yaml",
            "monitoring/comind-ops/crds/monitors.yaml",
            "monitoring/comind-ops/rules/comind.yaml",
            "ingress/comind-ingress/values.yaml",
        ] {
            assert!(files.contains_key(path), "{path} of {:?}", files.keys());
        }
        assert!(files["platform/platform.yaml"].contains("platform-dev"));
        assert!(!files.values().any(|text| text.contains("@REPOSITORY@")));
        Ok(())
    }

    #[test]
    fn values_name_images_and_no_passwords() -> Result<()> {
        let images = Images::named(|name| Ok(format!("here/{name}:1")))?;
        let (env, settings) = (Env::Stage, Settings::default());
        let files = made(env, &Ways::host(env), &Source::Own, &images, &settings)?;
        insta::assert_snapshot!(files["environments/stage/made/comind-ops.yaml"]);
        assert_eq!(files.len(), PLACES.len());
        for (path, text) in &files {
            for (_, place) in PLACES {
                let name = place.rsplit('/').next().unwrap_or_default();
                if path.ends_with(&format!("/{name}.yaml")) {
                    assert!(text.contains("here/"), "{path}");
                }
            }
        }
        Ok(())
    }
}
