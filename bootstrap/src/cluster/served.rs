//! Whether the kinds that were applied are served by the cluster: a definition, and an API that a
//! program in the cluster answers for. A ready program is not enough: the API server has to reach it.

use anyhow::Result;
use kube::Client;
use serde_json::Value;

use crate::cluster::objects::{self, Seen};
use crate::wait::Look;

/// The condition that says so of a kind of object; most have none.
fn condition(kind: &str) -> Option<&'static str> {
    match kind {
        "APIService" => Some("Available"),
        "CustomResourceDefinition" => Some("Established"),
        _ => None,
    }
}

/// Whether all of these that serve something do.
///
/// # Errors
/// When the cluster does not answer.
pub async fn all(client: &Client, wanted: &[Value]) -> Result<Look<(), String>> {
    let serving = wanted.iter().filter_map(|one| {
        let kind = one["kind"].as_str()?;
        Some((one, condition(kind)?))
    });
    for (one, condition) in serving {
        let seen = objects::look(client, std::slice::from_ref(one)).await?;
        if let Some(why) = seen.iter().find_map(|seen| lacks(seen, condition)) {
            return Ok(Look::NotYet(why));
        }
    }
    Ok(Look::Done(()))
}

fn lacks(seen: &Seen, condition: &str) -> Option<String> {
    let status = seen.live().map(|live| &live["status"]);
    why(status, condition).map(|why| format!("{}: {why}", seen.title()))
}

/// Why a condition does not hold; nothing when it does. Pure.
fn why(status: Option<&Value>, condition: &str) -> Option<String> {
    let all = status.and_then(|status| status["conditions"].as_array());
    let mut all = all.into_iter().flatten();
    match all.find(|one| one["type"] == condition) {
        Some(one) if one["status"] == "True" => None,
        Some(one) => Some(one["message"].as_str().unwrap_or("no reason given").into()),
        None => Some(format!("it is not {condition} yet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_served_says_why() {
        let with = |status: &str| {
            json!({ "conditions": [
                { "type": "Other", "status": "True" },
                { "type": "Available", "status": status, "message": "no answer from 10.0.0.1:443" },
            ] })
        };
        assert_eq!(why(Some(&with("True")), "Available"), None);
        let told = why(Some(&with("False")), "Available");
        assert_eq!(told.as_deref(), Some("no answer from 10.0.0.1:443"));
        let none = Some("it is not Available yet");
        assert_eq!(why(None, "Available").as_deref(), none);
        assert_eq!(why(Some(&json!({})), "Available").as_deref(), none);
    }
}
