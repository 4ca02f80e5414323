//! The page on which a token is pasted, as the Kubernetes dashboard has it. Without scripts. Pure.

use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use maud::{DOCTYPE, PreEscaped, html};

use crate::login::local;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;display:grid;place-items:center;min-height:100vh;\
    background:#f6f7f9;color:#1c2430}main{width:min(34rem,90vw)}h1{font-size:1.3rem}label{display:block;margin:1rem 0 .3rem}\
    input{width:100%;box-sizing:border-box;padding:.6rem;font:inherit;border:1px solid #8a94a3;border-radius:6px}\
    button{margin-top:1rem;padding:.6rem 1.2rem;font:inherit;border:0;border-radius:6px;background:#1f5fbf;color:#fff}\
    code{overflow-wrap:anywhere}p.bad{color:#a4161a}\
    @media(prefers-color-scheme:dark){body{background:#14181f;color:#e6e9ee}input{background:#1d232c;color:inherit}p.bad{color:#ff8f8f}}";

/// Nothing but this page and its form, and in no frame of another.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (X_FRAME_OPTIONS, "DENY"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
];

/// What goes with it.
pub fn headers() -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    HEADERS
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
}

/// The page of this login, which leads to `wanted`; `trouble` is what became of a try before.
pub fn text(login: &str, wanted: &str, trouble: Option<&str>) -> String {
    let path = format!("{}login?", local::PATHS);
    let mut action = url::form_urlencoded::Serializer::for_suffix(path.clone(), path.len());
    action.append_pair("login", login);
    action.append_pair("return", wanted);
    let action = action.finish();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { "Log in" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Log in with a token of the cluster" }
                    @if let Some(trouble) = trouble {
                        p.bad role="alert" { (trouble) }
                    }
                    form method="post" action=(action) {
                        label for="token" { "Token" }
                        input id="token" name="token" type="password" autocomplete="off" required autofocus spellcheck="false";
                        button type="submit" { "Log in" }
                    }
                    p { "One for a service account: " code { "kubectl create token NAME --namespace NAMESPACE" } }
                }
            }
        }
    };
    page.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stays_text() {
        let page = text("staff", "/a?b=\"><script>&c=1", Some("<b>no"));
        assert!(!page.contains("<script>") && !page.contains("<b>no"));
        assert!(page.contains("action=\"/.comind/login?login=staff&amp;return=%2Fa%3Fb%3D%22%3E%3Cscript%3E%26c%3D1\""), "{page}");
    }
}
