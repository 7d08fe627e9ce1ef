//! The first events of a prefill → one line, if it will take long or fills half of the context.

use std::time::{Duration, Instant};

use crate::chat::Event;
use crate::chat::cost::LONG;
use crate::units::{about, count};

/// How much of the prefill tells its speed.
const TELLING: Duration = Duration::from_secs(1);

pub(super) struct Forecast {
    /// The context limit in tokens; 0: unknown.
    limit: usize,
    /// When the prefill began, and the tokens done by then.
    begun: Option<(Instant, usize)>,
    said: bool,
}

impl Forecast {
    pub(super) fn new(limit: usize) -> Forecast {
        Forecast { limit, begun: None, said: false }
    }

    /// The line, at the event that decides about it.
    pub(super) fn line(&mut self, event: Option<&Event>, now: Instant) -> Option<String> {
        let Some(Event::Prefill { done, total }) = event else { return None };
        let (since, from) = *self.begun.get_or_insert((now, *done));
        let (elapsed, read) = (now.duration_since(since), done.saturating_sub(from));
        if self.said || read == 0 || (elapsed < TELLING && done < total) {
            return None;
        }
        self.said = true;
        let seconds = elapsed.as_secs_f64() * (total - from) as f64 / read as f64;
        let fills = self.limit > 0 && total * 2 >= self.limit;
        (seconds > LONG.as_secs_f64() || fills).then(|| {
            let percent = (total * 100).checked_div(self.limit);
            let share = percent.map_or(String::new(), |percent| format!(", {percent} % of the context"));
            format!("the prompt has {} to prefill{share}: {}", count(*total, "token"), about(seconds))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines for these events: milliseconds, tokens done, and the total.
    fn lines(limit: usize, events: &[(u64, usize, usize)]) -> Vec<String> {
        let (mut forecast, begun) = (Forecast::new(limit), Instant::now());
        let line = |(millis, done, total): &(u64, usize, usize)| {
            let event = Event::Prefill { done: *done, total: *total };
            forecast.line(Some(&event), begun + Duration::from_millis(*millis))
        };
        events.iter().filter_map(line).collect()
    }

    #[test]
    fn what_is_long_is_said_once_its_speed_is_known() {
        let slow = [(0, 0, 3000), (500, 50, 3000), (1100, 100, 3000), (30_000, 3000, 3000)];
        assert_eq!(lines(0, &slow), ["the prompt has 3000 tokens to prefill: about 35 s"]);
        assert_eq!(
            lines(8000, &slow),
            ["the prompt has 3000 tokens to prefill, 37 % of the context: about 35 s"]
        );
        assert!(lines(8000, &[(0, 0, 3000), (1000, 400, 3000), (7500, 3000, 3000)]).is_empty(), "8 s");
        let fills = [(0, 0, 500), (100, 500, 500)];
        assert_eq!(
            lines(1000, &fills),
            ["the prompt has 500 tokens to prefill, 50 % of the context: less than 1 s"]
        );
        assert!(lines(1001, &fills).is_empty() && lines(0, &fills).is_empty());
    }
}
