//! What may be the name of a volume, and names that are made up.
//!
//! Pure but for the random bytes. The local driver's rule and its texts are dockerd's (`volume/local/local.go`).
//! dockerd lets plugins have any name; here it must at least be something that can be shown and stored.

use super::Problem;

/// The longest name, in bytes. The local driver's end at 255, where Linux' file names do.
pub const NAME_MAX_BYTES: usize = 1024;
/// The longest name of a directory.
const FILE_NAME_MAX_BYTES: usize = 255;
/// How many random bytes a made-up name has; it shows them in hexadecimal.
const RANDOM_BYTES: usize = 32;

/// Checks the name of a local volume.
pub(super) fn check_local(name: &str) -> Result<(), Problem> {
    let first = |c: u8| c.is_ascii_alphanumeric();
    let rest = |c: u8| first(c) || matches!(c, b'_' | b'.' | b'-');
    if name.len() == 1 {
        let text = "volume name is too short, names should be at least two alphanumeric characters";
        return Err(Problem::Name(text.to_owned()));
    }
    if !name.bytes().next().is_some_and(first) || !name.bytes().all(rest) {
        let name = quoted(name);
        return Err(Problem::Name(format!(
            "{name} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    if name.len() > FILE_NAME_MAX_BYTES {
        let bytes = name.len();
        return Err(Problem::Name(format!(
            "volume name is too long: {bytes} bytes, at most {FILE_NAME_MAX_BYTES} for a local volume"
        )));
    }
    Ok(())
}

/// Checks the name of a plugin's volume.
pub(super) fn check_any(name: &str) -> Result<(), Problem> {
    if name.len() > NAME_MAX_BYTES {
        let bytes = name.len();
        return Err(Problem::Name(format!(
            "volume name is too long: {bytes} bytes, at most {NAME_MAX_BYTES} are allowed"
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(Problem::Name(format!("volume name {name:?} includes control characters")));
    }
    Ok(())
}

/// A name as Go's `%q` shows it, which is what clients of dockerd read.
fn quoted(name: &str) -> String {
    let shown = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", name.chars().map(shown).collect::<String>())
}

/// A name for a volume that got none: 64 hexadecimal digits.
pub(super) fn made_up() -> Result<String, Problem> {
    let mut bytes = [0_u8; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(Problem::Random)?;
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    Ok(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_as_go_does() {
        assert_eq!(quoted("a\0\u{7f}\u{85}"), r#""a\x00\x7f\u0085""#);
        assert_eq!(quoted("\"\\\n\u{7}ä"), r#""\"\\\n\aä""#);
    }

    #[test]
    fn local_names_are_dockers() {
        for good in ["ab", "a_", "0.-", "A.b-C_9", "a..", &"a".repeat(255)] {
            assert!(check_local(good).is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in
            ["", "a", "é", ".a", "-a", "_a", "..", "a/b", "a b", "a\n", "aé", "a\0", "/abs", long.as_str()]
        {
            assert!(check_local(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn texts_are_dockerds() {
        assert_eq!(
            check_local("a/b").unwrap_err().to_string(),
            "\"a/b\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        );
        assert_eq!(
            check_local("a").unwrap_err().to_string(),
            "volume name is too short, names should be at least two alphanumeric characters"
        );
    }

    #[test]
    fn a_plugins_names_must_only_be_presentable() {
        assert!(check_any("pool/vol @1 é").is_ok());
        assert!(check_any("a\u{1b}[2J").is_err());
        assert!(check_any(&"a".repeat(NAME_MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn made_up_names_are_64_digits_and_good() {
        let (one, other) = (made_up().unwrap(), made_up().unwrap());
        assert_ne!(one, other);
        assert!(one.len() == 64 && one.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')), "{one}");
        assert!(check_local(&one).is_ok());
    }
}
