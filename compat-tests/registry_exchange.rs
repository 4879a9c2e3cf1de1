//! dockerd installs what dockplugd has pushed, and the other way round. Runs where a dockerd is at hand: `make oracle`.

use serde_json::Value;

use crate::support::daemon::{Daemon, Program};
use crate::support::install;
use crate::support::registry::Registry;

/// One daemon makes a plugin and pushes it; another one installs, runs and pushes it.
fn hand_over(from: Program, to: Program) {
    let (first, second) = (Registry::open(), Registry::open());
    let maker = Daemon::start_as(from, &[]);
    let name = first.name("team/tiny:v1");
    maker.install(&name, &maker.tiny());
    install::push(&maker, &name, &Value::Null).ok();
    let made = maker.http().look(&format!("/plugins/{name}/json"));

    let user = Daemon::start_as(to, &[]);
    let alias = second.name("elsewhere/tiny:v2");
    let asked = install::privileges(&user, &name, &Value::Null).json();
    assert_eq!(asked, install::privileges(&maker, &name, &Value::Null).json());
    install::pull(&user, &name, &alias, &asked, &Value::Null).ok();
    let installed = user.http().look(&format!("/plugins/{alias}/json"));
    for key in ["Config", "Settings"] {
        assert_eq!(installed[key], made[key], "{key}");
    }
    let answer = user.enable(&alias);
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    install::push(&user, &alias, &Value::Null).ok();
    assert_eq!(second.stored("elsewhere/tiny", "v2"), first.stored("team/tiny", "v1"));
}

#[test]
fn dockerd_runs_what_dockplugd_has_pushed() {
    if Program::chosen() == Program::Dockerd {
        hand_over(Program::Dockplugd, Program::Dockerd);
    }
}

#[test]
fn dockplugd_runs_what_dockerd_has_pushed() {
    if Program::chosen() == Program::Dockerd {
        hand_over(Program::Dockerd, Program::Dockplugd);
    }
}
