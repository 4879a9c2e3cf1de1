//! `--seccomp-profile`: which system calls plugins may make. What a profile says is not known here.

use std::path::PathBuf;

/// A profile, by the words that dockerd has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeccompProfile {
    /// `builtin`, and what holds when nothing was said.
    Builtin,
    /// `unconfined`: none.
    Unconfined,
    /// Anything else is the path of a file.
    File(PathBuf),
}

impl From<String> for SeccompProfile {
    fn from(said: String) -> Self {
        match said.as_str() {
            "" | "builtin" => Self::Builtin,
            "unconfined" => Self::Unconfined,
            _ => Self::File(said.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_words_mean_something_and_the_rest_are_paths() {
        let table = [
            ("", SeccompProfile::Builtin),
            ("builtin", SeccompProfile::Builtin),
            ("unconfined", SeccompProfile::Unconfined),
            ("/etc/p.json", SeccompProfile::File("/etc/p.json".into())),
            ("Builtin", SeccompProfile::File("Builtin".into())),
        ];
        for (said, expected) in table {
            assert_eq!(SeccompProfile::from(said.to_owned()), expected, "{said}");
        }
    }
}
