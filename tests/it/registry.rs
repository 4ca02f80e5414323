//! Images that are pushed to a real registry: once, again after a loss, and not at all with words that
//! say what to do. That nodes pull them is looked at where a whole platform comes up (`cluster_kinds`).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comind_peers::registry::{LOGIN, Registry};
use comind_peers::tls::Certificate;

use crate::ops::Done;
use crate::platform_of::PlatformOf;

const STEP: [&str; 3] = ["bootstrap", "--only", "first-images"];

/// Docker's configuration with a login.
fn login(dir: &Path, registry: &Registry, (user, password): (&str, &str)) -> Result<()> {
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let host = registry.host().to_string();
    let config = serde_json::json!({ "auths": { host: { "auth": auth } } });
    Ok(std::fs::write(dir.join("config.json"), config.to_string())?)
}

/// The step fails by saying this, and nothing that is secret.
async fn refused(platform: &PlatformOf, why: &[&str]) -> Result<Done> {
    let done = platform.ops.run(&STEP).await?;
    let said = done.said();
    ensure!(done.code == 1, "{said}");
    for word in why {
        ensure!(said.contains(word), "{word}: {said}");
    }
    ensure!(
        !said.contains(LOGIN.1) && !said.contains("wrong-secret"),
        "{said}"
    );
    Ok(done)
}

/// The files that name the images with this name by their digests.
fn revisions(registry: &Registry, name: &str) -> Result<Vec<PathBuf>> {
    let folder = registry.images().join(format!(
        "repositories/team/{name}/_manifests/revisions/sha256"
    ));
    let all = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    all.map(|entry| Ok(entry?.path())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pushed_where_they_lack_and_what_stands_in_the_way_is_told() -> Result<()> {
    let mut platform = PlatformOf::new("qa")?;
    let certificate = Certificate::new()?;
    let mut registry = Registry::builder()
        .tls(&certificate)
        .login()
        .start()
        .await?;
    let host = registry.host().to_string();
    let dir = platform.ops.dir().to_owned();
    let files = certificate.write(&dir, None)?;
    let with_password = format!("{}:wrong-secret@{host}/team", LOGIN.0);
    platform.ops.set("COMIND_IMAGE_REGISTRY", &with_password);
    refused(&platform, &["a login is not given here"]).await?;

    let named = format!("{host}/team");
    platform.ops.set("COMIND_IMAGE_REGISTRY", &named);
    platform
        .ops
        .set("DOCKER_CONFIG", &dir.display().to_string());
    refused(
        &platform,
        &[
            "cannot reach the registry https://127.0.0.1:",
            "certificates",
        ],
    )
    .await?;
    let authority = files.authority.display().to_string();
    platform.ops.set("SSL_CERT_FILE", &authority);
    let docker_login = format!("docker login {host}");
    refused(&platform, &["wants a login", &docker_login]).await?;
    login(&dir, &registry, (LOGIN.0, "wrong-secret"))?;
    refused(&platform, &["wants another login", &docker_login]).await?;

    login(&dir, &registry, LOGIN)?;
    let plan = platform.ops.run(&[&STEP[..], &["--plan"]].concat()).await?;
    let said = plan.said();
    let wanted = format!("push the image {host}/team/argocd:");
    ensure!(
        plan.code == 2 && said.contains(&wanted) && said.contains("@sha256:"),
        "{said}"
    );
    ensure!(
        !registry.images().join("repositories").exists(),
        "a plan has pushed: {said}"
    );

    platform.ops.good(&STEP).await?;
    let again = platform.ops.good(&STEP).await?;
    ensure!(
        again.err.contains("nothing was changed"),
        "{}",
        again.said()
    );

    what_images_share_was_sent_once(&registry)?;
    what_was_lost_is_pushed_again(&platform, &registry).await?;

    registry.stop_signal()?;
    refused(&platform, &["said nothing for 10 s"]).await?;
    registry.continue_signal()?;
    registry.kill()?;
    refused(&platform, &["cannot reach the registry https://127.0.0.1:"]).await?;
    Ok(())
}

/// Four images, three of which have the same root file system: of them two took it from the first.
fn what_images_share_was_sent_once(registry: &Registry) -> Result<()> {
    let log = std::fs::read_to_string(registry.log_path())?;
    let mut taken = Vec::new();
    for name in ["argocd", "git", "redis"] {
        let asked = format!("POST /v2/team/{name}/blobs/uploads/?");
        // The registry's own line for each request: what was asked, then how it ended.
        let mut lines = log.lines().filter(|line| line.contains(&asked));
        if lines.any(|line| line.contains("mount=") && line.contains("\" 201 ")) {
            taken.push(name);
        }
    }
    ensure!(taken == ["git", "redis"], "{taken:?}");
    Ok(())
}

async fn what_was_lost_is_pushed_again(platform: &PlatformOf, registry: &Registry) -> Result<()> {
    let [kept] = &revisions(registry, "redis")?[..] else {
        anyhow::bail!("redis has one manifest")
    };
    std::fs::remove_dir_all(kept)?;
    let mended = platform.ops.good(&STEP).await?;
    let said = mended.said();
    ensure!(
        said.contains("/team/redis:") && !said.contains("/team/git:"),
        "{said}"
    );
    ensure!(kept.exists(), "{said}");
    let left: Vec<_> = std::fs::read_dir(platform.data().join("images"))?.collect();
    ensure!(left.is_empty(), "layers are left: {left:?}");
    Ok(())
}
