//! What we and the engine say, as one answer. Pure: ours is what it would be without an engine, the engine's is its JSON.
//!
//! Containers, images and the machine are the engine's to tell; plugins, volumes and the version that is announced are
//! ours. What only one of the two knows is told.

use serde_json::{Map, Value, json};

use crate::api::version::{self, ApiVersion};

type Object = Map<String, Value>;

/// `/version`. `highest` is what is announced.
pub(super) fn version(own: Value, engine: Value, highest: ApiVersion) -> Value {
    let (Value::Object(own), Value::Object(mut engine)) = (own, engine) else { return Value::Null };
    let lowest = engine.get("MinAPIVersion").and_then(Value::as_str).and_then(ApiVersion::told);
    let lowest = lowest.map_or(version::MIN, |lowest| lowest.clamp(version::MIN, highest));
    engine.insert("ApiVersion".to_owned(), highest.to_string().into());
    engine.insert("MinAPIVersion".to_owned(), lowest.to_string().into());
    let mut components = list(own.get("Components"));
    for component in &mut components {
        // The CLI takes the one called `Engine`, or makes one of the fields beside, for what runs containers.
        component["Name"] = json!("Dockplug");
    }
    components.extend(list(engine.get("Components")));
    engine.insert("Components".to_owned(), components.into());
    engine.insert("Platform".to_owned(), own.get("Platform").cloned().unwrap_or_default());
    filled(engine, own)
}

/// `/info`
pub(super) fn info(own: Value, engine: Value) -> Value {
    let (Value::Object(mut own), Value::Object(mut engine)) = (own, engine) else { return Value::Null };
    if let (Some(plugins), Some(Value::Object(of_engine))) =
        (own.remove("Plugins"), engine.get_mut("Plugins"))
    {
        of_engine.insert("Volume".to_owned(), plugins["Volume"].clone());
    }
    let warnings = [list(own.get("Warnings")), list(engine.get("Warnings"))].concat();
    engine.insert("Warnings".to_owned(), warnings.into());
    let registries = registries(own.remove("RegistryConfig"), engine.remove("RegistryConfig"));
    engine.insert("RegistryConfig".to_owned(), registries);
    if engine.get("IndexServerAddress").is_none_or(|address| address == "") {
        engine.remove("IndexServerAddress");
    }
    filled(engine, own)
}

/// `/system/df`, without what was not asked for, and without volumes.
pub(super) fn usage(engine: Value, wanted: impl Fn(&str) -> bool) -> Object {
    let mut engine = match engine {
        Value::Object(engine) => engine,
        _ => Object::new(),
    };
    engine.remove("Volumes");
    engine.retain(|field, _| {
        !matches!(field.as_str(), "Images" | "Containers" | "BuildCache") || wanted(field)
    });
    // Some engines leave sizes at 0 that follow from others.
    let mut layers_bytes = 0;
    for image in engine.get_mut("Images").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let size_bytes = number(&image["Size"]);
        layers_bytes += size_bytes.saturating_sub(number(&image["SharedSize"]));
        if image["VirtualSize"] == 0 {
            image["VirtualSize"] = size_bytes.into();
        }
    }
    if engine.get("LayersSize").is_none_or(|size| *size == 0) {
        engine.insert("LayersSize".to_owned(), layers_bytes.into());
    }
    engine
}

/// How both reach registries: containers' images come by the engine's way, plugins by ours.
fn registries(own: Option<Value>, engine: Option<Value>) -> Value {
    let (Some(Value::Object(own)), Some(Value::Object(mut engine))) = (own.clone(), engine) else {
        return own.unwrap_or_default();
    };
    for (field, value) in own {
        let together = match (value, engine.remove(&field)) {
            (Value::Array(mut ours), Some(Value::Array(others))) => {
                ours.extend(others.into_iter().filter(|one| !ours.contains(one)).collect::<Vec<_>>());
                Value::Array(ours)
            }
            (Value::Object(ours), Some(Value::Object(others))) => filled(ours, others),
            (Value::Null, Some(theirs)) => theirs,
            (ours, _) => ours,
        };
        engine.insert(field, together);
    }
    Value::Object(engine)
}

/// An object, with what it lacks taken from another.
fn filled(mut object: Object, from: Object) -> Value {
    for (field, value) in from {
        object.entry(field).or_insert(value);
    }
    Value::Object(object)
}

/// A list; null is an empty one.
fn list(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_engines_with_our_component() {
        let own = json!({
            "Platform": {"Name": "Dockplug"}, "Version": "0.1.0", "ApiVersion": "1.51", "GoVersion": "none",
            "Components": [{"Name": "Engine", "Version": "0.1.0"}],
        });
        let podman = json!({
            "Platform": {"Name": "linux"}, "Version": "4.3.1", "ApiVersion": "1.41", "MinAPIVersion": "1.24",
            "Components": [{"Name": "Podman Engine", "Version": "4.3.1"}],
        });
        let told = version(own.clone(), podman, ApiVersion::v1(41));
        let expected = json!({
            "Platform": {"Name": "Dockplug"}, "Version": "4.3.1", "ApiVersion": "1.41", "MinAPIVersion": "1.24",
            "GoVersion": "none",
            "Components": [{"Name": "Dockplug", "Version": "0.1.0"}, {"Name": "Podman Engine", "Version": "4.3.1"}],
        });
        assert_eq!(told, expected);
        for (lowest, expected) in [("1.44", "1.44"), ("1.12", "1.24"), ("1.60", "1.51"), ("", "1.24")] {
            let told = version(own.clone(), json!({"MinAPIVersion": lowest}), version::MAX);
            assert_eq!(told["MinAPIVersion"], expected, "{lowest}");
        }
    }

    #[test]
    fn the_machine_is_the_engines_and_the_volume_plugins_are_ours() {
        let own = json!({
            "Containers": 0, "ID": "own", "Plugins": {"Volume": ["local", "me/p"], "Network": []}, "Warnings": ["a"],
            "IndexServerAddress": "https://index", "CDISpecDirs": [],
            "RegistryConfig": {"Mirrors": ["m"], "IndexConfigs": {"docker.io": 1}, "Old": null},
        });
        let engine = json!({
            "Containers": 3, "ID": "its", "Plugins": {"Volume": ["local"], "Network": ["bridge"]}, "Warnings": null,
            "IndexServerAddress": "",
            "RegistryConfig": {"Mirrors": ["m", "n"], "IndexConfigs": {"docker.io": 2, "r": 3}, "Old": []},
        });
        let expected = json!({
            "Containers": 3, "ID": "its", "Plugins": {"Volume": ["local", "me/p"], "Network": ["bridge"]},
            "Warnings": ["a"], "IndexServerAddress": "https://index", "CDISpecDirs": [],
            "RegistryConfig": {"Mirrors": ["m", "n"], "IndexConfigs": {"docker.io": 1, "r": 3}, "Old": []},
        });
        assert_eq!(info(own, engine), expected);
    }

    #[test]
    fn usage_is_what_was_asked_for() {
        let image = json!({"Size": 10, "SharedSize": 4, "VirtualSize": 0});
        let engine = json!({
            "LayersSize": 0, "Images": [image, {"Size": 7, "SharedSize": 0, "VirtualSize": 9}], "Containers": [1],
            "Volumes": [2], "BuildCache": [],
        });
        let told = usage(engine.clone(), |_| true);
        assert_eq!((&told["LayersSize"], told.get("Volumes")), (&json!(13), None));
        assert_eq!(
            (&told["Images"][0]["VirtualSize"], &told["Images"][1]["VirtualSize"]),
            (&json!(10), &json!(9))
        );
        let told = usage(engine, |field| field == "Containers");
        assert_eq!(Value::Object(told), json!({"LayersSize": 0, "Containers": [1]}));
    }
}
