//! Sending one request and reading its answer within bounds: clients by host, deadlines, redirects by hand.
//!
//! Knows hosts and TLS, and neither credentials nor the distribution API. A client is built when a host is first
//! talked to and goes with the operation, so an idle daemon holds none. Redirects are not left to the HTTP library:
//! each hop is judged, and what authenticates to one origin never reaches another.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName};
use reqwest::{Client, Method, Response, StatusCode, Url};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::{Error, Result};
use super::hosts::{Endpoint, Hosts, host_of, name_of};
use super::limits::{LOOKUP_LONGEST, Pace, REDIRECTS_MAX, REFUSAL_LIMIT_BYTES};
use super::refusal::{self, Refusal};
use super::tls::{self, Certificates};
use super::{location, retry};

/// How we introduce ourselves.
const USER_AGENT: &str = concat!("dockplug/", env!("CARGO_PKG_VERSION"));
/// Connections to one host that are kept between the requests of an operation.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// The clients of one operation.
#[derive(Debug)]
pub(super) struct Transport {
    hosts: Arc<Hosts>,
    pub(super) pace: Pace,
    clients: Mutex<HashMap<String, Client>>,
    /// By name. Asked once an operation: behind a proxy the answer may take its time.
    addresses: Mutex<HashMap<String, Vec<IpAddr>>>,
}

/// A request that is sent as it stands.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<reqwest::Body>,
}

/// What to do when the answer sends us elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// It is the answer.
    Nothing,
    /// Go there; the content is checked against a digest, so it may come from anywhere.
    Verified,
    /// Go there, but not from TLS into the clear, unless that host is insecure.
    Secure,
}

/// The head of an answer, and its body still to come.
#[derive(Debug)]
pub(super) struct Answer {
    response: Response,
    /// Whether a redirect led to another origin than the one that was asked.
    pub(super) foreign: bool,
    idle: Duration,
}

impl Transport {
    pub(super) fn new(hosts: Arc<Hosts>, pace: Pace) -> Self {
        Self { hosts, pace, clients: Mutex::default(), addresses: Mutex::default() }
    }

    /// The policy this operation goes by.
    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Whether `host` is insecure, asking the resolver when the configuration is about networks.
    pub(super) async fn is_insecure(&self, host: &str) -> bool {
        if !self.hosts.wants_addresses(host) {
            return self.hosts.is_insecure(host, &[]);
        }
        let name = name_of(host);
        let mut known = self.addresses.lock().await;
        if !known.contains_key(name) {
            known.insert(name.to_owned(), addresses_of(name).await);
        }
        self.hosts.is_insecure(host, known.get(name).map_or(&[], Vec::as_slice))
    }

    /// The same for the host of a URL, which does not tell a port that is its scheme's own: both spellings count.
    async fn is_insecure_url(&self, url: &Url) -> bool {
        for host in spellings(url) {
            if self.is_insecure(&host).await {
                return true;
            }
        }
        false
    }

    /// Sends `outgoing` and waits for the head of the answer, following redirects when asked to.
    pub(super) async fn send(&self, outgoing: Outgoing, follow: Follow) -> Result<Answer> {
        let Outgoing { method, mut url, mut headers, mut body } = outgoing;
        let mut foreign = false;
        for _ in 0..=REDIRECTS_MAX {
            let one = Outgoing {
                method: method.clone(),
                url: url.clone(),
                headers: headers.clone(),
                body: body.take(),
            };
            let response = self.send_one(one).await?;
            let elsewhere = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if follow == Follow::Nothing || !elsewhere {
                return Ok(Answer { response, foreign, idle: self.pace.idle });
            }
            let next = location::resolve(&url, response.headers())?;
            if next.origin() != url.origin() {
                foreign = true;
                headers.remove(AUTHORIZATION);
            }
            if follow == Follow::Secure {
                self.forbid_downgrade(&url, &next).await?;
            }
            url = next;
        }
        Err(location::refused(&url, url.as_str(), "too many redirects"))
    }

    /// Sends what `make` makes until it is answered for good: again after a pause while the refusal is a passing one,
    /// or the connection broke. A host that was never `reached` and cannot be connected to fails at once.
    pub(super) async fn insist(
        &self,
        make: impl Fn() -> Outgoing + Sync,
        follow: Follow,
        reached: bool,
    ) -> Result<Answer> {
        let mut attempt = 1;
        loop {
            let outcome = self.send(make(), follow).await;
            let asked = match &outcome {
                Ok(answer) if refusal::is_passing(answer.status()) => refusal::wait_asked(answer.headers()),
                Err(Error::Unreachable { source, .. }) if reached || attempt > 1 || !source.is_connect() => {
                    None
                }
                Ok(_) | Err(_) => return outcome,
            };
            let Some(pause) = retry::pause(&self.pace, attempt, asked, retry::chance()) else {
                return outcome;
            };
            match &outcome {
                Ok(answer) => {
                    tracing::debug!(url = location::shown(answer.url()), status = %answer.status(), ?pause, "trying again");
                }
                Err(error) => tracing::debug!(error = crate::error::chain(error), ?pause, "trying again"),
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// Refuses to go from TLS into the clear, unless the next host is configured as insecure.
    pub(super) async fn forbid_downgrade(&self, from: &Url, to: &Url) -> Result<()> {
        if from.scheme() == "https" && to.scheme() != "https" && !self.is_insecure_url(to).await {
            return Err(location::refused(from, to.as_str(), "it leads from https to http"));
        }
        Ok(())
    }

    /// Sends one request; the caller bounds the wait when there is a body, since only it sees that one move.
    async fn send_one(&self, outgoing: Outgoing) -> Result<Response> {
        let Outgoing { method, url, headers, body } = outgoing;
        let client = self.client(&url).await?;
        let shown = location::shown(&url);
        let mut request = client.request(method.clone(), url).headers(headers);
        let streams = body.as_ref().is_some_and(|body| body.as_bytes().is_none());
        if let Some(body) = body {
            request = request.body(body);
        }
        let sent = async {
            request.send().await.map_err(|error| Error::Unreachable {
                method: go_method(&method),
                url: shown.clone(),
                source: error.without_url(),
            })
        };
        if streams {
            return sent.await;
        }
        // The connection has a deadline of its own, so this one is about the registry alone.
        let longest = self.pace.connect + self.pace.first_byte;
        let stalled =
            || Error::Stalled { url: shown.clone(), phase: "it was to answer", waited: self.pace.first_byte };
        timeout(longest, sent).await.map_err(|_| stalled())?
    }

    /// The client for the host of `url`, built on first use.
    async fn client(&self, url: &Url) -> Result<Client> {
        let no_host = || location::refused(url, url.as_str(), "it names no host");
        let host = host_of(url).ok_or_else(no_host)?;
        let key = format!("{}://{host}", url.scheme());
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let insecure = url.scheme() != "https" || self.is_insecure_url(url).await;
        let client = self.build(url, &host, insecure).await?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    async fn build(&self, url: &Url, host: &str, insecure: bool) -> Result<Client> {
        let hosts = if url.scheme() == "https" { spellings(url) } else { Vec::new() };
        let directories: Vec<_> =
            hosts.iter().flat_map(|host| self.hosts.certificate_directories(host)).collect();
        let owned = host.to_owned();
        let reading = move || {
            let certificates = Certificates::read(&directories)?;
            tls::config(&owned, certificates, insecure)
        };
        let config = match tokio::task::spawn_blocking(reading).await {
            Ok(config) => config?,
            Err(died) => {
                let source = rustls::Error::General(died.to_string());
                return Err(Error::Tls { host: host.to_owned(), source });
            }
        };
        let mut builder = Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.pace.connect)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .user_agent(USER_AGENT);
        if Endpoint::is_loopback(host) {
            builder = builder.no_proxy();
        }
        builder.build().map_err(|source| Error::Http { host: host.to_owned(), source })
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The URL that answered.
    pub(super) fn url(&self) -> &Url {
        self.response.url()
    }

    /// A header as text; `None` when it is missing or no text.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// How long the body will be, as far as the head tells.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next piece of the body, within the idle deadline; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Interruption> {
        match timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(Interruption::Broken(error.without_url())),
            Err(_) => Err(Interruption::Stalled(Error::Stalled {
                url: location::shown(self.url()),
                phase: "its answer was on the way",
                waited: self.idle,
            })),
        }
    }

    /// The whole body, which `what` names, up to `limit_bytes`.
    pub(super) async fn body(&mut self, what: &str, limit_bytes: usize) -> Result<Vec<u8>> {
        let too_large = || Error::TooLarge { what: what.to_owned(), limit_bytes };
        if self.length().is_some_and(|length| length > u64::try_from(limit_bytes).unwrap_or(u64::MAX)) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        loop {
            match self.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > limit_bytes => return Err(too_large()),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(Interruption::Stalled(error)) => return Err(error),
                Err(Interruption::Broken(source)) => {
                    return Err(Error::Body { what: what.to_owned(), source });
                }
            }
        }
    }

    /// What this refusal says. A body that cannot be read, or that another origin wrote, says nothing.
    pub(super) async fn refusal(mut self) -> Refusal {
        let mut body = Vec::new();
        if !self.foreign {
            while let Ok(Some(chunk)) = self.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() > REFUSAL_LIMIT_BYTES {
                    body.truncate(REFUSAL_LIMIT_BYTES);
                    break;
                }
            }
        }
        Refusal::read(self.status(), self.headers(), &body)
    }
}

/// Why a body stopped.
#[derive(Debug)]
pub(super) enum Interruption {
    /// The connection broke; the rest may be fetched on another.
    Broken(reqwest::Error),
    /// Nothing came for too long.
    Stalled(Error),
}

/// `host:port`, and `host` where the port is the scheme's own.
fn spellings(url: &Url) -> Vec<String> {
    let short = host_of(url);
    let long = url.host_str().zip(url.port_or_known_default()).map(|(name, port)| format!("{name}:{port}"));
    let long = long.filter(|long| Some(long) != short.as_ref());
    short.into_iter().chain(long).collect()
}

/// A method as Go writes it in its errors: `Get`.
fn go_method(method: &Method) -> String {
    let text = method.as_str();
    let (first, rest) = text.split_at(text.len().min(1));
    format!("{first}{}", rest.to_ascii_lowercase())
}

/// The addresses the system knows for `name`; none when it knows none, or not in time.
async fn addresses_of(name: &str) -> Vec<IpAddr> {
    let looked_up = timeout(LOOKUP_LONGEST, tokio::net::lookup_host((name, 0))).await;
    match looked_up {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}
