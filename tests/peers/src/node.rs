//! A web server on Node.js, with WebSockets by its usual library: what a proxy has to carry.

use std::path::Path;

use anyhow::Result;

use crate::http::get;
use crate::peer::{Peer, Plan, is_peer, own_file};
use crate::process::Launch;
use crate::tool::Tool;

const NODE: Tool = Tool::debian("node", "nodejs");
/// The script; its argument is a port of loopback.
pub const SERVER: &str = include_str!("node/server.js");

/// Where Debian puts libraries, also for a Node that is not Debian's.
const LIBRARIES: &str = "/usr/share/nodejs";

/// A running one.
#[derive(Debug)]
pub struct Node {
    peer: Peer,
}

is_peer!(Node);

impl Node {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        let make = async |dir: &Path, port: u16| {
            let script = own_file(dir, "server.js", None, SERVER)?;
            let launch = Launch::new(NODE.find()?, dir)
                .arg(script)
                .arg(port.to_string())
                .env("NODE_PATH", LIBRARIES);
            let addr = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            Ok(Plan::new(launch, move || async move {
                get(addr, "/aborted").await.map(drop)
            }))
        };
        let peer = Peer::start("node", None, make).await?;
        Ok(Self { peer })
    }
}
