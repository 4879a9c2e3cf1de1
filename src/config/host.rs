//! One `-H`: where to listen, parsed and not yet touched.
//!
//! The grammar is dockerd's (moby `opts/hosts.go`): a missing scheme means tcp, a missing port 2375, a missing
//! address of tcp 127.0.0.1.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where to listen when nothing is said, as Docker's clients expect.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
const DEFAULT_TCP_PORT: u16 = 2375;
const DEFAULT_TCP_HOST: &str = "127.0.0.1";
/// The number of the first descriptor that a service manager passes on (`SD_LISTEN_FDS_START`).
const FIRST_PASSED_FD: i32 = 3;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A socket in the file system; an absolute path.
    Unix(PathBuf),
    /// `HOST:PORT`, not yet resolved.
    Tcp(String),
    /// Sockets that the service manager passed on: one by its number (3 is the first), or all of them.
    Fd(Option<i32>),
}

impl Default for Host {
    fn default() -> Self {
        Self::Unix(DEFAULT_SOCKET.into())
    }
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(host: &str) -> Result<Self, InvalidHost> {
        let invalid = |reason| InvalidHost { host: host.to_owned(), reason };
        match host.split_once("://") {
            _ if host.is_empty() => Ok(Self::default()),
            Some(("unix", "")) => Ok(Self::default()),
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => Err(invalid("the path of a unix socket must be absolute")),
            Some(("fd", "" | "*")) => Ok(Self::Fd(None)),
            Some(("fd", number)) => match number.parse() {
                Ok(number) if number >= FIRST_PASSED_FD => Ok(Self::Fd(Some(number))),
                _ => Err(invalid("a passed descriptor is a number from 3 on, or nothing for all of them")),
            },
            Some(("tcp", address)) => tcp(address).map(Self::Tcp).map_err(invalid),
            Some(_) => Err(invalid("expected unix://PATH, tcp://HOST:PORT or fd://")),
            None if host.starts_with('/') => Err(invalid("a unix socket is written unix://PATH")),
            None => tcp(host).map(Self::Tcp).map_err(invalid),
        }
    }
}

/// `HOST:PORT` with the defaults put in.
fn tcp(address: &str) -> Result<String, &'static str> {
    let address = address.strip_suffix('/').unwrap_or(address);
    if address.contains('/') {
        return Err("a path after HOST:PORT is not supported");
    }
    // The last colon separates the port, unless it stands inside the brackets of an IPv6 address.
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (address, ""),
    };
    let port = match port {
        "" => DEFAULT_TCP_PORT,
        port => port.parse().map_err(|_| "the port is a number from 0 to 65535")?,
    };
    match host {
        "" => Ok(format!("{DEFAULT_TCP_HOST}:{port}")),
        host if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) => {
            Err("an IPv6 address is written in brackets")
        }
        host => Ok(format!("{host}:{port}")),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Fd(None) => write!(f, "fd://"),
            Self::Fd(Some(number)) => write!(f, "fd://{number}"),
        }
    }
}

/// A `-H` that is no place to listen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid bind address ({host}): {reason}")]
pub struct InvalidHost {
    host: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_dockerd_reads_them() {
        let table = [
            ("", "unix:///var/run/docker.sock"),
            ("unix://", "unix:///var/run/docker.sock"),
            ("unix:///x/y.sock", "unix:///x/y.sock"),
            ("tcp://", "tcp://127.0.0.1:2375"),
            ("tcp://0.0.0.0:4000", "tcp://0.0.0.0:4000"),
            ("tcp://:4000/", "tcp://127.0.0.1:4000"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("tcp://[::1]:80", "tcp://[::1]:80"),
            ("localhost:7", "tcp://localhost:7"),
            ("localhost", "tcp://localhost:2375"),
            ("fd://", "fd://"),
            ("fd://*", "fd://"),
            ("fd://4", "fd://4"),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Host>().map(|host| host.to_string()), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "unix://relative.sock",
            "/x.sock",
            "http://x",
            "fd://2",
            "fd://docker.socket",
            "tcp://x:port",
            "tcp://x:70000",
            "tcp://::1:80",
            "tcp://x:1/path",
        ] {
            let error = text.parse::<Host>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid bind address ({text}): ")), "{error}");
        }
    }
}
