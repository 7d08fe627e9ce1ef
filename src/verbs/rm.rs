//! `fireside rm`: removes a model and says what that freed. Asks first, and twice where another program owns the file.

use serde_json::json;

use super::Means;
use crate::error::{Exit, Failure, reason};
use crate::input;
use crate::model::memory::size;
use crate::model::{self, places};
use crate::store::models::{self, ModelFile};
use crate::store::removal::Removal;

/// `yes`: how often the user has agreed already.
pub(super) fn run(wanted: &str, yes: u8, means: &mut Means) -> Result<Exit, Failure> {
    let path = model::find(means.config, wanted)?;
    let listed = models::list(&places(means.config)).into_iter().find(|model| model.path == path);
    let model = listed.ok_or_else(|| {
        Failure::usage(format!(
            "{} is in none of the places where fireside keeps or finds models",
            path.display()
        ))
        .hint("remove the file yourself if it is not wanted")
    })?;
    if !agreed(&model, yes, means)? {
        means.screen.note("nothing was removed");
        return Ok(Exit::Answered);
    }
    let removal = Removal::of(&model);
    let freed = removal
        .carry_out()
        .map_err(|(file, e)| Failure::new(format!("could not remove {}: {}", file.display(), reason(&e))))?;
    if means.json {
        return means.print(&json!({ "removed": removal.files, "freed": freed }).to_string());
    }
    means.print(&format!("removed {}: {} are free again", model.name, size(freed)))
}

/// Asks as often as the file's owner makes necessary.
fn agreed(model: &ModelFile, yes: u8, means: &mut Means) -> Result<bool, Failure> {
    let owner = model.owner.name();
    let mut questions =
        vec![format!("Remove {} ({}, {})?", model.name, size(model.size), model.path.display())];
    if model.owner.is_other_program() {
        questions.push(format!(
            "fireside did not fetch it: it belongs to {owner}, which will miss it. Remove it all the same?"
        ));
    }
    let left = questions.split_off(usize::from(yes).min(questions.len()));
    if !left.is_empty() && !input::can_ask() {
        let (why, flags) = match model.owner.is_other_program() {
            true => (format!("the model belongs to {owner}, so rm asks twice"), "--yes --yes"),
            false => ("rm asks first".to_string(), "--yes"),
        };
        return Err(Failure::usage(format!("{why}, and there is no terminal to ask on"))
            .hint(format!("to agree beforehand: fireside rm {} {flags}", model.name)));
    }
    for question in left {
        if !input::confirm(means.screen, &question)? {
            return Ok(false);
        }
    }
    Ok(true)
}
