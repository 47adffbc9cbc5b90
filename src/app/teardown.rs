//! `netd teardown` without a daemon: the engine's command, with this host's kernel and the files of the store.

use std::path::Path;

use super::engine_config;
use super::owner::Owner;
use crate::api::v1::PlannedStep;
use crate::config::{self, Config};
use crate::engine::{self, Planned};
use crate::faces::cli::{DaemonArgs, Remover};
use crate::kernel::host::capability;
use crate::kernel::linux::Linux;
use crate::kernel::sysctl::boot_id;
use crate::store::embedded::{self, Embedded, Folders, Opening};
use crate::store::memory::Memory;

/// Removes what a daemon with these arguments would have.
#[derive(Debug)]
pub struct Local<'a> {
    /// The arguments of the daemon.
    pub args: &'a DaemonArgs,
    /// `--socket` or its variable.
    pub socket: Option<&'a Path>,
}

impl Remover for Local<'_> {
    fn teardown(&self, dry_run: bool) -> Result<Vec<PlannedStep>, String> {
        let config = config::load(self.args, self.socket).map_err(|error| error.to_string())?;
        let removed = teardown(&config, dry_run)?.into_iter();
        Ok(removed.map(|Planned { action, text }| PlannedStep { action: action.into(), text }).collect())
    }
}

fn teardown(config: &Config, dry_run: bool) -> Result<Vec<Planned>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    capability::check().map_err(|error| text(&error))?;
    // A daemon that does not answer at the socket may run.
    let _owner = Owner::claim()?;
    let kernel = Linux::new().map_err(|error| text(&error))?;
    let engine_config = engine_config(config);
    let removed = if embedded::exists(&config.state_dir, &config.runtime_dir) {
        let boot = boot_id().map_err(|error| text(&error))?;
        let folders = Folders::claim(&config.state_dir, &config.runtime_dir).map_err(|error| text(&error))?;
        // Everything goes, also if the definitions are missing.
        let opening = Opening { boot_id: &boot, rebuild: true };
        let store = Embedded::open(folders, opening).map_err(|error| text(&error))?;
        engine::teardown(engine_config, kernel, store, dry_run)
    } else {
        // Without making files just for this.
        engine::teardown(engine_config, kernel, Memory::default(), dry_run)
    };
    removed.map_err(|error| text(&error))
}
