//! Answers of our own: who failed (client, proxy or upstream), what, and what to do. HTML for
//! browsers, JSON for programs, by `Accept`. Pure.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Response, StatusCode};

const WHO: HeaderName = HeaderName::from_static("x-comind-error");

/// Who failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// It sent what cannot be served.
    Client,
    /// We cannot, or will not.
    Proxy,
    /// The one that was asked.
    Upstream,
}

impl Who {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Upstream => "upstream",
        }
    }
}

/// What went wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// Who failed.
    pub who: Who,
    /// Its name, as in metrics.
    pub what: &'static str,
    /// A sentence.
    pub text: String,
    /// Seconds until asking again makes sense.
    pub retry_after: Option<u32>,
}

impl Problem {
    /// The answer, in the form that the client likes, without its body.
    pub fn answer(&self, asked: &HeaderMap, id: &str) -> (Response<()>, String) {
        let html = wants_html(asked);
        let (kind, body) = match html {
            true => ("text/html; charset=utf-8", self.html(id)),
            false => ("application/json", self.json(id)),
        };
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(WHO, HeaderValue::from_static(self.what));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        (response, body)
    }

    fn json(&self, id: &str) -> String {
        let value = serde_json::json!({
            "status": self.status.as_u16(),
            "failed": self.who.as_str(),
            "reason": self.what,
            "message": self.text,
            "trace": id,
        });
        format!("{value}\n")
    }

    fn html(&self, id: &str) -> String {
        let status = self.status.as_u16();
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mark = |who: Who, label: &str| {
            let (sign, class) = match (who == self.who, self.passed(who)) {
                (true, _) => ("\u{2715}", "bad"),
                (_, true) => ("\u{2713}", "good"),
                _ => ("\u{2013}", "none"),
            };
            format!("<li class={class}><b>{sign}</b>{label}</li>")
        };
        let chain = [
            mark(Who::Client, "You"),
            mark(Who::Proxy, "Proxy"),
            mark(Who::Upstream, "Service"),
        ]
        .concat();
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8>\
             <meta name=viewport content=\"width=device-width,initial-scale=1\"><title>{status} {title}</title>\
             <style>{STYLE}</style><main><h1>{status}<small>{title}</small></h1><ul>{chain}</ul>\
             <p>{}</p><footer>{} · trace {}</footer></main>\n",
            escaped(&self.text),
            self.what,
            escaped(id),
        )
    }

    /// Whether the request got past this one.
    fn passed(&self, who: Who) -> bool {
        match self.who {
            Who::Client => false,
            Who::Proxy => who == Who::Client,
            Who::Upstream => who != Who::Upstream,
        }
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;\
place-items:center;background:#f6f7f9;color:#1c2430}main{max-width:34rem;padding:2rem}\
h1{font-size:3rem;margin:0}small{font-size:1.2rem;font-weight:400;margin-left:.8rem;color:#5a6675}\
ul{display:flex;gap:2rem;list-style:none;padding:0;margin:1.5rem 0}b{margin-right:.4rem}\
.bad b{color:#c62828}.good b{color:#2e7d32}.none{color:#5a6675}footer{color:#5a6675;font-size:.8rem}\
@media(prefers-color-scheme:dark){body{background:#12161c;color:#e4e8ee}small,footer,.none{color:#93a0b0}\
.bad b{color:#ff8a80}.good b{color:#81c784}}";

fn wants_html(asked: &HeaderMap) -> bool {
    asked
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        Problem {
            status: StatusCode::BAD_GATEWAY,
            who: Who::Upstream,
            what: "connect",
            text: "web: no connection: <refused>".to_owned(),
            retry_after: Some(5),
        }
    }

    #[test]
    fn programs_get_json_and_browsers_a_page() {
        let (head, body) = problem().answer(&HeaderMap::new(), "abc");
        assert_eq!(
            (head.status(), &head.headers()["retry-after"]),
            (StatusCode::BAD_GATEWAY, &HeaderValue::from(5))
        );
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&json["failed"], &json["reason"], &json["trace"]),
            (&"upstream".into(), &"connect".into(), &"abc".into())
        );
        let mut asked = HeaderMap::new();
        asked.insert(ACCEPT, HeaderValue::from_static("text/html,*/*"));
        let (head, body) = problem().answer(&asked, "abc");
        assert_eq!(head.headers()["content-type"], "text/html; charset=utf-8");
        assert!(
            body.contains("&lt;refused&gt;") && !body.contains("<refused>"),
            "{body}"
        );
    }
}
