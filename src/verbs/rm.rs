//! `fireside rm`: removes a model and says what that freed.

use super::Means;
use crate::error::{Exit, Failure};

pub(super) fn run(_model: &str, _yes: u8, _means: &mut Means) -> Result<Exit, Failure> {
    Err(Failure::usage("not there yet"))
}
