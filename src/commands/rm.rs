//! `fireside rm`: removes a model and reports the freed space. Asks first; twice for other programs' files.

use serde_json::json;

use super::{CommandContext, lossy};
use crate::failure::{Exit, Failure};
use crate::files::reason;
use crate::input;
use crate::model_state::ModelState;
use crate::models::library::ModelFile;
use crate::models::names;
use crate::models::places;
use crate::models::removal::Removal;
use crate::units::size;

/// `yes`: the number of confirmations given on the command line.
pub(super) fn run(wanted: &str, yes: u8, context: &mut CommandContext) -> Result<Exit, Failure> {
    let (places, wanted) = (places(context.config), context.config.unaliased(wanted));
    let model = match yes {
        0 => names::find_one(&wanted, &places)?,
        _ => names::find_one_exactly(&wanted, &places)?, // no confirmation would show which one it is
    };
    let removal = Removal::of(&model);
    let state = ModelState::at(context.config.paths.as_ref().map(|paths| paths.model_state.clone()));
    let ours = !model.owner.is_other() || state.has_fetched(&model.path);
    if !agreed(&model, &removal, ours, yes, context)? {
        context.screen.note("nothing was removed");
        return Ok(Exit::Answered);
    }
    let freed = removal
        .carry_out()
        .map_err(|(file, e)| Failure::new(format!("could not remove {}: {}", file.display(), reason(&e))))?;
    let _ = state.forget_fetched(&removal.files); // the files are gone
    if context.json {
        let removed: Vec<String> = removal.files.iter().map(|file| lossy(file)).collect();
        return context.print_json(&json!({ "removed": removed, "freed": freed }));
    }
    context.print(&format!("removed {}, freed {}", model.name, size(freed)))
}

/// Asks for confirmation: once if fireside fetched the file (`ours`), otherwise twice.
fn agreed(
    model: &ModelFile,
    removal: &Removal,
    ours: bool,
    yes: u8,
    context: &mut CommandContext,
) -> Result<bool, Failure> {
    let owner = model.owner.name();
    let freed = removal.bytes();
    let why = if freed < model.size { ": another name or model shares its data" } else { "" };
    let mut questions =
        vec![format!("Remove {} ({})? That frees {}{why}.", model.name, model.path.display(), size(freed))];
    if !ours {
        questions.push(format!(
            "fireside did not fetch it: it belongs to another program ({owner}), which may still need it. Remove it anyway?"
        ));
    }
    let left = questions.split_off(usize::from(yes).min(questions.len()));
    if !left.is_empty() && !input::can_ask() {
        let (why, flags) = match ours {
            true => ("rm asks for confirmation".to_string(), "--yes"),
            false => (format!("the model belongs to {owner}, so rm asks twice"), "--yes --yes"),
        };
        return Err(Failure::usage(format!("{why}, and there is no terminal"))
            .hint(format!("to confirm beforehand, add: {flags}")));
    }
    for question in left {
        if !input::confirm(context.screen, &question)? {
            return Ok(false);
        }
    }
    Ok(true)
}
