//! `GET /volumes`: Docker's `ListResponse`, `{"Volumes": [...], "Warnings": null}`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde::Serialize;

use super::Shape;
use crate::api::error::{Failure, Result};
use crate::api::form::Form;
use crate::api::pieces::Item;
use crate::api::{Rooms, pieces};
use crate::volumes::{Filter, Volume};

impl Item for Arc<Volume> {
    fn shape(&self) -> impl Serialize {
        Shape::of(self)
    }
}

/// `GET /volumes?filters=`
pub(in crate::api) async fn list(State(rooms): State<Rooms>, form: Form) -> Result<Response<Body>> {
    let terms = form.filters().map_err(|failure| failure.while_doing("error reading volume filters"))?;
    let listing = rooms.volumes.list(&Filter::parse(&terms.into_terms())?).await;
    // Null if there are none.
    let warnings = Some(listing.warnings).filter(|warnings| !warnings.is_empty());
    let warnings = serde_json::to_string(&warnings).map_err(|error| Failure::unwritten(&error))?;
    let after = format!("],\"Warnings\":{warnings}}}\n");
    Ok(pieces::answer(b"{\"Volumes\":[".to_vec(), listing.volumes, after.into_bytes()))
}
