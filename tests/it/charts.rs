//! Our charts and manifests: as Helm wants them, as the API server's own schemas have them, and
//! without a pod that Pod Security's `restricted` would refuse.

mod schemas;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comind_peers::kube::KubeApi;
use comind_peers::tool::Tool;
use comind_peers::wait::wait_for;
use http::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::ops::{Done, finish};

const HELM: Tool = Tool::built("helm");
const KUBECTL: Tool = Tool::built("kubectl");
const KUBECONFORM: Tool = Tool::built("kubeconform");
/// How long an API server may take to describe new kinds.
const DESCRIBED: Duration = Duration::from_secs(60);
/// Everything that a chart of ours can be told to do; each takes what it knows.
const ALL_ON: &str = "
persistence: { storageClass: local-path }
ingress: { hosts: [a.test, b.test] }
console: { hosts: [a.test] }
watch: { argocd: argocd, cluster: true, discovery: true }
secret: login
status: [192.0.2.10]
proxy: { access_log: json, session_events: {} }
config: { proxy: { session_events: {} } }
login: { kubernetes: true }
service: { type: LoadBalancer }
";
/// What is in none of our API servers: the kinds of Prometheus' operator.
const OPERATOR: &str = "monitoring.coreos.com/v1";
const OF_OPERATOR: &str = "ServiceMonitor,PrometheusRule";
/// The namespace of everything that is rendered.
const ROOM: &str = "restricted";
/// The namespace of the load balancer's programs.
const SPEAKER: &str = "metallb-system";
/// What bootstrap writes in place of the marks in its manifests.
const FILLED: [(&str, &str); 11] = [
    ("@IMAGE@", "comind.local/image:1"),
    ("@CONTROLLER@", "comind.local/controller:1"),
    ("@SPEAKER@", "comind.local/speaker:1"),
    ("@POOL@", "10.231.0.200-10.231.0.239"),
    ("@LINK@", "eth0"),
    ("@HELPER@", "comind.local/helper:1"),
    ("@EDITION@", "1"),
    ("@FORWARD@", "forward . /etc/resolv.conf"),
    ("@FOLDER@", "/srv/volumes"),
    ("@REPOSITORY@", "http://git.test/git/platform.git"),
    ("@ENV@", "dev"),
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every folder below helm/ that is a chart.
fn charts() -> Result<Vec<PathBuf>> {
    let mut charts = Vec::new();
    let mut open = vec![repository().join("helm")];
    while let Some(dir) = open.pop() {
        if dir.join("Chart.yaml").is_file() {
            charts.push(dir);
            continue;
        }
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    ensure!(charts.len() >= 7, "only {charts:?}");
    Ok(charts)
}

/// The manifests that bootstrap applies, and what the platform's repository begins with.
fn manifests() -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for folder in ["bootstrap/manifests", "bootstrap/gitops/platform"] {
        for entry in std::fs::read_dir(repository().join(folder))? {
            let path = entry?.path();
            if path.extension().is_none_or(|end| end != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let text = FILLED
                .iter()
                .fold(text, |text, (mark, value)| text.replace(mark, value));
            let mut between = text.split('@').skip(1);
            let left = between
                .find(|word| !word.is_empty() && word.chars().all(|one| one.is_ascii_uppercase()));
            ensure!(left.is_none(), "{}: what is @{left:?}@?", path.display());
            let name = path.file_stem().context("a file has a name")?;
            all.push((name.to_string_lossy().into_owned(), text));
        }
    }
    ensure!(all.len() >= 5, "only {}", all.len());
    Ok(all)
}

/// A folder for a test's files, which is the programs' home too.
struct Desk(TempDir);

impl Desk {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("all-on.yaml"), ALL_ON)?;
        Ok(Self(dir))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, program: Tool) -> Result<Command> {
        let mut command = Command::new(program.find()?);
        command.env("HOME", self.0.path());
        command.stdin(std::process::Stdio::null());
        Ok(command)
    }

    async fn lint(&self, chart: &Path, all_on: bool) -> Result<Done> {
        let mut command = self.program(HELM)?;
        command.args(["lint", "--strict"]).arg(chart);
        if all_on {
            command.arg("--values").arg(self.file("all-on.yaml"));
        }
        finish(command).await
    }

    async fn render(&self, chart: &Path, all_on: bool, operator: bool) -> Result<String> {
        let mut command = self.program(HELM)?;
        command.args(["template", "it", "--include-crds", "--namespace", ROOM]);
        command.arg(chart);
        if all_on {
            command.arg("--values").arg(self.file("all-on.yaml"));
        }
        if operator {
            command.args(["--api-versions", OPERATOR]);
        }
        let done = finish(command).await?;
        ensure!(done.code == 0, "{}: {}", chart.display(), done.said());
        Ok(done.out)
    }

    /// Everything that we put into a cluster, each in a file of its own.
    async fn everything(&self, operator: bool) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for (name, text) in manifests()? {
            files.push(self.write(&format!("{name}.manifest"), &text)?);
        }
        for chart in charts()? {
            let name = chart.file_name().context("a chart has a name")?;
            let name = name.to_string_lossy();
            for (kind, all_on) in [("default", false), ("all-on", true)] {
                let text = self.render(&chart, all_on, all_on && operator).await?;
                files.push(self.write(&format!("{name}.{kind}"), &text)?);
            }
        }
        Ok(files)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.file(&format!("{name}.yaml"));
        std::fs::write(&file, text)?;
        Ok(file)
    }

    async fn conforms(&self, schemas: &Path, files: &[PathBuf]) -> Result<Done> {
        let mut command = self.program(KUBECONFORM)?;
        let schemas = schemas.join(schemas::LAYOUT);
        command.args(["-strict", "-summary", "-skip", OF_OPERATOR]);
        command.arg("-schema-location").arg(schemas).args(files);
        finish(command).await
    }

    /// What the API server says to it, without doing it. A warning is as bad as an error.
    async fn apply(&self, api: &KubeApi, file: &Path) -> Result<Done> {
        let mut command = self.program(KUBECTL)?;
        command.env("KUBECONFIG", api.kubeconfig());
        command.args(["apply", "--server-side", "--force-conflicts"]);
        command.args(["--dry-run=server", "--warnings-as-errors", "--filename"]);
        command.arg(file);
        finish(command).await
    }
}

/// An API server that knows all of our kinds, and what it says of them.
async fn cluster() -> Result<(KubeApi, Value)> {
    let api = KubeApi::start().await?;
    api.define_argocd().await?;
    api.define_monitor().await?;
    api.define_metallb().await?;
    let described = wait_for("all kinds to be described", DESCRIBED, async || {
        let text = api.request(Method::GET, "/openapi/v2", "").await?;
        let openapi: Value = serde_json::from_str(&text)?;
        for kind in [
            "io.argoproj.v1alpha1.Application",
            "io.argoproj.v1alpha1.ApplicationSet",
            "io.argoproj.v1alpha1.AppProject",
            "pro.comind.v1alpha1.Monitor",
            "io.metallb.v1beta1.IPAddressPool",
            "io.metallb.v1beta1.L2Advertisement",
        ] {
            ensure!(openapi["definitions"][kind].is_object(), "no {kind}");
        }
        Ok(openapi)
    });
    let openapi = described.await?;
    Ok((api, openapi))
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_are_as_helm_wants_them() -> Result<()> {
    let desk = Desk::new()?;
    for chart in charts()? {
        for all_on in [false, true] {
            let done = desk.lint(&chart, all_on).await?;
            ensure!(done.code == 0, "{}: {}", chart.display(), done.said());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_service_may_write_events_only_where_sessions_are_told() -> Result<()> {
    let desk = Desk::new()?;
    let chart = repository().join("helm/comind-ops");
    for all_on in [false, true] {
        let text = desk.render(&chart, all_on, false).await?;
        for word in ["events.k8s.io", "POD_UID"] {
            ensure!(text.contains(word) == all_on, "{word}, all on: {all_on}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_as_the_api_server_describes_it() -> Result<()> {
    let (_api, openapi) = cluster().await?;
    let desk = Desk::new()?;
    let schemas = desk.file("schemas");
    std::fs::create_dir(&schemas)?;
    let count = schemas::write(&openapi, &schemas)?;
    ensure!(count > 100, "only {count} schemas");
    let files = desk.everything(true).await?;
    let done = desk.conforms(&schemas, &files).await?;
    ensure!(done.code == 0, "{}", done.said());

    let head = "apiVersion: v1\nkind: Service\nmetadata: { name: a }\n";
    for (what, spec) in [
        ("unknown field", "spec: { port: [] }"),
        ("wrong type", "spec: { ports: [{ port: http }] }"),
        ("twice the same", "spec: {}\nspec: {}"),
    ] {
        let wrong = desk.write("wrong", &format!("{head}{spec}\n"))?;
        let done = desk.conforms(&schemas, &[wrong]).await?;
        ensure!(done.code != 0, "{what}: {}", done.said());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ingress_may_ask_who_somebody_is_only_where_that_is_wanted() -> Result<()> {
    let desk = Desk::new()?;
    let chart = repository().join("helm/ingress");
    for (all_on, count) in [(false, 0), (true, 1)] {
        let text = desk.render(&chart, all_on, false).await?;
        for plural in ["tokenreviews", "subjectaccessreviews"] {
            let rule = format!("resources: [{plural}], verbs: [create] }}");
            ensure!(text.matches(&rule).count() == count, "{plural}: {text}");
            ensure!(text.matches(plural).count() == count, "{plural}: {text}");
        }
    }
    Ok(())
}

/// A document as if its namespace were the restricted one, but for the speaker.
fn moved(document: &str) -> String {
    if document.contains("kind: DaemonSet") {
        return document.to_owned();
    }
    let names = ["kube-system", "platform", SPEAKER];
    names.iter().fold(document.to_owned(), |text, name| {
        [" ", ",", "\n"].iter().fold(text, |text, end| {
            let (from, to) = (
                format!("namespace: {name}{end}"),
                format!("namespace: {ROOM}{end}"),
            );
            text.replace(&from, &to)
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_is_within_restricted() -> Result<()> {
    let (api, _) = cluster().await?;
    let room = format!(
        r#"{{"metadata":{{"name":"{ROOM}","labels":{{"pod-security.kubernetes.io/enforce":"restricted",
        "pod-security.kubernetes.io/warn":"restricted"}}}}}}"#
    );
    api.request(Method::POST, "/api/v1/namespaces", &room)
        .await?;
    // Where Argo CD's own objects are; it has no pod of ours.
    api.make_namespace("argocd").await?;
    // The speaker's, which needs the node's network. All else of its file is held against `restricted`.
    api.make_namespace(SPEAKER).await?;
    let desk = Desk::new()?;
    for file in desk.everything(false).await? {
        let text = std::fs::read_to_string(&file)?;
        let documents: Vec<_> = text.split("\n---\n").map(moved).collect();
        std::fs::write(&file, documents.join("\n---\n"))?;
        let done = desk.apply(&api, &file).await?;
        ensure!(done.code == 0, "{}: {}", file.display(), done.said());
    }
    let loose = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: loose, namespace: {ROOM} }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: a }} }}\n  template:\n    metadata: {{ labels: {{ app: a }} }}\n    \
         spec: {{ containers: [{{ name: a, image: a }}] }}\n"
    );
    let loose = desk.write("loose", &loose)?;
    let done = desk.apply(&api, &loose).await?;
    ensure!(
        done.code != 0 && done.err.contains("would violate PodSecurity"),
        "{}",
        done.said()
    );
    Ok(())
}
