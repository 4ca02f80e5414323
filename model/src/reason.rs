//! Why something is as it is: one word per cause, and what to do about it.
//! Must not know single kinds of service; a cause that only one kind has is still a word here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How sure one single look with this cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The peer said so, or the kernel did: one look is enough.
    Hard,
    /// Silence, which may be a lost packet: needs a second look.
    Soft,
}

macro_rules! reasons {
    ($( $(#[$doc:meta])* $name:ident, $text:literal, $certainty:ident, $advice:literal; )*) => {
        /// The cause of a health, as it stands in the API, in metrics and on the page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason {
            $( $(#[$doc])* #[serde(rename = $text)] $name, )*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word in the API and in the label `reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// How sure one look with this cause is.
            pub const fn certainty(self) -> Certainty {
                match self { $(Self::$name => Certainty::$certainty),* }
            }

            /// What a person does about it, one sentence; empty where nothing is to be done.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice),* }
            }
        }
    };
}

reasons! {
    /// Nothing is wrong.
    Ok, "ok", Hard, "";
    /// No look has ended yet.
    NotLookedAt, "not_looked_at", Soft, "Wait for the first look.";
    /// The last look is too long ago.
    Silence, "silence", Soft, "The prober itself is late: look at its own CPU, memory and log.";
    /// Nobody listens at the address.
    Refused, "refused", Hard, "Start the server, or correct host and port in `url`.";
    /// The network has no way there.
    Unreachable, "unreachable", Hard, "Check routes, firewall and network policies on the way.";
    /// No answer within the deadline.
    Timeout, "timeout", Soft, "Look for a stopped or overloaded server, or a firewall which drops packets.";
    /// The peer closed the connection in the middle of a look.
    ConnectionClosed, "connection_closed", Hard, "Read the server's log for why it hangs up.";
    /// The name does not resolve.
    DnsFailure, "dns_failure", Hard, "Check the host in `url` and the name server.";
    /// TLS could not be agreed on, or the certificate is not trusted.
    TlsError, "tls_error", Hard, "Compare the certificate with the host in `url`, and `ca_file` with its issuer.";
    /// The certificate is past its end.
    CertificateExpired, "certificate_expired", Hard, "Renew the certificate now.";
    /// The certificate is near its end.
    CertificateExpiring, "certificate_expiring", Hard, "Renew the certificate before its end.";
    /// The server does not accept the credentials.
    WrongPassword, "wrong_password", Hard, "Correct user and password (or keys) in the config or in their secret file.";
    /// The credentials are good but may not do this.
    PermissionDenied, "permission_denied", Hard, "Grant the probing user what the message names.";
    /// Reads work, writes do not.
    ReadOnly, "read_only", Hard, "Find out why it went read-only: a replica in the primary's place, a full disk, or a setting.";
    /// The disk is full.
    DiskFull, "disk_full", Hard, "Free or add disk space on the server.";
    /// Memory is used up, writes are refused.
    OutOfMemory, "out_of_memory", Hard, "Raise the memory limit, set an eviction policy, or delete data.";
    /// Memory is nearly used up.
    MemoryHigh, "memory_high", Hard, "Raise the memory limit or delete data before writes are refused.";
    /// No connection is left for a new client.
    TooManyConnections, "too_many_connections", Hard, "Find the client that leaks connections, or raise the limit.";
    /// Nearly no connection is left.
    ConnectionsHigh, "connections_high", Hard, "Find the client that leaks connections, or raise the limit.";
    /// The server is starting, or reads its data.
    Starting, "starting", Hard, "Wait until it has started; its log says how far it is.";
    /// The server is shutting down.
    ShuttingDown, "shutting_down", Hard, "Start it again if nobody meant to stop it.";
    /// A replica does not follow its primary.
    ReplicationBroken, "replication_broken", Hard, "Check the link between replica and primary, and the replica's log.";
    /// A replica is far behind.
    ReplicationLag, "replication_lag", Hard, "Look for load on the replica or a slow network.";
    /// The database does not exist.
    MissingDatabase, "missing_database", Hard, "Create the database, or correct its name in `url`.";
    /// A required bucket does not exist.
    MissingBucket, "missing_bucket", Hard, "Create the bucket, or take it out of `buckets`.";
    /// A watched queue does not exist.
    MissingQueue, "missing_queue", Hard, "Create the queue, or take it out of `queues`.";
    /// More messages wait than is normal.
    Backlog, "backlog", Hard, "Add or mend consumers, or find out who sends so much.";
    /// Dead letters lie in a queue.
    DeadLetters, "dead_letters", Hard, "Read the dead letters, mend their consumer, then move them back or delete them.";
    /// A storage cluster cannot accept writes.
    QuorumLost, "quorum_lost", Hard, "Bring drives or nodes back until the write quorum is met.";
    /// What was written did not come back as it was.
    DataMismatch, "data_mismatch", Hard, "Stop writing and check the storage: it returned something else than was written.";
    /// The clock of one side is off.
    ClockSkew, "clock_skew", Hard, "Set the clocks right on both sides (NTP).";
    /// It answered, but not with a status which is good.
    BadStatus, "bad_status", Hard, "Read the server's log; if this status is right, put it into `expect_status`.";
    /// It answered, but not with what was expected.
    UnexpectedAnswer, "unexpected_answer", Hard, "Compare the message with what the config expects.";
    /// It does not speak the protocol.
    ProtocolError, "protocol_error", Hard, "Check that `url` and `kind` name the same server.";
    /// The server reports an error of its own.
    ServerError, "server_error", Hard, "Read the server's log.";
    /// The token is no longer valid.
    TokenExpired, "token_expired", Hard, "Renew the token, or let the program read it from a file that is renewed.";
    /// The API server does not know this kind of object.
    MissingDefinition, "missing_definition", Hard, "Install the custom resource definition that the message names.";
    /// A watch brought no sign of life for too long.
    WatchStale, "watch_stale", Hard, "Look at the network between the prober and the watched API; the watch is being opened again.";
    /// What watches this one is out itself, so nothing is known.
    ParentOut, "parent_out", Hard, "Mend the target that this one is a part of.";
    /// An application differs from its repository.
    OutOfSync, "out_of_sync", Hard, "Sync the application, or find out who changes the cluster by hand.";
    /// A sync ended with an error.
    SyncFailed, "sync_failed", Hard, "Read the operation's message, mend the manifest or the cluster, and sync again.";
    /// A controller reports the thing as not healthy.
    Unhealthy, "unhealthy", Hard, "Read the health message, then the events and logs of what it names.";
    /// It is being changed and has not arrived yet.
    Progressing, "progressing", Hard, "Wait; if it lasts, read the events of what is not ready.";
    /// Somebody paused it.
    Suspended, "suspended", Hard, "Resume it when the pause is over.";
    /// It should exist and does not.
    Missing, "missing", Hard, "Find out who deleted it, and create it again.";
    /// A container starts and dies again and again.
    CrashLoop, "crash_loop", Hard, "Read the log of the container's last run.";
    /// An image cannot be pulled.
    ImagePull, "image_pull", Hard, "Check the image's name, the registry and the pull secret.";
    /// A container's config names something that is not there.
    ContainerConfig, "container_config", Hard, "Create the ConfigMap or Secret that the message names.";
    /// No node takes the pod.
    Unschedulable, "unschedulable", Hard, "Read the scheduler's message: free resources, or correct the pod's constraints.";
    /// It runs but is not ready.
    NotReady, "not_ready", Hard, "Read its readiness probe's message and its log.";
    /// It ran and stopped.
    Exited, "exited", Hard, "Read its last log lines, then start it again.";
    /// It was stopped because memory ran out.
    OomKilled, "oom_killed", Hard, "Raise its memory limit, or find the leak.";
    /// Fewer replicas are there than were asked for.
    ReplicasMissing, "replicas_missing", Hard, "Look at the pods that are not available.";
    /// A node lacks disk, memory or process numbers.
    NodePressure, "node_pressure", Hard, "Free what the node's condition names, or add nodes.";
    /// The prober itself could not look (no descriptors, no memory).
    ProberFault, "prober_fault", Soft, "Look at the prober's own limits (open files, memory) and its log.";
}

impl Reason {
    /// Whether this is a lack of ours that says nothing about the target: unknown, not down.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::ProberFault | Self::WatchStale)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_are_unique_and_serialised_as_they_are_shown() {
        let words: HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let json = serde_json::to_string(reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.as_str()));
        }
    }

    #[test]
    fn every_cause_but_ok_comes_with_advice() {
        for reason in Reason::ALL.iter().filter(|r| **r != Reason::Ok) {
            assert!(reason.advice().ends_with('.'), "{reason} lacks advice");
        }
    }
}
