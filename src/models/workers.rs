//! The settings → the workers that lend their devices, and the token for them.

use std::path::Path;
use std::time::Duration;

use super::Error;
use crate::chat::Settings;
use crate::engine::llama::{self, Device, Lending};
use crate::files::expanded;
use crate::rpc::{self, Confinement, Token};
use crate::settings::Config;

/// The variable that may hold a token itself.
const VARIABLE: &str = "FIRESIDE_WORKER_TOKEN";

/// Makes the devices of the workers in the settings ones that models may use, and those of no others.
pub fn select_workers(config: &Config) -> Result<(), Error> {
    let settings = config.settings();
    if settings.offline && !settings.rpc.is_empty() {
        return Err(Error::Offline);
    }
    let patience = Duration::from_secs(settings.rpc_timeout.into());
    Ok(llama::select_workers(&settings.rpc, |address| token(config, address), patience)?)
}

/// The devices that a worker lends: those in the settings, or else the GPUs, or else the CPU.
pub fn lendable(settings: &Settings) -> Result<Vec<Device>, Error> {
    let known = llama::devices();
    let named = |name: String| {
        known.iter().find(|device| device.name == name).cloned().ok_or_else(|| Error::NoDevice {
            name,
            known: known.iter().map(|device| device.name.clone()).collect(),
        })
    };
    llama::lendable(&settings.devices).into_iter().map(named).collect()
}

/// Runs llama.cpp's RPC server for one client; confined, if `confined`.
pub fn serve(lending: &Lending, confined: bool) -> Result<(), String> {
    let confinement = Confinement {
        cache: lending.cache.map(Path::to_path_buf),
        libraries: llama::plugin_folder().into_iter().collect(),
        gpu: !lending.is_cpu(),
    };
    llama::serve(lending, confined.then_some(&confinement))
}

/// The token in the environment, in the file that is set, or of a worker on this machine.
fn token(config: &Config, address: &str) -> Result<Token, rpc::Error> {
    if let Some(text) = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()) {
        let short =
            || rpc::Error::BadToken { path: VARIABLE.into(), why: "it is too short to be secret".into() };
        return Token::new(&text).ok_or_else(short);
    }
    if let Some(path) = &config.settings().rpc_token {
        return Token::read(&expanded(path));
    }
    let own = config.paths.as_ref().map(|paths| &paths.worker_token).filter(|path| path.exists());
    own.map_or_else(|| Err(rpc::Error::NoToken(address.into())), |path| Token::read(path))
}
