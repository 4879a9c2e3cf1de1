//! From one daemon to registries and back through the stock CLI: the same bytes at every stop.

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Program};
use crate::support::install;
use crate::support::registry::Registry;

/// Creates a plugin, pushes it, and removes it again.
fn publish(daemon: &Daemon, name: &str) {
    let docker = daemon.docker();
    daemon.install(name, &daemon.tiny());
    docker.ok(&["plugin", "push", name]);
    assert_eq!(docker.ok(&["plugin", "rm", name]), name);
}

#[test]
fn the_same_bytes_are_found_at_every_stop() {
    let (first, second) = (Registry::open(), Registry::open());
    let mut daemon = Daemon::start();
    let docker = daemon.docker();
    let (origin, alias) = (first.name("team/tiny:v1"), second.name("elsewhere/tiny:v2"));
    publish(&daemon, &origin);
    let stored = first.stored("team/tiny", "v1");
    assert_eq!(stored.digests.len(), 3, "manifest, config and one layer");

    let said = docker.ok(&["plugin", "install", "--grant-all-permissions", "--alias", &alias, &origin]);
    assert!(said.ends_with(&format!("Installed plugin {origin}")), "{said}");
    assert!(said.contains(&format!("Digest: {}", stored.digests[0])), "{said}");

    // Others come and go, and the daemon starts anew. dockerd forgets the manifest then, and pushes one without layers.
    if daemon.is_ours() {
        publish(&daemon, &first.name("team/other:v1"));
        assert_eq!(daemon.stop(), Some(0));
        daemon.launch();
    }
    docker.ok(&["plugin", "push", &alias]);
    assert_eq!(second.stored("elsewhere/tiny", "v2"), stored);

    docker.ok(&["plugin", "rm", "-f", &alias]);
    let again = first.name("again:v3");
    docker.ok(&["plugin", "install", "--grant-all-permissions", "--disable", "--alias", &again, &alias]);
    assert_eq!(daemon.http().look(&format!("/plugins/{again}/json"))["PluginReference"], alias.as_str());
    docker.ok(&["plugin", "push", &again]);
    assert_eq!(first.stored("again", "v3"), stored);

    docker.ok(&["plugin", "enable", &again]);
    assert_eq!(docker.ok(&["volume", "create", "-d", &again, "data"]), "data");
}

#[test]
fn what_was_installed_is_the_plugin_that_was_created() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    let name = registry.name("team/tiny:v1");
    daemon.install(&name, &daemon.tiny());
    let created = daemon.http().look(&format!("/plugins/{name}/json"));
    daemon.docker().ok(&["plugin", "push", &name]);
    daemon.docker().ok(&["plugin", "rm", &name]);
    daemon.docker().ok(&["plugin", "install", "--grant-all-permissions", "--disable", &name]);
    let mut installed = daemon.http().look(&format!("/plugins/{name}/json"));
    assert_ne!(installed["Id"], created["Id"]);
    installed["Id"] = created["Id"].clone();
    // What is ours beyond dockerd's keys may tell the two apart.
    for key in ["Config", "Enabled", "Name", "PluginReference", "Settings"] {
        assert_eq!(installed[key], created[key], "{key}");
    }
}

#[test]
fn nothing_is_installed_without_consent() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    let name = registry.name("team/tiny:v1");
    publish(&daemon, &name);
    let before = daemon.tree();
    // Nobody is there to answer the question; the CLI takes that for a no.
    let said = daemon.docker().run(&["plugin", "install", &name]);
    assert_ne!(said.code, Some(0), "{said:?}");
    let question = format!("Plugin \"{name}\" is requesting the following privileges:");
    assert!(said.out.contains(&question), "{said:?}");
    assert!(said.out.contains(&format!(" - mount: [{}]", daemon.record().display())), "{said:?}");
    assert_eq!(daemon.http().look("/plugins"), json!([]));
    if daemon.is_ours() {
        assert_eq!(daemon.tree(), before);
    }
}

#[test]
fn an_installed_plugin_runs_with_the_settings_it_was_given() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let name = registry.name("team/tiny:v1");
    publish(&daemon, &name);
    docker.ok(&[
        "plugin",
        "install",
        "--grant-all-permissions",
        "--alias",
        "mine",
        &name,
        "MODE=quiet please",
    ]);
    assert_eq!(docker.ok(&["plugin", "ls", "--format", "{{.Name}} {{.Enabled}}"]), "mine:latest true");
    let report = std::fs::read_to_string(daemon.record().join("report")).unwrap();
    assert!(report.contains("\nMODE=quiet please\n"), "{report}");
}

#[test]
fn a_push_tells_digest_and_size() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    let name = registry.name("team/tiny:v1");
    daemon.install(&name, &daemon.tiny());
    for round in ["first", "again"] {
        let pushed = install::push(&daemon, &name, &Value::Null).ok();
        let stored = registry.stored("team/tiny", "v1");
        let repository = registry.name("team/tiny");
        assert!(pushed.says(&format!("The push refers to repository [{repository}]")), "{round}: {pushed:?}");
        let aux = pushed.lines.iter().find_map(|line| line.get("aux")).expect("an aux line");
        let expected = json!({"Tag": "v1", "Digest": stored.digests[0], "Size": stored.manifest.len()});
        assert_eq!(*aux, expected, "{round}");
    }
}

#[test]
fn what_cannot_be_pushed_says_why() {
    let daemon = Daemon::start();
    let answer = install::ask(&daemon, "POST", "/plugins/nope/push", &Value::Null, None);
    daemon.assert_refused(&answer, 404, "plugin \"nope\" not found");

    let gone = { Registry::open().name("team/tiny:v1") };
    daemon.install(&gone, &daemon.tiny());
    let error = install::push(&daemon, &gone, &Value::Null).failed();
    assert!(error.to_lowercase().contains("connection refused"), "{error}");
    assert_eq!(daemon.http().look("/plugins").as_array().map(Vec::len), Some(1));
}

#[test]
fn content_that_is_here_already_is_not_fetched_again() {
    let registry = Registry::open();
    let daemon = Daemon::start();
    let name = registry.name("team/tiny:v1");
    publish(&daemon, &name);
    let first = install::consenting(&daemon, &name, "one", &Value::Null).ok();
    assert!(first.says("Download complete"), "{first:?}");
    let second = install::consenting(&daemon, &name, "two", &Value::Null).ok();
    assert!(second.says("Already exists") && !second.says("Download complete"), "{second:?}");
    daemon.docker().ok(&["plugin", "rm", "one"]);
    assert_eq!(daemon.enable("two").status, 200, "what they share is still there");
}

#[test]
fn removing_what_was_installed_leaves_nothing_behind() {
    let Some(daemon) = Daemon::ours() else { return };
    let registry = Registry::open();
    let name = registry.name("team/tiny:v1");
    publish(&daemon, &name);
    let before = daemon.tree();
    install::consenting(&daemon, &name, "tiny", &Value::Null).ok();
    assert_ne!(daemon.tree(), before);
    assert_eq!(daemon.http().ask("DELETE", "/plugins/tiny").status, 200);
    assert_eq!(daemon.tree(), before);
}

#[test]
fn a_mirror_is_asked_first_and_stands_in_for_docker_hub() {
    let mirror = Registry::open();
    let url = format!("http://{}", mirror.address());
    let daemon = Daemon::start_as(Program::chosen(), &["--registry-mirror", &url]);
    let docker = daemon.docker();
    publish(&daemon, &mirror.name("team/tiny:v1"));
    publish(&daemon, &mirror.name("library/tiny:latest"));
    docker.ok(&["plugin", "install", "--grant-all-permissions", "--disable", "team/tiny:v1"]);
    docker.ok(&["plugin", "install", "--grant-all-permissions", "--disable", "tiny"]);
    let shown = docker.ok(&["plugin", "ls", "--format", "{{.Name}} {{.PluginReference}}"]);
    let mut shown: Vec<&str> = shown.lines().collect();
    shown.sort_unstable();
    assert_eq!(shown, ["team/tiny:v1 docker.io/team/tiny:v1", "tiny:latest docker.io/library/tiny:latest"]);
}
