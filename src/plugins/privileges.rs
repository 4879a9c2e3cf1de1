//! `privileges`: what a plugin at a registry asks for, before anybody installs it.
//!
//! dockerd swallows whatever goes wrong here and answers an empty list; here it is an error, in the registry's words.

use super::privilege::{self, Privilege};
use super::remote::Remote;
use super::{Inner, Result, describe, fetch};
use crate::registry::{Access, Credentials};

pub(super) async fn privileges(
    inner: &Inner,
    remote: &Remote,
    credentials: Credentials,
) -> Result<Vec<Privilege>> {
    let session = fetch::session(inner, remote.reference(), credentials, Access::Pull).await?;
    let described = describe::describe(&session, remote, None).await?;
    Ok(privilege::required(&described.config))
}
