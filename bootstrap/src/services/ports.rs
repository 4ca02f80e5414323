//! Who holds a port: found in `/proc/net/tcp*` and `/proc/*/fd`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::FDTarget;

use crate::services::catalog::{Port, Service};

/// The one who listens on a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// Where it listens.
    pub at: SocketAddr,
    /// Its process, where we may see it.
    pub process: Option<Process>,
    /// The user it belongs to.
    pub uid: u32,
}

/// A process that holds a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// Its parents' numbers, nearest first.
    pub ancestors: Vec<i32>,
}

impl Holder {
    /// The holder in words.
    pub fn describe(&self) -> String {
        match &self.process {
            Some(process) if process.name == "docker-proxy" => format!(
                "a container (docker-proxy, pid {}; `docker ps --filter publish={}` names it)",
                process.pid,
                self.at.port()
            ),
            Some(process) => format!("{} (pid {})", process.name, process.pid),
            None => format!(
                "a process of user id {} (its name is shown to that user and to root: ss -ltnp)",
                self.uid
            ),
        }
    }
}

/// Makes sure that nobody else listens where the service shall.
///
/// # Errors
/// Naming the one who does, and the way out.
pub fn check_free(
    service: Service,
    ports: &[Port],
    ours: impl Fn(&Process) -> bool,
) -> anyhow::Result<()> {
    for port in ports {
        let Some(holder) = holder(port.host)? else {
            continue;
        };
        if !holder.process.as_ref().is_some_and(&ours) {
            anyhow::bail!("{}", taken(service, port, &holder.describe()));
        }
    }
    Ok(())
}

/// The message about a port that somebody else has, with the ways out.
pub fn taken(service: Service, port: &Port, by: &str) -> String {
    let name = service.name();
    let flag = port.key.replace('_', "-");
    format!(
        "port {} is taken by {by}; stop it, or give {name} another one: --{name}-{flag} PORT",
        port.host
    )
}

/// Who would be in the way of listening on loopback's `port`.
///
/// # Errors
/// When `/proc/net/tcp` cannot be read.
pub fn holder(port: u16) -> anyhow::Result<Option<Holder>> {
    let mut entries = procfs::net::tcp()?;
    // Absent where IPv6 is off.
    entries.extend(procfs::net::tcp6().unwrap_or_default());
    let Some(entry) = entries.iter().find(|entry| in_the_way(entry, port)) else {
        return Ok(None);
    };
    Ok(Some(Holder {
        at: entry.local_address,
        process: process_of(entry.inode),
        uid: entry.uid,
    }))
}

fn in_the_way(entry: &TcpNetEntry, port: u16) -> bool {
    entry.state == TcpState::Listen && conflicts(entry.local_address, port)
}

/// A listener conflicts with ours on 127.0.0.1 when it has the same port there or on all addresses.
fn conflicts(listener: SocketAddr, port: u16) -> bool {
    let everywhere = listener.ip().is_unspecified();
    let ours = match listener.ip() {
        IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST,
        IpAddr::V6(ip) => ip.to_ipv4_mapped() == Some(Ipv4Addr::LOCALHOST),
    };
    listener.port() == port && (everywhere || ours)
}

fn process_of(inode: u64) -> Option<Process> {
    procfs::process::all_processes()
        .ok()?
        .flatten()
        .find_map(|process| {
            let holds = process
                .fd()
                .ok()?
                .flatten()
                .any(|fd| matches!(fd.target, FDTarget::Socket(socket) if socket == inode));
            let stat = holds.then(|| process.stat().ok()).flatten()?;
            Some(Process {
                pid: stat.pid,
                name: stat.comm,
                ancestors: ancestors(stat.ppid),
            })
        })
}

fn ancestors(parent: i32) -> Vec<i32> {
    let next = |pid: &i32| {
        let stat = procfs::process::Process::new(*pid).ok()?.stat().ok()?;
        (stat.ppid > 0).then_some(stat.ppid)
    };
    // A process tree is shallow; the bound is against one that changes while we climb.
    std::iter::successors((parent > 0).then_some(parent), next)
        .take(64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{conflicts, holder, in_the_way};
    use procfs::FromReadSI as _;
    use procfs::net::TcpNetEntries;
    use procfs::process::Process;

    #[test]
    fn all_addresses_and_loopback_conflict() {
        for (listener, expected) in [
            ("127.0.0.1:5432", true),
            ("0.0.0.0:5432", true),
            ("[::]:5432", true),
            ("[::ffff:127.0.0.1]:5432", true),
            ("127.0.0.1:5433", false),
            ("127.0.0.2:5432", false),
            ("192.0.2.1:5432", false),
            ("[::1]:5432", false),
        ] {
            let listener = listener.parse().expect("a literal address");
            assert_eq!(conflicts(listener, 5432), expected, "{listener}");
        }
    }

    #[test]
    fn a_line_of_the_kernels_table_is_understood() -> anyhow::Result<()> {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 21234 1 0 100 0 0 10 0\n\
             1: 0100007F:1538 0100007F:A001 01 00000000:00000000 00:00000000 00000000   104        0 21235 1 0 100 0 0 10 0\n";
        let entries = TcpNetEntries::from_read(table.as_bytes(), procfs::current_system_info())?.0;
        let found: Vec<_> = entries
            .iter()
            .filter(|entry| in_the_way(entry, 5432))
            .collect();
        assert_eq!(found.len(), 1, "the established one does not count");
        assert_eq!((found[0].inode, found[0].uid), (21234, 104));
        Ok(())
    }

    #[test]
    fn our_own_listener_is_found_by_name() -> anyhow::Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let found = holder(port)?.expect("we listen there");
        let process = found.process.expect("it is our own process");
        assert_eq!(process.pid, Process::myself()?.pid);
        drop(listener);
        assert_eq!(holder(port)?, None);
        Ok(())
    }
}
