//! How fast plugins go to registries and come from them, and what a daemon needs for that.

use serde_json::{Value, json};

use crate::figures::{large_context, seconds};
use crate::support::install;
use crate::support::process;
use crate::support::registry::Registry;
use crate::{Line, alternate, start};

/// Measures and reports every figure of this file.
pub(crate) fn all(report: &mut dyn FnMut(Line)) {
    let pair = start();
    let source = Registry::open();
    let name = source.name("team/large:v1");
    let (context, _) = large_context();
    assert_eq!(pair[0].create(&name, &context).status, 204);
    drop(context);
    install::push(&pair[0], &name, &Value::Null).ok();
    drop(pair);

    // Fresh ones: what creating it took at its peak is another figure.
    let pair = start();
    let samples = alternate(&pair, 5, |daemon| {
        let taken = seconds(|| drop(install::pull(daemon, &name, "large", &json!([]), &Value::Null).ok()));
        assert_eq!(daemon.http().ask("DELETE", "/plugins/large").status, 200);
        vec![taken]
    });
    report(Line { figure: "pull of the same from a local registry", unit: "s", samples, rate: false });

    let samples = alternate(&pair, 5, |daemon| {
        let empty = Registry::open();
        let alias = empty.name("team/large:v1");
        install::pull(daemon, &name, &alias, &json!([]), &Value::Null).ok();
        let taken = seconds(|| drop(install::push(daemon, &alias, &Value::Null).ok()));
        assert_eq!(daemon.http().ask("DELETE", &format!("/plugins/{alias}")).status, 200);
        vec![taken]
    });
    report(Line { figure: "push of it to an empty local registry", unit: "s", samples, rate: false });

    let samples = pair.each_ref().map(|daemon| {
        let kib = u32::try_from(process::peak_kib(daemon.pid())).unwrap();
        vec![f64::from(kib) / 1024.0]
    });
    report(Line { figure: "peak memory while doing so (RSS)", unit: "MiB", samples, rate: false });
}
