//! DNS: asks one name server for one record, and compares the answer.

use std::net::{IpAddr, SocketAddr};

use comind_model::reason::Reason;
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kinds::{FactMetric, Kind, Settings};
use crate::net::address::Address;
use crate::net::resolve;
use crate::probe::failure::Failure;
use crate::probe::{Probe, Seen, Session};
use crate::secret::SecretUrl;

/// The kind `dns`.
pub const KIND: Kind = Kind::of::<DnsSettings>();

/// Settings of kind `dns`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "dns")]
pub struct DnsSettings {
    /// The name server: `dns://host:port`, port 53 by default.
    pub url: SecretUrl,
    /// The name to ask for.
    pub query: String,
    /// The type of record: A by default.
    #[serde(default = "a")]
    pub record: String,
    /// An answer that must be among those given.
    #[serde(default)]
    pub expect: Option<String>,
}

fn a() -> String {
    "A".to_owned()
}

impl Settings for DnsSettings {
    const NAME: &'static str = "dns";
    const ABOUT: &'static str =
        "A name server gives an answer, and the expected one where one is named.";
    const METRICS: &'static [FactMetric] = &[FactMetric {
        name: "answers",
        help: "How many records the last answer held",
    }];

    fn build(self) -> Result<Box<dyn Probe>, String> {
        let record = self.record.to_uppercase();
        Ok(Box::new(Dns {
            server: Address::of(&self.url, Some(53))?,
            query: self.query,
            record: record
                .parse()
                .map_err(|_| format!("`{record}` is no record type; try A, AAAA, MX, TXT"))?,
            expect: self.expect,
        }))
    }
}

#[derive(Clone)]
struct Dns {
    server: Address,
    query: String,
    record: RecordType,
    expect: Option<String>,
}

impl Probe for Dns {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Failure>> {
        Box::pin(async {
            let address = resolve::addresses(&self.server.host).await?[0];
            let resolver = resolver(SocketAddr::new(address, self.server.port))?;
            let session = DnsSession {
                resolver,
                dns: self.clone(),
            };
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }
}

fn resolver(server: SocketAddr) -> Result<TokioResolver, Failure> {
    let mut udp = ConnectionConfig::udp();
    udp.port = server.port();
    let mut tcp = ConnectionConfig::tcp();
    tcp.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![udp, tcp]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    // Each look asks the server itself, once; deadlines and second looks are the source's.
    options.cache_size = 0;
    options.attempts = 0;
    options.use_hosts_file = hickory_resolver::config::ResolveHosts::Never;
    builder.build().map_err(|error| {
        Failure::new(
            Reason::ProberFault,
            format!("failed to set up a resolver: {error}"),
        )
    })
}

struct DnsSession {
    resolver: TokioResolver,
    dns: Dns,
}

impl Session for DnsSession {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        Box::pin(async {
            let Dns { query, record, .. } = &self.dns;
            let found = self.resolver.lookup(query.as_str(), *record).await;
            let found = found.map_err(|error| failure(query, *record, &error))?;
            let answers: Vec<String> = found
                .answers()
                .iter()
                .map(|record| record.data.to_string())
                .collect();
            let mut seen = Seen::default();
            seen.facts.set("answers", answers.len() as f64);
            seen.facts.set("answer", answers.join(", "));
            match &self.dns.expect {
                Some(expected) if !answers.iter().any(|answer| same(answer, expected)) => {
                    let message =
                        format!("{query} {record} is {}, not {expected}", answers.join(", "));
                    Err(Failure::new(Reason::UnexpectedAnswer, message).with_facts(seen.facts))
                }
                _ => Ok(seen),
            }
        })
    }
}

fn same(answer: &str, expected: &str) -> bool {
    let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
    plain(answer) == plain(expected)
        || matches!((answer.parse::<IpAddr>(), expected.parse::<IpAddr>()), (Ok(a), Ok(b)) if a == b)
}

fn failure(query: &str, record: RecordType, error: &hickory_resolver::net::NetError) -> Failure {
    let tried = format!("look up {query} {record}");
    if error.is_no_records_found() {
        return Failure::new(
            Reason::UnexpectedAnswer,
            format!("failed to {tried}: the server knows no such record"),
        );
    }
    if matches!(error, hickory_resolver::net::NetError::Timeout) {
        return Failure::new(Reason::Timeout, format!("failed to {tried}: no answer"));
    }
    Failure::chained(&tried, error, Reason::ServerError)
}
