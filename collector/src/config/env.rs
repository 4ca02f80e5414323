//! `${NAME}`, `${NAME:-default}` and `$$` in a text. Pure: the environment is an argument.
//! Must not know YAML.

use super::node::FromEnv;

/// Looks up an environment variable.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The text after substitution, and the pieces that came from the environment.
pub(super) struct Substituted {
    pub(super) text: String,
    pub(super) pieces: Vec<FromEnv>,
}

/// `None` where there is nothing to substitute. A dollar before anything but `{` or `$` is itself.
pub(super) fn substitute(text: &str, env: &Env<'_>) -> Result<Option<Substituted>, String> {
    if !text.contains("${") && !text.contains("$$") {
        return Ok(None);
    }
    let mut done = Substituted {
        text: String::with_capacity(text.len()),
        pieces: Vec::new(),
    };
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        done.text.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            done.text.push('$');
            rest = tail;
        } else if let Some(inside) = after.strip_prefix('{') {
            rest = variable(inside, env, &mut done)?;
        } else {
            done.text.push('$');
            rest = after;
        }
    }
    done.text.push_str(rest);
    Ok(Some(done))
}

/// Takes `NAME}` or `NAME:-default}` off the front; returns what follows.
fn variable<'t>(inside: &'t str, env: &Env<'_>, done: &mut Substituted) -> Result<&'t str, String> {
    let (body, rest) = inside
        .split_once('}')
        .ok_or("`${` has no closing `}`; write `$${` for the characters themselves")?;
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    if !is_name(name) {
        return Err(
            "what stands in `${}` is no name of an environment variable (letters, digits, `_`); \
             write `$${` for the characters themselves"
                .to_owned(),
        );
    }
    match (env(name), default) {
        (Some(value), None) => found(value, body, done),
        (Some(value), Some(_)) if !value.is_empty() => found(value, body, done),
        (_, Some(default)) => found(default.to_owned(), body, done),
        (None, None) => {
            return Err(format!(
                "environment variable `{name}` is not set; set it, or write `${{{name}:-default}}`"
            ));
        }
    }
    Ok(rest)
}

fn found(value: String, body: &str, done: &mut Substituted) {
    done.text.push_str(&value);
    let written = format!("${{{body}}}");
    done.pieces.push(FromEnv { value, written });
}

fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let env = |name: &str| match name {
            "USER" => Some("me".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        Ok(substitute(text, &env)?.map_or_else(|| text.to_owned(), |done| done.text))
    }

    #[test]
    fn variables_defaults_and_dollars() {
        let good = [
            ("plain", "plain"),
            ("${USER}", "me"),
            ("a${USER}b${USER}", "amebme"),
            ("${NONE:-x:-y}", "x:-y"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${USER:-x}", "me"),
            ("$$", "$"),
            ("$${USER}", "${USER}"),
            ("5$ and $x", "5$ and $x"),
            ("end$", "end$"),
        ];
        for (text, expected) in good {
            assert_eq!(run(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert!(run("${NONE}").unwrap_err().contains("`NONE` is not set"));
        assert!(run("${USER").unwrap_err().contains("closing"));
        assert!(run("${}").unwrap_err().contains("no name"));
        assert!(run("${a b}").unwrap_err().contains("no name"));
    }
}
