//! What a plugin asks for, shown, and the user's yes to it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::connection::strange;
use super::{Error, Result};

/// How long a list of privileges may be, in bytes.
const PRIVILEGES_MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long an answer to the question may be, in bytes.
const ANSWER_MAX_BYTES: u64 = 1024;

/// Docker's `PluginPrivilege`, as it came: it goes back as it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Privilege {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    value: Vec<String>,
}

/// How it is asked.
#[derive(Debug)]
pub(super) struct Asker {
    /// Who asks for privileges: `Plugin "p" is`.
    pub(super) title: String,
    /// The answer has to come from the terminal.
    pub(super) stdin_is_taken: bool,
}

/// Reads a list of privileges, and gives it back as it goes to the daemon once it is granted.
///
/// # Errors
/// [`Error::Answer`]; [`Error::NotGranted`].
pub(super) async fn granted(list: Incoming, all: bool, asker: &Asker) -> Result<Value> {
    const EXPECTED: &str = "a list of privileges";
    let json = Limited::new(list, PRIVILEGES_MAX_BYTES).collect().await;
    let json = json.map_err(|error| strange(error.to_string().as_bytes(), EXPECTED))?.to_bytes();
    let privileges: Option<Vec<Privilege>> =
        serde_json::from_slice(&json).map_err(|_| strange(&json, EXPECTED))?;
    let privileges = privileges.unwrap_or_default();
    if !privileges.is_empty() && !all {
        ask(&question(&asker.title, &privileges), asker.stdin_is_taken)?;
    }
    serde_json::to_value(&privileges).map_err(|_| strange(&json, EXPECTED))
}

/// The question, in the docker CLI's words.
fn question(title: &str, privileges: &[Privilege]) -> String {
    let mut text = format!("{title} requesting the following privileges:\n");
    for privilege in privileges {
        // What a plugin says must not move the cursor.
        let value = privilege.value.join(" ");
        text.extend([" - ", &visible(&privilege.name), ": [", &visible(&value), "]\n"]);
    }
    text + "Do you grant the above permissions? [y/N] "
}

fn visible(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Asks the user; where the archive comes down standard input, on the terminal.
fn ask(question: &str, stdin_is_taken: bool) -> Result<()> {
    print(question)?;
    let mut answer = String::new();
    let read = if stdin_is_taken {
        let Ok(terminal) = File::open("/dev/tty") else {
            print("\n")?;
            return Err(Error::NotGranted(
                ", and there is no terminal to ask on: say --grant-all-permissions if you do grant them",
            ));
        };
        BufReader::new(terminal.take(ANSWER_MAX_BYTES)).read_line(&mut answer)
    } else {
        BufReader::new(io::stdin().take(ANSWER_MAX_BYTES)).read_line(&mut answer)
    };
    read.map_err(Error::file("read", "your answer"))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::NotGranted("")),
    }
}

/// Writes to standard output, now.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::file("write", "standard output"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_the_docker_clis_and_keeps_to_its_line() {
        let privilege = |name: &str, value: &[&str]| Privilege {
            name: name.to_owned(),
            description: String::new(),
            value: value.iter().map(|&text| text.to_owned()).collect(),
        };
        let text = question(
            "Plugin \"p:1\" is",
            &[privilege("network", &["host"]), privilege("mount", &["/a", "\u{1b}[2J"])],
        );
        assert_eq!(
            text,
            "Plugin \"p:1\" is requesting the following privileges:\n - network: [host]\n - mount: [/a \
             \\u{1b}[2J]\nDo you grant the above permissions? [y/N] "
        );
    }
}
