//! Values → JSON text as Python writes it, because chat templates were written for that.
//!
//! Nothing is escaped for HTML, and non-ASCII characters stay as they are unless ASCII is requested. Used by
//! jinja/python.rs.

use serde_json::Value as Json;

/// The format: the arguments of Python's `json.dumps`.
pub(super) struct PythonJson {
    /// One level of indentation; `None`: everything on one line.
    pub(super) indent: Option<String>,
    /// The separators between items, and between a key and its value.
    pub(super) item: String,
    pub(super) key: String,
    pub(super) ascii: bool,
    pub(super) sorted: bool,
}

impl PythonJson {
    pub(super) fn write(self, json: &Json) -> String {
        let mut writer = JsonWriter { style: self, out: String::new() };
        writer.value(json, 0);
        writer.out
    }
}

struct JsonWriter {
    style: PythonJson,
    out: String,
}

impl JsonWriter {
    fn value(&mut self, json: &Json, depth: usize) {
        match json {
            Json::Array(items) if !items.is_empty() => {
                self.out.push('[');
                for (i, item) in items.iter().enumerate() {
                    self.next(i, depth + 1);
                    self.value(item, depth + 1);
                }
                self.line(depth);
                self.out.push(']');
            }
            Json::Object(fields) if !fields.is_empty() => {
                let mut fields: Vec<(&String, &Json)> = fields.iter().collect();
                if self.style.sorted {
                    fields.sort_by_key(|field| field.0);
                }
                self.out.push('{');
                for (i, (name, field)) in fields.into_iter().enumerate() {
                    self.next(i, depth + 1);
                    self.text(name);
                    self.out.push_str(&self.style.key);
                    self.value(field, depth + 1);
                }
                self.line(depth);
                self.out.push('}');
            }
            Json::String(text) => self.text(text),
            other => self.out.push_str(&other.to_string()),
        }
    }

    fn next(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out.push_str(&self.style.item);
        }
        self.line(depth);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn text(&mut self, text: &str) {
        let quoted = Json::from(text).to_string();
        if !self.style.ascii {
            self.out.push_str(&quoted);
            return;
        }
        for c in quoted.chars() {
            // U+FDD0 to U+FDEF are noncharacters: marks in the content, for the code that reads the prompt.
            if (c.is_ascii() && c != '\u{7f}') || ('\u{fdd0}'..='\u{fdef}').contains(&c) {
                self.out.push(c);
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                self.out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}
