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

/// Sorts an error by what can be done about it.
pub(crate) fn failure(error: &RedisError) -> Failure {
    let code = error.code().unwrap_or_default();
    match (error.kind(), code) {
        // The key itself is wrong for this server, at any time.
        (Kind::Server(Answer::Moved | Answer::Ask | Answer::CrossSlot), _) => Failure::new(
            ErrorKind::Store,
            false,
            format!(
                "the server is a node of a Redis Cluster, and was taken for a single server: {error}"
            ),
        ),
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
