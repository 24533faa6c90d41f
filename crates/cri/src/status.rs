//! Errors in the interface's words: which code a failure has, and the prefixes by which the kubelet knows some.

use berth_pod::Error;
use berth_pod::cni::CniError;
use berth_pod::config::Unsupported;
use berth_pod::image::{PullError, PullFailure};
use tonic::{Code, Status};

/// The code for a failure.
///
/// The kubelet shows failures specially whose message begins with a name it knows, and finds the name only if the code is `Unknown`.
pub(crate) fn of(error: Error) -> Status {
    let text = error.to_string();
    match &error {
        Error::NotFound(_) => Status::not_found(text),
        Error::Invalid(_) | Error::Missing(_) => Status::failed_precondition(text),
        Error::MayRunAsRoot(_) | Error::Unsupported(Unsupported::Spec(_)) => {
            Status::invalid_argument(text)
        }
        Error::Unsupported(Unsupported::RecursiveReadOnly(_)) => {
            Status::unknown(format!("RROUnsupported: {text}"))
        }
        Error::Unsupported(Unsupported::ImageMount(_)) => Status::unimplemented(text),
        Error::ImageMount(_) => Status::unknown(format!("ImageVolumeMountFailed: {text}")),
        Error::TimedOut(_) => Status::deadline_exceeded(text),
        Error::Away(_) => Status::unavailable(text),
        Error::BadReference(_) => Status::invalid_argument(text),
        Error::Pull(error) => pull(error),
        // No network is there yet: the kubelet tries again.
        Error::Network(CniError::NotReady(_)) => Status::unavailable(text),
        Error::Network(_) => Status::unknown(text),
        Error::NoPauseImage(_) | Error::Log(_) => Status::internal(text),
        Error::Docker(docker) => Status::new(docker_code(docker), text),
    }
}

/// The status for a pull that failed.
pub(crate) fn pull(error: &PullError) -> Status {
    let text = error.to_string();
    match error.failure() {
        PullFailure::RegistryUnavailable => Status::unknown(format!("RegistryUnavailable: {text}")),
        PullFailure::SignatureValidationFailed => {
            Status::unknown(format!("SignatureValidationFailed: {text}"))
        }
        PullFailure::NotFound => Status::not_found(text),
        PullFailure::Denied => Status::permission_denied(text),
        PullFailure::Stuck => Status::deadline_exceeded(text),
        PullFailure::Other => Status::new(docker_code(error.docker()), text),
    }
}

fn docker_code(error: &berth_docker::Error) -> Code {
    if error.is_not_found() {
        Code::NotFound
    } else if error.is_timeout() {
        Code::DeadlineExceeded
    } else if error.is_refused() {
        Code::Unknown
    } else {
        // No answer, or none that can be read.
        Code::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_code() {
        let text = || "why".to_owned();
        for (error, code, message) in [
            (Error::NotFound(text()), Code::NotFound, "why"),
            (Error::Invalid(text()), Code::FailedPrecondition, "why"),
            (Error::TimedOut(text()), Code::DeadlineExceeded, "why"),
            (
                Error::Away(text()),
                Code::Unavailable,
                "the Docker Engine is away: why",
            ),
            (
                Error::Unsupported(Unsupported::Spec(text())),
                Code::InvalidArgument,
                "why",
            ),
            (
                Error::Unsupported(Unsupported::RecursiveReadOnly(text())),
                Code::Unknown,
                "RROUnsupported: why",
            ),
            (
                Error::Unsupported(Unsupported::ImageMount(text())),
                Code::Unimplemented,
                "why",
            ),
        ] {
            let status = of(error);
            assert_eq!((status.code(), status.message()), (code, message));
        }
    }
}
