use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Any error, boxed: what loaders, stores and codecs hand over as a cause.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what a caller can do about it.
///
/// ```
/// use cache_core::{Error, ErrorKind};
///
/// fn answer(error: &Error) -> u16 {
///     match error.kind() {
///         ErrorKind::LoadTimeout | ErrorKind::WaitTimeout => 504,
///         ErrorKind::Load | ErrorKind::Unavailable => 502,
///         _ => 500,
///     }
/// }
///
/// assert_eq!(answer(&Error::new(ErrorKind::LoadTimeout)), 504);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store can't be reached, is overloaded, or did not answer in time. Trying again may help.
    Unavailable,
    /// The store answered, and refused: wrong type, no permission, out of memory.
    Store,
    /// A value could not be encoded, or bytes could not be decoded. (From a store, the latter is a miss.)
    Codec,
    /// A value, a key or an answer is over a configured limit.
    TooLarge,
    /// The loader returned an error; [`Error::cause`] gives it back.
    Load,
    /// The loader panicked. The panic's message is the cause.
    LoaderPanicked,
    /// The load took longer than `load_timeout`.
    LoadTimeout,
    /// The load that somebody else leads took longer than `wait_limit`.
    WaitTimeout,
    /// A load needs, perhaps through other loads, its own result.
    RecursiveLoad,
    /// An option has a value that makes no sense; the message names the option.
    InvalidOption,
    /// The store does not support the operation; see [`Capabilities`](crate::Capabilities).
    Unsupported,
    /// There is no tokio runtime to run the load on.
    NoRuntime,
    /// The writer returned an error; [`Error::cause`] gives it back.
    Write,
    /// The writer panicked. The panic's message is the cause.
    WriterPanicked,
    /// The write took longer than `write_timeout`, so nobody knows whether it was made.
    WriteTimeout,
    /// The journal holds as many writes as it may. Trying again may help.
    Full,
    /// The journal failed: it is damaged, or its disk is full.
    Journal,
    /// It has been shut down.
    Closed,
}

impl ErrorKind {
    fn describe(self) -> &'static str {
        match self {
            Self::Unavailable => "the store is unavailable",
            Self::Store => "the store refused the operation",
            Self::Codec => "a value could not be encoded or decoded",
            Self::TooLarge => "over the size limit",
            Self::Load => "the load failed",
            Self::LoaderPanicked => "the loader panicked",
            Self::LoadTimeout => "the load took longer than its limit",
            Self::WaitTimeout => "waited too long for another caller's load",
            Self::RecursiveLoad => "the load needs its own result",
            Self::InvalidOption => "invalid option",
            Self::Unsupported => "the store does not support this",
            Self::NoRuntime => "not called from within a tokio runtime",
            Self::Write => "the write failed",
            Self::WriterPanicked => "the writer panicked",
            Self::WriteTimeout => "the write took longer than its limit",
            Self::Full => "the journal is full",
            Self::Journal => "the journal failed",
            Self::Closed => "it has been shut down",
        }
    }
}

/// The one error of the cache: a kind, and the cause where there is one.
///
/// It is cheap to clone, because every caller that waited for a failed load gets the same one.
///
/// ```
/// use cache_core::{Error, ErrorKind};
///
/// let error = Error::with_cause(ErrorKind::Load, "42".parse::<bool>().unwrap_err());
/// assert_eq!(error.kind(), ErrorKind::Load);
/// assert!(error.cause::<std::str::ParseBoolError>().is_some());
/// assert!(!error.is_transient());
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    cause: Option<BoxError>,
}

impl Error {
    /// An error without a cause.
    #[must_use]
    pub fn new(kind: ErrorKind) -> Self {
        Self(Arc::new(Inner { kind, cause: None }))
    }

    /// An error with the error, or the message, that brought it about.
    #[must_use]
    pub fn with_cause(kind: ErrorKind, cause: impl Into<BoxError>) -> Self {
        Self(Arc::new(Inner { kind, cause: Some(cause.into()) }))
    }

    /// The kind of error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed when it is made again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Unavailable
                | ErrorKind::LoadTimeout
                | ErrorKind::WaitTimeout
                | ErrorKind::WriteTimeout
                | ErrorKind::Full
        )
    }

    /// The cause, if it is an `E`: a loader's own error, as the loader returned it.
    #[must_use]
    pub fn cause<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.cause.as_deref()?.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.kind.describe())?;
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("cause", &self.0.cause).finish()
    }
}

impl StdError for Error {
    // The message already holds the cause's, so the chain goes on below it: a reporter that
    // prints the whole chain would otherwise print the cause twice.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().and_then(StdError::source)
    }
}
