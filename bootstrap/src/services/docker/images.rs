//! Images: whether they are there, whether they could be pulled, and pulling them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use bollard::Docker;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;

use crate::event::{About, Level};
use crate::services::docker::engine::{found, words};

/// A registry answers within this or is not to be counted on.
const ASK_LIMIT: Duration = Duration::from_secs(8);
/// A pull that says nothing for so long has stalled.
const SILENCE: Duration = Duration::from_secs(120);

/// Whether the image is on this machine.
///
/// # Errors
/// When the daemon does not say.
pub async fn present(docker: &Docker, image: &str) -> Result<bool> {
    Ok(found(docker.inspect_image(image).await)?.is_some())
}

/// Whether the image could be pulled.
///
/// # Errors
/// With the reason why not.
pub async fn pullable(docker: &Docker, image: &str) -> Result<(), String> {
    let asked = docker.inspect_registry_image(image, None);
    match tokio::time::timeout(ASK_LIMIT, asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(words(&error)),
        Err(_) => Err(format!(
            "its registry does not answer within {} s",
            ASK_LIMIT.as_secs()
        )),
    }
}

/// Pulls the image if it is not there, telling how far it is; says whether it did.
///
/// # Errors
/// When it cannot be pulled, with the way out.
pub async fn ensure(docker: &Docker, image: &str, about: About<'_>) -> Result<bool> {
    if present(docker, image).await? {
        return Ok(false);
    }
    about.say(Level::Doing, format!("pulling {image}"));
    let options = CreateImageOptionsBuilder::default()
        .from_image(&with_tag(image))
        .build();
    let mut pull = Box::pin(docker.create_image(Some(options), None, None));
    let mut progress = Progress::default();
    loop {
        match tokio::time::timeout(SILENCE, pull.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(info))) => {
                if let Some(step) = progress.note(&info) {
                    about.say(Level::Doing, format!("pulling {image}: {step}"));
                }
            }
            Ok(Some(Err(error))) => bail!(
                "cannot pull {image}: {}; load it (docker load), or name another image in the settings",
                words(&error)
            ),
            Err(_) => bail!("pulling {image} has stalled for {} s", SILENCE.as_secs()),
        }
    }
    Ok(true)
}

/// Without a tag the Engine would pull all there are.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// How far a pull is, over all layers.
#[derive(Debug, Default)]
struct Progress {
    layers: BTreeMap<String, (i64, i64)>,
    told: i64,
}

impl Progress {
    /// Takes one message in; text for people at every tenth.
    fn note(&mut self, info: &CreateImageInfo) -> Option<String> {
        let detail = info.progress_detail.as_ref()?;
        let (current, total) = (detail.current?, detail.total?);
        if info.status.as_deref() != Some("Downloading") || total <= 0 {
            return None;
        }
        self.layers.insert(info.id.clone()?, (current, total));
        let done: i64 = self.layers.values().map(|(current, _)| current).sum();
        let all: i64 = self.layers.values().map(|(_, total)| total).sum();
        let tenth = done.saturating_mul(10) / all;
        if tenth <= self.told {
            return None;
        }
        self.told = tenth;
        Some(format!("{} % of {} MB", tenth * 10, all / 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::{Progress, with_tag};
    use bollard::models::{CreateImageInfo, ProgressDetail};

    #[test]
    fn an_image_without_tag_is_the_latest_and_a_port_is_no_tag() {
        assert_eq!(with_tag("redis"), "redis:latest");
        assert_eq!(with_tag("redis:7"), "redis:7");
        assert_eq!(
            with_tag("127.0.0.1:5000/redis"),
            "127.0.0.1:5000/redis:latest"
        );
        assert_eq!(with_tag("redis@sha256:00"), "redis@sha256:00");
    }

    #[test]
    fn progress_is_told_in_tenths() {
        let mut progress = Progress::default();
        let mut note = |layer: &str, current| {
            progress.note(&CreateImageInfo {
                id: Some(layer.into()),
                status: Some("Downloading".into()),
                progress_detail: Some(ProgressDetail {
                    current: Some(current),
                    total: Some(50_000_000),
                }),
                ..CreateImageInfo::default()
            })
        };
        assert_eq!(note("a", 1_000_000), None);
        assert_eq!(note("a", 5_000_000).as_deref(), Some("10 % of 50 MB"));
        assert_eq!(note("a", 5_500_000), None);
        assert_eq!(note("b", 50_000_000).as_deref(), Some("50 % of 100 MB"));
    }
}
