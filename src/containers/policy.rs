//! Whether a container that has ended is started again by its engine, by its own policy. Pure.
//!
//! Between its runs its volumes stay mounted: some engines start it again at once, from a process of their own, and say so
//! afterwards. Facts: dockerd is in the state `restarting` meanwhile, podman in `exited`; a user's stop ends it in both,
//! and a signal sent by a user does in podman, and in dockerd when the state then says so.

use serde_json::Value;

/// Whether an inspected container that is not running will run again without being asked to. `is_stopped`: a user has
/// stopped it.
pub(super) fn will_return(container: &Value, is_stopped: bool) -> bool {
    let policy = &container["HostConfig"]["RestartPolicy"];
    match policy["Name"].as_str().unwrap_or_default() {
        _ if is_stopped => false,
        // One that was never started is not started again.
        _ if matches!(container["State"]["Status"].as_str(), Some("created" | "configured")) => false,
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let most = policy["MaximumRetryCount"].as_u64().unwrap_or_default();
            let count = container["RestartCount"].as_u64().unwrap_or_default();
            container["State"]["ExitCode"] != 0 && (most == 0 || count < most)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_comes_back() {
        for (name, most, count, code, is_stopped, expected) in [
            ("no", 0, 0, 1, false, false),
            ("", 0, 0, 1, false, false),
            ("always", 0, 7, 0, false, true),
            ("always", 0, 0, 1, true, false),
            ("unless-stopped", 0, 0, 1, false, true),
            ("unless-stopped", 0, 0, 1, true, false),
            ("on-failure", 0, 99, 1, false, true),
            ("on-failure", 0, 0, 0, false, false),
            ("on-failure", 2, 1, 1, false, true),
            ("on-failure", 2, 2, 1, false, false),
            ("on-failure", 2, 0, 1, true, false),
        ] {
            let container = json!({
                "State": {"Status": "exited", "ExitCode": code}, "RestartCount": count,
                "HostConfig": {"RestartPolicy": {"Name": name, "MaximumRetryCount": most}},
            });
            let case = (name, most, count, code, is_stopped);
            assert_eq!(will_return(&container, is_stopped), expected, "{case:?}");
        }
        let unstarted =
            json!({"State": {"Status": "created"}, "HostConfig": {"RestartPolicy": {"Name": "always"}}});
        assert!(!will_return(&unstarted, false));
    }
}
