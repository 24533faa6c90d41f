//! One message of a progress stream: pull, push, load and import.

use super::lenient::record;

record! {
    /// One message of a progress stream.
    pub struct ProgressMessage {
        /// The layer (12 digits of its digest) or the name it is about; empty when it is about everything.
        pub id: String = "id",
        /// What is being done, such as `Downloading`.
        pub status: String = "status",
        /// How far it has come.
        pub progress_detail: ProgressDetail = "progressDetail",
        /// Why everything failed; empty when nothing has. See [`failure`](Self::failure).
        pub error: String = "error",
        /// Why everything failed, with the registry's status.
        pub error_detail: Option<ErrorDetail> = "errorDetail",
        /// Text for people, as `load` and builds print it.
        pub stream: String = "stream",
        /// What the Engine adds for programs, such as the digest after a push.
        pub aux: Option<ProgressAux> = "aux",
    }

    /// How far one layer has come.
    pub struct ProgressDetail {
        /// Done so far, in `units`.
        pub current: i64 = "current",
        /// All there is; 0 when not known.
        pub total: i64 = "total",
        /// What is counted: empty for bytes, `s` for the seconds that unpacking has taken.
        pub units: String = "units",
    }

    /// Why everything failed.
    pub struct ErrorDetail {
        /// The status of the registry's answer; 0 when there is none.
        pub code: i64 = "code",
        /// The reason.
        pub message: String = "message",
    }

    /// What the Engine adds for programs.
    pub struct ProgressAux {
        /// The name that was pushed.
        pub tag: String = "Tag",
        /// The digest it got.
        pub digest: String = "Digest",
        /// Its length in bytes.
        pub size: i64 = "Size",
        /// The id of the image that was made.
        pub id: String = "ID",
    }
}

impl ProgressMessage {
    /// Why everything failed, if this message says so.
    ///
    /// Engines write `errorDetail`, or the older `error`, or both; any of them means that the call failed although
    /// its status was 200.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        let detail = self
            .error_detail
            .as_ref()
            .filter(|detail| **detail != ErrorDetail::default());
        match (
            detail.map(|detail| detail.message.as_str()),
            self.error.as_str(),
        ) {
            (Some(message), _) if !message.is_empty() => Some(message),
            (_, message) if !message.is_empty() => Some(message),
            (Some(_), _) => Some("the Engine reported an error without a message"),
            (None, _) => None,
        }
    }
}
