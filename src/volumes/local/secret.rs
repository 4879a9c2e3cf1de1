//! Options and devices as they may be shown: without passwords. Pure.
//!
//! dockerd hides `password=` alone. Here every name that a file system of Linux reads a secret by is hidden (cifs, 9p,
//! ceph), what belongs to the secret after an escaped comma, and the password of a user in a URL.

/// What stands for a secret, as in dockerd.
const STARS: &str = "********";
/// The names of options that are secrets, in lower case.
const SECRETS: [&str; 5] = ["pass", "passwd", "password", "password2", "secret"];

/// The data of a mount, without what is secret. In cifs, two commas are one that belongs to the password.
pub(super) fn data(data: &str) -> String {
    let mut shown = Vec::new();
    let (mut in_secret, mut goes_on) = (false, false);
    for word in data.split(',') {
        if std::mem::take(&mut goes_on) {
            continue;
        }
        if in_secret && word.is_empty() {
            goes_on = true;
            continue;
        }
        let name = word.split_once('=').map_or("", |(name, _)| name);
        in_secret = SECRETS.contains(&name.trim().to_ascii_lowercase().as_str());
        shown.push(if in_secret { format!("{name}={STARS}") } else { word.to_owned() });
    }
    shown.join(",")
}

/// A device, without the password in `//user:password@host/share`.
pub(super) fn device(device: &str) -> String {
    let hidden = || {
        let host_begins = device.find("//")? + 2;
        let rest = device.get(host_begins..)?;
        let authority = rest.split('/').next()?;
        let (user, _) = authority.rsplit_once('@')?.0.split_once(':')?;
        let after = authority.rfind('@')?;
        Some(format!("{}{user}:{STARS}{}", device.get(..host_begins)?, rest.get(after..)?))
    };
    hidden().unwrap_or_else(|| device.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn secrets_are_stars() {
        for (given, shown) in [
            ("", ""),
            ("size=1m", "size=1m"),
            ("username=me,password=hunter2,vers=3", "username=me,password=********,vers=3"),
            ("password=a,password2=b", "password=********,password2=********"),
            ("PASS=x,passwd=y,secret=z", "PASS=********,passwd=********,secret=********"),
            ("password=hun,,ter,,2,vers=3", "password=********,vers=3"),
            ("password=hun,,", "password=********"),
            ("vers=3,,x", "vers=3,,x"),
            ("password=", "password=********"),
            ("passwordless,keypass=x", "passwordless,keypass=x"),
        ] {
            assert_eq!(super::data(given), shown, "{given}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_stars() {
        for (given, shown) in [
            ("//host/share", "//host/share"),
            ("//me:hunter2@host/share", "//me:********@host/share"),
            ("smb://me:hun@ter2@host/a@b", "smb://me:********@host/a@b"),
            ("//me@host/share", "//me@host/share"),
            ("/dev/loop0", "/dev/loop0"),
            (":/path", ":/path"),
            ("", ""),
            ("//", "//"),
        ] {
            assert_eq!(super::device(given), shown, "{given}");
        }
    }
}
