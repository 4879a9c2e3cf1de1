//! One operation on one repository for one user: where requests go, and how often.
//!
//! A [`Session`] is made when an operation starts and dropped when it ends; tokens, connections and what was found out
//! about endpoints go with it, and nothing is shared between users. Knows the order of endpoints, not what is asked:
//! that is in `resolve.rs`, `fetch.rs` and `push.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::auth::{Authorizer, Round};
use super::credentials::Credentials;
use super::error::{Error, Result};
use super::hosts::{Access, Endpoint, Hosts};
use super::limits::Pace;
use super::location;
use super::refusal::{Asked, Refusal};
use super::transport::{Answer, Follow, Outgoing, Transport};
use crate::oci::Reference;

/// One operation on one repository for one user. Clones share connections and tokens: layers are fetched side by side
/// on clones of one session.
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) transport: Transport,
    /// What the operation is about, with its tag or digest.
    pub(super) reference: Reference,
    peers: Vec<Peer>,
}

/// An endpoint of the repository, and what is known of it.
#[derive(Debug)]
pub(super) struct Peer {
    /// `https://host/v2/<path>/`
    base: Url,
    mirror: bool,
    authorizer: Authorizer,
    /// It has answered; from then on a plainer endpoint is no longer tried instead.
    reached: AtomicBool,
    /// It cannot be reached and is passed over.
    dead: AtomicBool,
}

/// One request of the distribution API.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) place: Place<'a>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Payload<'a>,
    pub(super) follow: Follow,
    /// A second repository that is read from.
    pub(super) also_from: Option<&'a str>,
    /// Statuses beside 2xx that are answers and not refusals.
    pub(super) accepted: &'a [u16],
    /// Whether anything that another origin says, after a redirect, is an answer.
    pub(super) foreign_accepted: bool,
    /// For the error.
    pub(super) asked: Asked<'a>,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) enum Place<'a> {
    /// Below the repository: `blobs/uploads/`.
    Below(&'a str),
    /// Where the registry sent us.
    At(&'a Url),
}

/// What goes with a request.
pub(super) enum Payload<'a> {
    Empty,
    Bytes(Bytes),
    /// Made anew for each sending; a broken one is the caller's to repeat.
    Stream(&'a (dyn Fn() -> reqwest::Body + Send + Sync)),
}

impl<'a> Ask<'a> {
    /// A request without body, of which every refusal is an error.
    pub(super) fn new(method: Method, place: Place<'a>, asked: Asked<'a>) -> Self {
        Self {
            method,
            place,
            headers: Vec::new(),
            body: Payload::Empty,
            follow: Follow::Nothing,
            also_from: None,
            accepted: &[],
            foreign_accepted: false,
            asked,
        }
    }
}

impl Session {
    /// Starts an operation on the repository of `reference`. Nothing is asked of the registry yet.
    ///
    /// # Errors
    /// [`Error::Location`] when the reference's domain is no host.
    pub async fn open(
        hosts: Arc<Hosts>,
        reference: &Reference,
        credentials: Credentials,
        access: Access,
    ) -> Result<Self> {
        Self::open_with(hosts, reference, credentials, access, Pace::default()).await
    }

    /// The same at another pace, for tests.
    pub(super) async fn open_with(
        hosts: Arc<Hosts>,
        reference: &Reference,
        credentials: Credentials,
        access: Access,
        pace: Pace,
    ) -> Result<Self> {
        let transport = Transport::new(hosts, pace);
        let insecure = transport.is_insecure(reference.domain()).await;
        let endpoints = transport.hosts().endpoints(reference.domain(), access, insecure);
        let repository = (reference.path().to_owned(), access);
        let peers: Result<Vec<_>> = endpoints
            .iter()
            .map(|endpoint| {
                // A mirror is another host: it does not get to see who asks.
                let credentials =
                    if endpoint.mirror { Credentials::anonymous() } else { credentials.clone() };
                Peer::new(endpoint, reference.path(), Authorizer::new(credentials, Some(repository.clone())))
            })
            .collect();
        let inner = Inner { transport, reference: reference.clone(), peers: peers? };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the operation is about.
    pub fn reference(&self) -> &Reference {
        &self.inner.reference
    }

    /// Asks the endpoints one after the other until one answers, and tells which.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<(Answer, &Peer)> {
        let inner = &*self.inner;
        let alive: Vec<_> = inner.peers.iter().filter(|peer| !peer.dead.load(Ordering::Relaxed)).collect();
        let candidates = if alive.is_empty() { inner.peers.iter().collect() } else { alive };
        let mut first: Option<Error> = None;
        for (at, peer) in candidates.iter().enumerate() {
            let error = match peer.ask(&inner.transport, ask).await {
                Ok(answer) => return Ok((answer, peer)),
                Err(error) => error,
            };
            let silent = error.is_unreachable() && !peer.was_reached();
            if silent {
                peer.dead.store(true, Ordering::Relaxed);
            }
            if at + 1 == candidates.len() || !(peer.mirror || silent) {
                return Err(the_telling_one(first, error));
            }
            tracing::info!(endpoint = %peer.base, error = crate::error::chain(&error), "trying the next endpoint");
            if !peer.mirror {
                first.get_or_insert(error);
            }
        }
        Err(location_of_nothing(inner))
    }
}

/// Of the failures of two endpoints of one registry (with TLS and in the clear), the one that says more: the first, unless
/// the second came from somebody who speaks the protocol.
fn the_telling_one(first: Option<Error>, last: Error) -> Error {
    match (first, last) {
        // The second is what a TLS server tells a client that does not use it.
        (Some(first), Error::Unreachable { .. } | Error::Refused { status: StatusCode::BAD_REQUEST, .. }) => {
            first
        }
        (_, last) => last,
    }
}

fn location_of_nothing(inner: &Inner) -> Error {
    let host = inner.reference.domain().to_owned();
    Error::Location { host, location: String::new(), reason: "there is no endpoint" }
}

impl Peer {
    pub(super) fn new(endpoint: &Endpoint, path: &str, authorizer: Authorizer) -> Result<Self> {
        let slash = if path.is_empty() { "" } else { "/" };
        let text = format!("{}/v2/{path}{slash}", endpoint.origin());
        let base = Url::parse(&text).map_err(|_| Error::Location {
            host: endpoint.host.clone(),
            location: text.clone(),
            reason: "it is no URL",
        })?;
        Ok(Self {
            base,
            mirror: endpoint.mirror,
            authorizer,
            reached: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        })
    }

    /// `https://host/v2/<path>/`
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Whether it has ever answered.
    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    /// Asks this endpoint, answering its challenges; passing failures are tried again, but on mirrors, which have
    /// somebody behind them.
    pub(super) async fn ask(&self, transport: &Transport, ask: &Ask<'_>) -> Result<Answer> {
        let url = self.url(&ask.place)?;
        // Where the registry sends us may be another host; who we are stays here.
        let own = url.origin() == self.base.origin();
        if !own {
            transport.forbid_downgrade(&self.base, &url).await?;
        }
        let mut round = Round::new(ask.also_from);
        loop {
            let used =
                if own { self.authorizer.header(transport, &self.base, &mut round).await? } else { None };
            let make = || outgoing(ask, &url, used.as_ref());
            let answer = if self.mirror || matches!(ask.body, Payload::Stream(_)) {
                transport.send(make(), ask.follow).await?
            } else {
                transport.insist(make, ask.follow, self.was_reached()).await?
            };
            self.reached.store(true, Ordering::Relaxed);
            let status = answer.status();
            let accepted =
                ask.accepted.contains(&status.as_u16()) || (ask.foreign_accepted && answer.foreign);
            if status.is_success() || accepted {
                self.authorizer.succeeded(&round).await;
                return Ok(answer);
            }
            let about_us = own && !answer.foreign;
            let headers = answer.headers().clone();
            let mut refusal = answer.refusal().await;
            let disputed =
                status == StatusCode::UNAUTHORIZED || (status == StatusCode::FORBIDDEN && used.is_some());
            if about_us
                && disputed
                && self
                    .authorizer
                    .challenged(&self.base, &headers, &refusal, used.as_ref(), &mut round)
                    .await?
            {
                continue;
            }
            refusal = Refusal { words: self.authorizer.scrub(&refusal.words, used.as_ref()), ..refusal };
            return Err(refusal.into_error(ask.asked));
        }
    }

    fn url(&self, place: &Place<'_>) -> Result<Url> {
        match place {
            Place::At(url) => Ok((*url).clone()),
            Place::Below(path) => {
                self.base.join(path).map_err(|_| location::refused(&self.base, path, "it is no URL"))
            }
        }
    }
}

fn outgoing(ask: &Ask<'_>, url: &Url, authorization: Option<&HeaderValue>) -> Outgoing {
    let mut headers = HeaderMap::new();
    for (name, value) in &ask.headers {
        headers.append(name.clone(), value.clone());
    }
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    let body = match &ask.body {
        Payload::Empty => None,
        Payload::Bytes(bytes) => Some(bytes.clone().into()),
        Payload::Stream(make) => Some(make()),
    };
    Outgoing { method: ask.method.clone(), url: url.clone(), headers, body }
}
