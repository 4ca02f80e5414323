//! What whoever was let in may do. Pure: it judges what a request says of itself and what the gate says
//! of its sender.

use std::net::IpAddr;

use http::header::{FORWARDED, HOST, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName};

/// Who the gate let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entered {
    /// The name of the user or token, where there is one.
    pub name: Option<String>,
    /// The config says that this name may look and change nothing.
    pub reads_only: bool,
}

/// What somebody may do; more includes less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// See how the platform is.
    Glance,
    /// See people too: who is logged in, and from where.
    Look,
    /// Begin maintenance, end sessions.
    Change,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// As the log is told it: a name, or an address.
    pub who: String,
    /// What they may do.
    pub right: Right,
    /// A page of another site has their browser ask.
    pub misled: bool,
}

/// Written by proxies: the sender is then not on this machine, wherever the connection comes from.
const PASSED_ON: [HeaderName; 4] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];
/// Written by browsers, and by no page: what the page that asks has to do with us.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Asker {
    /// The sender of this request. `keeps_out`: strangers do not come as far as this.
    pub fn of(entered: Entered, keeps_out: bool, client: IpAddr, head: &Parts) -> Self {
        let right = match (entered.reads_only, keeps_out) {
            (true, _) => Right::Look,
            (false, true) => Right::Change,
            (false, false) if is_here(client, head) => Right::Change,
            (false, false) => Right::Glance,
        };
        Self {
            who: entered.name.unwrap_or_else(|| client.to_string()),
            right,
            misled: !is_ours(&head.headers),
        }
    }
}

/// Sent from this machine, to a name of this machine: a page of another site can have its own name
/// lead here, and its browser then takes us for that site.
fn is_here(client: IpAddr, head: &Parts) -> bool {
    let passed_on = PASSED_ON.iter().any(|name| head.headers.contains_key(name));
    let host = head.uri.authority().map(http::uri::Authority::as_str);
    let host = host.or_else(|| head.headers.get(HOST)?.to_str().ok());
    client.to_canonical().is_loopback() && !passed_on && host.is_none_or(is_local)
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    let address = name.parse::<IpAddr>();
    name == "localhost"
        || name.ends_with(".localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

fn is_ours(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(SITE).iter();
    sites.all(|site| site == "same-origin" || site == "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(entered: &Entered, keeps_out: bool, client: &str, headers: &[(&str, &str)]) -> Asker {
        let mut request = http::Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        Asker::of(entered.clone(), keeps_out, client.parse().unwrap(), &head)
    }

    #[test]
    fn without_a_login_only_this_machine_itself_may_change_anything() {
        use Right::{Change, Glance};
        let nobody = Entered::default();
        let cases = [
            ("127.0.0.1", &[][..], Change),
            ("127.0.0.1", &[("host", "127.0.0.1:9600")], Change),
            ("::1", &[("host", "[::1]:9600")], Change),
            ("::ffff:127.0.0.1", &[("host", "LocalHost:9600")], Change),
            ("127.0.0.1", &[("host", "comind.localhost:9600")], Change),
            ("192.0.2.7", &[("host", "127.0.0.1:9600")], Glance),
            // A name that leads here, as a page of another site can have one.
            ("127.0.0.1", &[("host", "evil.test:9600")], Glance),
            ("127.0.0.1", &[("host", "localhost.evil.test")], Glance),
            ("127.0.0.1", &[("host", "127.0.0.1.nip.io")], Glance),
            // A proxy on this machine, and whoever is behind it.
            (
                "127.0.0.1",
                &[("host", "localhost"), ("x-forwarded-for", "192.0.2.7")],
                Glance,
            ),
            (
                "127.0.0.1",
                &[("host", "localhost"), ("forwarded", "for=192.0.2.7")],
                Glance,
            ),
        ];
        for (client, headers, right) in cases {
            let said = asker(&nobody, false, client, headers);
            assert_eq!(said.right, right, "{client} {headers:?}");
        }
    }

    #[test]
    fn with_one_all_may_but_those_who_only_read() {
        let named = |reads_only| Entered {
            name: Some("ada".to_owned()),
            reads_only,
        };
        let far = [("host", "ops.test"), ("x-forwarded-for", "192.0.2.7")];
        let ada = asker(&named(false), true, "192.0.2.1", &far);
        assert_eq!((ada.right, ada.who.as_str()), (Right::Change, "ada"));
        let reader = asker(&named(true), true, "127.0.0.1", &[]);
        assert_eq!(reader.right, Right::Look);
    }

    #[test]
    fn a_browser_says_whose_page_asks() {
        let nobody = Entered::default();
        for (site, misled) in [
            ("same-origin", false),
            ("none", false),
            ("same-site", true),
            ("cross-site", true),
            ("", true),
        ] {
            let asker = asker(&nobody, false, "127.0.0.1", &[("sec-fetch-site", site)]);
            assert_eq!(asker.misled, misled, "{site}");
        }
    }
}
