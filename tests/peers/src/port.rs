//! Ports that stay ours while a server is down.
//!
//! A port found by binding 0 may be taken by any outgoing connection between
//! a kill and the restart. So ports come from below the range from which the
//! kernel serves outgoing connections, and a lock file per port keeps other
//! test processes off it until we are gone.

use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

use anyhow::{Context, Result, bail};

/// Below Linux's default `net.ipv4.ip_local_port_range`, above usual services.
const PORTS: Range<u16> = 15_000..30_000;
/// How many random ports are tried before giving up.
const TRIES: u32 = 500;

/// A loopback port leased to this process; given back on drop.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: Option<File>,
}

impl Port {
    /// A free port on 127.0.0.1.
    pub fn free() -> Result<Self> {
        for _ in 0..TRIES {
            let random = RandomState::new().build_hasher().finish();
            let span = u64::from(PORTS.end - PORTS.start);
            let number = PORTS.start + u16::try_from(random % span).unwrap_or_default();
            if let Some(port) = Self::lease(number)? {
                return Ok(port);
            }
        }
        bail!("no free port in {PORTS:?} after {TRIES} tries")
    }

    /// A port that the caller wants by number, or a free one for `None`. A
    /// wanted one is not locked, and that it is taken is found by the server.
    pub fn wanted(number: Option<u16>) -> Result<Self> {
        match number {
            Some(number) => Ok(Self {
                number,
                _lock: None,
            }),
            None => Self::free(),
        }
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    fn lease(number: u16) -> Result<Option<Self>> {
        let dir = std::env::temp_dir().join("comind-peers-ports");
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("could not make {}", dir.display()))?;
        let path = dir.join(number.to_string());
        let Ok(lock) = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
        else {
            return Ok(None); // another user's
        };
        let free = lock.try_lock().is_ok() && is_free(number);
        Ok(free.then_some(Self {
            number,
            _lock: Some(lock),
        }))
    }
}

/// Whether nobody listens there, on loopback or on every address.
fn is_free(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leased_port_is_not_leased_again() -> Result<()> {
        let port = Port::free()?;
        assert!(Port::lease(port.number())?.is_none());
        let number = port.number();
        drop(port);
        assert!(Port::lease(number)?.is_some());
        Ok(())
    }

    #[test]
    fn a_port_in_use_is_not_leased() -> Result<()> {
        let port = Port::free()?;
        let number = port.number();
        drop(port);
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, number))?;
        assert!(Port::lease(number)?.is_none());
        Ok(())
    }
}
