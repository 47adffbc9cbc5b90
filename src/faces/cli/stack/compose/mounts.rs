//! `volumes` and `tmpfs` of a service as mounts (docker/cli, cli/compose/convert/volume.go).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Source;
use super::part::Part;

/// All mounts of a service. `volumes`: those that the file defines.
pub(super) fn read(service: &Part<'_>, volumes: &Part<'_>, source: &Source<'_>) -> Result<Vec<Value>, String> {
    let mut mounts = Vec::new();
    for volume in service.at("volumes").items()? {
        let mount = match volume.value() {
            Value::Object(_) => long(&volume)?,
            _ => short(&volume.text_or_empty()?).ok_or_else(|| volume.wrong("is no volume"))?,
        };
        mounts.push(placed(mount, &volume, volumes, source)?);
    }
    for target in service.at("tmpfs").texts()? {
        mounts.push(json!({"Type": "tmpfs", "Target": target}));
    }
    Ok(mounts)
}

fn long(volume: &Part<'_>) -> Result<Value, String> {
    volume.only(&["type", "source", "target", "read_only", "consistency", "bind", "volume", "tmpfs"])?;
    let kind = volume.at("type").text_or_empty()?;
    if !["bind", "volume", "tmpfs"].contains(&kind.as_str()) {
        return Err(volume.at("type").wrong(format!("is {kind:?}: use bind, volume or tmpfs")));
    }
    let target = volume.at("target").text_or_empty()?;
    if target.is_empty() {
        return Err(volume.wrong("needs a target"));
    }
    let mut mount = json!({"Type": kind, "Target": target});
    if let Some(source) = volume.at("source").text()? {
        mount["Source"] = source.into();
    }
    if volume.at("read_only").truth()? == Some(true) {
        mount["ReadOnly"] = true.into();
    }
    let (bind, named, tmpfs) = (volume.at("bind"), volume.at("volume"), volume.at("tmpfs"));
    bind.only(&["propagation", "create_host_path"])?;
    named.only(&["nocopy"])?;
    tmpfs.only(&["size"])?;
    for (part, of) in [(&bind, "bind"), (&named, "volume"), (&tmpfs, "tmpfs")] {
        if part.is_given() && kind != of {
            return Err(format!("{of} options are incompatible with type {kind}"));
        }
    }
    if kind == "tmpfs" && mount["Source"].is_string() {
        return Err("invalid tmpfs source, source must be empty".into());
    }
    if let Some(propagation) = bind.at("propagation").text()? {
        mount["BindOptions"] = json!({"Propagation": propagation});
    }
    if named.at("nocopy").truth()? == Some(true) {
        mount["VolumeOptions"] = json!({"NoCopy": true});
    }
    if let Some(size) = tmpfs.at("size").bytes()? {
        mount["TmpfsOptions"] = json!({"SizeBytes": size});
    }
    Ok(mount)
}

/// `[SOURCE:]TARGET[:MODE]`.
fn short(text: &str) -> Option<Value> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return None,
    };
    if target.is_empty() || (source.is_empty() && parts.len() > 1) {
        return None;
    }
    let is_path = source.starts_with(['/', '.', '~']);
    let mut mount = json!({"Type": if is_path { "bind" } else { "volume" }, "Target": target});
    if !source.is_empty() {
        mount["Source"] = source.into();
    }
    for option in mode.split(',') {
        match option {
            "ro" => mount["ReadOnly"] = true.into(),
            "nocopy" if !is_path => mount["VolumeOptions"] = json!({"NoCopy": true}),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if is_path => {
                mount["BindOptions"] = json!({"Propagation": option});
            }
            // Docker's stacks do nothing with other options.
            _ => {}
        }
    }
    Some(mount)
}

/// The mount with the path or the volume that its source means.
fn placed(mut mount: Value, part: &Part<'_>, volumes: &Part<'_>, source: &Source<'_>) -> Result<Value, String> {
    let from = mount["Source"].as_str().unwrap_or_default().to_owned();
    match mount["Type"].as_str() {
        Some("bind") if from.is_empty() => return Err("invalid bind source, source cannot be empty".into()),
        Some("bind") => mount["Source"] = path(&from, source).to_string_lossy().into(),
        Some("volume") if from.is_empty() => {}
        Some("volume") => {
            if volumes.value().get(&from).is_none() {
                return Err(part.wrong(format!("undefined volume {from:?}")));
            }
            named(&mut mount, &from, &volumes.at(&from), source)?;
        }
        _ => {}
    }
    Ok(mount)
}

fn named(mount: &mut Value, key: &str, volume: &Part<'_>, source: &Source<'_>) -> Result<(), String> {
    volume.only(&["name", "driver", "driver_opts", "external", "labels"])?;
    let (external, external_name) = super::networks::external(&volume.at("external"))?;
    let name = volume.at("name").text()?.or(external_name);
    if external {
        mount["Source"] = name.unwrap_or_else(|| key.to_owned()).into();
        return Ok(());
    }
    mount["Source"] = name.unwrap_or_else(|| source.scoped(key)).into();
    let mut options = mount["VolumeOptions"].take();
    options["Labels"] = source.labels(volume.at("labels").labels()?);
    if volume.at("driver").is_given() || volume.at("driver_opts").is_given() {
        let driver = volume.at("driver").text_or_empty()?;
        options["DriverConfig"] = json!({"Name": driver, "Options": volume.at("driver_opts").labels()?});
    }
    mount["VolumeOptions"] = options;
    Ok(())
}

/// A path of the host; a relative one is seen from the file's folder.
fn path(text: &str, source: &Source<'_>) -> PathBuf {
    let home = text.strip_prefix('~').and_then(|rest| Some((source.variables)("HOME")? + rest));
    let text = home.unwrap_or_else(|| text.to_owned());
    let mut path = PathBuf::new();
    for part in source.directory.join(Path::new(&text)).components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path
}
