//! Hostile HTTP/2, written frame by frame: each must end in an error of its stream or of its
//! connection, and nothing of it may reach the upstream.
//! Sources: RFC 9113; CVE-2023-44487 (rapid reset); CERT VU#421644 (CONTINUATION flood).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comind_peers::http::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::witness::{Witness, proxy_before};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .unwrap_or_default()
        .to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header as HPACK writes it without tables and without Huffman's code.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        let length = text.len();
        if length < 127 {
            field.push(u8::try_from(length).unwrap_or_default());
        } else {
            field.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                field.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
                rest /= 128;
            }
            field.push(u8::try_from(rest).unwrap_or_default());
        }
        field.extend(text.as_bytes());
    }
    field
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect()
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a"),
    (":path", "/"),
];

fn with(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&GET[..], more].concat())
}

fn without(name: &str) -> Vec<u8> {
    let left: Vec<_> = GET
        .into_iter()
        .filter(|(known, _)| *known != name)
        .collect();
    block(&left)
}

fn replaced(name: &'static str, value: &str) -> Vec<u8> {
    block(&GET.map(|(known, old)| (known, if known == name { value } else { old })))
}

fn headers(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, block)
}

fn requests() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| all.push((name.to_owned(), bytes));
    for name in [":method", ":scheme", ":path"] {
        add(&format!("no {name}"), headers(&without(name)));
    }
    for (name, value) in GET {
        add(&format!("two {name}"), headers(&with(&[(name, value)])));
    }
    for (name, value) in [
        (":path", ""),
        (":path", "a"),
        (":path", "/a b"),
        (":path", "/\0"),
        (":path", "/a\r\nX: y"),
        (":path", "/../a"),
        (":path", "/%2e%2e/a"),
        (":path", "/a\\b"),
        (":path", "*"),
        (":method", "CONNECT"),
        (":method", "TRACE"),
        (":method", "G T"),
        (":method", ""),
        (":scheme", "ftp"),
        (":scheme", "a b"),
        (":authority", "u@a"),
        (":authority", "a b"),
        (":authority", "a:99999"),
        (":authority", "a\r\nX: y"),
        (":authority", ""),
    ] {
        add(
            &format!("{name} `{}`", value.escape_debug()),
            headers(&replaced(name, value)),
        );
    }
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "5"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("X-Upper", "y"),
        ("x y", "z"),
        ("x\r\ny", "z"),
        ("x", "a\r\nb: c"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x", " a"),
        ("x", "a\t"),
        ("", "y"),
        ("x:y", "z"),
        (":unknown", "x"),
        (":status", "200"),
        ("host", "b"),
        ("host", "a b"),
    ] {
        add(
            &format!("header `{}: {}`", name.escape_debug(), value.escape_debug()),
            headers(&with(&[(name, value)])),
        );
    }
    add(
        "a pseudo header behind others",
        headers(&block(&[GET[0], GET[1], ("x", "y"), GET[2], GET[3]])),
    );
    let length = with(&[("content-length", "5")]);
    add("a length without a body", headers(&length));
    let wrong = [
        frame(HEADERS, END_HEADERS, 1, &with(&[("content-length", "x")])),
        frame(DATA, END_STREAM, 1, b"abc"),
    ]
    .concat();
    add("a length that is none", wrong);
    add("a header of 100 KB", {
        let large = with(&[("x", &"y".repeat(100_000))]);
        let mut bytes = frame(HEADERS, END_STREAM, 1, &large[..16_000]);
        let mut rest = large[16_000..].chunks(16_000).peekable();
        while let Some(piece) = rest.next() {
            let flags = if rest.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            bytes.extend(frame(CONTINUATION, flags, 1, piece));
        }
        bytes
    });
    add("a flood of CONTINUATION", {
        let mut bytes = frame(HEADERS, END_STREAM, 1, &with(&[]));
        let piece = field("x", &"y".repeat(1000));
        (0..20_000).for_each(|_| bytes.extend(frame(CONTINUATION, 0, 1, &piece)));
        bytes
    });
    add("a flood of empty CONTINUATION", {
        let mut bytes = frame(HEADERS, END_STREAM, 1, &with(&[]));
        (0..100_000).for_each(|_| bytes.extend(frame(CONTINUATION, 0, 1, &[])));
        bytes
    });
    add(
        "CONTINUATION without HEADERS",
        frame(CONTINUATION, END_HEADERS, 1, &with(&[])),
    );
    add(
        "CONTINUATION of another stream",
        [
            frame(HEADERS, END_STREAM, 1, &with(&[])),
            frame(CONTINUATION, END_HEADERS, 3, &[]),
        ]
        .concat(),
    );
    add("DATA on an idle stream", frame(DATA, END_STREAM, 1, b"abc"));
    add(
        "an even stream",
        frame(HEADERS, END_STREAM | END_HEADERS, 2, &with(&[])),
    );
    add(
        "stream 0",
        frame(HEADERS, END_STREAM | END_HEADERS, 0, &with(&[])),
    );
    add("nonsense for HPACK", headers(&[0xff; 40]));
    add(
        "an index beyond the table",
        headers(&[0xff, 0xff, 0xff, 0x0f]),
    );
    add(
        "padding beyond the frame",
        frame(HEADERS, END_STREAM | END_HEADERS | 8, 1, &[200, 0]),
    );
    add(
        "a frame of 16 MB",
        vec![0xff, 0xff, 0xff, HEADERS, END_HEADERS, 0, 0, 0, 1],
    );
    add("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]));
    add(
        "a window of 2^31",
        frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
    );
    add("WINDOW_UPDATE of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4]));
    add("PING of 7 bytes", frame(PING, 0, 0, &[0; 7]));
    add(
        "RST_STREAM of an idle stream",
        frame(RST_STREAM, 0, 1, &[0; 4]),
    );
    all
}

/// What came back.
#[derive(Debug, Default)]
struct Answer {
    status: Option<u16>,
    reset: bool,
    away: bool,
    closed: bool,
}

/// Sends a preface, settings and these frames, and reads what comes of them.
async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Result<Answer> {
    let stream = TcpStream::connect(addr).await?;
    let (mut from, mut to) = stream.into_split();
    let all = [PREFACE, &frame(SETTINGS, 0, 0, &[]), bytes].concat();
    let writing = tokio::spawn(async move {
        // It may be refused before all is written; and it stays open, so that an end is the proxy's.
        let _ = to.write_all(&all).await;
        to
    });
    let mut answer = Answer::default();
    while !(answer.status.is_some() || answer.reset || answer.away || answer.closed) {
        let mut head = [0; 9];
        match tokio::time::timeout(Duration::from_secs(5), from.read_exact(&mut head))
            .await
            .context("it is silent")?
        {
            Err(_) => answer.closed = true,
            Ok(_) => {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                from.read_exact(&mut payload).await?;
                match head[3] {
                    HEADERS => answer.status = Some(status(&payload)),
                    RST_STREAM => answer.reset = true,
                    GOAWAY => answer.away = true,
                    _ => {}
                }
            }
        }
    }
    writing.abort();
    Ok(answer)
}

/// The status is the first header: an index of the static table, or a literal with three digits.
fn status(block: &[u8]) -> u16 {
    // Sizes of the table may be told first.
    let block = block
        .iter()
        .position(|byte| byte & 0xe0 != 0x20)
        .map_or(block, |at| &block[at..]);
    match block {
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        _ => 499,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_hostile_reaches_the_upstream() -> Result<()> {
    let witness = Witness::start().await?;
    let (serve, port) = proxy_before(witness.addr(), "").await?;
    // That the frames of this test are read as they are meant.
    let good = exchange(port.addr(), &headers(&with(&[]))).await?;
    ensure!(
        good.status == Some(200) && witness.take().starts_with("GET / HTTP/1.1"),
        "{good:?}"
    );
    let all = requests();
    let mut wrong = Vec::new();
    for (name, bytes) in &all {
        match exchange(port.addr(), bytes).await {
            Ok(answer) if answer.status == Some(200) => wrong.push(format!("{name}: {answer:?}")),
            Ok(_) => {}
            Err(error) => wrong.push(format!("{name}: {error:#}")),
        }
        let reached = witness.take();
        if !reached.is_empty() {
            wrong.push(format!("{name}: reached the upstream: {reached:?}"));
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );
    ensure!(get(serve.addr(), "/livez").await.is_ok());
    Ok(())
}

/// Thousands of requests, each taken back at once: the connection is ended, others go on.
#[tokio::test(flavor = "multi_thread")]
async fn rapid_reset_ends_the_connection() -> Result<()> {
    let witness = Witness::start().await?;
    let (_serve, port) = proxy_before(witness.addr(), "").await?;
    let block = with(&[]);
    let mut bytes = Vec::new();
    for number in 0..20_000_u32 {
        let stream = number * 2 + 1;
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let answer = exchange(port.addr(), &bytes).await?;
    ensure!(answer.away || answer.closed, "{answer:?}");
    let reached = witness.take().matches("GET /").count();
    ensure!(reached < 2000, "{reached} of 20,000 reached the upstream");
    ensure!(get(port.addr(), "/").await? == "ok");
    Ok(())
}
