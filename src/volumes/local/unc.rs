//! The device of a cifs volume, `//host/share`: read as dockerd reads it, which takes it for a URL. Pure.
//!
//! What is refused, and the words for it, are those of Go's `net/url`.

use std::net::IpAddr;

use super::{Error, secret};

/// Where the host of a device stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority<'a> {
    before: &'a str,
    /// With the port, if there is one.
    host: &'a str,
    port: &'a str,
    after: &'a str,
}

/// Refuses at create what dockerd refuses.
pub(super) fn check(device: &str) -> Result<(), Error> {
    match host(device)? {
        Some(Authority { port, .. }) if !port.is_empty() => Err(Error::PortInDevice),
        Some(_) | None => Ok(()),
    }
}

/// The device with the address of its host in the place of the name, and what was escaped after it as it is meant.
pub(super) fn resolved(
    device: &str,
    lookup: impl Fn(&str) -> Result<IpAddr, String>,
) -> Result<String, Error> {
    match host(device)? {
        Some(Authority { before, host, after, .. })
            if !host.is_empty() && host.parse::<IpAddr>().is_err() =>
        {
            let address = lookup(host).map_err(Error::Address)?;
            Ok(format!("{before}{address}{}", unescaped(after)))
        }
        Some(_) | None => Ok(device.to_owned()),
    }
}

/// The host of a device, if it names one.
fn host(device: &str) -> Result<Option<Authority<'_>>, Error> {
    let wrong = |problem: &str| {
        let device = secret::device(device);
        Error::DeviceUrl(format!("parse {device:?}: {problem}"))
    };
    if device.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(wrong("net/url: invalid control character in URL"));
    }
    let rest = after_scheme(device).map_err(wrong)?;
    let has_scheme = rest.len() < device.len();
    let Some(authority) = rest.strip_prefix("//").filter(|_| has_scheme || !rest.starts_with("///")) else {
        let first = rest.split('/').next().unwrap_or_default();
        if !has_scheme && first.contains(':') {
            return Err(wrong("first path segment in URL cannot contain colon"));
        }
        return Ok(None);
    };
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let begins = device.len() - rest.len() + "//".len() + authority.len() - host.len();
    let (name, port) = host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).unwrap_or((host, ""));
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong(&format!("invalid port {:?} after host", format!(":{port}"))));
    }
    if let Some(bad) = name.chars().find(|c| c.is_whitespace() || "\\^`{|}".contains(*c)) {
        return Err(wrong(&format!("invalid character {:?} in host name", bad.to_string())));
    }
    let after = &device[begins + host.len()..];
    match bad_escape(after) {
        Some(escape) => Err(wrong(&format!("invalid URL escape {escape:?}"))),
        None => Ok(Some(Authority { before: &device[..begins], host, port, after })),
    }
}

/// What follows `scheme:`, or all of it.
fn after_scheme(device: &str) -> Result<&str, &'static str> {
    for (at, byte) in device.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme"),
            b':' => return Ok(&device[at + 1..]),
            _ => break,
        }
    }
    Ok(device)
}

/// The first `%` that two hexadecimal digits do not follow, with what does.
fn bad_escape(text: &str) -> Option<String> {
    let is_bad = |(at, _): &(usize, &str)| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let (at, _) = text.match_indices('%').find(is_bad)?;
    Some(text[at..].chars().take(3).collect())
}

/// `%20` and the like as the bytes that they stand for. All escapes are good ones.
fn unescaped(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        bytes.extend(u8::from_str_radix(digits, 16).ok());
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(host: &str) -> Result<IpAddr, String> {
        match host {
            "nas.lan" => Ok([192, 0, 2, 7].into()),
            other => Err(format!("lookup {other}: no such host")),
        }
    }

    #[test]
    fn a_host_becomes_its_address() {
        for (device, expected) in [
            ("//nas.lan/share", "//192.0.2.7/share"),
            ("//nas.lan/my share", "//192.0.2.7/my share"),
            ("//nas.lan/my%20share+1", "//192.0.2.7/my share+1"),
            ("//nas.lan", "//192.0.2.7"),
            ("smb://me@nas.lan/a/b", "smb://me@192.0.2.7/a/b"),
            ("//192.0.2.1/my%20share", "//192.0.2.1/my%20share"),
            ("//::1/share", "//::1/share"),
            ("\\\\nas.lan\\share", "\\\\nas.lan\\share"),
            ("///nas.lan", "///nas.lan"),
            ("share", "share"),
        ] {
            let resolved = resolved(device, lookup).map_err(|error| error.to_string());
            assert_eq!(resolved.as_deref(), Ok(expected), "{device}");
        }
        let unknown = resolved("//nope/share", lookup).unwrap_err();
        let text = "error resolving passed in network volume address: lookup nope: no such host";
        assert_eq!(unknown.to_string(), text);
    }

    #[test]
    fn what_is_no_url_is_refused_in_the_words_of_go() {
        for (device, expected) in [
            (":::", r#"error parsing mount device url: parse ":::": missing protocol scheme"#),
            (
                "//some.example.com:2345/thepath",
                "port not allowed in CIFS device URL, include 'port' in 'o='",
            ),
            (
                "//host:x/s",
                r#"error parsing mount device url: parse "//host:x/s": invalid port ":x" after host"#,
            ),
            (
                "1:2",
                r#"error parsing mount device url: parse "1:2": first path segment in URL cannot contain colon"#,
            ),
            ("//h/%zz", r#"error parsing mount device url: parse "//h/%zz": invalid URL escape "%zz""#),
            (
                "//a b/s",
                r#"error parsing mount device url: parse "//a b/s": invalid character " " in host name"#,
            ),
            (
                "//u:pw@h/%",
                r#"error parsing mount device url: parse "//u:********@h/%": invalid URL escape "%""#,
            ),
        ] {
            assert_eq!(check(device).map_err(|error| error.to_string()), Err(expected.to_owned()));
        }
        for good in ["//some.example.com/thepath", "//h:/s", "//[::1]/s", "", "x", "smb:opaque"] {
            assert!(check(good).is_ok(), "{good}");
        }
    }
}
