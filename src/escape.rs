//! Texts in URLs: what would mean something there is escaped with percent signs. Pure. It knows no route.
//!
//! Facts: RFC 3986, 2.3 for what never needs it.

/// A text as a part of a path or a query. `keep` are further characters of ASCII that stay as they are.
pub fn escaped(text: &str, keep: &str) -> String {
    let stays =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.as_bytes().contains(&byte);
    text.bytes()
        .map(|byte| if stays(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_kept_stays() {
        assert_eq!(escaped("a-b._~Z9", ""), "a-b._~Z9");
        assert_eq!(escaped("me/p:1 %é", "/:"), "me/p:1%20%25%C3%A9");
        assert_eq!(escaped("me/p:1", ""), "me%2Fp%3A1");
    }
}
