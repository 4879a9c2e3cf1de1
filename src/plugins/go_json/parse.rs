//! Bytes to [`Node`]s, with the errors of Go's scanner.
//!
//! Facts: the states of `encoding/json/scanner.go`, `unquoteBytes` in `decode.go`.

use super::{DEPTH_MAX, Error, Node, Result, VALUES_MAX};

/// What is before and after a JSON value.
const SPACE: [u8; 4] = *b" \t\r\n";
/// What stands for bytes that are no UTF-8, and for half a surrogate pair.
const REPLACEMENT: char = '\u{fffd}';

/// Reads one value with nothing behind it.
pub(super) fn document(bytes: &[u8]) -> Result<Node> {
    let mut parser = Parser { rest: bytes, values_left: VALUES_MAX };
    let node = parser.value(0)?;
    match parser.peek() {
        None => Ok(node),
        Some(byte) => Err(invalid(byte, "after top-level value")),
    }
}

struct Parser<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Result<Node> {
        let begin = "looking for beginning of value";
        let byte = self.peek().ok_or_else(end)?;
        if matches!(byte, b'{' | b'[') && depth == DEPTH_MAX {
            return Err(invalid(byte, "exceeded max depth"));
        }
        self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or_else(|| Error::Syntax(format!("more than {VALUES_MAX} values")))?;
        match byte {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Node::String),
            b'-' | b'0'..=b'9' => self.number().map(Node::Number),
            b't' => self.literal("true").map(|()| Node::Bool(true)),
            b'f' => self.literal("false").map(|()| Node::Bool(false)),
            b'n' => self.literal("null").map(|()| Node::Null),
            byte => Err(invalid(byte, begin)),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node> {
        self.advance();
        let mut members = Vec::new();
        if self.peek() == Some(b'}') {
            self.advance();
            return Ok(Node::Object(members));
        }
        loop {
            match self.peek().ok_or_else(end)? {
                b'"' => {}
                byte => return Err(invalid(byte, "looking for beginning of object key string")),
            }
            let key = self.string()?;
            match self.peek().ok_or_else(end)? {
                b':' => self.advance(),
                byte => return Err(invalid(byte, "after object key")),
            }
            members.push((key, self.value(depth + 1)?));
            match self.peek().ok_or_else(end)? {
                b',' => self.advance(),
                b'}' => {
                    self.advance();
                    return Ok(Node::Object(members));
                }
                byte => return Err(invalid(byte, "after object key:value pair")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Node> {
        self.advance();
        let mut elements = Vec::new();
        if self.peek() == Some(b']') {
            self.advance();
            return Ok(Node::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            match self.peek().ok_or_else(end)? {
                b',' => self.advance(),
                b']' => {
                    self.advance();
                    return Ok(Node::Array(elements));
                }
                byte => return Err(invalid(byte, "after array element")),
            }
        }
    }

    fn literal(&mut self, word: &'static str) -> Result<()> {
        for expected in word.bytes() {
            match self.next().ok_or_else(end)? {
                byte if byte == expected => {}
                byte => {
                    let context = format!("in literal {word} (expecting {})", quoted(expected));
                    return Err(invalid(byte, &context));
                }
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<String> {
        let from = self.rest;
        let digits = |parser: &mut Self, context: &str| {
            match parser.next().ok_or_else(end)? {
                b'0'..=b'9' => {}
                byte => return Err(invalid(byte, context)),
            }
            parser.skip(|byte| byte.is_ascii_digit());
            Ok(())
        };
        if self.rest.first() == Some(&b'-') {
            self.advance();
        }
        if self.rest.first() == Some(&b'0') {
            self.advance();
        } else {
            digits(self, "in numeric literal")?;
        }
        if self.rest.first() == Some(&b'.') {
            self.advance();
            digits(self, "after decimal point in numeric literal")?;
        }
        if matches!(self.rest.first(), Some(b'e' | b'E')) {
            self.advance();
            if matches!(self.rest.first(), Some(b'+' | b'-')) {
                self.advance();
            }
            digits(self, "in exponent of numeric literal")?;
        }
        let written = from.strip_suffix(self.rest).unwrap_or(from);
        Ok(String::from_utf8_lossy(written).into_owned())
    }

    fn string(&mut self) -> Result<String> {
        self.advance();
        let mut text = String::new();
        loop {
            let from = self.rest;
            self.skip(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
            push_bytes(&mut text, from.strip_suffix(self.rest).unwrap_or_default());
            match self.next().ok_or_else(end)? {
                b'"' => return Ok(text),
                b'\\' => text.push(self.escape()?),
                byte => return Err(invalid(byte, "in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        Ok(match self.next().ok_or_else(end)? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            byte @ (b'\\' | b'/' | b'"') => char::from(byte),
            b'u' => {
                let unit = self.code_unit()?;
                let next = match self.rest {
                    [b'\\', b'u', digits @ ..] => hex(digits),
                    _ => None,
                };
                match char::decode_utf16([unit].into_iter().chain(next)).next() {
                    Some(Ok(pair)) if pair.len_utf16() == 2 => {
                        self.rest = self.rest.get(6..).unwrap_or_default();
                        pair
                    }
                    Some(Ok(character)) => character,
                    Some(Err(_)) | None => REPLACEMENT,
                }
            }
            byte => return Err(invalid(byte, "in string escape code")),
        })
    }

    fn code_unit(&mut self) -> Result<u16> {
        let unit = hex(self.rest);
        for _ in 0..4 {
            match self.next().ok_or_else(end)? {
                byte if byte.is_ascii_hexdigit() => {}
                byte => return Err(invalid(byte, "in \\u hexadecimal character escape")),
            }
        }
        unit.ok_or_else(end)
    }

    /// The next byte that is no space; what is before it is skipped.
    fn peek(&mut self) -> Option<u8> {
        self.skip(|byte| SPACE.contains(&byte));
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn advance(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    fn skip(&mut self, skipped: impl Fn(u8) -> bool) {
        let count = self.rest.iter().take_while(|byte| skipped(**byte)).count();
        self.rest = self.rest.get(count..).unwrap_or_default();
    }
}

/// Four hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u16> {
    let digits = digits.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Go puts one U+FFFD for each byte that is no UTF-8.
fn push_bytes(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| REPLACEMENT));
    }
}

fn end() -> Error {
    Error::Syntax("unexpected end of JSON input".to_owned())
}

fn invalid(byte: u8, context: &str) -> Error {
    Error::Syntax(format!("invalid character {} {context}", quoted(byte)))
}

/// As Go's `quoteChar`, which takes a byte for a character.
fn quoted(byte: u8) -> String {
    match char::from(byte) {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        character if character.is_control() => match character {
            '\u{7}' => "'\\a'".to_owned(),
            '\u{8}' => "'\\b'".to_owned(),
            '\t' => "'\\t'".to_owned(),
            '\n' => "'\\n'".to_owned(),
            '\u{b}' => "'\\v'".to_owned(),
            '\u{c}' => "'\\f'".to_owned(),
            '\r' => "'\\r'".to_owned(),
            character if character.is_ascii() => format!("'\\x{byte:02x}'"),
            _ => format!("'\\u{byte:04x}'"),
        },
        '\\' => "'\\\\'".to_owned(),
        character => format!("'{character}'"),
    }
}
