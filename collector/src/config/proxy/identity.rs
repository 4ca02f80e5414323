//! The key `identity` of a route: under which headers its upstream is told who asks, and whether it
//! gets the token that was shown. Must not know how headers are written.

use std::sync::Arc;

use comind_model::login::{self, Means, Said, Tell, TokenAs};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::node::{Node, NodeError};

/// Headers that are about something else than who asks.
const OTHERS: [&str; 9] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "x-comind-debug",
    "x-comind-error",
    "x-http-method-override",
];

/// What the upstream is told of who asks. No client can say anything under these names, at any route.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Identity {
    /// The header of the user's name.
    #[schemars(extend("examples" = ["X-WEBAUTH-USER"]))]
    user: Option<String>,
    /// The header of what people call them (`name` of OpenID Connect).
    #[schemars(extend("examples" = ["X-WEBAUTH-NAME"]))]
    name: Option<String>,
    /// The header of their address for mail.
    #[schemars(extend("examples" = ["X-WEBAUTH-EMAIL"]))]
    email: Option<String>,
    /// The header of their groups, with commas between.
    #[schemars(extend("examples" = ["X-WEBAUTH-GROUPS"]))]
    groups: Option<String>,
    /// The upstream gets the ID token of OpenID Connect, or the bearer's token.
    pass_token: Option<PassToken>,
}

/// In which form.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum PassToken {
    /// `Authorization: Bearer`.
    Bearer,
    /// The cookie `argocd.token`.
    Argocd,
}

impl Identity {
    /// `node` is where it stands, `login` the one of its route.
    pub(super) fn read(&self, node: &Node, login: &login::Login) -> Result<Tell, NodeError> {
        let at = |key: &str| node.get(key).unwrap_or(node);
        let all = [
            ("user", Said::User, &self.user),
            ("name", Said::Name, &self.name),
            ("email", Said::Email, &self.email),
            ("groups", Said::Groups, &self.groups),
        ];
        let mut headers: Vec<(Said, Arc<str>)> = Vec::new();
        for (key, said, name) in all {
            let Some(name) = name else { continue };
            check(name).map_err(|problem| at(key).error(problem))?;
            if headers.iter().any(|(_, known)| plain(known) == plain(name)) {
                let text = format!("`{name}` is told something else already");
                return Err(at(key).error(text));
            }
            headers.push((said, name.as_str().into()));
        }
        let shown = matches!(
            login.means,
            Means::Oidc(_) | Means::Bearer(_) | Means::Kubernetes(_)
        );
        if self.pass_token.is_some() && !shown {
            let text = "there is no token to pass: that takes a `login` by `oidc`, `bearer` or `kubernetes`";
            return Err(at("pass_token").error(text));
        }
        let token = self.pass_token.map(|form| match form {
            PassToken::Bearer => TokenAs::Bearer,
            PassToken::Argocd => TokenAs::ArgoCd,
        });
        Ok(Tell { headers, token })
    }
}

/// As servers read it that make variables of names.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn check(name: &str) -> Result<(), String> {
    let lower = plain(name);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let own = lower.starts_with("x-") || lower.starts_with("remote-");
    if !own || lower.len() > 64 || !lower.bytes().all(good) {
        return Err(format!(
            "`{name}` is no header for this; one begins with `X-` or `Remote-`, such as X-WEBAUTH-USER"
        ));
    }
    match OTHERS.contains(&&*lower) {
        true => Err(format!("`{name}` is about something else than who asks")),
        false => Ok(()),
    }
}
