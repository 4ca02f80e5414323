//! What a connection begins with: a PROXY header where one is demanded, then HTTP/2's preface or
//! HTTP/1. The decisions are pure; reading has a deadline that its caller sets.
//! Sources: haproxy.org/download/2.6/doc/proxy-protocol.txt; RFC 9113, section 3.4.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use ppp::{HeaderResult, PartialResult as _, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A PROXY header is never longer (version 2 with its longest addresses and room for extensions).
const LONGEST: usize = 4096;

/// A header of version 1 is never longer, its end included.
const LONGEST_LINE: usize = 107;

/// What a PROXY header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The client and the address that it connected to.
    From(SocketAddr),
    /// Nothing about a client: a health check of the sender's own.
    Own,
}

/// How far a PROXY header is read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// All of it, so many bytes.
    Whole(Claim, usize),
    /// More has to come.
    Partial,
    /// It is none.
    Bad(String),
}

/// Reads a PROXY header.
pub fn claim(bytes: &[u8]) -> Read {
    // The parser takes a line that is cut within its last word for a bad one.
    if is_partial_line(bytes) {
        return Read::Partial;
    }
    let result = HeaderResult::parse(bytes);
    if result.is_incomplete() && bytes.len() < LONGEST {
        return Read::Partial;
    }
    match result {
        HeaderResult::V1(Ok(header)) => Read::Whole(of_v1(header.addresses), header.header.len()),
        HeaderResult::V2(Ok(header)) => {
            let claim = match header.command {
                v2::Command::Local => Claim::Own,
                v2::Command::Proxy => of_v2(header.addresses),
            };
            Read::Whole(claim, header.len())
        }
        HeaderResult::V1(Err(error)) => Read::Bad(error.to_string()),
        HeaderResult::V2(Err(error)) => Read::Bad(error.to_string()),
    }
}

/// The beginning of a header of version 1, of which the end is still to come.
fn is_partial_line(bytes: &[u8]) -> bool {
    let word = b"PROXY ";
    let common = bytes.len().min(word.len());
    bytes.len() < LONGEST_LINE && bytes[..common] == word[..common] && !bytes.contains(&b'\n')
}

fn of_v1(addresses: v1::Addresses) -> Claim {
    match addresses {
        v1::Addresses::Tcp4(it) => {
            Claim::From(SocketAddr::from((it.source_address, it.source_port)))
        }
        v1::Addresses::Tcp6(it) => {
            Claim::From(SocketAddr::from((it.source_address, it.source_port)))
        }
        v1::Addresses::Unknown => Claim::Own,
    }
}

fn of_v2(addresses: v2::Addresses) -> Claim {
    match addresses {
        v2::Addresses::IPv4(it) => {
            Claim::From(SocketAddr::from((it.source_address, it.source_port)))
        }
        v2::Addresses::IPv6(it) => {
            Claim::From(SocketAddr::from((it.source_address, it.source_port)))
        }
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => Claim::Own,
    }
}

/// Reads a PROXY header from `stream`; gives what was read beyond it.
///
/// # Errors
/// When there is none.
pub async fn read_claim<T: AsyncRead + Unpin>(stream: &mut T) -> io::Result<(Claim, Bytes)> {
    let mut read = BytesMut::with_capacity(256);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match claim(&read) {
            Read::Whole(claim, length) => return Ok((claim, read.split_off(length).freeze())),
            Read::Partial => {}
            Read::Bad(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

/// The header that tells an upstream who the client is.
pub fn header(version: u8, client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    // An address of version 4 that came in over version 6 is told as what it is.
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (client, server) = (plain(client), plain(server));
    if version == 1 {
        return match (client, server) {
            (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => {
                v1::Addresses::from((client, server))
                    .to_string()
                    .into_bytes()
            }
            _ => b"PROXY UNKNOWN\r\n".to_vec(),
        };
    }
    let command = v2::Version::Two | v2::Command::Proxy;
    let addresses = v2::Addresses::from((client, server));
    let builder = v2::Builder::with_addresses(command, v2::Protocol::Stream, addresses);
    builder.build().unwrap_or_default()
}

/// Whether a connection that begins so speaks HTTP/2.
pub fn is_http2(begin: &[u8]) -> bool {
    // No method of HTTP/1 begins so, and the parser behind reads the rest of the preface.
    begin.starts_with(b"PRI")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_both_versions_are_read() {
        let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 1234 80\r\nGET";
        let client = SocketAddr::from(([192, 0, 2, 1], 1234));
        assert_eq!(
            claim(line),
            Read::Whole(Claim::From(client), line.len() - 3)
        );
        assert_eq!(claim(b"PROXY UNKNOWN\r\n"), Read::Whole(Claim::Own, 15));
        assert_eq!(claim(b"PROXY TCP4 192"), Read::Partial);
        assert!(matches!(claim(b"GET / HTTP/1.1\r\n\r\n"), Read::Bad(_)));
        assert!(matches!(claim(&[b'P'; 5000]), Read::Bad(_)));
    }

    #[test]
    fn what_we_write_is_read_back() {
        let client = SocketAddr::from(([192, 0, 2, 1], 1234));
        let server = SocketAddr::from(([10, 0, 0, 1], 80));
        let v6: SocketAddr = "[2001:db8::1]:5".parse().unwrap();
        for version in [1, 2] {
            for (client, server) in [(client, server), (v6, v6)] {
                let written = header(version, client, server);
                assert_eq!(
                    claim(&written),
                    Read::Whole(Claim::From(client), written.len())
                );
                for cut in 0..written.len() {
                    assert_eq!(claim(&written[..cut]), Read::Partial, "{version} {cut}");
                }
            }
        }
        assert_eq!(header(1, client, v6), b"PROXY UNKNOWN\r\n");
    }
}
