//! nginx as a peer: one worker, in the foreground, with the server block that a test wants.

use std::path::Path;

use anyhow::Result;

use crate::http::get;
use crate::peer::{Peer, Plan, is_peer, own_dir, own_file};
use crate::process::Launch;
use crate::tool::Tool;

const NGINX: Tool = Tool::debian("nginx", "nginx-light");

/// A running one.
#[derive(Debug)]
pub struct Nginx {
    peer: Peer,
}

is_peer!(Nginx);

impl Nginx {
    /// Serves the files `(name, content)`; `more` goes into its server block.
    pub async fn start(files: &[(&str, &[u8])], more: &str) -> Result<Self> {
        let make = async |dir: &Path, port: u16| {
            let root = own_dir(dir, "www", None)?;
            std::fs::write(root.join("ready"), "yes")?;
            for (name, content) in files {
                std::fs::write(root.join(name), content)?;
            }
            let (place, root) = (dir.display(), root.display());
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
                .collect();
            let config = format!(
                "daemon off;\nworker_processes 1;\nuser root;\npid {place}/pid;\nerror_log stderr warn;\n\
                 events {{ worker_connections 1024; }}\n\
                 http {{ access_log off; keepalive_requests 1000000; {temporary}\n\
                 server {{ listen 127.0.0.1:{port}; root {root}; {more} }} }}\n"
            );
            let config = own_file(dir, "nginx.conf", None, &config)?;
            let launch = Launch::new(NGINX.find()?, dir)
                .args(["-e", "stderr", "-c"])
                .arg(config);
            let addr = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            Ok(Plan::new(launch, move || async move {
                get(addr, "/ready").await.map(drop)
            }))
        };
        let peer = Peer::start("nginx", None, make).await?;
        Ok(Self { peer })
    }
}
