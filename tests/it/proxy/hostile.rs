//! Hostile HTTP/1: each request with the answer that it must get, and the proof that nothing, or
//! nothing whole, of it reached the upstream.

use anyhow::{Result, ensure};

use super::witness::{Witness, exchange, proxy_before, status};

/// What must come of a request.
#[derive(Clone, Debug)]
enum Must {
    /// It is answered with one of these, and the upstream sees not one byte.
    Refuse(&'static [u16]),
    /// Its body breaks off: the upstream never sees the end of it, nor what follows.
    BreakOff,
    /// It passes, and the upstream sees each of the first, none of the second.
    Pass(&'static [&'static str], &'static [&'static str]),
}

use Must::{BreakOff, Pass, Refuse};

struct Case {
    name: String,
    bytes: Vec<u8>,
    must: Must,
}

const BAD: Must = Refuse(&[400]);

fn case(name: impl Into<String>, bytes: impl AsRef<[u8]>, must: Must) -> Case {
    Case {
        name: name.into(),
        bytes: bytes.as_ref().to_vec(),
        must,
    }
}

/// A request with these further lines, and a body.
fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}")
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn lengths() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, lines) in [
        (
            "length, then chunks",
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
        ),
        (
            "chunks, then length",
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
        ),
        (
            "odd case",
            "content-LENGTH: 4\r\nTRANSFER-encoding: ChUnKeD",
        ),
        (
            "with others between",
            "Content-Length: 4\r\nX: y\r\nTransfer-Encoding: chunked",
        ),
        (
            "length of 0 and chunks",
            "Content-Length: 0\r\nTransfer-Encoding: chunked",
        ),
        (
            "tab before the value",
            "Content-Length: 4\r\nTransfer-Encoding:\tchunked",
        ),
        (
            "space after the value",
            "Content-Length: 4\r\nTransfer-Encoding: chunked ",
        ),
        (
            "two encodings and a length",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\nContent-Length: 4",
        ),
        ("no space", "Content-Length:4\r\nTransfer-Encoding:chunked"),
    ] {
        all.push(case(
            format!("two lengths: {name}"),
            post(lines, &format!("0\r\n\r\n{SMUGGLED}")),
            BAD,
        ));
    }
    for value in [
        "-1",
        "+4",
        "0x4",
        "4 4",
        "4,5",
        "4, 5",
        "4;",
        "4a",
        "four",
        "",
        " ",
        "1e1",
        "4.0",
        "99999999999999999999999",
        "18446744073709551616",
        "\u{b2}",
        "4\t4",
        "\"4\"",
    ] {
        all.push(case(
            format!("length `{value}`"),
            post(&format!("Content-Length: {value}"), "abcd"),
            BAD,
        ));
    }
    for lines in [
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 5\r\ncontent-length: 4",
    ] {
        all.push(case(
            format!("lengths that differ: {lines}"),
            post(lines, "abcd"),
            BAD,
        ));
    }
    for value in [
        "gzip",
        "identity",
        "xchunked",
        "chunkedx",
        "chunked, gzip",
        "chunked;q=1",
        "\"chunked\"",
        "chunk",
        "cow",
        "chunked, identity",
        "\u{b}chunked",
    ] {
        let bytes = post(&format!("Transfer-Encoding: {value}"), "0\r\n\r\n");
        all.push(case(
            format!("encoding `{value}`"),
            bytes,
            Refuse(&[400, 501]),
        ));
    }
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    all.push(case("chunks in HTTP/1.0", old, BAD));
    all
}

fn chunks() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, body) in [
        ("size is no number", "xyz\r\nabc\r\n0\r\n\r\n"),
        ("negative size", "-1\r\nabc\r\n0\r\n\r\n"),
        ("plus", "+3\r\nabc\r\n0\r\n\r\n"),
        ("0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("size of 2^64", "10000000000000000\r\nabc\r\n0\r\n\r\n"),
        ("size of 2^64 + 3", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("no size", "\r\nabc\r\n0\r\n\r\n"),
        ("space in front", " 3\r\nabc\r\n0\r\n\r\n"),
        ("more than its size", "3\r\nabcd\r\n0\r\n\r\n"),
        ("less than its size", "5\r\nabc\r\n0\r\n\r\n"),
        ("no end after data", "3\r\nabc0\r\n\r\n"),
        ("bare line feed after data", "3\r\nabc\n0\r\n\r\n"),
        ("bare line feed after size", "3\nabc\r\n0\r\n\r\n"),
        ("bare carriage return after size", "3\rabc\r\n0\r\n\r\n"),
        (
            "control character in the extension",
            "3;a=\x01b\rc\r\nabc\r\n0\r\n\r\n",
        ),
        ("line feed in the extension", "3;a=b\nc\r\nabc\r\n0\r\n\r\n"),
        ("letters behind the size", "3 zz\r\nabc\r\n0\r\n\r\n"),
        (
            "end without its line",
            "3\r\nabc\r\n0\r\nGET /smuggled HTTP/1.1\r\n",
        ),
        ("trailer that is no header", "3\r\nabc\r\n0\r\n: x\r\n\r\n"),
        (
            "trailer with a space in its name",
            "3\r\nabc\r\n0\r\nX y: z\r\n\r\n",
        ),
    ] {
        let bytes = post("Transfer-Encoding: chunked", &format!("{body}{SMUGGLED}"));
        all.push(case(format!("chunks: {name}"), bytes, BreakOff));
    }
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(100_000));
    all.push(case(
        "chunks: an extension of 100 KB",
        post("Transfer-Encoding: chunked", &long),
        BreakOff,
    ));
    let many = format!("3\r\nabc\r\n0\r\n{}\r\n", "X-T: y\r\n".repeat(5000));
    all.push(case(
        "chunks: 5,000 trailers",
        post("Transfer-Encoding: chunked", &many),
        BreakOff,
    ));
    let short = post("Content-Length: 10", "abc");
    all.push(case("body shorter than its length", short, BreakOff));
    all
}

fn heads() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, line) in [
        ("space before the colon", "X : y"),
        ("tab before the colon", "X\t: y"),
        ("no colon", "X"),
        ("no name", ": y"),
        ("folded", "X: y\r\n z"),
        ("folded by a tab", "X: y\r\n\tz"),
        ("NUL in the value", "X: a\0b"),
        ("NUL in the name", "X\0: y"),
        ("carriage return in the value", "X: a\rb"),
        ("line feed alone", "X: a\nY: b"),
        ("bell", "X: a\x07b"),
        ("delete", "X: a\x7fb"),
        ("parentheses in the name", "X(y): z"),
        ("slash in the name", "X/y: z"),
        ("quote in the name", "X\"y: z"),
        ("bracket in the name", "X[y: z"),
        ("space in the name", "X y: z"),
        ("beyond ASCII in the name", "\u{e9}: z"),
        ("at in the name", "X@y: z"),
        ("semicolon in the name", "X;y: z"),
        ("length behind a folded line", "X: y\r\n Content-Length: 5"),
        (
            "encoding with a space before its colon",
            "Transfer-Encoding : chunked",
        ),
        ("length with a space before its colon", "Content-Length : 5"),
        ("vertical tab before the colon", "X\x0b: y"),
    ] {
        all.push(case(
            format!("header: {name}"),
            format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"),
            BAD,
        ));
    }
    all.push(case(
        "first header begins with a space",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        BAD,
    ));
    all.push(case(
        "bare line feeds everywhere",
        "GET / HTTP/1.1\nHost: a\n\n",
        BAD,
    ));
    all.push(case(
        "the last line ends bare",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        BAD,
    ));
    all.push(case(
        "the request line ends bare",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        BAD,
    ));
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "close, host",
        "TRANSFER-ENCODING",
    ] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {name}\r\n\r\n");
        all.push(case(format!("connection names {name}"), bytes, BAD));
    }
    all.push(case(
        "a header of 100 KB",
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "y".repeat(100_000)
        ),
        Refuse(&[431]),
    ));
    all.push(case(
        "headers of 1 MB",
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(170_000)
        ),
        Refuse(&[431]),
    ));
    all.push(case(
        "101 headers",
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(100)
        ),
        Refuse(&[431]),
    ));
    all.push(case(
        "a path of 70 KB",
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(70_000)),
        Refuse(&[414, 431]),
    ));
    all
}

fn hosts() -> Vec<Case> {
    let mut all = vec![
        case("no host", "GET / HTTP/1.1\r\n\r\n", BAD),
        case(
            "two hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            BAD,
        ),
        case(
            "the same host twice",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            BAD,
        ),
        case(
            "two hosts by case",
            "GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
            BAD,
        ),
        case(
            "target and host differ",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            BAD,
        ),
        case(
            "target and port differ",
            "GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n",
            BAD,
        ),
        case(
            "a user in the target",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            BAD,
        ),
    ];
    for host in [
        "", "a b", "a,b", "u@a", "a/b", "a?b", "a#b", "a:b", "a:99999", "a:-1", "a:80:80", "[::1",
        "::1]", "a%2eb", "a\\b", "<a>", "a\tb", "a\"", "\u{e9}", "a;b",
    ] {
        all.push(case(
            format!("host `{host}`"),
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            BAD,
        ));
    }
    all
}

fn lines() -> Vec<Case> {
    let mut all = Vec::new();
    for line in [
        "GET",
        "GET /",
        "GET / HTTP",
        "GET / HTTP/",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/3",
        "GET / http/1.1",
        "GET / HTTP/1.1 x",
        "GET / HTTP/11",
        "GET / HTTP/01.1",
        "GET / HTTP /1.1",
        " GET / HTTP/1.1",
        "GET  HTTP/1.1",
        "G\0T / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET a HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET * HTTP/1.1",
        "GET a:80 HTTP/1.1",
        "GET /a\x01 HTTP/1.1",
        "GET /a\x7f HTTP/1.1",
        "GET /a\rb HTTP/1.1",
        "{\"json\": 1}",
        "\x16\x03\x01\x02\x00\x01\x00\x01",
        "GET //\\a HTTP/1.1",
        "GET javascript:x HTTP/1.1",
        "GET file:///etc/passwd HTTP/1.1",
    ] {
        let must = Refuse(&[400, 501, 505]);
        all.push(case(
            format!("line `{}`", line.escape_debug()),
            format!("{line}\r\nHost: a\r\n\r\n"),
            must,
        ));
    }
    for method in ["CONNECT a:80", "TRACE /", "CONNECT /"] {
        let must = Refuse(&[400, 405, 501]);
        all.push(case(
            method,
            format!("{method} HTTP/1.1\r\nHost: a\r\n\r\n"),
            must,
        ));
    }
    for path in [
        "/..",
        "/.",
        "/../x",
        "/a/../b",
        "/a/./b",
        "/a/..",
        "/%2e%2e/x",
        "/%2E%2e/x",
        "/.%2e/x",
        "/a%2f..%2fb",
        "/a%2F%2e%2e%2Fb",
        "/a\\b",
        "/a\\..\\b",
        "/a%5cb",
        "/a%5C..%5cb",
        "/%00",
        "/a%00.html",
        "/a%0d%0aX:%20y",
        "/a%0ab",
        "/%7f",
        "/a%",
        "/a%4",
        "/a%zz",
        "/..;/admin",
        "/a;/..;x/b",
        "/%2e%2e;x/b",
        "/a%1f",
    ] {
        all.push(case(
            format!("path {path}"),
            format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
            BAD,
        ));
    }
    all
}

fn passing() -> Vec<Case> {
    let get = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
    vec![
        case(
            "a plain one",
            get("X: y"),
            Pass(&["GET / HTTP/1.1", "x: y"], &[]),
        ),
        case(
            "empty lines before it",
            format!("\r\n\r\n{}", get("X: y")),
            Pass(&["x: y"], &[]),
        ),
        case(
            "slashes in a row stay",
            "GET //a//b HTTP/1.1\r\nHost: a\r\n\r\n",
            Pass(&["GET //a//b "], &[]),
        ),
        case(
            "an encoded slash stays",
            "GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n",
            Pass(&["GET /a%2Fb "], &[]),
        ),
        case(
            "an absolute target",
            "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
            Pass(&["GET /x HTTP/1.1", "host: a"], &["http://"]),
        ),
        case(
            "HTTP/1.0 without a host",
            "GET / HTTP/1.0\r\n\r\n",
            Pass(&["GET / HTTP/1.1"], &[]),
        ),
        case(
            "hop by hop headers",
            get("Connection: close, X-A\r\nX-A: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: x"),
            Pass(
                &["GET /"],
                &["x-a", "keep-alive", "proxy-authorization", "close"],
            ),
        ),
        case(
            "upgrade to HTTP/2",
            get(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
            ),
            Pass(&["GET /"], &["upgrade", "h2c", "http2-settings"]),
        ),
        case(
            "upgrade that is not named",
            get("Upgrade: websocket"),
            Pass(&["GET /"], &["upgrade", "websocket"]),
        ),
        case(
            "forged identity",
            get(
                "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Original-URL: /admin",
            ),
            Pass(&["x-forwarded-for: 127.0.0.1"], &["6.6.6.6", "/admin"]),
        ),
        case(
            "the same length twice",
            post("Content-Length: 2\r\nContent-Length: 2", "ab"),
            Pass(&["content-length: 2"], &[]),
        ),
        case(
            "a body in chunks",
            post("Transfer-Encoding: chunked", "2\r\nab\r\n0\r\n\r\n"),
            Pass(
                &["transfer-encoding: chunked", "0\r\n\r\n"],
                &["content-length"],
            ),
        ),
        case(
            "a chunk with an extension",
            post("Transfer-Encoding: chunked", "2;a=b\r\nab\r\n0\r\n\r\n"),
            Pass(&["\r\n0\r\n\r\n"], &["a=b"]),
        ),
        case(
            "a method of its own",
            "PURGE /x HTTP/1.1\r\nHost: a\r\n\r\n",
            Pass(&["PURGE /x "], &[]),
        ),
        case(
            "an upgrade with a body",
            post(
                "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2",
                "ab",
            ),
            BAD,
        ),
        case(
            "an upgrade with chunks",
            post(
                "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            BAD,
        ),
        // What follows a request to upgrade is not part of it, and must wait until the upstream has agreed.
        case(
            "bytes before the upgrade is agreed on",
            format!(
                "{}{}",
                get("Connection: upgrade\r\nUpgrade: websocket"),
                "RAW BYTES"
            ),
            Pass(&["upgrade: websocket"], &["RAW BYTES"]),
        ),
    ]
}

fn all() -> Vec<Case> {
    [lengths(), chunks(), heads(), hosts(), lines(), passing()]
        .into_iter()
        .flatten()
        .collect()
}

fn judge(case: &Case, answer: &[u8], reached: &str) -> Result<()> {
    let status = status(answer);
    let shown = || {
        format!(
            "{status:?}, upstream got {:?}",
            reached.chars().take(400).collect::<String>()
        )
    };
    match &case.must {
        Refuse(statuses) => {
            ensure!(
                reached.is_empty(),
                "something reached the upstream: {}",
                shown()
            );
            ensure!(
                status.is_some_and(|status| statuses.contains(&status)),
                "{}",
                shown()
            );
        }
        BreakOff => {
            ensure!(!reached.contains("smuggled"), "{}", shown());
            let whole = reached.contains("\r\n0\r\n\r\n") || reached.contains("\n0\n");
            ensure!(!whole, "the upstream saw the end of it: {}", shown());
        }
        Pass(has, has_not) => {
            ensure!(status == Some(200), "{}", shown());
            let lower = reached.to_lowercase();
            for text in *has {
                ensure!(
                    lower.contains(&text.to_lowercase()),
                    "lacks {text:?}: {}",
                    shown()
                );
            }
            for text in *has_not {
                ensure!(
                    !lower.contains(&text.to_lowercase()),
                    "has {text:?}: {}",
                    shown()
                );
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_hostile_reaches_the_upstream() -> Result<()> {
    let witness = Witness::start().await?;
    let (_serve, port) = proxy_before(witness.addr(), "").await?;
    let cases = all();
    ensure!(cases.len() >= 150, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = exchange(port.addr(), &case.bytes).await?;
        if let Err(error) = judge(case, &answer, &witness.take()) {
            wrong.push(format!("{}: {error}", case.name));
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    Ok(())
}
