//! Errors as a client sees them: a status and `{"message": …}`. The one match from [`Kind`] to status is here.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::reply;
use crate::error::{Classified, Kind, chain};

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    message: String,
}

/// What handlers return.
pub type Result<T> = std::result::Result<T, Failure>;

/// dockerd's error body.
#[derive(Debug, Serialize)]
struct Body<'a> {
    message: &'a str,
}

impl Failure {
    /// A failure that begins here, in the words a client shall read.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The request itself is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// dockerd's answer to a path or a method it does not know.
    pub fn page_not_found() -> Self {
        Self::new(Kind::NotFound, "page not found")
    }

    /// An answer that has no JSON, which our own types always have.
    pub(super) fn unwritten(error: &serde_json::Error) -> Self {
        Self::new(Kind::Internal, error.to_string())
    }

    /// What the client reads.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same failure, told with what was being done.
    #[must_use]
    pub fn while_doing(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

/// The one place where kinds meet HTTP.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Full => StatusCode::INSUFFICIENT_STORAGE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Every error of every room becomes its kind and its whole chain.
impl<E: Classified> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { kind: error.kind(), message: chain(&error) }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if matches!(self.kind, Kind::Internal | Kind::Full) {
            tracing::error!(error = self.message, "a request failed");
        }
        reply::json(status(self.kind), &Body { message: &self.message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("removing {name}")]
    struct Outer {
        name: &'static str,
        #[source]
        cause: std::io::Error,
    }

    impl Classified for Outer {
        fn kind(&self) -> Kind {
            Kind::Conflict
        }
    }

    #[tokio::test]
    async fn an_error_of_a_room_is_its_status_and_its_chain() {
        let error = Outer { name: "<x>", cause: std::io::Error::other("in use") };
        let response = Failure::from(error).while_doing("plugin").into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        assert_eq!(body, "{\"message\":\"plugin: removing <x>: in use\"}\n");
    }

    #[test]
    fn each_kind_has_a_status_of_its_own() {
        let kinds = [
            (Kind::NotFound, 404),
            (Kind::Invalid, 400),
            (Kind::Conflict, 409),
            (Kind::Unauthorized, 401),
            (Kind::Forbidden, 403),
            (Kind::NotModified, 304),
            (Kind::NotImplemented, 501),
            (Kind::Unavailable, 503),
            (Kind::Full, 507),
            (Kind::Internal, 500),
        ];
        for (kind, expected) in kinds {
            assert_eq!(status(kind).as_u16(), expected, "{kind:?}");
        }
    }
}
