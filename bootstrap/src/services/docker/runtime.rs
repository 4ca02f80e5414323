//! [`Runtime`] for containers.

use anyhow::{Result, bail};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::event::About;
use crate::services::catalog::Service;
use crate::services::runtime::{Kind, Removed, Runtime, Seen};
use crate::services::settings::Settings;

/// The servers as containers.
pub struct Docker {}

impl Docker {
    /// Whether containers can serve, and why or why not.
    ///
    /// # Errors
    /// With the reason why not.
    pub async fn can_serve(_settings: &Settings) -> Result<String, String> {
        Err("the docker runtime is not built yet".into())
    }

    /// Connects.
    ///
    /// # Errors
    /// When there is nothing to connect to.
    pub fn connect(_settings: Settings) -> Result<Self> {
        bail!("the docker runtime is not built yet")
    }
}

impl Runtime for Docker {
    fn kind(&self) -> Kind {
        Kind::Docker
    }
    fn prepare<'a>(&'a self, _: Service, _: About<'a>) -> BoxFuture<'a, Result<Vec<String>>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
    fn start(&self, _: Service) -> BoxFuture<'_, Result<Option<String>>> {
        std::future::ready(Ok(None)).boxed()
    }
    fn look(&self, _: Service) -> BoxFuture<'_, Result<Seen>> {
        std::future::ready(Ok(Seen::absent())).boxed()
    }
    fn stop(&self, _: Service) -> BoxFuture<'_, Result<bool>> {
        std::future::ready(Ok(false)).boxed()
    }
    fn tail(&self, _: Service, _: usize) -> BoxFuture<'_, Result<Vec<String>>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
    fn follow<'a>(
        &'a self,
        _: Service,
        _: &'a (dyn Fn(String) + Send + Sync),
    ) -> BoxFuture<'a, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }
    fn belongings(&self, _: Service) -> BoxFuture<'_, Result<Removed>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
    fn clean(&self, _: Service) -> BoxFuture<'_, Result<Removed>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
    fn clean_shared(&self) -> BoxFuture<'_, Result<Removed>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
}
