//! From routes as they are given to routes as they are obeyed: names and values made once, not
//! for each request. Endpoints and meters go on from the table before, so that a reload forgets
//! nothing and closes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use comind_model::gateway::{Elsewhere, Listener};
use comind_model::ingress::{
    Action, Cidr, Forward, Host, Path, Protocol, Rewrite, Route, Timeouts, Upstream, UpstreamTls,
};
use comind_model::login::Demand;
use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;

use super::door::{Doors, Entry, Rank};
use super::table::Table;
use crate::endpoint::{Endpoint, Weighted};
use crate::telemetry::meter::RouteMeter;
use crate::upstream::budget::Budget;
use crate::upstream::dial::Manner;
use crate::upstream::tls::ClientTls;

/// A regular expression takes at most so much memory.
const REGEX_BYTES: usize = 1024 * 1024;

/// A route, ready.
#[derive(Debug)]
pub struct Compiled {
    /// The hosts that it is for.
    pub host: Host,
    /// The paths that it is for.
    pub path: Matcher,
    /// The headers that a request must have.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Only these clients; all where empty.
    pub allow: Vec<Cidr>,
    /// Plain HTTP is answered with a redirect.
    pub https_only: bool,
    /// `Strict-Transport-Security`.
    pub hsts: Option<HeaderValue>,
    /// The largest body of a request in bytes.
    pub body_limit: Option<u64>,
    /// Who may ask.
    pub demand: Option<Demand>,
    /// What becomes of the request.
    pub doing: Doing,
    /// Where it is counted.
    pub meter: Arc<RouteMeter>,
}

/// The paths of a route.
#[derive(Debug)]
pub enum Matcher {
    /// Without a slash at its end.
    Prefix(String),
    /// As it is.
    Exact(String),
    /// Begins with `^`.
    Regex(Regex),
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Doing {
    /// It is passed on.
    Forward(Box<Plan>),
    /// It is sent elsewhere.
    Redirect {
        /// With `$path` for what was asked.
        to: String,
        /// The status.
        status: StatusCode,
    },
    /// It is answered here.
    Respond {
        /// The status.
        status: StatusCode,
        /// The text.
        body: Arc<str>,
    },
    /// It is sent elsewhere, by parts of what it asked for.
    Move(Elsewhere),
    /// One of these by weight, of this sum.
    Split(u64, Vec<(u32, Doing)>),
}

impl Doing {
    /// What becomes of this one request. `draw` gives a number below its argument.
    pub fn drawn(&self, draw: impl FnOnce(u64) -> u64) -> &Self {
        let Self::Split(sum, parts) = self else {
            return self;
        };
        let mut at = draw((*sum).max(1));
        for (weight, part) in parts {
            match at.checked_sub(u64::from(*weight)) {
                Some(rest) => at = rest,
                None => return part,
            }
        }
        self
    }

    /// All ways of passing it on.
    pub fn plans(&self) -> Vec<&Plan> {
        match self {
            Self::Forward(plan) => vec![plan],
            Self::Split(_, parts) => parts.iter().flat_map(|(_, part)| part.plans()).collect(),
            Self::Redirect { .. } | Self::Respond { .. } | Self::Move(_) => Vec::new(),
        }
    }
}

/// How a request is passed on.
#[derive(Debug)]
pub struct Plan {
    /// To whom.
    pub endpoints: Vec<Weighted>,
    /// They are of several tiers: where one is left, another one leads on.
    pub tiers: bool,
    /// Why there may be nobody.
    pub lack: Option<Arc<str>>,
    /// How they are talked to.
    pub manner: Manner,
    /// How those are that are told to be plain.
    pub plain: Manner,
    /// How long is waited.
    pub timeouts: Timeouts,
    /// Retries.
    pub budget: Arc<Budget>,
    /// What takes the place of the route's path.
    pub path: Option<String>,
    /// What takes the place of all of the path.
    pub whole_path: Option<String>,
    /// `Host` for the upstream.
    pub host: Option<HeaderValue>,
    /// Set on the request.
    pub request_set: Vec<(HeaderName, HeaderValue)>,
    /// Set on the request beside what it has.
    pub request_add: Vec<(HeaderName, HeaderValue)>,
    /// Taken from the request.
    pub request_remove: Vec<HeaderName>,
    /// Set on the answer.
    pub response_set: Vec<(HeaderName, HeaderValue)>,
    /// Set on the answer beside what it has.
    pub response_add: Vec<(HeaderName, HeaderValue)>,
    /// Taken from the answer.
    pub response_remove: Vec<HeaderName>,
}

/// Endpoints are the same when all of this is.
type Identity = (Upstream, usize);

/// Compiles, and remembers what goes on from table to table.
#[derive(Debug, Default)]
pub struct Compiler {
    endpoints: Vec<(Identity, Weak<Endpoint>)>,
    budgets: HashMap<Arc<str>, Arc<Budget>>,
    meters: HashMap<Arc<str>, Arc<RouteMeter>>,
    /// Reading the system's authorities costs, and a cluster changes often.
    tls: HashMap<UpstreamTls, ClientTls>,
    next: u64,
}

impl Compiler {
    /// A table of those routes that are usable, and what is wrong with the others.
    pub fn compile(&mut self, routes: &[Route]) -> (Table, Vec<String>) {
        self.compile_all(routes, &[])
    }

    /// The same with the listeners of Gateways.
    pub fn compile_all(
        &mut self,
        routes: &[Route],
        listeners: &[Listener],
    ) -> (Table, Vec<String>) {
        let mut problems = Vec::new();
        let before = std::mem::take(&mut self.meters);
        let compiled = routes
            .iter()
            .filter_map(|route| self.one(route, &before, &mut problems))
            .collect();
        let (mut doors, mut behind) = (Doors::default(), Vec::new());
        for listener in listeners {
            let entries: Vec<_> = listener
                .routes
                .iter()
                .filter_map(|entry| self.entry(entry, &before, &mut problems))
                .collect();
            behind.extend(entries.iter().map(|entry| entry.route.clone()));
            doors.add(listener, entries);
        }
        let entries = listeners.iter().flat_map(|listener| &listener.routes);
        let all = || routes.iter().chain(entries.clone().map(|it| &it.route));
        self.tls
            .retain(|wanted, _| all().any(|route| uses(&route.action, wanted)));
        self.endpoints
            .retain(|(_, endpoint)| endpoint.strong_count() > 0);
        let names: Vec<_> = self.meters.keys().cloned().collect();
        self.budgets.retain(|name, _| names.contains(name));
        let table = Table::new(compiled).with_doors(doors, behind);
        self.tell_left(&table);
        (table, problems)
    }

    fn one(
        &mut self,
        route: &Route,
        before: &HashMap<Arc<str>, Arc<RouteMeter>>,
        problems: &mut Vec<String>,
    ) -> Option<Arc<Compiled>> {
        let meter = self.meters.entry(route.name.clone()).or_insert_with(|| {
            let known = before.get(&route.name).cloned();
            known.unwrap_or_else(|| Arc::new(RouteMeter::new(route.name.clone())))
        });
        let meter = meter.clone();
        match self.route(route, meter) {
            Ok(route) => Some(Arc::new(route)),
            Err(problem) => {
                problems.push(format!("route `{}` is left out: {problem}", route.name));
                None
            }
        }
    }

    fn entry(
        &mut self,
        entry: &comind_model::gateway::Entry,
        before: &HashMap<Arc<str>, Arc<RouteMeter>>,
        problems: &mut Vec<String>,
    ) -> Option<Entry> {
        let route = self.one(&entry.route, before, problems)?;
        let method = entry.method.as_ref().map(|method| method.parse());
        let Ok(method) = method.transpose() else {
            problems.push(format!(
                "route `{}` is left out: its method is none",
                entry.route.name
            ));
            return None;
        };
        Some(Entry {
            rank: Rank::of(entry),
            hosts: entry.hosts.clone(),
            method,
            query: entry.query.clone(),
            route,
        })
    }

    fn route(&mut self, route: &Route, meter: Arc<RouteMeter>) -> Result<Compiled, String> {
        Ok(Compiled {
            host: route.host.clone(),
            path: matcher(&route.path)?,
            headers: pairs(&route.headers)?,
            allow: route.allow.clone(),
            https_only: route.https_only,
            hsts: match route.hsts {
                Some(age) => Some(value(&format!("max-age={}", age.as_secs()))?),
                None => None,
            },
            body_limit: route.body_limit,
            demand: route.demand.clone(),
            doing: self.doing(&route.name, &route.action)?,
            meter,
        })
    }

    fn doing(&mut self, name: &Arc<str>, action: &Action) -> Result<Doing, String> {
        Ok(match action {
            Action::Forward(forward) => Doing::Forward(Box::new(self.plan(name, forward)?)),
            Action::Redirect { to, status } => Doing::Redirect {
                to: to.clone(),
                status: self::status(*status)?,
            },
            Action::Respond { status, body } => Doing::Respond {
                status: self::status(*status)?,
                body: body.clone(),
            },
            Action::Move(elsewhere) => {
                self::status(elsewhere.status)?;
                Doing::Move(elsewhere.clone())
            }
            Action::Split(parts) => {
                let sum = parts.iter().map(|(weight, _)| u64::from(*weight)).sum();
                let parts = parts
                    .iter()
                    .map(|(weight, part)| Ok((*weight, self.doing(name, part)?)));
                Doing::Split(sum, parts.collect::<Result<_, String>>()?)
            }
        })
    }

    fn plan(&mut self, name: &Arc<str>, forward: &Forward) -> Result<Plan, String> {
        let Rewrite {
            path,
            whole_path,
            host,
            request_set,
            request_add,
            request_remove,
            response_set,
            response_add,
            response_remove,
        } = &forward.rewrite;
        let upstream = &forward.upstream;
        let plain = Manner {
            protocol: Protocol::Http,
            tls: None,
            tls_name: None,
            send_proxy: upstream.send_proxy,
        };
        let endpoints = self.endpoints_of(upstream)?;
        Ok(Plan {
            tiers: endpoints.iter().any(|one| one.tier != endpoints[0].tier),
            endpoints,
            lack: upstream.lack.clone(),
            manner: Manner {
                protocol: upstream.protocol,
                tls: match upstream.protocol {
                    Protocol::Https => Some(self.client_tls(&upstream.tls)?),
                    Protocol::Http | Protocol::H2c => None,
                },
                tls_name: upstream.tls.name.clone(),
                send_proxy: upstream.send_proxy,
            },
            plain,
            timeouts: forward.timeouts,
            budget: self.budgets.entry(name.clone()).or_default().clone(),
            path: path.clone(),
            whole_path: whole_path.clone(),
            host: host.as_deref().map(value).transpose()?,
            request_set: pairs(request_set)?,
            request_add: pairs(request_add)?,
            request_remove: names(request_remove)?,
            response_set: pairs(response_set)?,
            response_add: pairs(response_add)?,
            response_remove: names(response_remove)?,
        })
    }

    fn client_tls(&mut self, wanted: &UpstreamTls) -> Result<ClientTls, String> {
        if let Some(known) = self.tls.get(wanted) {
            return Ok(known.clone());
        }
        let made = ClientTls::new(wanted)?;
        self.tls.insert(wanted.clone(), made.clone());
        Ok(made)
    }

    fn endpoints_of(&mut self, upstream: &Upstream) -> Result<Vec<Weighted>, String> {
        let mut all = Vec::new();
        for wanted in &upstream.endpoints {
            // Weights and neighbours may change without making it another endpoint.
            let mut alone = upstream.clone();
            alone.lack = None;
            alone.endpoints = vec![comind_model::ingress::Endpoint {
                weight: 1,
                ..wanted.clone()
            }];
            let as_host = wanted.as_host.as_deref().map(value).transpose()?;
            let same = all.iter().filter(|one: &&Weighted| {
                one.endpoint.host == wanted.host && one.endpoint.port == wanted.port
            });
            let identity = (alone, same.count());
            let known = self.endpoints.iter().find(|(known, _)| *known == identity);
            let endpoint = known
                .and_then(|(_, endpoint)| endpoint.upgrade())
                .unwrap_or_else(|| {
                    self.next += 1;
                    let (host, target) = (wanted.host.clone(), wanted.target.clone());
                    let mut made = Endpoint::new(self.next, host, wanted.port, target);
                    made.pod.clone_from(&wanted.pod);
                    made.plain = wanted.plain;
                    made.as_host = as_host;
                    let made = Arc::new(made);
                    self.endpoints.push((identity, Arc::downgrade(&made)));
                    made
                });
            all.push(Weighted {
                endpoint,
                weight: wanted.weight,
                tier: wanted.tier,
            });
        }
        Ok(all)
    }

    /// Endpoints that requests still use learn whether they are in force.
    fn tell_left(&self, table: &Table) {
        let plans = table.all.iter().flat_map(|route| route.doing.plans());
        let used = plans.flat_map(|plan| &plan.endpoints);
        let used: HashSet<u64> = used.map(|one| one.endpoint.id).collect();
        let known = self.endpoints.iter();
        for endpoint in known.filter_map(|(_, endpoint)| endpoint.upgrade()) {
            endpoint.is_left(!used.contains(&endpoint.id));
        }
    }

    /// Everything that is counted, for the exposition.
    pub fn meters(&self) -> Vec<Arc<RouteMeter>> {
        let mut meters: Vec<_> = self.meters.values().cloned().collect();
        meters.sort_by(|a, b| a.name.cmp(&b.name));
        meters
    }
}

fn uses(action: &Action, tls: &UpstreamTls) -> bool {
    match action {
        Action::Forward(forward) => forward.upstream.tls == *tls,
        Action::Split(parts) => parts.iter().any(|(_, part)| uses(part, tls)),
        Action::Redirect { .. } | Action::Respond { .. } | Action::Move(_) => false,
    }
}

/// How paths are compared.
///
/// # Errors
/// When it is no path, or no regular expression.
pub fn matcher(path: &Path) -> Result<Matcher, String> {
    if !matches!(path, Path::Regex(_)) && !path.as_str().starts_with('/') {
        return Err(format!(
            "`{}` is no path; it begins with `/`",
            path.as_str()
        ));
    }
    Ok(match path {
        Path::Prefix(prefix) => Matcher::Prefix(prefix.trim_end_matches('/').to_owned()),
        Path::Exact(exact) => Matcher::Exact(exact.clone()),
        Path::Regex(written) => {
            let anchored = format!("^(?:{written})");
            let built = regex::RegexBuilder::new(&anchored)
                .size_limit(REGEX_BYTES)
                .build();
            Matcher::Regex(
                built.map_err(|error| format!("`{written}` is no regular expression: {error}"))?,
            )
        }
    })
}

fn status(number: u16) -> Result<StatusCode, String> {
    StatusCode::from_u16(number).map_err(|_| format!("{number} is no status"))
}

fn value(text: &str) -> Result<HeaderValue, String> {
    text.parse()
        .map_err(|_| format!("`{text}` cannot stand in a header"))
}

fn name(text: &str) -> Result<HeaderName, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no header's name"))
}

fn names(texts: &[String]) -> Result<Vec<HeaderName>, String> {
    texts.iter().map(|text| name(text)).collect()
}

fn pairs(texts: &[(String, String)]) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    texts
        .iter()
        .map(|(key, text)| Ok((name(key)?, value(text)?)))
        .collect()
}
