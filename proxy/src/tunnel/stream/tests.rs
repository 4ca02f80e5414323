//! Against a WebSocket server in memory that behaves as a kubelet does.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

type Far = WebSocketStream<DuplexStream>;

/// A tunnel, and the kubelet's end of it after its first two messages.
async fn pair(room: usize) -> (Tunnel<DuplexStream>, Far) {
    let (near, far) = tokio::io::duplex(room);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
    for channel in [BYTES, TROUBLE] {
        far.send(message(channel, &8080_u16.to_le_bytes()))
            .await
            .unwrap();
    }
    (Tunnel::new(near, "shop/web:8080".to_owned()), far)
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    Message::Binary([&[channel], bytes].concat().into())
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_end_is_seen() {
    let (mut tunnel, mut far) = pair(4096).await;
    tunnel.write_all(b"ask").await.unwrap();
    tunnel.flush().await.unwrap();
    assert_eq!(far.next().await.unwrap().unwrap(), message(BYTES, b"ask"));
    far.send(message(BYTES, b"answer")).await.unwrap();
    far.close(None).await.unwrap();
    let mut all = Vec::new();
    tunnel.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"answer");
}

#[tokio::test]
async fn what_the_kubelet_says_is_the_error_after_all_bytes() {
    let (mut tunnel, mut far) = pair(4096).await;
    far.send(message(BYTES, b"part")).await.unwrap();
    let told = "dial tcp4 127.0.0.1:8080: connect: connection refused";
    far.send(message(TROUBLE, told.as_bytes())).await.unwrap();
    let mut all = Vec::new();
    let error = tunnel.read_to_end(&mut all).await.unwrap_err();
    assert_eq!(all, b"part");
    assert!(
        error
            .to_string()
            .contains("nothing in the pod listens at shop/web:8080"),
        "{error}"
    );
}

#[tokio::test]
async fn one_direction_goes_on_while_the_other_is_blocked() {
    let (tunnel, mut far) = pair(4096).await;
    let (mut reads, mut writes) = tokio::io::split(tunnel);
    // More than fits anywhere, and nobody takes it.
    let writing = tokio::spawn(async move {
        writes.write_all(&vec![1; 4 * 1024 * 1024]).await?;
        // Until then the last message may lie here.
        writes.flush().await
    });
    for number in 0..100_u8 {
        far.send(message(BYTES, &[number])).await.unwrap();
        assert_eq!(reads.read_u8().await.unwrap(), number);
    }
    assert!(!writing.is_finished(), "it was to be held back");
    // As soon as somebody takes it, it is all there.
    let mut taken = 0;
    while taken < 4 * 1024 * 1024 {
        if let Message::Binary(bytes) = far.next().await.unwrap().unwrap() {
            taken += bytes.len() - 1;
        }
    }
    writing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_is_silent_is_asked_and_given_up() {
    let (mut tunnel, far) = pair(4096).await;
    let began = Instant::now();
    let error = tunnel.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    // Asked at the first look, and given up so many later.
    assert_eq!(began.elapsed().as_secs(), (PING * (OWED + 1)).as_secs());
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn who_was_asleep_listens_before_it_gives_up() {
    let (mut tunnel, mut far) = pair(4096).await;
    // Asked, and while the answer is on its way this machine sleeps.
    let asked = tokio::time::timeout(PING + PING / 2, tunnel.read_u8()).await;
    assert!(asked.is_err(), "{asked:?}");
    tokio::time::advance(PING * 1000).await;
    let asked = tokio::time::timeout(PING / 2, tunnel.read_u8()).await;
    assert!(asked.is_err(), "{asked:?}");
    far.send(message(BYTES, b"x")).await.unwrap();
    assert_eq!(tunnel.read_u8().await.unwrap(), b'x');
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_nothing_is_given_up() {
    let (tunnel, far) = pair(4096).await;
    let (mut reads, mut writes) = tokio::io::split(tunnel);
    let began = Instant::now();
    let writing = tokio::spawn(async move { writes.write_all(&vec![1; 4 * 1024 * 1024]).await });
    let error = reads.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert_eq!(began.elapsed().as_secs(), (PING * (HELD + 1)).as_secs());
    writing.abort();
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_pings_is_kept() {
    let (mut tunnel, mut far) = pair(4096).await;
    // Reading answers pings.
    let kubelet = tokio::spawn(async move {
        while let Some(Ok(message)) = far.next().await {
            if message.is_binary() {
                return far;
            }
        }
        far
    });
    let waited = tokio::time::timeout(PING * 100, tunnel.read_u8()).await;
    assert!(waited.is_err(), "{waited:?}");
    tunnel.write_all(b"x").await.unwrap();
    tunnel.flush().await.unwrap();
    kubelet.await.unwrap();
}

#[tokio::test]
async fn a_spare_one_is_known_to_be_closed() {
    let (mut tunnel, mut far) = pair(4096).await;
    let fresh = |tunnel: &mut Tunnel<DuplexStream>| {
        tunnel.is_fresh(&mut Context::from_waker(std::task::Waker::noop()))
    };
    assert!(fresh(&mut tunnel));
    // A server that speaks first has not closed, and what it said is not lost.
    far.send(message(BYTES, b"hello")).await.unwrap();
    assert!(fresh(&mut tunnel) && fresh(&mut tunnel));
    let mut said = [0; 5];
    tunnel.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello");
    far.close(None).await.unwrap();
    assert!(!fresh(&mut tunnel));
}

#[tokio::test]
async fn what_is_no_port_forward_is_an_error() {
    for odd in [message(7, b"ab"), message(BYTES, b"abc")] {
        let (near, far) = tokio::io::duplex(4096);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        far.send(odd).await.unwrap();
        let mut tunnel = Tunnel::new(near, "a/b:1".to_owned());
        let error = tunnel.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}
