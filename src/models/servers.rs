//! The servers of the config file → the models that they have, asked all at once.

use std::time::Duration;

use super::Error;
use super::names::NotHere;
use crate::backend::remote;
pub use crate::backend::remote::{Facts, Listed};
use crate::settings::{Config, Server};

/// How long a list waits for a server.
const PATIENCE: Duration = Duration::from_secs(1);

/// A server with its models, or why it does not tell.
pub struct Asked {
    pub server: Server,
    pub models: Result<Vec<Listed>, Error>,
}

/// Asks servers for their models. `cancelled` is called from time to time.
pub fn models(servers: Vec<Server>, offline: bool, cancelled: &(dyn Fn() -> bool + Sync)) -> Vec<Asked> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = servers
            .into_iter()
            .map(|server| {
                scope.spawn(move || {
                    let models = remote::models(&server, offline, PATIENCE, cancelled).map_err(Error::from);
                    Asked { server, models }
                })
            })
            .collect();
        asked.into_iter().map(|asked| asked.join().expect("asking does not panic")).collect()
    })
}

/// What a server tells of one of its models and of itself.
pub fn facts(config: &Config, wanted: &str, cancelled: &dyn Fn() -> bool) -> Result<(Server, Facts), Error> {
    let unknown = || Error::NotHere(NotHere::Unknown { wanted: wanted.into(), close: None });
    let (name, server) = config.remote(wanted).ok_or_else(unknown)?;
    let facts = remote::facts(&server, &name, config.settings().offline, cancelled)?;
    Ok((server, facts))
}
