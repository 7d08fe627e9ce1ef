//! What Tab offers: a text for the line, and what it is about.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The text for the line, and the name in the menu.
    pub text: String,
    pub name: String,
    /// Empty: nothing is known.
    pub about: String,
}

impl<T: Into<String>> From<T> for Candidate {
    fn from(text: T) -> Candidate {
        Candidate::new(text, "")
    }
}

impl Candidate {
    pub fn new(text: impl Into<String>, about: impl Into<String>) -> Candidate {
        let text = text.into();
        Candidate { name: text.clone(), text, about: about.into() }
    }
}

/// The candidates that continue `typed`, sorted, each with a space after it.
pub(super) fn matching<C: Into<Candidate>>(
    typed: &str,
    offered: impl IntoIterator<Item = C>,
) -> Vec<Candidate> {
    let offered = offered.into_iter().map(Into::into).filter(|one| one.text.starts_with(typed));
    let mut found: Vec<Candidate> = offered.map(|one| Candidate { text: one.text + " ", ..one }).collect();
    found.sort_by(|a, b| a.text.cmp(&b.text));
    found
}

/// What the help of a setting says about one of its values: the text after `value:`, or before `(value)`.
pub(super) fn about_value(help: &'static str, value: &str) -> String {
    let explained = |clause: &'static str| clause.trim().strip_prefix(value)?.strip_prefix(':');
    let named = format!("({value})");
    let told = help.split(';').find_map(explained);
    let told =
        told.or_else(|| help.split([';', ',', ':']).find_map(|clause| clause.trim().strip_suffix(&named)));
    let told = told.unwrap_or_default().trim();
    told.trim_start_matches("or ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::setting;

    #[test]
    fn values_are_explained_by_the_help_of_their_setting() {
        let about = |name: &str, value: &str| about_value(setting(name).unwrap().help, value);
        assert_eq!(about("think", "auto"), "the template's default");
        assert_eq!(about("overflow", "roll"), "drop the oldest messages");
        assert_eq!(about("overflow", "compact"), "summarise them first");
        assert_eq!(about("overflow", "stop"), "refuse");
        assert_eq!(about("device", "none"), "the CPU alone");
        assert_eq!(about("think", "on"), "");
    }
}
