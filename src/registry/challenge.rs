//! What a registry asks for in `WWW-Authenticate`, read tolerantly and without fear.
//!
//! Pure: knows neither credentials nor HTTP. The grammar is RFC 9110 section 11.6.1, several challenges in one header
//! or in several; the parameters of Bearer are from the distribution project's token specification and RFC 6750.
//! Values that should be quoted and are not are taken up to the next comma, as Docker's client does.

/// One way of authenticating that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from a token server.
    Bearer(Bearer),
}

/// The parameters of a Bearer challenge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bearer {
    /// Where tokens are fetched; a URL if the registry is sane.
    pub(super) realm: String,
    /// The name of the registry as the token server knows it.
    pub(super) service: Option<String>,
    /// Why the token that came with the request did not do.
    pub(super) error: Option<String>,
    /// The same for people.
    pub(super) error_description: Option<String>,
}

/// All challenges of these header values that are understood, in their order; a header that turns into garbage counts
/// up to that point.
pub(super) fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    headers.into_iter().flat_map(parse_one).collect()
}

fn parse_one(header: &str) -> Vec<Challenge> {
    let mut rest = Rest(header);
    let mut found = Vec::new();
    while let Some((scheme, parameters)) = rest.challenge() {
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let mut bearer = Bearer::default();
            for (name, value) in parameters {
                match name.to_ascii_lowercase().as_str() {
                    "realm" => bearer.realm = value,
                    "service" => bearer.service = Some(value),
                    "error" => bearer.error = Some(value),
                    "error_description" => bearer.error_description = Some(value),
                    _ => {}
                }
            }
            if !bearer.realm.is_empty() {
                found.push(Challenge::Bearer(bearer));
            }
        }
    }
    found
}

/// What of a header is still to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// A scheme and its parameters; `None` at the end or at garbage.
    fn challenge(&mut self) -> Option<(&'a str, Vec<(&'a str, String)>)> {
        self.skip(|c| c.is_ascii_whitespace() || c == ',');
        let scheme = self.token()?;
        if !self.0.is_empty() && !self.0.starts_with([' ', '\t', ',']) {
            return None;
        }
        let mut parameters = Vec::new();
        loop {
            let before = self.0;
            self.skip(|c| c.is_ascii_whitespace() || c == ',');
            let Some(parameter) = self.parameter() else {
                self.0 = before;
                return Some((scheme, parameters));
            };
            parameters.push(parameter);
        }
    }

    /// `name=value`, or `None` when a next scheme, the end or garbage stands here.
    fn parameter(&mut self) -> Option<(&'a str, String)> {
        let name = self.token()?;
        self.skip(|c| c.is_ascii_whitespace());
        self.0 = self.0.strip_prefix('=')?;
        self.skip(|c| c.is_ascii_whitespace());
        if let Some(quoted) = self.0.strip_prefix('"') {
            self.0 = quoted;
            return self.quoted().map(|value| (name, value));
        }
        let end = self.0.find([',', ' ', '\t', '"']).unwrap_or(self.0.len());
        let (value, rest) = self.0.split_at(end);
        self.0 = rest;
        Some((name, value.to_owned()))
    }

    /// The inside of a quoted string up to its closing quote, which must be there.
    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut escaped = false;
        for (at, c) in self.0.char_indices() {
            match c {
                _ if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.0 = self.0.get(at + 1..).unwrap_or_default();
                    return Some(value);
                }
                _ => value.push(c),
            }
        }
        None
    }

    fn token(&mut self) -> Option<&'a str> {
        let of_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !of_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            ..Bearer::default()
        })
    }

    #[test]
    fn what_registries_send_is_understood() {
        let table: [(&[&str], Vec<Challenge>); 12] = [
            (&["Basic realm=\"Registry Realm\""], vec![Challenge::Basic]),
            (&["basic"], vec![Challenge::Basic]),
            (
                &["Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\""],
                vec![bearer("https://auth.docker.io/token", Some("registry.docker.io"))],
            ),
            (
                &["bEARER Service=r , REALM = \"http://a/t?x=1,2\" ,scope=\"repository:a/b:pull,push\""],
                vec![bearer("http://a/t?x=1,2", Some("r"))],
            ),
            (&["Bearer realm=http://a:1/t,service=x"], vec![bearer("http://a:1/t", Some("x"))]),
            (
                &["Negotiate, Basic realm=\"a, Bearer realm=x\", Bearer realm=\"http://b\""],
                vec![Challenge::Basic, bearer("http://b", None)],
            ),
            (
                &["Basic realm=x", "Bearer realm=\"http://b\""],
                vec![Challenge::Basic, bearer("http://b", None)],
            ),
            (&[r#"Bearer realm="http://a/\"q\\""#], vec![bearer(r#"http://a/"q\"#, None)]),
            (&["Bearer service=\"no realm\""], vec![]),
            (&["Bearer realm=\"never closed"], vec![]),
            (&["=,=\"{}", "", " , ", "Digest qop=auth"], vec![]),
            (&["Basic/realm"], vec![]),
        ];
        for (headers, expected) in table {
            assert_eq!(parse(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    #[test]
    fn the_reason_is_kept() {
        let header = "Bearer realm=\"http://a\",error=\"insufficient_scope\",error_description=\"no push\"";
        let Some(Challenge::Bearer(bearer)) = parse([header]).pop() else { panic!("not a bearer") };
        assert_eq!(bearer.error.as_deref(), Some("insufficient_scope"));
        assert_eq!(bearer.error_description.as_deref(), Some("no push"));
    }

    proptest! {
        #[test]
        fn garbage_ends(header in "([Bb](asic|earer) )?[a-z=\", \\\\]{0,60}\\PC{0,20}") {
            prop_assert!(parse([header.as_str()]).len() <= header.len());
        }
    }
}
