//! What a client is shown of a container: its volumes as it asked for them, not the binds that the engine was given. Pure.

use serde_json::{Map, Value, json};

use super::body::{LABEL, Written};
use super::{Containers, Record};

impl Containers {
    /// The engine's answer to an inspect, with the container's volumes as the client wrote them.
    pub fn shown(&self, mut container: Value) -> Value {
        let found = container["Id"].as_str().and_then(|id| self.find(id));
        if let Some((_, record)) = found {
            inspected(&mut container, &record);
        }
        container
    }

    /// The engine's list of containers, likewise.
    pub fn listed(&self, mut list: Value) -> Value {
        if let Value::Array(list) = &mut list {
            // Those are ours alone, and only for a moment.
            list.retain(|one| {
                !one["Labels"][LABEL].as_str().is_some_and(|token| self.0.unwanted.contains(token))
            });
        }
        for container in list.as_array_mut().into_iter().flatten() {
            let found = container["Id"].as_str().and_then(|id| self.find(id));
            forget_label(container);
            if let Some((_, record)) = found {
                mounts(container, &record);
            }
        }
        list
    }

    /// Whether a container uses one of these: volumes' names, or places in it.
    pub fn uses_any(&self, id: &str, names: &[String]) -> bool {
        let Some((_, record)) = self.find(id) else { return false };
        record
            .uses
            .iter()
            .any(|used| names.iter().any(|name| *name == used.volume || *name == used.destination))
    }
}

fn inspected(container: &mut Value, record: &Record) {
    mounts(container, record);
    let Written { volumes, binds, mounts, volumes_from, volume_driver } = record.written.clone();
    if let Some(Value::Object(host)) = container.get_mut("HostConfig") {
        for (field, written) in [
            ("Binds", binds),
            ("Mounts", mounts),
            ("VolumesFrom", volumes_from),
            ("VolumeDriver", volume_driver),
        ] {
            restore(host, field, written);
        }
    }
    if let Some(config) = container.get_mut("Config") {
        forget_label(config);
        if let Value::Object(config) = config {
            restore(config, "Volumes", volumes);
        }
    }
}

/// What the client wrote stands where the engine has something of ours.
fn restore(object: &mut Map<String, Value>, field: &str, written: Option<Value>) {
    match written {
        Some(written) => {
            object.insert(field.to_owned(), written);
        }
        // The engine shows the field empty, or not at all: as it does without any.
        None => {
            if let Some(value) = object.get_mut(field).filter(|value| value.is_array()) {
                *value = Value::Null;
            }
        }
    }
}

fn forget_label(object: &mut Value) {
    if let Some(Value::Object(labels)) = object.get_mut("Labels") {
        labels.remove(LABEL);
    }
}

/// Each bind that is a volume of ours is shown as that volume.
fn mounts(container: &mut Value, record: &Record) {
    for mount in container.get_mut("Mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        let place = mount["Destination"].as_str().unwrap_or_default();
        if let Some(used) = record.uses.iter().find(|used| used.destination == place) {
            *mount = json!({
                "Type": "volume",
                "Name": used.volume,
                "Source": used.source,
                "Destination": used.destination,
                "Driver": used.driver,
                "Mode": if used.read_only { "ro" } else { "" },
                "RW": !used.read_only,
                "Propagation": "",
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Use;
    use super::*;

    #[test]
    fn a_container_is_shown_as_it_was_asked_for() {
        let used = Use {
            volume: "vol".into(),
            driver: "rclone:latest".into(),
            destination: "/data".into(),
            read_only: true,
            anonymous: false,
            source: "/run/x/0".into(),
            subpath: None,
            is_bound: true,
        };
        let written = Written { binds: Some(json!(["vol:/data:ro"])), ..Written::default() };
        let record = Record {
            id: Some("abc".into()),
            uses: vec![used],
            written,
            auto_remove: false,
            is_stopped: false,
        };
        let mut container = json!({
            "Id": "abc",
            "Mounts": [
                {"Type": "bind", "Source": "/run/x/0", "Destination": "/data", "RW": false},
                {"Type": "bind", "Source": "/srv", "Destination": "/srv", "RW": true},
            ],
            "HostConfig": {"Binds": [], "Mounts": [{"Type": "bind", "Source": "/run/x/0", "Target": "/data"}]},
            "Config": {"Labels": {LABEL: "t", "mine": "1"}, "Volumes": null},
        });
        inspected(&mut container, &record);
        assert_eq!(container["HostConfig"], json!({"Binds": ["vol:/data:ro"], "Mounts": null}));
        assert_eq!(container["Config"]["Labels"], json!({"mine": "1"}));
        let shown = &container["Mounts"][0];
        assert_eq!(
            (&shown["Type"], &shown["Name"], &shown["RW"]),
            (&json!("volume"), &json!("vol"), &json!(false))
        );
        assert_eq!(container["Mounts"][1]["Source"], "/srv");
    }
}
