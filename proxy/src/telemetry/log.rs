//! The access log: a line a request, put together and written by a thread of its own. A request
//! hands over what it has and goes on; where there is no room the line is lost and counted.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use comind_model::ingress::LogForm;
use http::HeaderValue;
use jiff::Timestamp;

use crate::endpoint::Endpoint;
use crate::request::flight::Asked;

/// So many lines may wait.
const WAITING: usize = 8192;

/// What is written of a request.
#[derive(Debug)]
pub struct Line {
    /// What was asked.
    pub asked: Asked,
    /// Its trace, as the upstream was told.
    pub trace: Option<HeaderValue>,
    /// By whom.
    pub client: IpAddr,
    /// Its route.
    pub route: Arc<str>,
    /// What it was answered with.
    pub status: u16,
    /// From its head to the last byte of its answer.
    pub took: Duration,
    /// Bytes of its body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// What went wrong.
    pub fault: Option<&'static str>,
    /// Who answered.
    pub endpoint: Option<Arc<Endpoint>>,
}

/// Where requests hand in their lines.
#[derive(Clone, Debug)]
pub struct Log(SyncSender<Line>);

impl Log {
    /// Begins to write to `out` in this form; ends when the last handle is dropped.
    pub fn start(form: LogForm, out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, lines) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(form, &lines, out))?;
        Ok(Self(sender))
    }

    /// Hands a line in; false where there is no room.
    pub fn put(&self, line: Line) -> bool {
        match self.0.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn write(form: LogForm, lines: &Receiver<Line>, out: impl Write) {
    let mut out = io::BufWriter::with_capacity(64 * 1024, out);
    let mut text = String::new();
    while let Ok(first) = lines.recv() {
        // All that wait go out with one write.
        for line in std::iter::once(first).chain(lines.try_iter()) {
            text.clear();
            match form {
                LogForm::Json => json(&line, Timestamp::now(), &mut text),
                LogForm::Common => common(&line, Timestamp::now(), &mut text),
                LogForm::Off => {}
            }
            // A log that cannot be written must not end the proxy; there is nobody to tell.
            let _ = out.write_all(text.as_bytes());
        }
        let _ = out.flush();
    }
}

fn shown(value: Option<&HeaderValue>) -> Option<std::borrow::Cow<'_, str>> {
    value.map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// The query may hold tokens: only the path is written.
fn json(line: &Line, at: Timestamp, text: &mut String) {
    let asked = &line.asked;
    let place = line
        .endpoint
        .as_ref()
        .map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port));
    let trace = shown(line.trace.as_ref()).filter(|trace| trace.len() == 55);
    let value = serde_json::json!({
        "at": at.to_string(),
        "client": line.client,
        "method": asked.method.as_str(),
        "host": shown(asked.host.as_ref()),
        "path": asked.uri.path(),
        "protocol": format!("{:?}", asked.version),
        "status": line.status,
        "ms": line.took.as_micros() as f64 / 1000.0,
        "received": line.received,
        "sent": line.sent,
        "route": &*line.route,
        "upstream": place,
        "fault": line.fault,
        "trace": trace.as_ref().map(|trace| &trace[3..35]),
        "agent": shown(asked.agent.as_ref()),
    });
    // Writing to a string does not fail.
    let _ = writeln!(text, "{value}");
}

/// `host ident user [time] "request" status bytes "referrer" "agent"`, then the milliseconds.
/// Source: httpd.apache.org/docs/2.4/logs.html.
fn common(line: &Line, at: Timestamp, text: &mut String) {
    let asked = &line.asked;
    let time = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
    let agent = shown(asked.agent.as_ref())
        .unwrap_or("-".into())
        .escape_debug()
        .to_string();
    let _ = writeln!(
        text,
        "{} - - [{time}] \"{} {} {:?}\" {} {} \"-\" \"{agent}\" {:.3}",
        line.client,
        asked.method,
        asked.uri.path(),
        asked.version,
        line.status,
        line.sent,
        line.took.as_secs_f64() * 1000.0,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            asked: Asked {
                method: http::Method::GET,
                uri: "/a?token=secret".parse().unwrap(),
                version: http::Version::HTTP_11,
                host: Some(HeaderValue::from_static("app")),
                agent: Some(HeaderValue::from_static("x\"y")),
                parent: None,
            },
            trace: Some(HeaderValue::from_static(
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )),
            client: "192.0.2.1".parse().unwrap(),
            route: "web".into(),
            status: 200,
            took: Duration::from_micros(1500),
            received: 0,
            sent: 12,
            fault: None,
            endpoint: None,
        }
    }

    #[test]
    fn both_forms_without_the_query() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let mut text = String::new();
        json(&line(), at, &mut text);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["path"], &value["ms"]), (&"/a".into(), &1.5.into()));
        assert_eq!(value["trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
        text.clear();
        common(&line(), at, &mut text);
        assert_eq!(
            text,
            "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a HTTP/1.1\" 200 12 \"-\" \"x\\\"y\" 1.500\n"
        );
    }

    #[test]
    fn what_finds_no_room_is_lost_and_nobody_waits() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                // Until the test drops its end.
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (end, stuck) = sync_channel(1);
        let log = Log::start(LogForm::Common, Stuck(stuck)).unwrap();
        let lost = (0..WAITING * 3).filter(|_| !log.put(line())).count();
        assert!(lost > 0);
        drop(end);
    }
}
