//! ElasticMQ and other SQS servers: the watched queues' attributes on a held connection;
//! the deep look sends, receives and deletes a message on a queue of its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Region, StalledStreamProtectionConfig};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::QueueAttributeName;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use comind_model::observation::Attention;
use comind_model::reason::Reason;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::config::secret_file;
use crate::kinds::{FactMetric, Kind, Settings};
use crate::net::dial::{self, Endpoint};
use crate::net::sdk::{self, HeldClient, credentials};
use crate::net::tls::TlsSettings;
use crate::probe::failure::Failure;
use crate::probe::{Probe, Seen, Session, canary};
use crate::secret::{Secret, SecretUrl};

/// The kind `elasticmq`.
pub const KIND: Kind = Kind::of::<ElasticmqSettings>();

/// The queue that deep looks use.
const CANARY_QUEUE: &str = "comind-ops-canary";
/// How often a deep look asks for its message, where those of other probers come first.
const CANARY_TRIES: usize = 50;
/// How long what a prober receives is hidden from the others, in seconds; it gives back what is
/// not its own at once, unless it dies in between.
const CANARY_HOLD: i32 = 2;
/// A message that nobody has taken for this long belongs to a prober that is gone.
const ABANDONED: Duration = Duration::from_secs(60);

/// Settings of kind `elasticmq`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "elasticmq")]
pub struct ElasticmqSettings {
    /// The server: `http://host:port` or `https://host:port`.
    pub url: SecretUrl,
    /// The access key; ElasticMQ accepts any.
    #[serde(default = "any")]
    pub access_key: String,
    /// The secret key.
    #[serde(default)]
    pub secret_key: Option<Secret>,
    /// A file that holds the secret key.
    #[serde(default)]
    pub secret_key_file: Option<PathBuf>,
    /// Queues that must exist.
    #[serde(default)]
    pub queues: Vec<String>,
    /// Whether the deep look makes a queue `comind-ops-canary` and uses it.
    #[serde(default = "yes")]
    pub writable: bool,
    /// More messages than this waiting in a watched queue ask for attention.
    #[serde(default)]
    pub backlog_max: Option<u32>,
    /// Whether messages in a watched queue's dead-letter queue ask for attention.
    #[serde(default = "yes")]
    pub dead_letters: bool,
    /// The region in signatures.
    #[serde(default = "region")]
    pub region: String,
    /// Whom to trust and what to show.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
}

fn any() -> String {
    "any".to_owned()
}

fn yes() -> bool {
    true
}

fn region() -> String {
    "elasticmq".to_owned()
}

impl Settings for ElasticmqSettings {
    const NAME: &'static str = "elasticmq";
    const ABOUT: &'static str = "Watched queues exist, with their depths and dead letters, on a held connection; deeply: \
         a message is sent, received and deleted on a canary queue.";
    const METRICS: &'static [FactMetric] = &[
        FactMetric {
            name: "messages_visible",
            help: "Messages that wait, by queue",
        },
        FactMetric {
            name: "messages_in_flight",
            help: "Messages received and not yet deleted, by queue",
        },
        FactMetric {
            name: "messages_delayed",
            help: "Messages that are not yet visible, by queue",
        },
        FactMetric {
            name: "dead_letters",
            help: "Messages in the dead-letter queue, by queue",
        },
        FactMetric {
            name: "canary_age_seconds",
            help: "From sending to receiving the canary message",
        },
    ];

    fn build(self) -> Result<Box<dyn Probe>, String> {
        let secret_key = match (&self.secret_key, &self.secret_key_file) {
            (Some(_), Some(_)) => {
                return Err("give either secret_key or secret_key_file".to_owned());
            }
            (Some(secret), None) => secret.clone(),
            (None, Some(file)) => secret_file::read(file)?,
            (None, None) => Secret::new("any"),
        };
        Ok(Box::new(Elasticmq {
            endpoint: Endpoint::of(&self.url, None, "https", self.tls.as_ref())?,
            url: self.url.reveal().as_str().trim_end_matches('/').to_owned(),
            credentials: credentials(&self.access_key, &secret_key),
            region: Region::new(self.region),
            watched: Watched {
                queues: self.queues,
                backlog_max: self.backlog_max,
                dead_letters: self.dead_letters,
            },
            writable: self.writable,
        }))
    }
}

#[derive(Clone)]
struct Watched {
    queues: Vec<String>,
    backlog_max: Option<u32>,
    dead_letters: bool,
}

struct Elasticmq {
    endpoint: Endpoint,
    url: String,
    credentials: aws_credential_types::Credentials,
    region: Region,
    watched: Watched,
    writable: bool,
}

impl Elasticmq {
    fn client(&self, http: HeldClient) -> Client {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .credentials_provider(self.credentials.clone())
            .region(self.region.clone())
            .endpoint_url(&self.url)
            // One question, one answer: repeats and deadlines are the source's.
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Client::from_conf(config)
    }

    async fn deep_look(&self) -> Result<Seen, Failure> {
        let http = HeldClient::new(self.endpoint.clone());
        let expiry = http.open().await?;
        let client = self.client(http);
        // Retention of a minute: what a killed prober leaves behind goes by itself.
        let made = client.create_queue().queue_name(CANARY_QUEUE);
        let made = made
            .attributes(QueueAttributeName::MessageRetentionPeriod, "60")
            .send()
            .await;
        let made = made.map_err(|error| failure("create the canary queue", &error))?;
        let queue = made.queue_url().unwrap_or_default();
        let token = canary::token();
        let started = Instant::now();
        let sent = client
            .send_message()
            .queue_url(queue)
            .message_body(&token)
            .send()
            .await;
        sent.map_err(|error| failure("send a canary message", &error))?;
        receive(&client, queue, &token).await?;
        let mut seen = Seen::default();
        seen.facts
            .set("canary_age_seconds", started.elapsed().as_secs_f64());
        dial::note_certificate(&mut seen, expiry);
        Ok(seen)
    }
}

/// Receives until the canary message comes, and deletes it. Several probers may share the
/// queue: what is not ours is given back at once, unless it was abandoned.
async fn receive(client: &Client, queue: &str, token: &str) -> Result<(), Failure> {
    for _ in 0..CANARY_TRIES {
        let asked = client
            .receive_message()
            .queue_url(queue)
            .max_number_of_messages(10)
            .visibility_timeout(CANARY_HOLD)
            .wait_time_seconds(1);
        let got = asked
            .send()
            .await
            .map_err(|error| failure("receive the canary message", &error))?;
        let mut found = false;
        for message in got.messages() {
            let body = message.body().unwrap_or_default();
            let handle = message.receipt_handle().unwrap_or_default();
            found |= body == token;
            let of_another = canary::age(body).is_some_and(|age| age < ABANDONED);
            if body == token || !of_another {
                delete(client, queue, handle).await?;
            } else {
                give_back(client, queue, handle).await;
            }
        }
        if found {
            return Ok(());
        }
    }
    Err(Failure::new(
        Reason::DataMismatch,
        "the canary message was sent, but did not come back",
    ))
}

async fn delete(client: &Client, queue: &str, handle: &str) -> Result<(), Failure> {
    let delete = client.delete_message().queue_url(queue);
    let deleted = delete.receipt_handle(handle).send().await;
    deleted
        .map(drop)
        .map_err(|error| failure("delete the canary message", &error))
}

async fn give_back(client: &Client, queue: &str, handle: &str) {
    let change = client.change_message_visibility().queue_url(queue);
    // Failing is no fault of this look: the message comes back by itself after the hold.
    let _ = change
        .receipt_handle(handle)
        .visibility_timeout(0)
        .send()
        .await;
}

impl Probe for Elasticmq {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async {
            let http = HeldClient::new(self.endpoint.clone());
            let certificate_expiry = http.open().await?;
            Ok(Box::new(ElasticmqSession {
                client: self.client(http.clone()),
                http,
                certificate_expiry,
                watched: self.watched.clone(),
                urls: HashMap::new(),
            }) as Box<dyn Session>)
        })
    }

    fn has_deep(&self) -> bool {
        self.writable
    }

    fn deep(&self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(self.deep_look())
    }
}

struct ElasticmqSession {
    client: Client,
    http: HeldClient,
    certificate_expiry: Option<f64>,
    watched: Watched,
    /// Queue names to their URLs, asked for once.
    urls: HashMap<String, String>,
}

struct Depth {
    visible: f64,
    in_flight: f64,
    delayed: f64,
    dead_letter_queue: Option<String>,
}

impl ElasticmqSession {
    async fn url(&mut self, queue: &str) -> Result<String, Failure> {
        if let Some(url) = self.urls.get(queue) {
            return Ok(url.clone());
        }
        let asked = self.client.get_queue_url().queue_name(queue).send().await;
        let asked = asked.map_err(|error| failure(&format!("find queue `{queue}`"), &error))?;
        let url = asked.queue_url().unwrap_or_default().to_owned();
        self.urls.insert(queue.to_owned(), url.clone());
        Ok(url)
    }

    async fn depth(&mut self, queue: &str) -> Result<Depth, Failure> {
        let url = self.url(queue).await?;
        let asked = self.client.get_queue_attributes().queue_url(url);
        let asked = asked.attribute_names(QueueAttributeName::All).send().await;
        let asked = asked
            .map_err(|error| failure(&format!("read the attributes of queue `{queue}`"), &error))?;
        let number = |name: QueueAttributeName| {
            let value = asked.attributes().and_then(|all| all.get(&name));
            value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
        };
        let redrive = asked
            .attributes()
            .and_then(|all| all.get(&QueueAttributeName::RedrivePolicy));
        Ok(Depth {
            visible: number(QueueAttributeName::ApproximateNumberOfMessages),
            in_flight: number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
            delayed: number(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
            dead_letter_queue: redrive.and_then(|policy| dead_letter_queue(policy)),
        })
    }

    async fn queue(&mut self, queue: &str, seen: &mut Seen) -> Result<(), Failure> {
        let depth = self.depth(queue).await?;
        let facts = &mut seen.facts;
        facts.set_labelled("messages_visible", "queue", queue, depth.visible);
        facts.set_labelled("messages_in_flight", "queue", queue, depth.in_flight);
        facts.set_labelled("messages_delayed", "queue", queue, depth.delayed);
        if let Some(max) = self.watched.backlog_max
            && depth.visible > f64::from(max)
        {
            seen.attention.push(Attention {
                reason: Reason::Backlog,
                message: format!(
                    "{} messages wait in queue `{queue}` (at most {max} is normal)",
                    depth.visible
                ),
            });
        }
        if let Some(dead) = depth.dead_letter_queue {
            self.dead_letters(queue, &dead, seen).await?;
        }
        Ok(())
    }

    async fn dead_letters(
        &mut self,
        queue: &str,
        dead: &str,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        let count = self.depth(dead).await?.visible;
        seen.facts
            .set_labelled("dead_letters", "queue", queue, count);
        if self.watched.dead_letters && count > 0.0 {
            seen.attention.push(Attention {
                reason: Reason::DeadLetters,
                message: format!("{count} messages of queue `{queue}` lie in `{dead}`"),
            });
        }
        Ok(())
    }
}

/// The queue's name in a redrive policy: `{"deadLetterTargetArn":"arn:…:NAME",…}`.
fn dead_letter_queue(policy: &str) -> Option<String> {
    let policy: serde_json::Value = serde_json::from_str(policy).ok()?;
    let arn = policy.get("deadLetterTargetArn")?.as_str()?;
    Some(arn.rsplit(':').next()?.to_owned())
}

impl Session for ElasticmqSession {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            let mut seen = Seen::default();
            let queues = self.watched.queues.clone();
            if queues.is_empty() {
                let listed = self.client.list_queues().send().await;
                listed.map_err(|error| failure("list the queues", &error))?;
            }
            for queue in &queues {
                if let Err(failed) = self.queue(queue, &mut seen).await {
                    return Err(failed.with_facts(seen.facts));
                }
            }
            dial::note_certificate(&mut seen, self.certificate_expiry);
            Ok(seen)
        })
    }

    fn heartbeat(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        // Any answer proves life; what it says is the look's business.
        Box::pin(async { self.http.get("/health").await.map(drop) })
    }

    fn closed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.http.closed())
    }
}

fn failure<E>(tried: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    sdk::failure(tried, error, reason)
}

/// Source: Amazon SQS API reference, common errors and those of each action.
fn reason(code: &str) -> Option<Reason> {
    Some(match code.trim_start_matches("AWS.SimpleQueueService.") {
        "NonExistentQueue" | "QueueDoesNotExist" => Reason::MissingQueue,
        "InvalidClientTokenId" | "SignatureDoesNotMatch" | "InvalidSecurity" => {
            Reason::WrongPassword
        }
        "AccessDenied" | "AccessDeniedException" => Reason::PermissionDenied,
        "OverLimit" | "RequestThrottled" | "ThrottlingException" => Reason::TooManyConnections,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_letter_queue_is_named_by_its_arn() {
        let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:elasticmq:000000000000:jobs-dlq","maxReceiveCount":3}"#;
        assert_eq!(dead_letter_queue(policy).as_deref(), Some("jobs-dlq"));
        assert_eq!(dead_letter_queue("{}"), None);
        assert_eq!(dead_letter_queue("no json"), None);
    }
}
