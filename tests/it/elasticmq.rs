//! Kind `elasticmq` against a real ElasticMQ.

use anyhow::{Context, Result, ensure};
use comind_peers::elasticmq::ElasticMq;
use comind_peers::relay::Relay;
use comind_peers::wait::wait_for;

use crate::faults;
use crate::serve::{BRISK, LATER, Serve, USUAL};

fn item(url: &str) -> String {
    format!("name: mq, kind: elasticmq, url: \"{url}\", queues: [jobs]")
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_process() -> Result<()> {
    let mut mq = ElasticMq::builder().queue("jobs").start().await?;
    mq.send("jobs", "one").await?;
    let serve = Serve::start(USUAL, &[item(&mq.url())]).await?;
    let target = serve.until_up("mq").await?;
    let facts = &target["facts"];
    ensure!(facts["messages_visible{queue=jobs}"] == 1.0, "{facts}");
    ensure!(facts["messages_in_flight{queue=jobs}"] == 0.0, "{facts}");
    let age = facts["canary_age_seconds"].as_f64();
    ensure!(age > Some(0.0), "only a deep look tells: {facts}");
    faults::of_process(&serve, "mq", &mut mq).await
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_way() -> Result<()> {
    let mq = ElasticMq::builder().queue("jobs").start().await?;
    let relay = Relay::start(mq.addr()).await?;
    let serve = Serve::start(USUAL, &[item(&mq.url_via(relay.addr()))]).await?;
    faults::of_the_way(&serve, "mq", &relay).await
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_what_lies_in_them() -> Result<()> {
    let mq = ElasticMq::builder()
        .queue_with_dead_letters("jobs", "jobs-dead", 1)
        .start()
        .await?;
    let addr = mq.addr();
    let items = [
        item(&mq.url()),
        format!(
            "name: full, kind: elasticmq, url: \"http://{addr}\", queues: [jobs], backlog_max: 2, dead_letters: false"
        ),
        format!("name: missing, kind: elasticmq, url: \"http://{addr}\", queues: [letters]"),
    ];
    let serve = Serve::start(BRISK, &items).await?;
    serve.until_up("mq").await?;
    serve.until_up("full").await?;
    let target = serve.until_is("missing", "down", "missing_queue").await?;
    let message = target["message"].as_str().unwrap_or_default();
    ensure!(message.contains("letters"), "{message}");
    mq.create_queue("letters").await?;
    serve.until_up("missing").await?;
    mq.delete_queue("letters").await?;
    serve.until_is("missing", "down", "missing_queue").await?;

    for message in ["one", "two", "three"] {
        mq.send("jobs", message).await?;
    }
    serve.until_is("full", "degraded", "backlog").await?;
    serve.until_up("mq").await?;

    give_up_on_a_message(&mq).await?;
    let target = serve.until_is("mq", "degraded", "dead_letters").await?;
    let facts = &target["facts"];
    ensure!(
        facts["dead_letters{queue=jobs}"].as_f64() >= Some(1.0),
        "{facts}"
    );
    serve.until_up("full").await?;
    let url = mq.queue_url("jobs-dead");
    mq.call(&[("Action", "PurgeQueue"), ("QueueUrl", &url)])
        .await?;
    serve.until_up("mq").await?;
    Ok(())
}

/// Receives until a message that was received before has gone to the dead letters.
async fn give_up_on_a_message(mq: &ElasticMq) -> Result<()> {
    let url = mq.queue_url("jobs");
    wait_for("a dead letter", LATER, async || {
        let receive = [
            ("Action", "ReceiveMessage"),
            ("QueueUrl", &url),
            ("VisibilityTimeout", "0"),
        ];
        mq.call(&receive).await?;
        let dead = mq.visible("jobs-dead").await?;
        ensure!(dead > 0, "none of {} yet", mq.visible("jobs").await?);
        Ok(())
    })
    .await
    .context("a message never became a dead letter")
}
