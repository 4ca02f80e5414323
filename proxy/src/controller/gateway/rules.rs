//! One rule of a route to entries of a listener. Pure.
//! Source: gateway-api.sigs.k8s.io, HTTPRouteRule and GRPCRouteRule.

use std::time::Duration;

use comind_model::gateway::{Elsewhere, Entry, NewPath};
use comind_model::ingress::{Action, Host, Path, Rewrite, Route, Timeouts};

use super::backends::{self, Whose};
use super::kinds::{Comparison, Filter, HeaderFilter, Match, MethodMatch, PathFilter, Rule};
use super::status::Trouble;
use crate::controller::world::World;
use crate::route::compile;

/// What came of a rule.
#[derive(Debug, Default)]
pub struct Made {
    /// What is served, without hosts.
    pub entries: Vec<Entry>,
    /// Backends that cannot be followed.
    pub refs: Vec<Trouble>,
    /// What of it is not served.
    pub unsupported: Option<String>,
}

/// Reads one.
pub fn read(world: &World, whose: Whose<'_>, name: &str, rule: &Rule) -> Made {
    let mut made = Made::default();
    let matches = match rule.matches.as_slice() {
        [] => &[Match::default()],
        some => some,
    };
    let action = action(world, whose, rule, &mut made);
    for one in matches {
        match entry(name, one, &action) {
            Ok(entry) => made.entries.push(entry),
            Err(text) => made.unsupported = Some(text),
        }
    }
    made
}

/// What a filter makes of a request.
#[derive(Clone, Default)]
struct Changes {
    rewrite: Rewrite,
    elsewhere: Option<Elsewhere>,
}

fn action(world: &World, whose: Whose<'_>, rule: &Rule, made: &mut Made) -> Action {
    let mut changes = Changes::default();
    let timeouts = match (changes.all(&rule.filters), timeouts(rule)) {
        (Ok(()), Ok(timeouts)) => timeouts,
        (Err(text), _) | (Ok(()), Err(text)) => {
            // Requests must not get past a filter that we do not have.
            let action = backends::broken(&text);
            made.unsupported = Some(text);
            return action;
        }
    };
    if let Some(elsewhere) = changes.elsewhere {
        return Action::Move(elsewhere);
    }
    let mut parts = Vec::new();
    for backend in &rule.backend_refs {
        let mut of_backend = Changes {
            rewrite: changes.rewrite.clone(),
            elsewhere: None,
        };
        let weight = backend.weight.unwrap_or(1);
        let action = match of_backend.all(&backend.filters) {
            Ok(()) => backends::action(world, whose, backend, (of_backend.rewrite, timeouts)),
            Err(text) => {
                made.unsupported = Some(text.clone());
                Err(("UnsupportedValue", text))
            }
        };
        parts.push((
            weight,
            action.unwrap_or_else(|trouble| {
                let action = backends::broken(&trouble.1);
                made.refs.push(trouble);
                action
            }),
        ));
    }
    match parts.as_mut_slice() {
        [(weight, _)] if *weight > 0 => parts.remove(0).1,
        _ => Action::Split(parts),
    }
}

impl Changes {
    fn all(&mut self, filters: &[Filter]) -> Result<(), String> {
        filters.iter().try_for_each(|filter| self.one(filter))
    }

    fn one(&mut self, filter: &Filter) -> Result<(), String> {
        let rewrite = &mut self.rewrite;
        let lacks = || format!("the filter `{}` lacks what it is to do", filter.kind);
        match filter.kind.as_str() {
            "RequestHeaderModifier" => {
                let HeaderFilter { set, add, remove } =
                    filter.request_header_modifier.as_ref().ok_or_else(lacks)?;
                rewrite.request_set.extend(set.iter().map(pair));
                rewrite.request_add.extend(add.iter().map(pair));
                rewrite.request_remove.extend(remove.iter().cloned());
            }
            "ResponseHeaderModifier" => {
                let HeaderFilter { set, add, remove } =
                    filter.response_header_modifier.as_ref().ok_or_else(lacks)?;
                rewrite.response_set.extend(set.iter().map(pair));
                rewrite.response_add.extend(add.iter().map(pair));
                rewrite.response_remove.extend(remove.iter().cloned());
            }
            "RequestRedirect" => {
                let to = filter.request_redirect.as_ref().ok_or_else(lacks)?;
                let status = to.status_code.unwrap_or(302);
                if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                    return Err(format!("{status} is no redirect"));
                }
                self.elsewhere = Some(Elsewhere {
                    scheme: to.scheme.clone(),
                    host: to.hostname.clone(),
                    port: to.port,
                    path: to.path.as_ref().map(new_path).transpose()?,
                    status,
                });
            }
            "URLRewrite" => {
                let to = filter.url_rewrite.as_ref().ok_or_else(lacks)?;
                if to.hostname.is_some() {
                    rewrite.host.clone_from(&to.hostname);
                }
                match to.path.as_ref().map(new_path).transpose()? {
                    Some(NewPath::Whole(path)) => rewrite.whole_path = Some(path),
                    Some(NewPath::Prefix(path)) => rewrite.path = Some(path),
                    None => {}
                }
            }
            other => return Err(format!("the filter `{other}` is not served")),
        }
        Ok(())
    }
}

fn pair(header: &super::kinds::Header) -> (String, String) {
    (header.name.clone(), header.value.clone())
}

fn new_path(path: &PathFilter) -> Result<NewPath, String> {
    let whole = path.replace_full_path.clone().map(NewPath::Whole);
    let prefix = path.replace_prefix_match.clone().map(NewPath::Prefix);
    match path.kind.as_str() {
        "ReplaceFullPath" => whole,
        "ReplacePrefixMatch" => prefix,
        _ => None,
    }
    .ok_or_else(|| format!("a path is not changed by `{}`", path.kind))
}

fn entry(name: &str, one: &Match, action: &Action) -> Result<Entry, String> {
    let (path, length, method) = path(one)?;
    compile::matcher(&path)?;
    let entry = Entry {
        hosts: Vec::new(),
        length,
        method,
        query: exact(&one.query_params, str::to_owned)?,
        route: Route {
            headers: exact(&one.headers, str::to_ascii_lowercase)?,
            ..Route::open(name, Host::Any, path, action.clone())
        },
    };
    if let Some(method) = &entry.method {
        let parsed: Result<http::Method, _> = method.parse();
        parsed.map_err(|_| format!("`{method}` is no method"))?;
    }
    Ok(entry)
}

/// The path that is matched, how many of its letters are fixed, and the method.
fn path(one: &Match) -> Result<(Path, usize, Option<String>), String> {
    let method = match &one.method {
        Some(MethodMatch::Call {
            how,
            service,
            method,
        }) => {
            return call(how.as_deref(), service.as_deref(), method.as_deref());
        }
        Some(MethodMatch::Word(word)) => Some(word.clone()),
        None => None,
    };
    let given = one.path.as_ref();
    let text = given
        .and_then(|path| path.value.clone())
        .unwrap_or_else(|| "/".to_owned());
    let how = given
        .and_then(|path| path.how.as_deref())
        .unwrap_or("PathPrefix");
    let length = text.len();
    let path = match how {
        "Exact" => Path::Exact(text),
        "PathPrefix" => Path::Prefix(text),
        "RegularExpression" => Path::Regex(text),
        other => return Err(format!("paths are not compared by `{other}`")),
    };
    Ok((path, length, method))
}

/// A call of gRPC is a POST to `/SERVICE/METHOD`.
fn call(
    how: Option<&str>,
    service: Option<&str>,
    method: Option<&str>,
) -> Result<(Path, usize, Option<String>), String> {
    let some = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let (service, method) = (some(service), some(method));
    // Letters of the service count before those of the method.
    let length =
        service.as_ref().map_or(0, String::len) * 2048 + method.as_ref().map_or(0, String::len);
    let path = match (how.unwrap_or("Exact"), service, method) {
        (_, None, None) => Path::Prefix("/".to_owned()),
        ("Exact", Some(service), Some(method)) => Path::Exact(format!("/{service}/{method}")),
        ("Exact", Some(service), None) => Path::Prefix(format!("/{service}")),
        ("Exact", None, Some(method)) => Path::Regex(format!("/[^/]+/{}$", regex::escape(&method))),
        ("RegularExpression", service, method) => {
            let any = || "[^/]+".to_owned();
            let (service, method) = (service.unwrap_or_else(any), method.unwrap_or_else(any));
            Path::Regex(format!("/(?:{service})/(?:{method})$"))
        }
        (other, ..) => return Err(format!("methods are not compared by `{other}`")),
    };
    Ok((path, length, None))
}

/// Names with values; of two of the same name the first counts.
fn exact(
    all: &[Comparison],
    name_of: impl Fn(&str) -> String,
) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for one in all {
        let how = one.how.as_deref().unwrap_or("Exact");
        if how != "Exact" {
            return Err(format!(
                "`{}` is compared exactly, not by `{how}`",
                one.name
            ));
        }
        let name = name_of(&one.name);
        if pairs.iter().all(|(known, _)| *known != name) {
            pairs.push((name, one.value.clone().unwrap_or_default()));
        }
    }
    Ok(pairs)
}

fn timeouts(rule: &Rule) -> Result<Timeouts, String> {
    let mut timeouts = Timeouts::default();
    let Some(given) = &rule.timeouts else {
        return Ok(timeouts);
    };
    let read = |text: &Option<String>| text.as_deref().map(duration).transpose();
    // None is for ever.
    let positive = |it: &Duration| !it.is_zero();
    timeouts.total = read(&given.request)?.filter(positive);
    if let Some(first) = read(&given.backend_request)?.filter(positive) {
        timeouts.first_byte = first;
        timeouts.connect = timeouts.connect.min(first);
    }
    Ok(timeouts)
}

/// As GEP-2257 has it: `1h30m`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no duration; write 10s, 500ms or 1m30s");
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let found = units
            .iter()
            .find_map(|(unit, factor)| Some((rest.strip_prefix(unit)?, factor)));
        let (after, factor) = found.ok_or_else(bad)?;
        rest = after;
        sum += Duration::from_millis(number.checked_mul(*factor).ok_or_else(bad)?);
    }
    if text.is_empty() { Err(bad()) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("10s", 10_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "1d",
            "-1s",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
