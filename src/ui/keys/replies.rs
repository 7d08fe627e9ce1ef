//! A text that the terminal sent in reply to a query → what it says.

use crate::chat::settings::Theme;

/// The background in a reply to xterm's OSC 11; `text` is the reply without its first two bytes.
pub(super) fn background(text: &[u8]) -> Option<Theme> {
    let colour = std::str::from_utf8(text.strip_prefix(b"11;")?).ok()?;
    of_colour(colour.trim_end_matches(['\x07', '\x1b', '\\', '\u{9c}']))
}

/// `rgb:RRRR/GGGG/BBBB`, one to four hex digits each → the theme; by the luminance of ITU-R BT.601.
fn of_colour(reply: &str) -> Option<Theme> {
    let part = |digits: &str| {
        let most = 16_u32.checked_pow(digits.len().try_into().ok()?)? - 1;
        Some(f64::from(u32::from_str_radix(digits, 16).ok()?) / f64::from(most.max(1)))
    };
    let colour = reply.strip_prefix("rgb:").or_else(|| reply.strip_prefix("rgba:"))?;
    let mut parts = colour.split('/').map(part);
    let [red, green, blue] = [parts.next()??, parts.next()??, parts.next()??];
    Some(if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 { Theme::Light } else { Theme::Dark })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backgrounds_are_dark_or_light() {
        assert_eq!(of_colour("rgb:0000/0000/0000"), Some(Theme::Dark));
        assert_eq!(of_colour("rgb:fdfd/f6f6/e3e3"), Some(Theme::Light));
        assert_eq!(of_colour("rgb:f/f/f"), Some(Theme::Light));
        assert_eq!(of_colour("rgba:00/2b/36/ff"), Some(Theme::Dark));
        for wrong in ["", "rgb:", "rgb:12/34", "rgb:x/y/z", "rgb:123456789/0/0", "rgb://"] {
            assert_eq!(of_colour(wrong), None, "{wrong}");
        }
    }
}
