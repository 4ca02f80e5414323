//! What looks like a secret whatever stands before it: keys, tokens, passwords in URLs. Pure.

use anyhow::Result;
use regex::Regex;

/// What is looked for, and what is put there. Without `regex`'s tables of Unicode.
const SHAPES: &[(&str, &str)] = &[
    // A private key, to the end of the text if its end was cut off …
    (
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\z)",
        "***",
    ),
    // … or the rest of one whose beginning was.
    (
        r"[A-Za-z0-9+/=\\ \t\r\n]*-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----",
        "***",
    ),
    // The same in base64, as kubeconfigs have it.
    ("LS0tLS1CRUdJTi[A-Za-z0-9+/=_-]*", "***"),
    // user:password@, wherever the password ends; then user@ alone, which may be a token.
    (
        r#"((?i-u:[a-z][a-z0-9+.-]*):(?:\\?/){2})[^ \t\r\n"<>]*:[^ \t\r\n"<>]*@"#,
        "$1***@",
    ),
    (
        r#"((?i-u:[a-z][a-z0-9+.-]*):(?:\\?/){2})[^ \t\r\n"<>/?#]*@"#,
        "$1***@",
    ),
    (
        r#"((?i-u:bearer|basic|digest|negotiate))(?:[ \t+]|%20)+[^ \t\r\n"',;<>]+"#,
        "$1 ***",
    ),
    // Tokens that show what they are: JWT, AWS, GitHub, GitLab, Slack.
    (r"eyJ[A-Za-z0-9_=-]+\.[A-Za-z0-9_=.-]+", "***"),
    ("(?:AKIA|ASIA)[A-Z0-9]{12,}", "***"),
    (
        "(?:gh[a-z]_|github_pat_|glpat-|xox[a-z]-)[A-Za-z0-9_-]+",
        "***",
    ),
];

/// Finds them.
pub(super) struct Shapes(Vec<(Regex, &'static str)>);

impl Shapes {
    pub(super) fn new() -> Result<Self> {
        let all = SHAPES
            .iter()
            .map(|(shape, instead)| Ok((Regex::new(shape)?, *instead)));
        Ok(Self(all.collect::<Result<_>>()?))
    }

    pub(super) fn taken_out(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (shape, instead) in &self.0 {
            text = shape.replace_all(&text, *instead).into_owned();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Shapes;

    #[test]
    fn each_is_taken_out_and_what_is_around_it_stays() -> anyhow::Result<()> {
        let shapes = Shapes::new()?;
        for (text, left) in [
            (
                "a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb",
                "a\n***\nb",
            ),
            ("a\n-----BEGIN PRIVATE KEY-----\nMII\nAB", "a\n***"),
            ("MII\nAB=\n-----END EC PRIVATE KEY-----\nb", "***\nb"),
            (
                "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
                "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
            ),
            ("data: LS0tLS1CRUdJTiBFQw==\n", "data: ***\n"),
            (
                "dials postgres://me:p/a@ss@db:5432/app now",
                "dials postgres://***@db:5432/app now",
            ),
            ("from https://t0ken@git/x", "from https://***@git/x"),
            (
                "http://127.0.0.1:9000/bucket is there",
                "http://127.0.0.1:9000/bucket is there",
            ),
            ("sent bearer abc.def, then", "sent bearer ***, then"),
            ("got eyJhbGciOi.eyJz.dBjf- back", "got *** back"),
        ] {
            assert_eq!(shapes.taken_out(text), left);
        }
        Ok(())
    }
}
