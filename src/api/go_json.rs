//! What Go's `encoding/json` says of JSON that is none: the words dockerd's clients have read for years.
//!
//! Pure. The text is scanned here, to say in Go's words what is wrong with it (`encoding/json/scanner.go`, `decode.go`);
//! serde reads the value. It knows no request.

use serde_json::Value;

/// How Go was asked to read: that decides how it names an end that comes too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// `json.Unmarshal`: one value and nothing else.
    Unmarshal,
    /// `json.Decoder`: one value; what follows is not looked at.
    Decoder,
}

/// The value in a text, or Go's words for why there is none.
pub(super) fn read(text: &[u8], reader: Reader) -> Result<Value, String> {
    let mut scanner = Scanner { rest: text };
    match scanner.value() {
        Ok(()) => {}
        Err(End::Bad(byte, place)) => return Err(format!("invalid character {} {place}", quoted(byte))),
        Err(End::Early) => {
            let early = match reader {
                Reader::Unmarshal => "unexpected end of JSON input",
                Reader::Decoder if text.trim_ascii().is_empty() => "EOF",
                Reader::Decoder => "unexpected EOF",
            };
            return Err(early.to_owned());
        }
    }
    if reader == Reader::Unmarshal
        && let Some(byte) = scanner.rest.trim_ascii_start().first()
    {
        return Err(format!("invalid character {} after top-level value", quoted(*byte)));
    }
    let value = text.get(..text.len() - scanner.rest.len()).unwrap_or_default();
    // What Go takes and serde does not: too deep, a number beyond all limits, no UTF-8.
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

/// Go's complaint about a value of the wrong type; `of` is a Go type, or `struct field X.Y of type Z`.
pub(super) fn mismatch(got: &Value, into: &str) -> String {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {got} into Go {into}")
}

/// A byte as Go quotes it: as if it were a Latin-1 character.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0..=0x1f | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

/// Why the scanner stopped.
enum End {
    /// The text ended within the value.
    Early,
    /// This byte may not stand in that place.
    Bad(u8, &'static str),
}

/// What encloses the place the scanner is at.
#[derive(Clone, Copy)]
enum Inside {
    Array,
    Object,
}

/// What may come next.
enum Next {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    AfterValue,
}

struct Scanner<'a> {
    rest: &'a [u8],
}

impl Scanner<'_> {
    fn take(&mut self) -> Result<u8, End> {
        let (byte, rest) = self.rest.split_first().ok_or(End::Early)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// The next byte that is no white space.
    fn token(&mut self) -> Result<u8, End> {
        loop {
            match self.take()? {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                byte => return Ok(byte),
            }
        }
    }

    /// One value with all that is in it.
    fn value(&mut self) -> Result<(), End> {
        let mut inside: Vec<Inside> = Vec::new();
        let mut next = Next::Value;
        loop {
            if matches!(next, Next::AfterValue) && inside.is_empty() {
                return Ok(());
            }
            let byte = self.token()?;
            next = match (next, byte) {
                (Next::ValueOrEnd, b']') | (Next::KeyOrEnd, b'}') => {
                    inside.pop();
                    Next::AfterValue
                }
                (Next::Value | Next::ValueOrEnd, b'{') => {
                    inside.push(Inside::Object);
                    Next::KeyOrEnd
                }
                (Next::Value | Next::ValueOrEnd, b'[') => {
                    inside.push(Inside::Array);
                    Next::ValueOrEnd
                }
                (Next::Value | Next::ValueOrEnd, byte) => {
                    self.scalar(byte)?;
                    Next::AfterValue
                }
                (Next::Key | Next::KeyOrEnd, b'"') => {
                    self.string()?;
                    match self.token()? {
                        b':' => Next::Value,
                        byte => return Err(End::Bad(byte, "after object key")),
                    }
                }
                (Next::Key | Next::KeyOrEnd, byte) => {
                    return Err(End::Bad(byte, "looking for beginning of object key string"));
                }
                (Next::AfterValue, byte) => match (inside.last(), byte) {
                    (Some(Inside::Array), b',') => Next::Value,
                    (Some(Inside::Object), b',') => Next::Key,
                    (Some(Inside::Array), b']') | (Some(Inside::Object), b'}') => {
                        inside.pop();
                        Next::AfterValue
                    }
                    (Some(Inside::Array), byte) => return Err(End::Bad(byte, "after array element")),
                    (_, byte) => return Err(End::Bad(byte, "after object key:value pair")),
                },
            };
        }
    }

    /// A value that is neither array nor object, after its first byte.
    fn scalar(&mut self, first: u8) -> Result<(), End> {
        match first {
            b'"' => self.string(),
            b'-' => match self.take()? {
                digit @ b'0'..=b'9' => self.number(digit),
                byte => Err(End::Bad(byte, "in numeric literal")),
            },
            digit @ b'0'..=b'9' => self.number(digit),
            b't' => self.word(&[
                (b'r', "in literal true (expecting 'r')"),
                (b'u', "in literal true (expecting 'u')"),
                (b'e', "in literal true (expecting 'e')"),
            ]),
            b'f' => self.word(&[
                (b'a', "in literal false (expecting 'a')"),
                (b'l', "in literal false (expecting 'l')"),
                (b's', "in literal false (expecting 's')"),
                (b'e', "in literal false (expecting 'e')"),
            ]),
            b'n' => self.word(&[
                (b'u', "in literal null (expecting 'u')"),
                (b'l', "in literal null (expecting 'l')"),
                (b'l', "in literal null (expecting 'l')"),
            ]),
            byte => Err(End::Bad(byte, "looking for beginning of value")),
        }
    }

    /// The rest of a word: each byte, and what is said when another one is there.
    fn word(&mut self, rest: &[(u8, &'static str)]) -> Result<(), End> {
        for (expected, place) in rest {
            let byte = self.take()?;
            if byte != *expected {
                return Err(End::Bad(byte, place));
            }
        }
        Ok(())
    }

    /// The rest of a string.
    fn string(&mut self) -> Result<(), End> {
        loop {
            match self.take()? {
                b'"' => return Ok(()),
                b'\\' => match self.take()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let byte = self.take()?;
                            if !byte.is_ascii_hexdigit() {
                                return Err(End::Bad(byte, r"in \u hexadecimal character escape"));
                            }
                        }
                    }
                    byte => return Err(End::Bad(byte, "in string escape code")),
                },
                byte @ 0..=0x1f => return Err(End::Bad(byte, "in string literal")),
                _ => {}
            }
        }
    }

    /// The rest of a number, after its first digit.
    fn number(&mut self, first: u8) -> Result<(), End> {
        if first != b'0' {
            self.digits();
        }
        if self.skip(b".") {
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if self.skip(b"eE") {
            self.skip(b"+-");
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    /// Goes past one of these bytes, if it is next.
    fn skip(&mut self, bytes: &[u8]) -> bool {
        let found = self.rest.first().is_some_and(|byte| bytes.contains(byte));
        if found {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        found
    }

    fn digits(&mut self) {
        while self.skip(b"0123456789") {}
    }

    fn digit(&mut self, place: &'static str) -> Result<(), End> {
        match self.take()? {
            b'0'..=b'9' => Ok(()),
            byte => Err(End::Bad(byte, place)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_told_in_gos_words() {
        for (text, words) in [
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            ("tru", "unexpected end of JSON input"),
            ("falze", "invalid character 'z' in literal false (expecting 's')"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("'a'", r"invalid character '\'' looking for beginning of value"),
            ("\u{e4}", "invalid character 'Ã' looking for beginning of value"),
            ("", "unexpected end of JSON input"),
            ("  ", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("{bad", "invalid character 'b' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\": 1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("{\"a\": 1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[[1], {\"a\": []}", "unexpected end of JSON input"),
            ("[01]", "invalid character '1' after array element"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1e+x", "invalid character 'x' in exponent of numeric literal"),
            ("\"\n\"", r"invalid character '\n' in string literal"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (r#""\u12g4""#, r"invalid character 'g' in \u hexadecimal character escape"),
            ("{} {}", "invalid character '{' after top-level value"),
            ("1x", "invalid character 'x' after top-level value"),
        ] {
            assert_eq!(read(text.as_bytes(), Reader::Unmarshal), Err(words.to_owned()), "{text}");
        }
        assert_eq!(read(b"{", Reader::Decoder), Err("unexpected EOF".to_owned()));
        assert_eq!(read(b" ", Reader::Decoder), Err("EOF".to_owned()));
    }

    #[test]
    fn what_is_json_is_read() {
        for text in ["null", " {\"a\": [1, -0.5e+3, \"\\u00e4\\n\", true, {}]} ", "[]"] {
            assert!(read(text.as_bytes(), Reader::Unmarshal).is_ok(), "{text}");
        }
        assert_eq!(read(b"[] nonsense", Reader::Decoder), Ok(serde_json::json!([])));
        // serde's limit of depth, which Go does not have, is told in serde's words.
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(read(deep.as_bytes(), Reader::Decoder).unwrap_err().contains("recursion limit"));
    }

    proptest::proptest! {
        /// Whatever serde refuses (but for its own limits), the scanner has words for; it never takes more than serde.
        #[test]
        fn the_scanner_agrees_with_serde(text in r#"[\[\]{}:,"0-9.eE+\-tfnrualsx\\ ]{0,24}"#) {
            let reads = serde_json::from_str::<Value>(&text);
            let words = read(text.as_bytes(), Reader::Unmarshal);
            match reads {
                Ok(value) => proptest::prop_assert_eq!(words, Ok(value)),
                Err(error) if error.to_string().contains("out of range") => {}
                Err(_) => {
                    let words = words.unwrap_err();
                    let ours = words.starts_with("invalid character") || words.starts_with("unexpected end");
                    proptest::prop_assert!(ours, "{}", words);
                }
            }
        }
    }
}
