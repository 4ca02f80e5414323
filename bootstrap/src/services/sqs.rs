//! Queues in our own ElasticMQ, through the query form of the SQS API (no signature is checked there).

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::services::http::{Answer, post_form};
use crate::services::settings::Queue;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The ElasticMQ on a port of loopback.
#[derive(Clone, Debug)]
pub struct Sqs {
    url: String,
}

impl Sqs {
    /// The one on `port`.
    pub fn on(port: u16) -> Self {
        Self {
            url: format!("http://127.0.0.1:{port}/"),
        }
    }

    /// The names of all queues.
    ///
    /// # Errors
    /// When the server does not answer as SQS does.
    pub async fn queues(&self, limit: Duration) -> Result<Vec<String>> {
        let answer = self.ask(&[("Action", "ListQueues")], limit).await?;
        Ok(elements(&answer.body, "QueueUrl")
            .filter_map(|url| url.rsplit('/').next().map(str::to_owned))
            .collect())
    }

    /// Makes a queue, with its queue for dead letters; says which were made.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create(&self, queue: &Queue) -> Result<Vec<String>> {
        let there = self.queues(LIMIT).await?;
        let mut made = Vec::new();
        if let Some(dead) = &queue.dead_letters
            && !there.contains(dead)
        {
            self.create_one(dead, None).await?;
            made.push(dead.clone());
        }
        if !there.contains(&queue.name) {
            self.create_one(&queue.name, self.redrive(queue).await?)
                .await?;
            made.push(queue.name.clone());
        }
        Ok(made)
    }

    async fn create_one(&self, name: &str, redrive: Option<String>) -> Result<()> {
        let mut fields = vec![("Action", "CreateQueue"), ("QueueName", name)];
        if let Some(policy) = &redrive {
            fields.push(("Attribute.1.Name", "RedrivePolicy"));
            fields.push(("Attribute.1.Value", policy));
        }
        self.ask(&fields, LIMIT)
            .await
            .with_context(|| format!("ElasticMQ does not make the queue {name}"))?;
        Ok(())
    }

    /// The policy which sends dead letters away, naming their queue by its ARN.
    async fn redrive(&self, queue: &Queue) -> Result<Option<String>> {
        let Some(dead) = &queue.dead_letters else {
            return Ok(None);
        };
        let found = self
            .ask(&[("Action", "GetQueueUrl"), ("QueueName", dead)], LIMIT)
            .await?;
        let url = elements(&found.body, "QueueUrl")
            .next()
            .with_context(|| format!("ElasticMQ does not say where the queue {dead} is"))?;
        let attributes = self
            .ask(
                &[
                    ("Action", "GetQueueAttributes"),
                    ("QueueUrl", url),
                    ("AttributeName.1", "QueueArn"),
                ],
                LIMIT,
            )
            .await?;
        let arn = elements(&attributes.body, "Value")
            .next()
            .with_context(|| format!("ElasticMQ does not name the queue {dead}"))?;
        let policy = serde_json::json!({
            "deadLetterTargetArn": arn,
            "maxReceiveCount": queue.max_receives,
        });
        Ok(Some(policy.to_string()))
    }

    async fn ask(&self, fields: &[(&str, &str)], limit: Duration) -> Result<Answer> {
        let answer = post_form(&self.url, fields, limit).await?;
        if !answer.status.is_success() {
            let what = elements(&answer.body, "Message").next();
            bail!(
                "{} answered {}: {}",
                self.url,
                answer.status,
                what.unwrap_or(answer.body.trim())
            );
        }
        Ok(answer)
    }
}

/// The texts of all elements of one name. Enough for these flat answers of a server of our own;
/// no text that we look for has entities in it.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let open = format!("<{name}>");
    let close = format!("</{name}>");
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (text, left) = after.split_once(&close)?;
        rest = left;
        Some(text.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::elements;

    #[test]
    fn finds_elements_in_order() {
        let xml = "<R><QueueUrl>http://h/q/a</QueueUrl><QueueUrl> b </QueueUrl><QueueUrl>";
        assert_eq!(
            elements(xml, "QueueUrl").collect::<Vec<_>>(),
            ["http://h/q/a", "b"]
        );
    }
}
