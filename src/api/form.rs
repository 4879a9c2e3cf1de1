//! The query of a request, as Go's `ParseForm` and dockerd's `httputils` read it. Pure.

use jiff::Timestamp;

use super::error::{Failure, Result};
use super::filters::Filters;
use super::moment::timestamp;

/// The parameters of a query, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads `a=b&c`; nothing is an empty form.
    ///
    /// # Errors
    /// Invalid, in Go's words: a bad percent sign, or a semicolon.
    pub(super) fn parse(query: &str) -> Result<Self> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            if pair.contains(';') {
                return Err(Failure::invalid("invalid semicolon separator in query"));
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((unescape(key, true)?, unescape(value, true)?))
        });
        pairs.collect::<Result<_>>().map(Self)
    }

    /// The parameters, in order.
    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// The first value of a key; empty if it is not there.
    pub(super) fn text(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    /// All values of a key; `None` if it is not there at all.
    pub(super) fn all(&self, key: &str) -> Option<Vec<&str>> {
        let values: Vec<&str> =
            self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then_some(values)
    }

    /// dockerd's idea of a bool: everything is true but nothing, `0`, `no`, `false` and `none`.
    pub(super) fn bool(&self, key: &str) -> bool {
        !matches!(self.text(key).trim().to_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A whole number.
    ///
    /// # Errors
    /// Invalid, with the text of Go's `Atoi`; also when the key is not there.
    pub(super) fn integer(&self, key: &str) -> Result<i64> {
        let text = self.text(key);
        // Go takes "+5" and "-5", as Rust does.
        text.parse().map_err(|error: std::num::ParseIntError| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let reason = match error.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Failure::invalid(format!("strconv.Atoi: parsing {text:?}: {reason}"))
        })
    }

    /// A moment; `None` when it is empty or not there.
    ///
    /// # Errors
    /// Invalid, in Go's words.
    pub(super) fn time(&self, key: &str) -> Result<Option<Timestamp>> {
        match self.text(key) {
            "" => Ok(None),
            text => timestamp(text).map(Some).map_err(Failure::invalid),
        }
    }

    /// The parameter `filters`.
    ///
    /// # Errors
    /// Invalid: see [`Filters::parse`].
    pub(super) fn filters(&self) -> Result<Filters> {
        Filters::parse(self.text("filters"))
    }
}

/// Undoes percent signs, and `+` for a space where that is asked for.
///
/// # Errors
/// Invalid, in Go's words; also for what is not UTF-8 then, which no name of ours is.
pub(super) fn unescape(text: &str, plus_is_space: bool) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'%' => {
                let digit = |place: usize| after.get(place).and_then(|digit| char::from(*digit).to_digit(16));
                let value = digit(0).zip(digit(1)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                let Some(value) = value else {
                    let bad = String::from_utf8_lossy(after.get(..2).unwrap_or(after)).into_owned();
                    return Err(Failure::invalid(format!("invalid URL escape {:?}", format!("%{bad}"))));
                };
                rest = after.get(2..).unwrap_or_default();
                value
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| Failure::invalid("the URL is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_in_go() {
        let form = Form::parse("a=1&b=x+y%2Fz&&c&a=2&d=%C3%A4&=e").unwrap();
        assert_eq!(form.text("a"), "1");
        assert_eq!(form.all("a"), Some(vec!["1", "2"]));
        assert_eq!(form.text("b"), "x y/z");
        assert_eq!(form.all("c"), Some(vec![""]));
        assert_eq!(form.text("d"), "ä");
        assert_eq!((form.text("z"), form.all("z")), ("", None));
        for (query, text) in [
            ("a=%", "invalid URL escape \"%\""),
            ("a=%4", "invalid URL escape \"%4\""),
            ("%zz=1", "invalid URL escape \"%zz\""),
            ("a=1;b=2", "invalid semicolon separator in query"),
        ] {
            assert_eq!(Form::parse(query), Err(Failure::invalid(text)), "{query}");
        }
    }

    #[test]
    fn a_bool_is_true_unless_it_is_one_of_five() {
        for (text, expected) in [
            ("", false),
            ("k", false),
            ("k=0", false),
            ("k=NO", false),
            ("k=%20False+", false),
            ("k=none", false),
            ("k=1", true),
            ("k=true", true),
            ("k=off", true),
            ("k=00", true),
        ] {
            assert_eq!(Form::parse(text).unwrap().bool("k"), expected, "{text}");
        }
    }

    #[test]
    fn an_integer_must_be_there() {
        for (text, expected) in [
            ("k=5", Ok(5)),
            ("k=-5", Ok(-5)),
            ("k=%2B5", Ok(5)),
            ("", Err("strconv.Atoi: parsing \"\": invalid syntax")),
            ("k=1.5", Err("strconv.Atoi: parsing \"1.5\": invalid syntax")),
            (
                "k=9223372036854775808",
                Err("strconv.Atoi: parsing \"9223372036854775808\": value out of range"),
            ),
        ] {
            assert_eq!(Form::parse(text).unwrap().integer("k"), expected.map_err(Failure::invalid), "{text}");
        }
    }
}
