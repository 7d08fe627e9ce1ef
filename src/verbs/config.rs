//! `fireside config`: every setting with its value and where that came from.

use super::Means;
use crate::chat::options::SETTINGS;
use crate::error::{Exit, Failure};
use crate::model;

pub(super) fn run(means: &mut Means) -> Result<Exit, Failure> {
    if means.json {
        return Err(Failure::usage("config prints its table as text, not JSON"));
    }
    let config = means.config;
    let named = config.settle(&[])?.model.map(|wanted| model::find(config, &wanted)).transpose()?;
    let usual = model::usual(config);
    let advice = named.as_ref().or(usual.as_ref()).map_or_else(Vec::new, |path| model::advised(path));
    let settings = config.settle(&advice)?;
    let mut lines = vec![match &config.paths {
        Some(paths) => {
            format!("# config file: {}\n# models: {}", paths.config_file.display(), paths.models.display())
        }
        None => "# no home folder: no config file is read and nothing is kept".into(),
    }];
    for row in SETTINGS {
        let (mut value, mut source) = ((row.get)(&settings), config.source(row.name, &advice).name());
        if let Some(path) = usual.as_ref().filter(|_| row.name == "model" && value.is_empty()) {
            (value, source) = (path.display().to_string(), "the one used last, or the only one");
        }
        lines.push(format!("{:22} {value:28} # {source}", row.name));
    }
    means.print(&lines.join("\n"))
}
