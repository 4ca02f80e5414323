//! Kind `minio` against a real MinIO.

use std::path::Path;

use anyhow::{Result, ensure};
use comind_peers::minio::Minio;
use comind_peers::relay::Relay;
use http::Method;

use crate::disk::SmallDisk;
use crate::faults;
use crate::serve::{BRISK, LATER, Serve, USUAL};

fn item(url: &str, access: &str, secret: &str) -> String {
    format!(
        "name: {access}, kind: minio, required: true, url: \"{url}\", access_key: {access}, \
         secret_key: {secret}, buckets: [backups]"
    )
}

const ROOT: &str = "minioadmin";

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_process() -> Result<()> {
    let mut minio = Minio::builder()
        .bucket("backups")
        .bucket("logs")
        .start()
        .await?;
    let serve = Serve::start(USUAL, &[item(&minio.url(), ROOT, ROOT)]).await?;
    let target = serve.until_up(ROOT).await?;
    let facts = &target["facts"];
    ensure!(facts["buckets"] == 2.0, "only a deep look tells: {facts}");
    ensure!(facts["write_quorum"] == 1.0, "{facts}");
    faults::of_process(&serve, ROOT, &mut minio).await
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_way() -> Result<()> {
    let minio = Minio::builder().bucket("backups").start().await?;
    let relay = Relay::start(minio.addr()).await?;
    let url = minio.url_via(relay.addr());
    let serve = Serve::start(USUAL, &[item(&url, ROOT, ROOT)]).await?;
    faults::of_the_way(&serve, ROOT, &relay).await
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_rights_and_buckets() -> Result<()> {
    let minio = Minio::builder()
        .bucket("backups")
        .user("reader", "readersecret", "readonly")
        .user("writer", "writersecret", "readwrite")
        .start()
        .await?;
    let url = minio.url();
    let wrong = item(&url, ROOT, "guessguess").replace(&format!("name: {ROOT}"), "name: wrong");
    let items = [
        item(&url, ROOT, ROOT),
        wrong,
        item(&url, "stranger", "strangersecret"),
        item(&url, "reader", "readersecret"),
        item(&url, "writer", "writersecret"),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    serve.until_up(ROOT).await?;
    serve.until_up("writer").await?;
    serve.until_is("wrong", "down", "wrong_password").await?;
    serve.until_is("stranger", "down", "wrong_password").await?;
    serve
        .until_is("reader", "down", "permission_denied")
        .await?;

    minio.enable_user("writer", false).await?;
    serve
        .until("writer", "down", LATER, |target| {
            let reason = target["reason"].as_str().unwrap_or_default();
            target["health"] == "down" && ["wrong_password", "permission_denied"].contains(&reason)
        })
        .await?;
    minio.enable_user("writer", true).await?;
    serve.until_up("writer").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn required_buckets() -> Result<()> {
    let minio = Minio::builder().bucket("logs").start().await?;
    // Without writing: a bucket into which somebody writes is not easily removed.
    let reader = item(&minio.url(), ROOT, ROOT)
        .replace(&format!("name: {ROOT}"), "name: reader")
        .replace("[backups]", "[logs], writable: false");
    let serve = Serve::start(BRISK, &[item(&minio.url(), ROOT, ROOT), reader]).await?;
    let target = serve.until_is(ROOT, "down", "missing_bucket").await?;
    let message = target["message"].as_str().unwrap_or_default();
    ensure!(message.contains("backups"), "{message}");
    serve.until_up("reader").await?;
    minio.create_bucket("backups").await?;
    serve.until_up(ROOT).await?;
    minio.remove_bucket("logs").await?;
    serve.until_is("reader", "down", "missing_bucket").await?;
    minio.create_bucket("logs").await?;
    serve.until_up("reader").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deep_look_leaves_nothing_behind() -> Result<()> {
    let minio = Minio::builder().bucket("backups").start().await?;
    let mut serve = Serve::start(BRISK, &[item(&minio.url(), ROOT, ROOT)]).await?;
    serve.until_up(ROOT).await?;
    serve.until_looked(ROOT, 8).await?;
    serve.stop()?;
    let listed = minio
        .request(Method::GET, "/backups?list-type=2", "")
        .await?;
    let left = listed.matches("<Key>").count();
    // The stop may have come in the middle of one deep look.
    ensure!(left <= 1, "{listed}");
    Ok(())
}

/// Another file system over the drive: what MinIO had there is gone, as with a broken disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_drive() -> Result<()> {
    let minio = Minio::builder().bucket("backups").start().await?;
    let serve = Serve::start(BRISK, &[item(&minio.url(), ROOT, ROOT)]).await?;
    serve.until_up(ROOT).await?;
    let disk = SmallDisk::over(minio.dir().join("data"), None)?;
    serve.until_is(ROOT, "down", "quorum_lost").await?;
    drop(disk);
    serve.until_up(ROOT).await?;
    Ok(())
}

/// The drive, with all that lies on it, moved to a disk that is too small.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() -> Result<()> {
    let mut minio = Minio::builder().bucket("backups").start().await?;
    let serve = Serve::start(BRISK, &[item(&minio.url(), ROOT, ROOT)]).await?;
    serve.until_up(ROOT).await?;
    minio.kill()?;
    let data = minio.dir().join("data");
    let aside = minio.dir().join("aside");
    copy(&data, &aside)?;
    let disk = SmallDisk::over(data.clone(), None)?;
    copy(&aside, &data)?;
    minio.restart().await?;
    serve.until_up(ROOT).await?;
    disk.fill()?;
    serve.until_is(ROOT, "down", "disk_full").await?;
    disk.free()?;
    serve.until_up(ROOT).await?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
