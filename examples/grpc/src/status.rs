//! Owns which status of gRPC an error of Sealane is, and how long a call may take by its headers.

use std::sync::Arc;
use std::time::Duration;

use sealane::{Error, Fault};
use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};

use crate::head::Malformed;

/// The status that a call ends with which Sealane ended. Its source is the error, which says more: whether the call may have run, for one.
pub fn of_error(error: Error) -> Status {
    let code = match &error {
        Error::TooLong { .. } | Error::TooLongForPeer | Error::TooManySessions(_) => Code::ResourceExhausted,
        Error::Deadline { .. } => Code::DeadlineExceeded,
        // The peer is not who it should be, or we are not who it lets in; silence is no proof of either.
        Error::Handshake { .. } if error.fault() == Fault::Peer => Code::Unauthenticated,
        Error::Credentials(_) => Code::Unauthenticated,
        // It gave up without an answer: its handler panicked, or it is another program.
        Error::Refused { .. } => Code::Internal,
        Error::Config(_) | Error::UnknownRequest(_) | Error::UnknownCall(_) | Error::System { .. } => Code::Internal,
        _ => Code::Unavailable,
    };
    let mut status = Status::new(code, error.to_string());
    status.set_source(Arc::new(error));
    status
}

/// The status of a peer that does not speak as this crate does.
pub fn of_malformed(why: Malformed) -> Status {
    Status::internal(why.to_string())
}

/// The status of a message that is too long.
pub fn too_long(length: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("the message has {length} bytes; at most {limit} are allowed"))
}

/// What `grpc-timeout` says, if it says anything that can be understood: at most eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(timeout(&HeaderMap::new()), None);
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(of("1n"), Some(Duration::from_nanos(1)));
        for wrong in ["", "m", "1", "1x", "-1S", "+1S", "123456789S", "1.5S"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
