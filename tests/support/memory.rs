//! A memory with room for one model at a time, each of which answers by a script.

use std::cell::Cell;

use fireside::backend::script::Script;
use fireside::backend::{Backend, Description, ReplyStream};
use fireside::chat::Request;
use fireside::models::Error::NoMemory;
use fireside::models::Remedies;
use fireside::session::{Error, ReadyModel};
use fireside::settings::Config;

use super::repository;

thread_local! {
    static FREE: Cell<bool> = const { Cell::new(true) };
}

/// Whether no model of this thread is loaded.
pub fn is_free() -> bool {
    FREE.get()
}

/// Opens a model; "huge" never fits.
pub fn open(config: &Config, wanted: &str) -> Result<ReadyModel, Error> {
    if wanted == "huge" || !is_free() {
        return Err(NoMemory { needed: 2, free: 1, remedies: Remedies::default() }.into());
    }
    let script = Script::read(&repository().join("LICENSE"))?;
    let start = Box::new(move || {
        FREE.set(false);
        Box::new(Large(script)) as Box<dyn Backend>
    });
    Ok(ReadyModel { start, config: config.clone() })
}

struct Large(Script);

impl Backend for Large {
    fn load(&mut self) -> ReplyStream {
        self.0.load()
    }
    fn reply(&mut self, request: Request) -> ReplyStream {
        self.0.reply(request)
    }
    fn describe(&self) -> &Description {
        self.0.describe()
    }
    fn close(&mut self) {
        FREE.set(true);
    }
}
