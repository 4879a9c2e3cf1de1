//! Settings that are references: `@file:/path` is the content of that file of the host, read at each start.
//!
//! What is kept, shown and told is the reference; the content goes to the runtime alone, whose bundle lies below the
//! exec root. It may stand as the value of a variable or as an argument; a mount's source or a device's path is no
//! secret. Links are followed: the administrator names the file, and keepers of secrets hand them out as links.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::settings::Settings;

/// What a reference begins with.
const REFERENCE: &str = "@file:";
/// How large a secret may be, in bytes: half of what Linux passes to a program in one string.
const SECRET_MAX_BYTES: u64 = 64 * 1024;

/// Why a reference cannot be read. Never with a word of what was read.
#[derive(Debug, thiserror::Error)]
#[error("the setting {setting} is to be read from {}, {problem}", path.display())]
pub struct Error {
    /// `env TOKEN`, `args`.
    setting: String,
    /// The file.
    path: PathBuf,
    /// What is wrong with it.
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("expected an absolute path")]
    Relative,
    #[error("expected a regular file")]
    NotAFile,
    #[error("which has more than {SECRET_MAX_BYTES} bytes")]
    TooLarge,
    #[error("which is not text: it has a NUL, or is not UTF-8")]
    NotText,
    #[error("which cannot be read: {0}")]
    Unreadable(io::Error),
}

/// The settings with every reference replaced by what it refers to. Blocking.
///
/// # Errors
/// [`Error`] names the setting and the file.
pub(super) fn resolve(settings: &Settings) -> Result<Settings, Error> {
    let mut resolved = settings.clone();
    for variable in &mut resolved.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        if let Some(path) = value.strip_prefix(REFERENCE) {
            let content = read(Path::new(path)).map_err(told(|| format!("env {name}"), path))?;
            *variable = format!("{name}={content}");
        }
    }
    for argument in &mut resolved.args {
        if let Some(path) = argument.strip_prefix(REFERENCE) {
            *argument = read(Path::new(path)).map_err(told(|| "args".to_owned(), path))?;
        }
    }
    Ok(resolved)
}

fn told(setting: impl FnOnce() -> String, path: &str) -> impl FnOnce(Problem) -> Error {
    move |problem| Error { setting: setting(), path: path.into(), problem }
}

/// The content, without the one newline that editors put at the end.
fn read(path: &Path) -> Result<String, Problem> {
    if !path.is_absolute() {
        return Err(Problem::Relative);
    }
    // Not to wait for ever for the other end of a pipe.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.map_err(Problem::Unreadable)?;
    if !file.metadata().map_err(Problem::Unreadable)?.is_file() {
        return Err(Problem::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(SECRET_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Problem::Unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > SECRET_MAX_BYTES {
        return Err(Problem::TooLarge);
    }
    let mut content = String::from_utf8(bytes).map_err(|_| Problem::NotText)?;
    if content.contains('\0') {
        return Err(Problem::NotText);
    }
    if content.ends_with('\n') {
        content.pop();
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn settings(env: &[String], args: &[String]) -> Settings {
        Settings { args: args.to_vec(), devices: vec![], env: env.to_vec(), mounts: vec![] }
    }

    #[test]
    fn references_are_read_and_everything_else_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).display().to_string();
        fs::write(path("token"), "s3cret=\n\n").unwrap();
        std::os::unix::fs::symlink("token", path("link")).unwrap();
        let env = [
            "A=@file:".to_owned() + &path("link"),
            "B=x@file:/y".to_owned(),
            "C=".to_owned(),
            "D".to_owned(),
        ];
        let args = ["-v".to_owned(), "@file:".to_owned() + &path("token")];
        let resolved = resolve(&settings(&env, &args)).unwrap();
        assert_eq!(resolved.env, ["A=s3cret=\n", "B=x@file:/y", "C=", "D"]);
        assert_eq!(resolved.args, ["-v", "s3cret=\n"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_by_setting_and_file_and_without_its_content() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).display().to_string();
        fs::write(path("large"), "secret".repeat(20_000)).unwrap();
        fs::write(path("nul"), "secret\0").unwrap();
        fs::write(path("latin"), b"secret\xe9").unwrap();
        nix::unistd::mkfifo(path("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let table = [
            (path("none"), "cannot be read: No such file"),
            (path("."), "expected a regular file"),
            (path("pipe"), "expected a regular file"),
            (path("large"), "more than 65536 bytes"),
            (path("nul"), "not text"),
            (path("latin"), "not text"),
            ("relative".to_owned(), "expected an absolute path"),
            (String::new(), "expected an absolute path"),
        ];
        for (path, expected) in table {
            let error = resolve(&settings(&[format!("TOKEN=@file:{path}")], &[])).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("the setting env TOKEN is to be read from {path}, ")),
                "{error}"
            );
            assert!(error.contains(expected) && !error.contains("secret"), "{error}, expected {expected}");
            let error = resolve(&settings(&[], &[format!("@file:{path}")])).unwrap_err().to_string();
            assert!(error.starts_with("the setting args is to be read from "), "{error}");
        }
    }
}
