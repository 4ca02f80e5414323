//! Which names are those of secrets. Pure.

/// A name that has one of these in it is a secret's.
const PARTS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "signature",
    "requirepass",
    "masterauth",
];

/// A name that has one of these among its words is a secret's.
const WORDS: &[&str] = &["pass", "pwd", "pw", "auth", "keys"];

/// A name that ends so says where a secret is, or what it is called.
const PLACES: &[&str] = &["name", "file", "path", "ref", "dir", "namespace"];

/// Whether the value of a field of this name is a secret.
pub(super) fn secret(name: &str) -> bool {
    let words = words(name);
    called_secret(&words) && !called_place(&words)
}

/// Whether it says which secret, and nothing of what is in it: `secretName`.
pub(super) fn reference(name: &str) -> bool {
    let words = words(name);
    called_secret(&words) && called_place(&words)
}

fn called_secret(words: &[String]) -> bool {
    let called = |word: &String| {
        WORDS.contains(&word.as_str())
            || word.ends_with("key")
            || PARTS.iter().any(|part| word.contains(part))
    };
    // `pass-word` and `passWord` are one word to whoever wrote them.
    let whole = words.concat();
    words.iter().any(called) || PARTS.iter().any(|part| whole.contains(part))
}

fn called_place(words: &[String]) -> bool {
    let last = words.last().map(String::as_str);
    last.is_some_and(|last| PLACES.contains(&last))
}

/// Whether a text in quotes that comes right after this name is a secret, as in SQL's
/// `PASSWORD 'x'`. Kubernetes says `secret "name" not found`, so not after every name.
pub(super) fn quoted_follows(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "pwd", "auth", "token"]
        .iter()
        .any(|part| name.contains(part))
        && secret(&name)
}

/// Whether the next word is a secret: flags of programs, and Redis' settings.
pub(super) fn word_follows(name: &str) -> bool {
    flag(name) || ["requirepass", "masterauth"].contains(&name.to_ascii_lowercase().as_str())
}

/// Whether it is a flag whose value comes as the next argument.
pub(super) fn flag(argument: &str) -> bool {
    argument.starts_with('-') && !argument.contains(['=', ' ']) && secret(argument)
}

/// The words of a name, in small letters: `secretKey`, `secret-key` and `SECRET_KEY` have the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() || (small && letter.is_uppercase()) {
            words.push(String::new());
        }
        small = letter.is_lowercase();
        if letter.is_alphanumeric()
            && let Some(last) = words.last_mut()
        {
            last.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::{flag, quoted_follows, reference, secret};

    #[test]
    fn names_of_secrets_in_every_spelling() {
        for name in [
            "password",
            "PGPASSWORD",
            "passWord",
            "pass_word",
            "dbPwd",
            "POSTGRES_PASSWORD",
            "secretKey",
            "secret-key",
            "aws_secret_access_key",
            "apiKey",
            "APIKEY",
            "client-key-data",
            "X-Auth-Token",
            "Authorization",
            "Set-Cookie",
            "requirepass",
            "AWS.Credentials",
        ] {
            assert!(secret(name), "{name}");
        }
        for name in [
            "password_file",
            "secretName",
            "keyRef",
            "user",
            "name",
            "passed",
            "authority",
            "author",
            "keyspace",
            "",
        ] {
            assert!(!secret(name), "{name}");
        }
    }

    #[test]
    fn what_follows_a_name() {
        assert!(reference("secretName") && !reference("name") && !reference("secret"));
        assert!(quoted_follows("PASSWORD") && quoted_follows("AUTH"));
        assert!(!quoted_follows("secret") && !quoted_follows("key"));
        assert!(flag("--api-key") && !flag("--api-key=x") && !flag("api-key"));
    }
}
