//! Alerts in a real Alertmanager, beside those of a real Prometheus with our rules.

use anyhow::{Context, Result, bail, ensure};
use comind_peers::prometheus::{Alertmanager, Prometheus};
use comind_peers::redis::Redis;
use comind_peers::tool::Tool;
use comind_peers::wait::wait_for;
use serde_json::Value;

use crate::receiver::Receiver;
use crate::serve::{LATER, SOON, Serve};

const RULES: &str = include_str!("../../dashboards/rules/comind.yaml");
const PROMTOOL: Tool = Tool::debian("promtool", "prometheus");

fn config(alertmanager: &str, redis: &Redis, more: &str) -> String {
    format!(
        "api: {{ listen: \"LISTEN\" }}\ndata_dir: DATA\ndefaults: {{ interval: 500ms, timeout: 1s }}\n\
         notify: {{ alertmanager: [\"{alertmanager}\"], resend: 1s }}\ntargets:\n  \
         - {{ name: cache, kind: redis, required: true, url: \"{}\" }}\n{more}",
        redis.url()
    )
}

/// The alert about a target, once it is there and in this state.
async fn until(alertmanager: &Alertmanager, target: &str, active: bool) -> Result<Value> {
    let what = format!("an alert about {target}");
    wait_for(&what, LATER, async || {
        let alerts = alertmanager.alerts().await?;
        let found = alerts
            .iter()
            .find(|alert| alert["labels"]["target"] == target);
        match (found, active) {
            (Some(alert), true) => Ok(alert.clone()),
            // Alertmanager hides what is resolved.
            (None, false) => Ok(Value::Null),
            (found, _) => bail!("{found:?}"),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_there_at_once_and_gone_at_its_end() -> Result<()> {
    let alertmanager = Alertmanager::start_quiet().await?;
    let mut redis = Redis::start().await?;
    let optional = "  - { name: gone, kind: tcp, url: \"tcp://127.0.0.1:1\" }\n";
    let serve = Serve::start_with(&config(&alertmanager.url(), &redis, optional)).await?;
    serve.until_up("cache").await?;
    let warning = until(&alertmanager, "gone", true).await?;
    ensure!(warning["labels"]["severity"] == "warning", "{warning}");
    redis.kill()?;
    let alert = until(&alertmanager, "cache", true).await?;
    let labels = &alert["labels"];
    let wanted = r#"{"alertname":"RequiredServiceDown","kind":"redis","required":"true","severity":"page","target":"cache"}"#;
    ensure!(
        *labels == serde_json::from_str::<Value>(wanted)?,
        "{labels}"
    );
    ensure!(
        alert["annotations"]["advice"]
            .as_str()
            .is_some_and(|text| text.len() > 10),
        "{alert}"
    );
    let since = serve.target("cache").await?["since"]
        .as_str()
        .context("no since")?
        .to_owned();
    // Alertmanager keeps milliseconds.
    let starts = alert["startsAt"].as_str().unwrap_or_default();
    ensure!(starts[..22] == since[..22], "{starts} {since}");
    redis.restart().await?;
    until(&alertmanager, "cache", false).await?;
    ensure!(until(&alertmanager, "gone", true).await? != Value::Null);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alertmanager_that_was_away_is_told_when_it_is_back() -> Result<()> {
    let mut alertmanager = Alertmanager::start_quiet().await?;
    let mut redis = Redis::start().await?;
    let serve = Serve::start_with(&config(&alertmanager.url(), &redis, "")).await?;
    serve.until_up("cache").await?;
    alertmanager.kill()?;
    redis.kill()?;
    serve.until_is("cache", "down", "refused").await?;
    let page = wait_for("the page to say so", SOON, async || {
        let page = serve.get("/").await?;
        ensure!(page.contains("accepts nothing"), "it does not");
        Ok(page)
    });
    page.await?;
    alertmanager.restart().await?;
    until(&alertmanager, "cache", true).await?;
    redis.restart().await?;
    until(&alertmanager, "cache", false).await?;
    Ok(())
}

/// Our push and Prometheus' rule are about the same outage: whoever waits behind Alertmanager
/// is told once that it began and once that it ended.
#[tokio::test(flavor = "multi_thread")]
async fn both_ways_make_one_notification() -> Result<()> {
    let receiver = Receiver::start().await?;
    let alertmanager = Alertmanager::start(&format!(
        "route: {{ receiver: hook, group_by: [target], group_wait: 1s, group_interval: 1s, repeat_interval: 1h }}\n\
         receivers: [{{ name: hook, webhook_configs: [{{ url: \"http://{}/\", send_resolved: true }}] }}]\n",
        receiver.addr()
    ))
    .await?;
    let mut redis = Redis::start().await?;
    let serve = Serve::start_with(&config(&alertmanager.url(), &redis, "")).await?;
    let prometheus = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s, external_labels: {{ cluster: test }} }}\n\
         rule_files: [comind.yaml]\n\
         alerting: {{ alert_relabel_configs: [{{ regex: cluster, action: labeldrop }}], alertmanagers: [{{ static_configs: [{{ targets: [\"{}\"] }}] }}] }}\n\
         scrape_configs: [{{ job_name: comind, static_configs: [{{ targets: [\"{}\"] }}] }}]\n",
        alertmanager.addr(),
        serve.addr()
    );
    let prometheus = Prometheus::start(&prometheus, &[("comind.yaml", RULES)]).await?;
    serve.until_up("cache").await?;
    let sees = async |value: f64| {
        let what = format!("Prometheus to see {value}");
        wait_for(&what, LATER, async || {
            let now = prometheus
                .value("comind_target_up{target=\"cache\"}")
                .await?;
            ensure!(now == value, "{now}");
            Ok(())
        })
        .await
    };
    sees(1.0).await?;
    redis.kill()?;
    let firing = r#"ALERTS{alertname="RequiredServiceDown",alertstate="firing"}"#;
    wait_for("the rule to fire", LATER, async || {
        prometheus.value(firing).await.map(drop)
    })
    .await?;
    // Several evaluations and several resends of ours lie between.
    serve
        .until_counted("comind_notifications_total", &[("outcome", "delivered")], 4)
        .await?;
    ensure!(
        alertmanager.alerts().await?.len() == 1,
        "{:?}",
        alertmanager.alerts().await?
    );
    redis.restart().await?;
    sees(1.0).await?;
    let posted = receiver.until(2, LATER).await?;
    serve
        .until_counted("comind_notifications_total", &[("outcome", "delivered")], 3)
        .await?;
    // Whatever came besides would be here by now.
    let posted = [&posted[..], &receiver.posted()[posted.len()..]].concat();
    let told: Vec<_> = posted
        .iter()
        .map(|posted| posted.json()["status"].clone())
        .collect();
    ensure!(told == ["firing", "resolved"], "{posted:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_hold_what_their_tests_say() -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/rules");
    let mut command = tokio::process::Command::new(PROMTOOL.find()?);
    command
        .args(["test", "rules", "comind_test.yaml"])
        .current_dir(folder)
        .kill_on_drop(true);
    let output = tokio::time::timeout(LATER, command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tested = |line: &str| line.trim().strip_prefix("- alert: ").map(str::to_owned);
    let tests = std::fs::read_to_string(format!("{folder}/comind_test.yaml"))?;
    for rule in RULES.lines().filter_map(tested) {
        ensure!(
            tests.contains(&format!("alertname: {rule}")),
            "rule {rule} has no test"
        );
    }
    Ok(())
}

/// Every metric that a rule names is one that the program exports or Prometheus makes.
#[tokio::test(flavor = "multi_thread")]
async fn the_rules_name_metrics_that_there_are() -> Result<()> {
    let alertmanager = Alertmanager::start_quiet().await?;
    let redis = Redis::start().await?;
    let serve = Serve::start_with(&config(&alertmanager.url(), &redis, "")).await?;
    serve.until_up("cache").await?;
    let text = serve.get("/metrics").await?;
    let expressions = RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut names: Vec<_> = expressions
        .flat_map(|line| line.split(|c| !letter(c)))
        .filter(|word| word.starts_with("comind_") && !word.starts_with("comind_argocd"))
        .collect();
    names.sort_unstable();
    names.dedup();
    ensure!(names.len() >= 6, "{names:?}");
    for name in names {
        let family = name.trim_end_matches("_total");
        ensure!(
            text.contains(&format!("# TYPE {family}")),
            "{name} is not exported"
        );
    }
    Ok(())
}
