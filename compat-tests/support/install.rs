//! The registry's part of Docker's API: privileges, pull, push, upgrade, with credentials or without.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::http::Answer;
use super::registry::{PASSWORD, USER};

/// What came of a request whose answer is a stream of progress.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) answer: Answer,
    /// The lines before the error, if there is one.
    pub(crate) lines: Vec<Value>,
    /// The error, wherever it stood: in the status or at the end of the stream.
    pub(crate) error: Option<String>,
}

impl Outcome {
    fn new(answer: Answer) -> Self {
        if answer.status >= 400 {
            let error = Some(answer.message());
            return Self { answer, lines: vec![], error };
        }
        let text = answer.text();
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line:?}"));
        let mut lines: Vec<Value> = text.lines().filter(|l| !l.is_empty()).map(parse).collect();
        let error = lines.pop_if(|line| line.get("error").is_some());
        let error = error.map(|line| line["error"].as_str().unwrap().to_owned());
        Self { answer, lines, error }
    }

    /// It must have worked.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!((self.answer.status, &self.error), (200, &None), "{:?}", self.lines);
        self
    }

    /// It must not have worked; why.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        self.error.unwrap_or_else(|| panic!("it worked: {:?}", self.lines))
    }

    /// It must have failed for its privileges. dockerd says no more than that; we may say which.
    #[track_caller]
    pub(crate) fn incorrect_privileges(self, what: &str) {
        let error = self.failed();
        assert!(error.starts_with("incorrect privileges"), "{what}: {error}");
    }

    /// Whether a line has this status, for whatever id.
    pub(crate) fn says(&self, status: &str) -> bool {
        self.lines.iter().any(|line| line["status"] == status)
    }
}

/// The X-Registry-Auth of the one user.
pub(crate) fn password() -> Value {
    json!({"username": USER, "password": PASSWORD})
}

/// A request with credentials (null stands for none) and a JSON body, if any.
pub(crate) fn ask(daemon: &Daemon, method: &str, target: &str, auth: &Value, body: Option<&Value>) -> Answer {
    let mut connection = daemon.http().open().unwrap();
    connection.exchange(method, request(method, target, auth, body).as_bytes()).unwrap()
}

/// The same request as it goes over the wire.
pub(crate) fn request(method: &str, target: &str, auth: &Value, body: Option<&Value>) -> String {
    let auth = match auth {
        Value::Null => String::new(),
        auth => format!("X-Registry-Auth: {}\r\n", URL_SAFE.encode(auth.to_string())),
    };
    let body = body.map(Value::to_string).unwrap_or_default();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\n{auth}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// `GET /plugins/privileges`
pub(crate) fn privileges(daemon: &Daemon, remote: &str, auth: &Value) -> Answer {
    ask(daemon, "GET", &format!("/plugins/privileges?remote={remote}"), auth, None)
}

/// `POST /plugins/pull`; no name means the remote's.
pub(crate) fn pull(daemon: &Daemon, remote: &str, name: &str, granted: &Value, auth: &Value) -> Outcome {
    let target = format!("/plugins/pull?remote={remote}&name={name}");
    Outcome::new(ask(daemon, "POST", &target, auth, Some(granted)))
}

/// `POST /plugins/{name}/upgrade`
pub(crate) fn upgrade(daemon: &Daemon, name: &str, remote: &str, granted: &Value) -> Outcome {
    let target = format!("/plugins/{name}/upgrade?remote={remote}");
    Outcome::new(ask(daemon, "POST", &target, &Value::Null, Some(granted)))
}

/// `POST /plugins/{name}/push`
pub(crate) fn push(daemon: &Daemon, name: &str, auth: &Value) -> Outcome {
    Outcome::new(ask(daemon, "POST", &format!("/plugins/{name}/push"), auth, None))
}

/// Asks for the privileges, and pulls with exactly these.
pub(crate) fn consenting(daemon: &Daemon, remote: &str, name: &str, auth: &Value) -> Outcome {
    let answer = privileges(daemon, remote, auth);
    assert_eq!(answer.status, 200, "{}", answer.text());
    pull(daemon, remote, name, &answer.json(), auth)
}
