//! `comind-ops tls trust`: how to make this machine and its browsers believe the local authority.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use comind_proxy::tls::authority::{Authority, FOLDER};
use serde_json::json;

use crate::output::Output;

/// The arguments.
#[derive(Args, Debug)]
pub(crate) struct Tls {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say how to trust the authority that signs local names; makes it if there is none yet
    Trust {
        /// `data_dir` of the configuration
        #[arg(long, value_name = "DIR", default_value = "./data")]
        data_dir: PathBuf,
    },
}

impl Tls {
    /// Does what is asked. Nothing is installed: whom a machine trusts is its owner's to say.
    pub(crate) fn run(self, out: &Output) -> Result<()> {
        let What::Trust { data_dir } = self.what;
        let folder = std::path::absolute(data_dir.join(FOLDER))?;
        let authority = Authority::open(&folder)
            .with_context(|| format!("failed to open the authority in {}", folder.display()))?;
        let file = authority.file().display().to_string();
        let text = format!(
            "The local authority's certificate is {file}\n\
             It signs names below localhost, nip.io and internal only. To trust it:\n\n  \
             Debian, Ubuntu   cp {file} /usr/local/share/ca-certificates/comind-ops.crt && update-ca-certificates\n  \
             Fedora           trust anchor {file}\n  \
             macOS            security add-trusted-cert -d -k /Library/Keychains/System.keychain {file}\n  \
             Chromium, Linux  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n comind-ops -i {file}\n  \
             Firefox          Settings, Certificates, Authorities, Import: {file}\n  \
             curl, once       curl --cacert {file} https://NAME.localhost:PORT/\n"
        );
        out.answer(&text, &json!({ "certificate": file }))
    }
}
