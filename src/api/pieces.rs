//! An answer with an array in it that may be very long. Such an array is written piece by piece while it is sent: as a whole
//! it would take more memory than what it tells of, and its making would keep other requests waiting.

use axum::body::{Body, Bytes};
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;
use futures_util::stream;
use serde::Serialize;

use super::reply;

/// How many items are written at a time.
const PIECE_ITEMS: usize = 1_000;

/// An item of the array in its JSON shape.
pub(super) trait Item: Send + 'static {
    /// What is written of it.
    fn shape(&self) -> impl Serialize;
}

/// JSON: `before`, which ends where the array's items begin, the items with commas between them, and `after`, which
/// begins with the array's end.
pub(super) fn answer<T: Item>(before: Vec<u8>, items: Vec<T>, after: Vec<u8>) -> Response<Body> {
    let mut pieces = pieces(before, items, after);
    let body = match (pieces.next(), pieces.len()) {
        // Told with its length.
        (Some(Ok(all)), 0) => Body::from(all),
        (first, _) => Body::from_stream(stream::iter(first.into_iter().chain(pieces))),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, reply::JSON);
    response
}

/// All of it, in pieces that are made when they are asked for.
fn pieces<T: Item>(
    mut before: Vec<u8>,
    items: Vec<T>,
    mut after: Vec<u8>,
) -> impl ExactSizeIterator<Item = serde_json::Result<Bytes>> + Send {
    let count = items.len().div_ceil(PIECE_ITEMS).max(1);
    (0..count).map(move |piece| {
        let from = piece * PIECE_ITEMS;
        let to = items.len().min(from + PIECE_ITEMS);
        let mut bytes = std::mem::take(&mut before);
        for (number, item) in items[from..to].iter().enumerate() {
            if from + number > 0 {
                bytes.push(b',');
            }
            serde_json::to_writer(&mut bytes, &item.shape())?;
        }
        if piece + 1 == count {
            bytes.append(&mut after);
        }
        Ok(bytes.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Item for usize {
        fn shape(&self) -> impl Serialize {
            serde_json::json!({ "Number": self })
        }
    }

    #[test]
    fn pieces_are_the_whole() {
        for count in [0, 1, PIECE_ITEMS, PIECE_ITEMS + 1, 2 * PIECE_ITEMS + 7] {
            let items: Vec<usize> = (0..count).collect();
            let array: Vec<_> = items.iter().map(|item| serde_json::json!({ "Number": item })).collect();
            let expected = format!("{{\"A\":{},\"B\":null}}\n", serde_json::to_string(&array).unwrap());
            let pieces = pieces(b"{\"A\":[".to_vec(), items, b"],\"B\":null}\n".to_vec());
            assert_eq!(pieces.len(), count.div_ceil(PIECE_ITEMS).max(1));
            let written: Vec<_> = pieces.map(Result::unwrap).collect();
            assert!(written.concat() == expected.as_bytes(), "{count}");
        }
    }
}
