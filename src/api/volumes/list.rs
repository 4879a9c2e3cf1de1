//! `GET /volumes`. A long list is written piece by piece while it is sent: as a whole it would take more memory than the
//! volumes themselves, and its making would keep other requests waiting.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;
use futures_util::stream;
use serde::Serialize;

use super::Shape;
use crate::api::error::Result;
use crate::api::form::Form;
use crate::api::{Rooms, reply};
use crate::volumes::{Filter, Volume};

/// How many volumes are written at a time.
const PIECE_VOLUMES: usize = 1_000;

/// Docker's `ListResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct List<'a> {
    volumes: Vec<Shape<'a>>,
    /// Null if there are none.
    warnings: Option<Vec<String>>,
}

/// `GET /volumes?filters=`
pub(in crate::api) async fn list(State(rooms): State<Rooms>, form: Form) -> Result<Response<Body>> {
    let terms = form.filters().map_err(|failure| failure.while_doing("error reading volume filters"))?;
    let listing = rooms.volumes.list(&Filter::parse(&terms.into_terms())?).await;
    let warnings = Some(listing.warnings).filter(|warnings| !warnings.is_empty());
    if listing.volumes.len() <= PIECE_VOLUMES {
        let volumes = listing.volumes.iter().map(|volume| Shape::of(volume)).collect();
        return Ok(reply::ok(&List { volumes, warnings }));
    }
    let mut response = Response::new(Body::from_stream(stream::iter(pieces(listing.volumes, warnings))));
    response.headers_mut().insert(CONTENT_TYPE, reply::JSON);
    Ok(response)
}

/// A [`List`] that is not empty, in pieces that are made when they are asked for.
fn pieces(
    volumes: Vec<Arc<Volume>>,
    warnings: Option<Vec<String>>,
) -> impl Iterator<Item = serde_json::Result<Bytes>> {
    (0..volumes.len()).step_by(PIECE_VOLUMES).map(move |from| {
        let to = volumes.len().min(from + PIECE_VOLUMES);
        let mut bytes = Vec::new();
        for (number, volume) in volumes[from..to].iter().enumerate() {
            bytes.extend_from_slice(if from + number == 0 { b"{\"Volumes\":[" } else { b"," });
            serde_json::to_writer(&mut bytes, &Shape::of(volume))?;
        }
        if to == volumes.len() {
            bytes.extend_from_slice(b"],\"Warnings\":");
            serde_json::to_writer(&mut bytes, &warnings)?;
            bytes.extend_from_slice(b"}\n");
        }
        Ok(bytes.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::Reach;

    #[test]
    fn pieces_are_the_list() {
        for count in [1, PIECE_VOLUMES, PIECE_VOLUMES + 1, 2 * PIECE_VOLUMES + 7] {
            let volume = |number: usize| {
                Arc::new(Volume {
                    name: format!("v{number}"),
                    driver: "local".to_owned(),
                    mountpoint: None,
                    created_at: None,
                    reach: Reach::Local,
                    labels: None,
                    options: None,
                    status: None,
                })
            };
            let volumes: Vec<_> = (0..count).map(volume).collect();
            let warnings = Some(vec!["list x: <why>".to_owned()]);
            let list = List {
                volumes: volumes.iter().map(|volume| Shape::of(volume)).collect(),
                warnings: warnings.clone(),
            };
            let mut expected = serde_json::to_vec(&list).unwrap();
            expected.push(b'\n');
            let written: Vec<_> = pieces(volumes, warnings).map(std::result::Result::unwrap).collect();
            assert_eq!(written.len(), count.div_ceil(PIECE_VOLUMES));
            assert!(written.concat() == expected, "{count}");
        }
    }
}
