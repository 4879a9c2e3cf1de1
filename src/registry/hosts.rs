//! Which registry answers for a domain, by which scheme, and whom of them to trust without proof.
//!
//! Pure policy: what was configured in, endpoints out; names are resolved and connections made elsewhere. The rules
//! are dockerd's (`registry/config.go` and `registry/service_v2.go` of 20.10): https first, http only for insecure
//! registries; loopback is insecure by default; mirrors are for docker.io alone, for pulling alone, and before it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use super::error::{Error, Result};
use super::network::Network;

/// The domain of references without one.
pub const DOCKER_IO: &str = "docker.io";
/// What the docker CLI calls that registry when it logs in.
const INDEX_DOCKER_IO: &str = "index.docker.io";
/// The machine that answers for it.
const DOCKER_IO_HOST: &str = "registry-1.docker.io";
/// Where certificates of registries are looked for, each in a directory named as the registry is.
const CERTIFICATE_DIRECTORIES: [&str; 2] = ["/etc/docker/certs.d", "/etc/dockplug/certs.d"];

/// The configured policy: insecure registries, mirrors of docker.io, directories of certificates.
#[derive(Debug, Clone)]
pub struct Hosts {
    insecure_networks: Vec<Network>,
    insecure_names: BTreeSet<String>,
    mirrors: Vec<Endpoint>,
    /// Who answers for docker.io.
    docker_io: Endpoint,
    certificate_directories: Vec<PathBuf>,
}

/// One way to reach a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// How to speak to it.
    pub scheme: Scheme,
    /// `host` or `host:port`.
    pub host: String,
    /// Whether it stands in for another registry; then it never sees that one's credentials.
    pub mirror: bool,
}

/// With TLS or in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// With TLS, verified unless the registry is insecure.
    Https,
    /// In the clear.
    Http,
}

/// What an operation may do to the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write; mirrors are not asked.
    Push,
}

impl Default for Hosts {
    /// Nothing configured: loopback is insecure, there are no mirrors.
    fn default() -> Self {
        Self {
            insecure_networks: Network::LOOPBACK.to_vec(),
            insecure_names: BTreeSet::from(["localhost".to_owned()]),
            mirrors: Vec::new(),
            docker_io: Endpoint { scheme: Scheme::Https, host: DOCKER_IO_HOST.to_owned(), mirror: false },
            certificate_directories: CERTIFICATE_DIRECTORIES.map(PathBuf::from).to_vec(),
        }
    }
}

impl Hosts {
    /// The policy of `--insecure-registry` (`host[:port]` or CIDR each) and `--registry-mirror` (a URL without path each).
    ///
    /// # Errors
    /// [`Error::InsecureRegistry`] and [`Error::Mirror`], in dockerd's words.
    pub fn new(insecure: &[String], mirrors: &[String]) -> Result<Self> {
        let mut hosts = Self::default();
        for registry in insecure {
            hosts.add_insecure(registry)?;
        }
        for mirror in mirrors {
            let endpoint = parse_mirror(mirror)?;
            if !hosts.mirrors.contains(&endpoint) {
                hosts.mirrors.push(endpoint);
            }
        }
        Ok(hosts)
    }

    /// The same policy with other directories of certificates.
    #[must_use]
    pub fn with_certificate_directories(mut self, directories: Vec<PathBuf>) -> Self {
        self.certificate_directories = directories;
        self
    }

    /// The same policy that trusts nobody without proof, not even loopback.
    #[cfg(test)]
    pub(super) fn distrustful(mut self) -> Self {
        self.insecure_networks.clear();
        self.insecure_names.clear();
        self
    }

    /// The same policy with somebody else for docker.io, who is talked to in the clear.
    #[cfg(test)]
    pub(super) fn with_docker_io(mut self, host: String) -> Self {
        self.docker_io = Endpoint { scheme: Scheme::Http, host, mirror: false };
        self
    }

    /// The networks whose registries are trusted without proof, as `10.0.0.0/8`.
    pub fn insecure_networks(&self) -> impl Iterator<Item = String> {
        self.insecure_networks.iter().map(ToString::to_string)
    }

    /// The registries that are trusted without proof by their names, `host[:port]`.
    pub fn insecure_names(&self) -> impl Iterator<Item = &str> {
        self.insecure_names.iter().map(String::as_str)
    }

    /// The mirrors of docker.io as URLs that end in a slash, the first one to ask first.
    pub fn mirrors(&self) -> impl Iterator<Item = String> {
        self.mirrors.iter().map(|mirror| format!("{}/", mirror.origin()))
    }

    /// The endpoints for `domain` (of a reference, or of `docker login`), in the order to try them. `insecure` says
    /// what [`Hosts::is_insecure`] found for it.
    pub fn endpoints(&self, domain: &str, access: Access, insecure: bool) -> Vec<Endpoint> {
        let endpoint = |scheme, host: &str| Endpoint { scheme, host: host.to_owned(), mirror: false };
        if is_docker_io(domain) {
            let mirrors = self.mirrors.iter().filter(|_| access == Access::Pull).cloned();
            return mirrors.chain([self.docker_io.clone()]).collect();
        }
        let mut endpoints = vec![endpoint(Scheme::Https, domain)];
        if insecure {
            endpoints.push(endpoint(Scheme::Http, domain));
        }
        endpoints
    }

    /// Whether `host` (`host[:port]`), whose addresses these are, is trusted without a valid certificate, and in the
    /// clear. A name that could not be resolved has no addresses and can only be listed by name.
    pub fn is_insecure(&self, host: &str, addresses: &[IpAddr]) -> bool {
        let name = name_of(host);
        self.insecure_names.contains(host)
            || name == "localhost"
            || addresses.iter().copied().chain(literal(name)).any(|address| self.in_networks(address))
    }

    /// Whether the addresses of `host` can change the answer of [`Hosts::is_insecure`].
    pub(super) fn wants_addresses(&self, host: &str) -> bool {
        !is_docker_io(host)
            && host != DOCKER_IO_HOST
            && literal(name_of(host)).is_none()
            && !self.is_insecure(host, &[])
    }

    /// The directories where `host`'s certificates may lie; none when its name is not fit for a path.
    pub(super) fn certificate_directories(&self, host: &str) -> Vec<PathBuf> {
        let fit = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if host.is_empty() || host.starts_with('.') || !host.chars().all(fit) {
            return Vec::new();
        }
        self.certificate_directories.iter().map(|directory| directory.join(host)).collect()
    }

    fn in_networks(&self, address: IpAddr) -> bool {
        self.insecure_networks.iter().any(|network| network.contains(address))
    }

    fn add_insecure(&mut self, registry: &str) -> Result<()> {
        let refused =
            |reason: &str| Error::InsecureRegistry { registry: shown(registry), reason: reason.to_owned() };
        if registry.starts_with('-') || registry.ends_with('-') {
            return Err(refused("cannot begin or end with a hyphen"));
        }
        // dockerd forgives a scheme here, whatever its case.
        let bare = ["http://", "https://"]
            .iter()
            .find(|scheme| {
                registry.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            })
            .map_or(registry, |scheme| registry.get(scheme.len()..).unwrap_or_default());
        if bare.contains("://") {
            return Err(refused("should not contain '://'"));
        }
        if let Some(network) = Network::parse(bare) {
            if !self.insecure_networks.contains(&network) {
                self.insecure_networks.push(network);
            }
            return Ok(());
        }
        if !is_host_and_port(bare) {
            return Err(refused("is not valid: expected host[:port] or a network as 10.0.0.0/8"));
        }
        self.insecure_names.insert(bare.to_owned());
        Ok(())
    }
}

impl Endpoint {
    /// `https://host[:port]`.
    pub fn origin(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        format!("{scheme}://{}", self.host)
    }

    /// Whether the host is this machine; proxies are not asked for it (Go's `ProxyFromEnvironment`).
    pub(super) fn is_loopback(host: &str) -> bool {
        let name = name_of(host);
        name == "localhost" || literal(name).is_some_and(|address| address.is_loopback())
    }
}

/// Whether `domain` is one of the names of Docker's own registry.
pub(super) fn is_docker_io(domain: &str) -> bool {
    domain == DOCKER_IO || domain == INDEX_DOCKER_IO
}

/// The host without its port; an IPv6 address keeps its brackets.
pub(super) fn name_of(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').and_then(|end| host.get(..=end)).unwrap_or(host);
    }
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

/// The address a host name spells out, with or without brackets.
pub(super) fn literal(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn parse_mirror(mirror: &str) -> Result<Endpoint> {
    let refused = |reason: &str| Error::Mirror { reason: format!("{reason} {:?}", shown(mirror)) };
    let url = reqwest::Url::parse(mirror).map_err(|_| refused("not a valid URI:"))?;
    let scheme = match url.scheme() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        other => return Err(refused(&format!("unsupported scheme {other:?} in"))),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Mirror { reason: "username/password not allowed in URI".to_owned() });
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(refused("path, query, or fragment at end of the URI"));
    }
    let host = host_of(&url).ok_or_else(|| refused("no host in"))?;
    Ok(Endpoint { scheme, host, mirror: true })
}

/// `host[:port]` of a URL, the port only when it is not the scheme's own.
pub(super) fn host_of(url: &reqwest::Url) -> Option<String> {
    let name = url.host_str().filter(|name| !name.is_empty())?;
    Some(url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}")))
}

fn is_host_and_port(text: &str) -> bool {
    let name = name_of(text);
    let port_is_fine = match text.get(name.len()..) {
        Some("") => true,
        Some(port) => port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()),
        None => false,
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    (literal(text).is_some()) || (port_is_fine && (literal(name).is_some() || name.split('.').all(label)))
}

/// Configured text for an error, bounded.
fn shown(text: &str) -> String {
    text.chars().take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(insecure: &[&str], mirrors: &[&str]) -> Result<Hosts> {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Hosts::new(&own(insecure), &own(mirrors))
    }

    fn origins(hosts: &Hosts, domain: &str, access: Access) -> Vec<String> {
        hosts.endpoints(domain, access, hosts.is_insecure(domain, &[])).iter().map(Endpoint::origin).collect()
    }

    #[test]
    fn endpoints_in_the_order_to_try_them() {
        let hosts = hosts(
            &["reg.lan:5000", "10.0.0.0/8", "HTTP://old.lan"],
            &["https://m.example/", "http://m2:8080"],
        )
        .unwrap();
        let table: [(&str, Access, &[&str]); 9] = [
            (
                "docker.io",
                Access::Pull,
                &["https://m.example", "http://m2:8080", "https://registry-1.docker.io"],
            ),
            ("docker.io", Access::Push, &["https://registry-1.docker.io"]),
            ("index.docker.io", Access::Push, &["https://registry-1.docker.io"]),
            ("ghcr.io", Access::Pull, &["https://ghcr.io"]),
            ("reg.lan:5000", Access::Push, &["https://reg.lan:5000", "http://reg.lan:5000"]),
            ("reg.lan", Access::Pull, &["https://reg.lan"]),
            ("old.lan", Access::Pull, &["https://old.lan", "http://old.lan"]),
            ("10.1.2.3:80", Access::Pull, &["https://10.1.2.3:80", "http://10.1.2.3:80"]),
            ("localhost:5000", Access::Pull, &["https://localhost:5000", "http://localhost:5000"]),
        ];
        for (domain, access, expected) in table {
            assert_eq!(origins(&hosts, domain, access), expected, "{domain} {access:?}");
        }
        assert!(hosts.endpoints(DOCKER_IO, Access::Pull, false)[0].mirror);
    }

    #[test]
    fn insecure_by_name_literal_and_resolved_address() {
        let everything = hosts(&["0.0.0.0/0"], &[]).unwrap();
        assert!(everything.is_insecure("8.8.8.8", &[]));
        let hosts = hosts(&["192.168.0.0/16", "fd00::/8", "reg.lan"], &[]).unwrap();
        let v4 = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
        let table = [
            ("127.0.0.1:5000", vec![], true),
            ("127.255.0.9", vec![], true),
            ("128.0.0.1", vec![], false),
            ("[::1]:5000", vec![], true),
            ("[::ffff:127.0.0.1]:5000", vec![], true),
            ("[::2]:5000", vec![], false),
            ("[fd12::9]", vec![], true),
            ("reg.lan", vec![], true),
            ("reg.lan:80", vec![], false),
            ("other.lan", vec![], false),
            ("other.lan", v4("192.168.3.4"), true),
            ("other.lan", v4("192.169.3.4"), false),
            ("localhost.evil.example", v4("6.6.6.6"), false),
        ];
        for (host, addresses, expected) in table {
            assert_eq!(hosts.is_insecure(host, &addresses), expected, "{host} {addresses:?}");
        }
    }

    #[test]
    fn bad_configuration_is_refused_in_dockerds_words() {
        let table: [(&[&str], &[&str], &str); 9] = [
            (&["-a"], &[], "hyphen"),
            (&["ftp://a"], &[], "should not contain '://'"),
            (&["a:70000"], &[], "insecure registry a:70000 is not valid"),
            (&["a b"], &[], "is not valid"),
            (&["10.0.0.0/33"], &[], "is not valid"),
            (&[], &["m.example"], "invalid mirror: not a valid URI"),
            (&[], &["ftp://m.example"], "invalid mirror: unsupported scheme \"ftp\""),
            (&[], &["https://m.example/x"], "invalid mirror: path, query, or fragment at end of the URI"),
            (&[], &["https://u:pass@m.example"], "username/password not allowed"),
        ];
        for (insecure, mirrors, words) in table {
            let error = hosts(insecure, mirrors).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("pass@"), "{error}");
        }
    }

    #[test]
    fn a_host_is_no_path() {
        let hosts = Hosts::default().with_certificate_directories(vec!["/c".into()]);
        assert_eq!(hosts.certificate_directories("a:5000"), [PathBuf::from("/c/a:5000")]);
        for host in ["..", "", "a/../b", ".x", "a\0b"] {
            assert!(hosts.certificate_directories(host).is_empty(), "{host}");
        }
    }

    #[test]
    fn hosts_are_split_from_ports() {
        for (host, name) in
            [("a:1", "a"), ("a", "a"), ("[::1]:5", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1"), ("[x", "[x")]
        {
            assert_eq!(name_of(host), name);
        }
    }
}
