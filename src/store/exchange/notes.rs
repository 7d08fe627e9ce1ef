//! What is to be said about a conversation that was imported: each thing once, with how often it came.

/// In the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<(String, usize)>);

impl Notes {
    pub(super) fn add(&mut self, note: impl Into<String>) {
        let note = note.into();
        match self.0.iter_mut().find(|(known, _)| *known == note) {
            Some((_, times)) => *times += 1,
            None => self.0.push((note, 1)),
        }
    }

    pub(super) fn finish(self) -> Vec<String> {
        let said = |(note, times)| if times == 1 { note } else { format!("{note} ({times} times)") };
        self.0.into_iter().map(said).collect()
    }
}
