//! Services whose addresses can be reached from this machine, as if it were in the cluster's network:
//! they are loopback addresses, and what asks there is led to a server of the test.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use http::Method;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::KubeApi;

/// A network of Services' addresses: 254 of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network([u8; 2]);

impl Network {
    /// One that nobody else is likely to have.
    pub(super) fn any() -> Self {
        let random = RandomState::new().build_hasher().finish().to_le_bytes();
        // Apart from 127.0.0.0/16, where everybody is.
        Self([64 + random[0] % 128, random[1]])
    }

    fn address(self, last: u8) -> Ipv4Addr {
        let [high, low] = self.0;
        Ipv4Addr::new(127, high, low, last)
    }

    /// As an API server wants it.
    pub(super) fn range(self) -> String {
        format!("{}/24", self.address(0))
    }

    /// The API server's own address in it: always the first.
    pub(super) fn own(self) -> Ipv4Addr {
        self.address(1)
    }
}

/// What leads from Services' addresses to servers; ends when dropped.
#[derive(Debug)]
pub struct Exposed(JoinSet<()>);

impl KubeApi {
    /// Services' addresses lead to what they are said to be from now on, that of the API server itself
    /// included.
    ///
    /// # Errors
    /// When it was not started for that, or the address is taken.
    pub async fn expose_itself(&self) -> Result<Exposed> {
        let mut exposed = Exposed(JoinSet::new());
        let network = self.network.context("its Services cannot be reached")?;
        let at = SocketAddr::from((network.own(), 443));
        exposed.0.spawn(relay(listen(at).await?, self.addr()));
        Ok(exposed)
    }

    /// Makes Service `NAMESPACE/NAME` with one port of this name, at the address of this number, and
    /// leads from there to a server.
    pub async fn expose(
        &self,
        exposed: &mut Exposed,
        (namespace, name, port): (&str, &str, &str),
        last: u8,
        server: SocketAddr,
    ) -> Result<()> {
        let network = self.network.context("its Services cannot be reached")?;
        let address = network.address(last);
        let object = json!({
            "metadata": { "name": name },
            "spec": { "clusterIP": address, "ports": [{ "name": port, "port": 80 }] },
        });
        let path = format!("/api/v1/namespaces/{namespace}/services");
        self.request(Method::POST, &path, &object.to_string())
            .await?;
        let listener = listen((address, 80).into()).await?;
        exposed.0.spawn(relay(listener, server));
        Ok(())
    }
}

async fn listen(at: SocketAddr) -> Result<TcpListener> {
    let bound = TcpListener::bind(at).await;
    bound.with_context(|| format!("cannot listen at {at}; tests of Services' addresses need root"))
}

async fn relay(listener: TcpListener, to: SocketAddr) {
    let mut open = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        open.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(to).await {
                let _ = stream.set_nodelay(true);
                let _ = server.set_nodelay(true);
                // Either side may go when it likes.
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            }
        });
        while open.try_join_next().is_some() {}
    }
}
