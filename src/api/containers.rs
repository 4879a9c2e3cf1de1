//! The routes of containers that are about volumes too: what of them is changed on the way to the engine and back.
//!
//! Everything else about containers is forwarded as it is. What a volume is to a container is decided in `containers`.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};

use super::elsewhere::{Target, part_of_url};
use super::error::Result;
use super::extract::read;
use super::form::Form;
use super::reply;
use crate::containers::{CREATE_MAX_BYTES, Containers, LABEL, Starting};
use crate::engine::{Answer, upgraded_to_nothing};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verb {
    /// `POST /containers/create`
    Create,
    /// `POST /containers/{name}/start` and `/restart`.
    Start(String),
    /// `POST /containers/{name}/attach`, at which some engines set a container up.
    Attach(String),
    /// `POST /commit`
    Commit,
    /// `/containers/{name}/archive`, which looks into its volumes.
    Visit(String),
    /// `POST /containers/{name}/stop` and `/kill`.
    Stop(String),
    /// `DELETE /containers/{name}`
    Remove(String),
    /// `GET /containers/{name}/json`
    Inspect,
    /// `GET /containers/json`
    List,
    /// `POST /containers/prune`
    Prune,
}

impl Verb {
    /// The verb of a request, if it is one of these.
    pub(super) fn of(method: &Method, parts: &[String]) -> Option<Self> {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (method.as_str(), parts.as_slice()) {
            ("POST", ["containers", "create"]) => Some(Self::Create),
            ("POST", ["containers", "prune"]) => Some(Self::Prune),
            ("POST", ["containers", name, "start" | "restart"]) => Some(Self::Start((*name).to_owned())),
            ("POST", ["containers", name, "attach"]) => Some(Self::Attach((*name).to_owned())),
            ("POST", ["commit"]) => Some(Self::Commit),
            ("GET" | "HEAD" | "PUT", ["containers", name, "archive"]) => {
                Some(Self::Visit((*name).to_owned()))
            }
            ("POST", ["containers", name, "stop" | "kill"]) => Some(Self::Stop((*name).to_owned())),
            ("DELETE", ["containers", name]) => Some(Self::Remove((*name).to_owned())),
            ("GET", ["containers", "json"]) => Some(Self::List),
            ("GET", ["containers", _, "json"]) => Some(Self::Inspect),
            _ => None,
        }
    }
}

/// Answers a request that is about volumes too.
pub(super) async fn answer(
    verb: Verb,
    containers: &Containers,
    request: Request,
    target: Target,
) -> Result<Response<Body>> {
    let engine = containers.engine();
    match verb {
        Verb::Create => {
            let body = read(request.into_body(), CREATE_MAX_BYTES).await?;
            Ok(whole(containers.create(target.whole.as_str(), &body).await?))
        }
        Verb::Start(name) => match containers.before_start(&name).await {
            Ok(starting) => start(containers, starting, request, target).await,
            Err(error) => {
                containers.could_not_start(&name).await;
                Err(error.into())
            }
        },
        Verb::Attach(name) => attach(containers, &name, request, target).await,
        Verb::Commit => commit(containers, request, target).await,
        Verb::Visit(name) => visit(containers, &name, request, target).await,
        Verb::Stop(name) => {
            let stopping = containers.before_stop(&name).await?;
            let response = engine.forward(request, target.whole).await?;
            if let Some(id) = stopping {
                containers.after_stop(&id, response.status()).await?;
            }
            Ok(response.map(Body::new))
        }
        Verb::Remove(name) => {
            containers.catch_up().await?;
            let removing = containers.before_remove(&name).await?;
            let own = Form::parse(target.whole.query().unwrap_or_default())?.bool("v");
            let response = engine.forward(request, target.whole).await?;
            if let Some(removing) = removing.filter(|_| response.status().is_success()) {
                containers.after_remove(removing, own).await;
            }
            Ok(response.map(Body::new))
        }
        Verb::Prune => {
            let pruned = engine.ask(Method::POST, target.whole.as_str(), None).await?;
            containers.reconcile().await?;
            Ok(whole(pruned))
        }
        Verb::Inspect => {
            let answer = engine.ask(Method::GET, target.whole.as_str(), None).await?;
            Ok(whole(changed(answer, |container| containers.shown(container))))
        }
        Verb::List => list(containers, &target).await,
    }
}

/// Some engines set a container up for whoever attaches to it: its volumes are mounted then.
async fn attach(
    containers: &Containers,
    name: &str,
    request: Request,
    target: Target,
) -> Result<Response<Body>> {
    match containers.before_start(name).await {
        Ok(starting) => {
            let response = containers.engine().forward(request, target.whole).await;
            if let Some(starting) = starting {
                containers.after_attach(starting).await;
            }
            Ok(response?.map(Body::new))
        }
        // The CLI shows why a start fails, not why an attach before it does: so that nothing is attached to for now.
        Err(error) => match upgraded_to_nothing(request) {
            Some(response) => Ok(response.map(|()| Body::empty())),
            None => Err(error.into()),
        },
    }
}

/// What we know a container by is not its image's: a label cannot be taken away, but emptied.
async fn commit(containers: &Containers, request: Request, target: Target) -> Result<Response<Body>> {
    let query = target.whole.query().unwrap_or_default();
    let name = Form::parse(query)?.into_pairs().into_iter().find(|(key, _)| key == "container");
    let is_ours = match name {
        Some((_, name)) => containers.id_of(&name).await?.is_some(),
        None => false,
    };
    let mut asked = target.whole.clone();
    if is_ours {
        let change = part_of_url(&format!("LABEL {LABEL}="));
        asked = target.with_query(&format!("{query}&changes={change}"))?;
    }
    Ok(containers.engine().forward(request, asked).await?.map(Body::new))
}

/// Looks into a container: its volumes are mounted until the answer has come to its end.
async fn visit(
    containers: &Containers,
    name: &str,
    request: Request,
    target: Target,
) -> Result<Response<Body>> {
    let visit = containers.visit(name).await?;
    let response = containers.engine().forward(request, target.whole).await?.map(Body::new);
    let Some(visit) = visit else { return Ok(response) };
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _until_the_end = &visit;
            frame
        }))
    }))
}

/// Has the engine start a container whose volumes are mounted, if it has any.
async fn start(
    containers: &Containers,
    starting: Option<Starting>,
    request: Request,
    target: Target,
) -> Result<Response<Body>> {
    let response = containers.engine().forward(request, target.whole).await;
    if let Some(starting) = starting {
        // A broken connection says nothing: `after_start` looks.
        let status = response.as_ref().map_or(StatusCode::BAD_GATEWAY, Response::status);
        containers.after_start(starting, status).await;
    }
    Ok(response?.map(Body::new))
}

/// The list; the filter `volume` is ours, the engine knows none.
async fn list(containers: &Containers, target: &Target) -> Result<Response<Body>> {
    let mut form: Vec<(String, String)> = Form::parse(target.whole.query().unwrap_or_default())?.into_pairs();
    let mut volumes = Vec::new();
    for (key, value) in &mut form {
        if key == "filters"
            && let Ok(Value::Object(mut filters)) = serde_json::from_str(value)
        {
            if let Some(wanted) = filters.remove("volume") {
                volumes = texts(&wanted);
            }
            *value = Value::Object(filters).to_string();
        }
    }
    let query: Vec<String> =
        form.iter().map(|(key, value)| format!("{}={}", part_of_url(key), part_of_url(value))).collect();
    let asked = target.with_query(&query.join("&"))?;
    let answer = containers.engine().ask(Method::GET, asked.as_str(), None).await?;
    Ok(whole(changed(answer, |mut list| {
        if let (false, Value::Array(list)) = (volumes.is_empty(), &mut list) {
            list.retain(|one| one["Id"].as_str().is_some_and(|id| containers.uses_any(id, &volumes)));
        }
        containers.listed(list)
    })))
}

/// The values of a filter, in either of its forms.
fn texts(filter: &Value) -> Vec<String> {
    match filter {
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Object(map) => set(map),
        _ => Vec::new(),
    }
}

fn set(map: &Map<String, Value>) -> Vec<String> {
    map.iter().filter(|(_, is_in)| **is_in == Value::Bool(true)).map(|(key, _)| key.clone()).collect()
}

/// An answer's JSON, changed, if it is a success.
fn changed(answer: Answer, change: impl FnOnce(Value) -> Value) -> Answer {
    if !answer.status.is_success() {
        return answer;
    }
    match serde_json::from_slice(&answer.body) {
        Ok(value) => {
            let mut text = change(value).to_string();
            text.push('\n');
            Answer { status: answer.status, body: text.into() }
        }
        Err(_) => answer,
    }
}

fn whole(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(CONTENT_TYPE, reply::JSON);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_volumes_is_looked_at() {
        let verb = |method: &str, path: &str| {
            let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
            Verb::of(&method.parse().unwrap(), &parts)
        };
        assert_eq!(verb("POST", "containers/create"), Some(Verb::Create));
        assert_eq!(verb("POST", "containers/x/start"), Some(Verb::Start("x".into())));
        assert_eq!(verb("POST", "containers/x/restart"), Some(Verb::Start("x".into())));
        assert_eq!(verb("POST", "containers/x/attach"), Some(Verb::Attach("x".into())));
        assert_eq!(verb("POST", "commit"), Some(Verb::Commit));
        assert_eq!(verb("PUT", "containers/x/archive"), Some(Verb::Visit("x".into())));
        assert_eq!(verb("POST", "containers/x/kill"), Some(Verb::Stop("x".into())));
        assert_eq!(verb("DELETE", "containers/x"), Some(Verb::Remove("x".into())));
        assert_eq!(verb("GET", "containers/x/json"), Some(Verb::Inspect));
        assert_eq!(verb("GET", "containers/json"), Some(Verb::List));
        assert_eq!(verb("POST", "containers/prune"), Some(Verb::Prune));
        for (method, path) in
            [("GET", "containers/x/logs"), ("POST", "images/create"), ("POST", "containers/x/pause")]
        {
            assert_eq!(verb(method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn a_filter_has_two_forms() {
        assert_eq!(texts(&serde_json::json!(["a", "b"])), ["a", "b"]);
        assert_eq!(texts(&serde_json::json!({"a": true, "b": false})), ["a"]);
    }
}
