//! What the server's and the client's errors mean to a caller, and to the connection.

use cache_core::{Error, ErrorKind};
use redis::{ErrorKind as Kind, RedisError, ServerErrorKind as Answer};

/// An error, and whether the connection is to be given up because of it.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) lost: bool,
}

impl Failure {
    fn new(kind: ErrorKind, lost: bool, message: String) -> Self {
        Self { error: Error::with_cause(kind, message), lost }
    }
}

/// What a node of a cluster is, where a single server is expected.
pub(crate) const IN_CLUSTER: &str = "the server is a node of a Redis Cluster, and was taken for a single \
    server; name it by a URL that begins with `redis+cluster://`, with the feature `cluster` of cache-redis";

/// Sorts an error of a node of a cluster.
pub(crate) fn failure_in_cluster(error: &RedisError) -> Failure {
    match error.kind() {
        // It was looked for where it was said to be, and has moved on.
        Kind::Server(Answer::Moved | Answer::Ask) => Failure::new(
            ErrorKind::Unavailable,
            false,
            format!("the slot is on its way to another node: {error}"),
        ),
        _ => failure(error),
    }
}

/// Sorts an error by what can be done about it.
pub(crate) fn failure(error: &RedisError) -> Failure {
    let code = error.code().unwrap_or_default();
    match (error.kind(), code) {
        // The key itself is wrong for this server, at any time.
        (Kind::Server(Answer::Moved | Answer::Ask | Answer::CrossSlot), _) => {
            Failure::new(ErrorKind::Store, false, format!("{IN_CLUSTER}: {error}"))
        }
        // It may have another server behind its name by now, or be promoted.
        (Kind::Server(Answer::ReadOnly), _) => Failure::new(
            ErrorKind::Unavailable,
            true,
            format!("the server is a replica, which takes no writes: {error}"),
        ),
        (Kind::Server(Answer::BusyLoading), _) => Failure::new(
            ErrorKind::Unavailable,
            true,
            format!("the server is still loading its data: {error}"),
        ),
        (Kind::Server(Answer::ClusterDown | Answer::MasterDown | Answer::TryAgain), _)
        | (_, "BUSY") => Failure::new(ErrorKind::Unavailable, false, error.to_string()),
        (Kind::AuthenticationFailed, _) | (_, "NOAUTH" | "WRONGPASS") => Failure::new(
            ErrorKind::Store,
            true,
            format!("the server does not accept the user or the password: {error}"),
        ),
        (Kind::Server(Answer::NoPerm), _) => Failure::new(
            ErrorKind::Store,
            false,
            format!("the user lacks a permission on the server: {error}"),
        ),
        (Kind::Server(_) | Kind::Extension, "OOM") => Failure::new(
            ErrorKind::Store,
            false,
            format!("the server is out of memory, and takes no writes: {error}"),
        ),
        (Kind::Server(_) | Kind::Extension | Kind::UnexpectedReturnType, _) => {
            Failure::new(ErrorKind::Store, false, error.to_string())
        }
        (Kind::InvalidClientConfig, _) => {
            Failure::new(ErrorKind::InvalidOption, true, error.to_string())
        }
        // Input and output, and answers that can't be parsed: whatever comes next on this connection
        // can't be relied on.
        _ => Failure::new(ErrorKind::Unavailable, true, error.to_string()),
    }
}

/// Whether a write was refused for a state of the server in which reads still work.
pub(crate) fn refuses_writes_only(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS"))
}

/// An answer of a shape that this version does not know.
pub(crate) fn unexpected() -> Error {
    Error::with_cause(ErrorKind::Store, "the server's answer has an unexpected form")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> RedisError {
        let error = redis::parse_redis_value(format!("-{text}\r\n").as_bytes());
        error.and_then(redis::Value::extract_error).expect_err("an error")
    }

    #[test]
    fn each_answer_is_judged_on_purpose() {
        use ErrorKind::{Store, Unavailable};
        for (text, kind, lost, said) in [
            ("MOVED 3999 127.0.0.1:6381", Store, false, "redis+cluster://"),
            ("ASK 3999 127.0.0.1:6381", Store, false, "redis+cluster://"),
            (
                "CROSSSLOT Keys in request don't hash to the same slot",
                Store,
                false,
                "redis+cluster",
            ),
            ("READONLY You can't write against a read only replica.", Unavailable, true, "replica"),
            ("LOADING Redis is loading the dataset in memory", Unavailable, true, "loading"),
            ("MASTERDOWN Link with MASTER is down", Unavailable, false, "down"),
            ("CLUSTERDOWN The cluster is down", Unavailable, false, "down"),
            ("TRYAGAIN Multiple keys request during rehashing", Unavailable, false, "rehashing"),
            ("BUSY Redis is busy running a script.", Unavailable, false, "busy"),
            ("NOAUTH Authentication required.", Store, true, "password"),
            ("WRONGPASS invalid username-password pair", Store, true, "password"),
            ("NOPERM User shop has no permissions to run the 'get' command", Store, false, "'get'"),
            ("OOM command not allowed when used memory > 'maxmemory'.", Store, false, "memory"),
            ("MISCONF Redis is configured to save RDB snapshots", Store, false, "snapshots"),
            ("WRONGTYPE Operation against a key", Store, false, "WRONGTYPE"),
            ("ERR unknown command", Store, false, "unknown command"),
        ] {
            let Failure { error, lost: given_up } = failure(&answered(text));
            assert_eq!((error.kind(), given_up), (kind, lost), "{text}");
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_node_of_a_cluster_that_redirects_twice_is_passed_over() {
        for text in ["MOVED 3999 127.0.0.1:6381", "ASK 3999 127.0.0.1:6381"] {
            let Failure { error, lost } = failure_in_cluster(&answered(text));
            assert_eq!((error.kind(), lost), (ErrorKind::Unavailable, false));
        }
    }
}
