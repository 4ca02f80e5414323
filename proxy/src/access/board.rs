//! What is reachable, and how: as the start page and the terminal show it. Values only.

use jiff::Timestamp;
use serde::Serialize;

use super::choose::Chosen;

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// The context that it is in, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Where it is reached.
    pub url: String,
    /// Where it is in the cluster.
    pub service: String,
    /// The way in force.
    #[serde(flatten)]
    pub chosen: Chosen,
    /// Since when that way.
    pub since: Timestamp,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Board {
    /// In the order in which they were asked for.
    pub rows: Vec<Row>,
}
