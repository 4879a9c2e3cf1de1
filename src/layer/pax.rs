//! The records of a PAX extended header: `LENGTH KEY=VALUE\n`, and what they change in the header that follows.
//!
//! Pure. The rules are Go's (`archive/tar`: `parsePAXRecord`, `validPAXRecord`, `mergePAX`, `parsePAXTime`): the
//! length rules, never the newline; the last record of a key wins; an empty value keeps the header's; NUL has no
//! place in a name.

use std::collections::BTreeMap;

use crate::confine::Time;

use super::header::{Header, Problem};

/// What stands before an extended attribute's name in the key of its record.
pub(super) const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";
/// A record is at least a digit, a space, a key of one byte, `=` and a newline.
const RECORD_MIN_BYTES: usize = 5;
const NANOSECOND_DIGITS: usize = 9;

/// Extended attributes by name.
pub(super) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Applies all records to `header`; gives the extended attributes back.
pub(super) fn merge(records: &[u8], header: &mut Header) -> Result<Xattrs, Problem> {
    let mut last = BTreeMap::new();
    let mut rest = records;
    while !rest.is_empty() {
        let (key, value, after) = record(rest)?;
        last.insert(key, value);
        rest = after;
    }
    let mut xattrs = Xattrs::new();
    for (key, value) in last {
        if key.starts_with(SPARSE_PREFIX) {
            return Err("sparse files are not supported: make the archive without --sparse".into());
        }
        if value.is_empty() {
            continue;
        }
        match key {
            b"path" => header.name = value.to_vec(),
            b"linkpath" => header.link = value.to_vec(),
            b"size" => header.size = integer("size", value)?,
            b"uid" => header.uid = integer("uid", value)?,
            b"gid" => header.gid = integer("gid", value)?,
            b"mtime" => header.modified = time(value)?,
            b"atime" | b"ctime" => drop(time(value)?),
            key => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    xattrs.insert(name.to_vec(), value.to_vec());
                }
            }
        }
    }
    Ok(xattrs)
}

/// Key, value, and the bytes after the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits the first record off.
fn record(data: &[u8]) -> Result<Record<'_>, Problem> {
    let malformed = || Problem::Borrowed("its PAX records are malformed");
    let space = data.iter().position(|&byte| byte == b' ').ok_or_else(malformed)?;
    let (digits, body) = data.split_at_checked(space).ok_or_else(malformed)?;
    let length: usize =
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?;
    if length < RECORD_MIN_BYTES {
        return Err(malformed());
    }
    let length = length.checked_sub(space).filter(|&length| length >= 2).ok_or_else(malformed)?;
    let (body, rest) = body.split_at_checked(length).ok_or_else(malformed)?;
    let pair = body.strip_prefix(b" ").and_then(|body| body.strip_suffix(b"\n")).ok_or_else(malformed)?;
    let equals = pair.iter().position(|&byte| byte == b'=').ok_or_else(malformed)?;
    let (key, value) = pair.split_at_checked(equals).ok_or_else(malformed)?;
    let value = value.get(1..).unwrap_or_default();
    let nul = match key {
        b"" => true,
        b"path" | b"linkpath" | b"uname" | b"gname" => value.contains(&0),
        key => key.contains(&0),
    };
    if nul { Err(malformed()) } else { Ok((key, value, rest)) }
}

fn integer(key: &'static str, value: &[u8]) -> Result<i64, Problem> {
    let parsed = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
    parsed.ok_or_else(|| format!("its PAX {key} is no number").into())
}

fn time(value: &[u8]) -> Result<Time, Problem> {
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let (whole, part) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let seconds = integer("time", whole)?;
    if !part.iter().all(u8::is_ascii_digit) {
        return Err("its PAX time is no number".into());
    }
    let digits = part.iter().copied().chain(std::iter::repeat(b'0')).take(NANOSECOND_DIGITS);
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    if whole.starts_with(b"-") && nanoseconds > 0 {
        // -1.25 is a quarter of a second before -1.
        let seconds = seconds.checked_sub(1).ok_or("its PAX time is out of range")?;
        return Ok(Time { seconds, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Ok(Time { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            type_flag: b'0',
            name: b"short".to_vec(),
            link: Vec::new(),
            mode: 0,
            uid: 1,
            gid: 2,
            size: 3,
            modified: Time::default(),
            device: (0, 0),
        }
    }

    #[test]
    fn records_change_the_header() {
        let mut header = header();
        let records =
            b"12 path=a\nb\n13 uid=70000\n7 gid=\n24 SCHILY.xattr.user.a=\n25 SCHILY.xattr.user.b=x\n";
        let xattrs = merge(records, &mut header).unwrap();
        assert_eq!((header.name.as_slice(), header.uid, header.gid), (b"a\nb".as_slice(), 70000, 2));
        assert_eq!(xattrs, Xattrs::from([(b"user.b".to_vec(), b"x".to_vec())]));
    }

    #[test]
    fn the_last_record_wins() {
        let mut header = header();
        merge(b"9 path=a\n9 path=b\n", &mut header).unwrap();
        assert_eq!(header.name, b"b");
        merge(b"9 path=c\n8 path=\n", &mut header).unwrap();
        assert_eq!(header.name, b"b", "an empty value takes back the one before, and keeps the header's");
    }

    #[test]
    fn malformed_records_are_refused() {
        let cases: [&[u8]; 15] = [
            b"x",
            b"5 a=b\n",
            b"7 a=b\n",
            b"4 =\n",
            b"5 =a\n",
            b"99999999999999999999 a=b\n",
            b"99 a=b\n",
            b"-6 a=b\n",
            b"6 a=bX",
            b"6 abc\n",
            b"11 path=a\0b\n",
            b"7 a\0=b\n",
            b"10 size=x\n",
            b"13 mtime=1.x\n",
            b"25 GNU.sparse.major=1\n1\n",
        ];
        for case in cases {
            assert!(merge(case, &mut header()).is_err(), "{}", String::from_utf8_lossy(case));
        }
    }

    #[test]
    fn times_have_nanoseconds_and_may_be_negative() {
        let cases = [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1.0000000019", 1, 1),
            ("-1.25", -2, 750_000_000),
            ("-3", -3, 0),
            ("7.", 7, 0),
        ];
        for (text, seconds, nanoseconds) in cases {
            assert_eq!(time(text.as_bytes()).unwrap(), Time { seconds, nanoseconds }, "{text}");
        }
    }
}
