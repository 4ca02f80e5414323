//! The values of keys that are called like secrets, in text that is no JSON: settings, logs, SQL,
//! headers, command lines, JSON inside of strings. Pure.
//!
//! Where such a value ends cannot always be known; then more is taken out and not less.

use crate::diagnose::redact::{STARS, names};

/// A quote that is not closed within so many bytes was none.
const QUOTED: usize = 4096;
/// Nor a bracket.
const BRACKETED: usize = 65_536;

/// The text without those values.
pub(super) fn taken_out(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut at = 0;
    while let Some((start, end)) = next_name(text, at) {
        left.push_str(&text[at..end]);
        at = end;
        let Some((from, to)) = value(text, &text[start..end], end) else {
            continue;
        };
        left.push_str(&text[at..from]);
        if matches!(&text[from..to], "true" | "false" | "null" | STARS) {
            left.push_str(&text[from..to]);
        } else if from < to {
            left.push_str(STARS);
        }
        at = to;
    }
    left.push_str(&text[at..]);
    left
}

/// Where the next word begins and ends that may be a name.
fn next_name(text: &str, at: usize) -> Option<(usize, usize)> {
    let part = |letter: char| letter.is_alphanumeric() || "_-.".contains(letter);
    let start = at + text[at..].find(part)?;
    let end = text[start..]
        .find(|letter| !part(letter))
        .map_or(text.len(), |length| start + length);
    Some((start, end))
}

/// Where the value of this name begins and ends, if it has one and it is a secret.
fn value(text: &str, name: &str, end: usize) -> Option<(usize, usize)> {
    if !names::secret(name) {
        return None;
    }
    // The name itself may be in quotes.
    let closed = end + quote(&text[end..]).map_or(0, str::len);
    let spaced = closed + blanks(&text[closed..]);
    let separators = [":=", "=>", "==", ":", "="];
    if let Some(separator) = separators
        .iter()
        .find(|one| text[spaced..].starts_with(**one))
    {
        let from = spaced + separator.len();
        let from = from + blanks(&text[from..]);
        return Some((from, value_end(text, from, separator.contains(':'))));
    }
    if spaced == closed {
        return None;
    }
    let from = spaced;
    let quoted = quote(&text[from..]).is_some() && names::quoted_follows(name);
    let word = end == closed && names::word_follows(name);
    (quoted || word).then(|| (from, value_end(text, from, false)))
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t', '\r']).len()
}

/// Where a value that begins here ends. After a colon nothing but the line's end ends a bare one.
fn value_end(text: &str, from: usize, colon: bool) -> usize {
    let rest = &text[from..];
    let line = rest.find('\n').unwrap_or(rest.len());
    let length = if rest.starts_with(['|', '>', '\n']) && colon {
        block(text, from)
    } else if let Some(quote) = quote(rest) {
        quoted(rest, quote).unwrap_or(line)
    } else if rest.starts_with(['{', '[']) {
        bracketed(rest).unwrap_or(line)
    } else if colon {
        line
    } else {
        rest.find(|letter: char| letter.is_whitespace() || letter == '&')
            .unwrap_or(rest.len())
    };
    from + length
}

/// The quote that a text begins with, with the backslashes that it has inside of another text.
fn quote(text: &str) -> Option<&str> {
    let slashes = text.len() - text.trim_start_matches('\\').len();
    let quote = text[slashes..].chars().next()?;
    "\"'`".contains(quote).then(|| &text[..=slashes])
}

/// The length of a text in quotes: up to one with exactly as many backslashes that is not doubled,
/// and on to something that separates, as shells join texts that touch.
fn quoted(text: &str, quote: &str) -> Option<usize> {
    let mark = quote.chars().last()?;
    let slashes = quote.len() - 1;
    let mut at = quote.len();
    let end = loop {
        let found = at + text[at..].find(mark)?;
        if found > QUOTED {
            return None;
        }
        let before = &text[at..found];
        let own = before.len() - before.trim_end_matches('\\').len();
        at = found + 1;
        if own != slashes {
            continue;
        }
        if text[at..].starts_with(quote) {
            at += quote.len();
            continue;
        }
        break at;
    };
    let separates = |letter: char| letter.is_whitespace() || ",;)}]&\"".contains(letter);
    let line = text[end..].find('\n').unwrap_or(text.len() - end);
    let rest = &text[end..end + line];
    if rest.starts_with(separates) || rest.is_empty() || slashes > 0 {
        return Some(end);
    }
    Some(end + line)
}

/// The length of a list or a map: up to the bracket that closes it.
fn bracketed(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices().take(BRACKETED) {
        match letter {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// The length of a YAML block: the lines below that are further to the right than its key, and the
/// items of a list that are not.
fn block(text: &str, from: usize) -> usize {
    let line = text[..from].rfind('\n').map_or(0, |at| at + 1);
    let key = text[line..].trim_start_matches([' ', '\t', '-']);
    let margin = text.len() - line - key.len();
    let mut length = 0;
    for (number, line) in text[from..].split_inclusive('\n').enumerate() {
        let deeper = blanks(line) > margin;
        let item = blanks(line) == margin && line.trim_start().starts_with('-');
        if number > 0 && !line.trim().is_empty() && !deeper && !item {
            break;
        }
        length += line.len();
    }
    let block = &text[from..from + length];
    block.trim_end_matches('\n').len()
}

#[cfg(test)]
mod tests {
    use super::taken_out;

    #[test]
    fn what_is_around_a_value_stays() {
        for (text, left) in [
            ("user=a password=b port=1", "user=a password=*** port=1"),
            ("GET /?token=abc&page=2", "GET /?token=***&page=2"),
            ("password: a b\nuser: c", "password: ***\nuser: c"),
            ("'api_key': 'a b', 'x': 1", "'api_key': ***, 'x': 1"),
            (
                r#"said {\"secret\":\"a\\\"b\",\"x\":1}"#,
                r#"said {\"secret\":***,\"x\":1}"#,
            ),
            (
                "ALTER USER a PASSWORD 'it''s' VALID",
                "ALTER USER a PASSWORD *** VALID",
            ),
            ("run --api-key abc --port 1", "run --api-key *** --port 1"),
            ("requirepass abc\nport 1", "requirepass ***\nport 1"),
            ("password: |\n  a\n  b\nuser: c", "password: ***\nuser: c"),
            ("password:\n  a\nuser: c", "password:***\nuser: c"),
            ("tokens:\n- a\n- b\nuser: c", "tokens:***\nuser: c"),
            ("- token:\n    a\n  user: c", "- token:***\n  user: c"),
            ("tokens: [a,\n b]\nuser: c", "tokens: ***\nuser: c"),
            (
                r#"secret "postgresql-auth" not found"#,
                r#"secret "postgresql-auth" not found"#,
            ),
            (
                "password authentication failed",
                "password authentication failed",
            ),
            (
                "automountServiceAccountToken: false",
                "automountServiceAccountToken: false",
            ),
            ("password_file: /run/x", "password_file: /run/x"),
            ("secret = ", "secret = "),
        ] {
            assert_eq!(taken_out(text), left);
        }
    }
}
