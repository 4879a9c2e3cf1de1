//! A group of changes as bytes that prove themselves whole. Pure: this file knows no disk and no database.
//!
//! ```text
//! series  8 bytes   which database the frame belongs to
//! number  8 bytes   counts frames from 1 on, over the life of the database
//! length  4 bytes   of what follows the check
//! check   16 bytes  SHA-256, cut short, of all the rest
//! steps   each: a letter (p put, d delete), then table, key and, of a put, value, each after its length in 4 bytes
//! ```
//! All numbers are little-endian.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use super::change::Step;

/// The bytes before the steps.
const HEAD_BYTES: usize = 8 + 8 + 4 + CHECK_BYTES;
const CHECK_BYTES: usize = 16;
/// What is counted in with the check: bytes of another layout than this one's do not pass for a frame.
const LAYOUT: &[u8] = b"dockplug journal 1";

/// The bytes of a frame; `None` when the steps have more bytes than a length can say.
pub(super) fn encode<'a>(series: u64, number: u64, steps: impl Iterator<Item = &'a Step>) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEAD_BYTES];
    for step in steps {
        frame.push(if step.value.is_some() { b'p' } else { b'd' });
        for part in [step.table.as_bytes(), step.key.as_bytes()].into_iter().chain(step.value.as_deref()) {
            frame.extend(u32::try_from(part.len()).ok()?.to_le_bytes());
            frame.extend(part);
        }
    }
    let (head, body) = frame.split_at_mut(HEAD_BYTES);
    head[..8].copy_from_slice(&series.to_le_bytes());
    head[8..16].copy_from_slice(&number.to_le_bytes());
    head[16..20].copy_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
    let check = check(&head[..20], body);
    head[20..].copy_from_slice(&check);
    Some(frame)
}

/// The steps of the frame at the beginning of `bytes`, and how many bytes it has; `None` when there is no whole frame of
/// this series with this number.
pub(super) fn decode(bytes: &[u8], series: u64, number: u64) -> Option<(Vec<Step>, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    if head[..8] != series.to_le_bytes() || head[8..16] != number.to_le_bytes() {
        return None;
    }
    let length = usize::try_from(u32::from_le_bytes(head[16..20].try_into().ok()?)).ok()?;
    let mut body = rest.get(..length)?;
    if head[20..] != check(&head[..20], body) {
        return None;
    }
    let mut steps = Vec::new();
    while let Some((letter, rest)) = body.split_first() {
        body = rest;
        let mut text = || String::from_utf8(part(&mut body)?.to_vec()).ok();
        let (table, key) = (Cow::Owned(text()?), text()?);
        let value = match letter {
            b'p' => Some(part(&mut body)?.to_vec()),
            _ => None,
        };
        steps.push(Step { table, key, value });
    }
    Some((steps, HEAD_BYTES + length))
}

/// Takes a length and as many bytes.
fn part<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *body = rest;
    Some(part)
}

fn check(head: &[u8], body: &[u8]) -> [u8; CHECK_BYTES] {
    let whole = Sha256::new().chain_update(LAYOUT).chain_update(head).chain_update(body).finalize();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&whole[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Vec<Step> {
        let step = |key: &str, value: Option<&[u8]>| Step {
            table: Cow::Borrowed("volumes"),
            key: key.to_owned(),
            value: value.map(<[u8]>::to_vec),
        };
        vec![step("a", Some(b"{}")), step("", Some(b"")), step("\u{fc}", None)]
    }

    #[test]
    fn what_was_written_is_read() {
        let mut bytes = encode(7, 9, steps().iter()).unwrap();
        let length = bytes.len();
        bytes.extend(b"whatever follows");
        let (read, taken) = decode(&bytes, 7, 9).unwrap();
        assert_eq!((read, taken), (steps(), length));
        assert_eq!(decode(&encode(7, 1, [].iter()).unwrap(), 7, 1), Some((vec![], HEAD_BYTES)));
    }

    #[test]
    fn only_the_frame_that_is_expected_is_one() {
        let bytes = encode(7, 9, steps().iter()).unwrap();
        assert_eq!(decode(&bytes, 7, 10), None);
        assert_eq!(decode(&bytes, 8, 9), None);
        assert_eq!(decode(&[0; 4096], 0, 0), None);
    }

    #[test]
    fn a_frame_that_is_not_whole_is_none() {
        let bytes = encode(7, 9, steps().iter()).unwrap();
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end], 7, 9), None, "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 0x10;
            assert_eq!(decode(&bent, 7, 9), None, "bent at {at}");
        }
    }
}
