//! `POST /auth`: `docker login`. Facts: moby 20.10 `api/server/router/system/system_routes.go`.

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde::Serialize;

use crate::api::error::{Failure, Result};
use crate::api::extract::Raw;
use crate::api::{Rooms, reply};
use crate::registry::{self, Account};

/// dockerd's `AuthenticateOKBody`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Accepted<'a> {
    identity_token: &'a str,
    status: &'a str,
}

/// `POST /auth`
pub(in crate::api) async fn authenticate(
    State(rooms): State<Rooms>,
    Raw(body): Raw,
) -> Result<Response<Body>> {
    let account = account(&body)?;
    let login = registry::login(rooms.hosts, &account.server_address, &account.credentials).await?;
    Ok(reply::ok(&Accepted { identity_token: &login.identity_token, status: login.status }))
}

/// The account in a body. No value of it is ever told.
fn account(body: &[u8]) -> Result<Account> {
    let invalid = |reason: &str| Failure::invalid(format!("invalid X-Registry-Auth header: {reason}"));
    let mut documents = serde_json::Deserializer::from_slice(body).into_iter::<serde::de::IgnoredAny>();
    match documents.next() {
        Some(Ok(_)) => {}
        None => return Err(invalid("invalid JSON: EOF")),
        // serde's message would quote a value.
        Some(Err(error)) => {
            let place = format!("invalid JSON at line {} column {}", error.line(), error.column());
            return Err(invalid(&place));
        }
    }
    if documents.next().is_some() {
        return Err(invalid("multiple JSON documents not allowed"));
    }
    Account::from_json(body).ok_or_else(|| invalid("invalid JSON: expected an object of strings"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_account_is_refused_without_a_word_of_it() {
        let read = account(br#"{"username":"ann","password":"hunter22","serveraddress":"a:1"}"#).unwrap();
        assert_eq!((read.server_address.as_str(), read.credentials.username.as_str()), ("a:1", "ann"));
        for body in
            ["", "{", "[\"hunter22\"]", "{\"username\":{\"hunter22\":1}}", "{} {\"password\":\"hunter22\"}"]
        {
            let failure = account(body.as_bytes()).unwrap_err();
            assert!(failure.message().starts_with("invalid X-Registry-Auth header: "), "{failure:?}");
            assert!(!failure.message().contains("hunter22"), "{failure:?}");
        }
    }
}
