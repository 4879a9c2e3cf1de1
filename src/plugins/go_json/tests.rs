//! What Go reads, and what it says.

use super::*;

#[derive(Debug, Default, PartialEq)]
struct Inner {
    number: u32,
    disk: String,
}
structure!(Inner, "Inner", "Number" => number, "Disk" => disk);

#[derive(Debug, Default, PartialEq)]
struct Outer {
    name: String,
    flag: bool,
    pointer: Option<String>,
    inner: Inner,
}
structure!(Outer, "Outer", "Name" => name, "Flag" => flag, "Pointer" => pointer, "Inner" => inner);

fn outer(json: &str) -> Result<Outer> {
    read(json.as_bytes())
}

#[test]
fn keys_are_read_in_any_case_and_the_last_one_wins() {
    let cases = [
        (r#"{"name":"a"}"#, "a"),
        (r#"{"NAME":"a"}"#, "a"),
        (r#"{"Name":"a","name":"b"}"#, "b"),
        (r#"{"name":"b","Name":"a"}"#, "a"),
        (r#"{"name":"a","name":null}"#, "a"),
        (r#"{"name":"a","unknown":[{"name":1}]}"#, "a"),
        (r#"{"name":null}"#, ""),
        (r#"{"name":"a\u0000b"}"#, "a\0b"),
        ("null", ""),
    ];
    for (json, name) in cases {
        assert_eq!(outer(json).unwrap().name, name, "{json}");
    }
}

#[test]
fn repeated_structures_are_merged_as_go_merges_them() {
    let read = outer(r#"{"inner":{"number":1},"INNER":{"di\u017f\u212a":"d"},"Inner":null}"#).unwrap();
    assert_eq!(read.inner, Inner { number: 1, disk: "d".to_owned() });
}

#[test]
fn a_pointer_tells_null_from_empty() {
    let cases = [("{}", None), (r#"{"pointer":null}"#, None), (r#"{"pointer":""}"#, Some(String::new()))];
    for (json, expected) in cases {
        assert_eq!(outer(json).unwrap().pointer, expected, "{json}");
    }
}

#[test]
fn types_that_do_not_fit_are_told_in_the_words_of_go() {
    let cases = [
        ("[]", "json: cannot unmarshal array into Go value of type types.Outer"),
        (r#""x""#, "json: cannot unmarshal string into Go value of type types.Outer"),
        (r#"{"name":1}"#, "json: cannot unmarshal number into Go struct field Outer.Name of type string"),
        (r#"{"flag":"x"}"#, "json: cannot unmarshal string into Go struct field Outer.Flag of type bool"),
        (
            r#"{"pointer":{}}"#,
            "json: cannot unmarshal object into Go struct field Outer.Pointer of type string",
        ),
        (
            r#"{"inner":[]}"#,
            "json: cannot unmarshal array into Go struct field Outer.Inner of type types.Inner",
        ),
        (
            r#"{"inner":{"number":-1}}"#,
            "json: cannot unmarshal number -1 into Go struct field Inner.Inner.Number of type uint32",
        ),
        (
            r#"{"inner":{"number":4294967296}}"#,
            "json: cannot unmarshal number 4294967296 into Go struct field Inner.Inner.Number of type uint32",
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(outer(json).unwrap_err().to_string(), expected, "{json}");
    }
}

#[test]
fn what_is_no_json_is_refused_in_the_words_of_go() {
    let cases = [
        ("", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        (r#"{"a""#, "unexpected end of JSON input"),
        (r#"{"a":"\"#, "unexpected end of JSON input"),
        (r#"{"a":"\u12"#, "unexpected end of JSON input"),
        (r#"{"a":1."#, "unexpected end of JSON input"),
        ("{} x", "invalid character 'x' after top-level value"),
        ("{}{}", "invalid character '{' after top-level value"),
        ("nope", "invalid character 'o' in literal null (expecting 'u')"),
        ("{nope}", "invalid character 'n' looking for beginning of object key string"),
        ("{,}", "invalid character ',' looking for beginning of object key string"),
        (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
        (r#"{"a" 1}"#, "invalid character '1' after object key"),
        (r#"{"a":1 2}"#, "invalid character '2' after object key:value pair"),
        (r#"{"a":}"#, "invalid character '}' looking for beginning of value"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("[01]", "invalid character '1' after array element"),
        ("[-]", "invalid character ']' in numeric literal"),
        ("[1.x]", "invalid character 'x' after decimal point in numeric literal"),
        ("[1e]", "invalid character ']' in exponent of numeric literal"),
        ("[\"a\nb\"]", "invalid character '\\n' in string literal"),
        ("[\"\\x\"]", "invalid character 'x' in string escape code"),
        ("[\"\\u12g4\"]", "invalid character 'g' in \\u hexadecimal character escape"),
        ("'", "invalid character '\\'' looking for beginning of value"),
        ("\u{feff}{}", "invalid character 'ï' looking for beginning of value"),
        ("\u{1}", "invalid character '\\x01' looking for beginning of value"),
    ];
    for (json, expected) in cases {
        assert_eq!(outer(json), Err(Error::Syntax(expected.to_owned())), "{json}");
    }
}

#[test]
fn strings_are_read_as_go_reads_them() {
    let name = |json: &[u8]| read::<Outer>(json).unwrap().name;
    let cases: [(&[u8], &str); 7] = [
        (br#"{"name":"\"\\\/\b\f\n\r\t"}"#, "\"\\/\u{8}\u{c}\n\r\t"),
        (br#"{"name":"\u00e9\uD83D\uDE00"}"#, "é😀"),
        (br#"{"name":"\ud800x\udc00"}"#, "\u{fffd}x\u{fffd}"),
        (br#"{"name":"\ud800\u0041"}"#, "\u{fffd}A"),
        (b"{\"name\":\"a\xffb\xe2\x82\"}", "a\u{fffd}b\u{fffd}\u{fffd}"),
        ("{\"name\":\"é\"}".as_bytes(), "é"),
        (b" \t\r\n{ \"name\" : \"a\" } ", "a"),
    ];
    for (json, expected) in cases {
        assert_eq!(name(json), expected, "{}", json.escape_ascii());
    }
}

#[test]
fn depth_and_number_of_values_are_limited() {
    let nested = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(outer(&nested(DEPTH_MAX - 1)).is_ok());
    for levels in [DEPTH_MAX, 1_000_000] {
        let error = outer(&nested(levels)).unwrap_err().to_string();
        assert_eq!(error, "invalid character '[' exceeded max depth");
    }
    let wide = |values: usize| format!("{{\"x\":[{}0]}}", "0,".repeat(values - 1));
    assert!(outer(&wide(VALUES_MAX - 2)).is_ok());
    assert_eq!(outer(&wide(VALUES_MAX - 1)).unwrap_err().to_string(), "more than 100000 values");
}

proptest::proptest! {
    #[test]
    fn nothing_panics_and_what_serde_reads_is_read_the_same(json in "[\\[\\]{}:,\"\\\\utnae0-9. -]{0,40}") {
        let ours = parse::document(json.as_bytes());
        if let Ok(theirs) = serde_json::from_str::<serde_json::Value>(&json) {
            let ours = ours.expect(&json);
            let kind = match theirs {
                serde_json::Value::Null => "null",
                serde_json::Value::Bool(_) => "bool",
                serde_json::Value::Number(_) => "number",
                serde_json::Value::String(text) => {
                    proptest::prop_assert_eq!(ours, Node::String(text));
                    return Ok(());
                }
                serde_json::Value::Array(_) => "array",
                serde_json::Value::Object(_) => "object",
            };
            proptest::prop_assert_eq!(ours.kind(), kind);
        }
    }
}
