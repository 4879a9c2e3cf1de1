//! One `--metrics-addr`: where metrics are served, parsed and not yet touched.
//!
//! dockerd takes `:9323` too and then serves every network; here the address is always said.

use std::fmt;
use std::str::FromStr;

use super::Error;

/// `HOST:PORT`, not yet resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsAddress(String);

impl MetricsAddress {
    /// As it is bound: `127.0.0.1:9323`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MetricsAddress {
    type Err = Error;

    fn from_str(address: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::NotAMetricsAddress { address: address.to_owned(), reason };
        let (host, port) = address.rsplit_once(':').ok_or_else(|| invalid("there is no port"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || bare == Some("") {
            return Err(invalid("there is no host"));
        }
        if host.contains('/') {
            return Err(invalid("it is neither a URL nor a path"));
        }
        if bare.is_none() && host.contains(['[', ']', ':']) {
            return Err(invalid("an IPv6 address is written in brackets"));
        }
        port.parse::<u16>().map_err(|_| invalid("the port is a number from 0 to 65535"))?;
        Ok(Self(address.to_owned()))
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_host_and_port() {
        for address in ["127.0.0.1:9323", "0.0.0.0:0", "[::1]:9323", "localhost:9323"] {
            assert_eq!(address.parse::<MetricsAddress>().unwrap().as_str(), address);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (address, reason) in [
            ("", "there is no port"),
            ("9323", "there is no port"),
            (":9323", "there is no host"),
            ("[]:9323", "there is no host"),
            ("::1:9323", "an IPv6 address is written in brackets"),
            ("[::1]", "an IPv6 address is written in brackets"),
            ("127.0.0.1:", "the port is a number from 0 to 65535"),
            ("127.0.0.1:70000", "the port is a number from 0 to 65535"),
            ("127.0.0.1:http", "the port is a number from 0 to 65535"),
            ("tcp://127.0.0.1:9323", "it is neither a URL nor a path"),
            ("unix/metrics.sock:1", "it is neither a URL nor a path"),
        ] {
            let error = address.parse::<MetricsAddress>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid metrics address {address:?}: {reason}")), "{error}");
        }
    }
}
