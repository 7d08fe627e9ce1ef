//! tokenizer.json, or vocab.json and merges.txt → metadata: a byte-level BPE vocabulary, the chat template.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::config::CheckpointConfig;
use super::error::{Error, refuse};
use super::text_of;
use crate::gguf::write::Metadata;

/// GGUF's token types.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// A vocabulary: the text and type of each token, and the merges.
#[derive(Debug, Default, PartialEq)]
struct CheckpointVocabulary {
    tokens: BTreeMap<u64, (String, i32)>,
    merges: Vec<String>,
}

/// The metadata about the vocabulary of the checkpoint in `folder`.
pub(super) fn metadata(
    folder: &Path,
    config: &CheckpointConfig,
    metadata: Metadata,
) -> Result<Metadata, Error> {
    let mut vocabulary = read(folder)?;
    for id in [config.bos, config.eos].into_iter().flatten() {
        if let Some((_, kind)) = vocabulary.tokens.get_mut(&id) {
            *kind = CONTROL;
        }
    }
    let about = json(folder, "tokenizer_config.json")?.unwrap_or_default();
    let (tokens, kinds) = rows(vocabulary.tokens, config.vocabulary)?;
    let ends = [("bos", config.bos), ("eos", config.eos)].into_iter();
    let ends = ends.filter_map(|(name, id)| Some((name, id.filter(|id| *id < config.vocabulary)?)));
    let written = metadata
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .texts("tokenizer.ggml.merges", &vocabulary.merges)
        .bool("tokenizer.ggml.add_bos_token", about["add_bos_token"].as_bool().unwrap_or(false));
    let written = ends.fold(written, |metadata, (name, id)| {
        metadata.u32(&format!("tokenizer.ggml.{name}_token_id"), id as u32)
    });
    let own = text_of(folder, "chat_template.jinja")?;
    let template = own.or_else(|| about["chat_template"].as_str().map(String::from));
    Ok(match (template, &about["chat_template"]) {
        (Some(template), _) => written.text("tokenizer.chat_template", &template),
        (None, Value::Array(named)) => named_templates(written, named),
        (None, _) => written,
    })
}

/// Writes named chat templates as llama.cpp's converter does: the default one without a name.
fn named_templates(written: Metadata, named: &[Value]) -> Metadata {
    let text = |one: &Value, key: &str| one[key].as_str().map(String::from);
    let named = named.iter().filter_map(|one| Some((text(one, "name")?, text(one, "template")?)));
    let (default, others): (Vec<_>, Vec<_>) = named.partition(|(name, _)| name == "default");
    let names: Vec<&String> = others.iter().map(|(name, _)| name).collect();
    let mut written =
        if names.is_empty() { written } else { written.texts("tokenizer.chat_templates", &names) };
    for (_, source) in &default {
        written = written.text("tokenizer.chat_template", source);
    }
    let key = |name: &str| format!("tokenizer.chat_template.{name}");
    others.iter().fold(written, |written, (name, source)| written.text(&key(name), source))
}

fn read(folder: &Path) -> Result<CheckpointVocabulary, Error> {
    if let Some(tokenizer) = json(folder, "tokenizer.json")? {
        return fast(&tokenizer);
    }
    let (Some(vocabulary), Some(merges)) = (json(folder, "vocab.json")?, text_of(folder, "merges.txt")?)
    else {
        return Err(refuse("it has no tokenizer: neither tokenizer.json, nor vocab.json and merges.txt"));
    };
    let mut read = CheckpointVocabulary::default();
    read.add(&vocabulary, NORMAL)?;
    read.add(&json(folder, "added_tokens.json")?.unwrap_or_default(), USER_DEFINED)?;
    let lines = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
    read.merges = lines.map(String::from).collect();
    Ok(read)
}

/// The vocabulary in tokenizer.json, which must be GPT-2's byte-level BPE.
fn fast(json: &Value) -> Result<CheckpointVocabulary, Error> {
    let model = &json["model"];
    let pre = &json["pre_tokenizer"];
    let byte_level =
        pre["type"] == "ByteLevel" && pre["add_prefix_space"] != true && pre["use_regex"] != false;
    let bpe = model["type"].as_str().is_none_or(|kind| kind == "BPE") && model["merges"].is_array();
    if !byte_level || !bpe || !json["normalizer"].is_null() {
        return Err(refuse(
            "its tokenizer is not the byte-level BPE of GPT-2, the only one that is converted",
        ));
    }
    let mut read = CheckpointVocabulary::default();
    read.add(&model["vocab"], NORMAL)?;
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let (Some(id), Some(text)) = (token["id"].as_u64(), token["content"].as_str()) else {
            return Err(refuse("its tokenizer.json has an added token without an id or a text"));
        };
        let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
        read.tokens.insert(id, (text.to_owned(), kind)); // often in the vocabulary as well
    }
    for merge in model["merges"].as_array().into_iter().flatten() {
        let pair = merge
            .as_array()
            .and_then(|pair| Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?)));
        let line = merge.as_str().map(String::from).or(pair);
        read.merges
            .push(line.ok_or_else(|| refuse("its tokenizer.json has a merge that is not a pair of texts"))?);
    }
    Ok(read)
}

impl CheckpointVocabulary {
    /// Adds tokens from a JSON object of texts and ids.
    fn add(&mut self, map: &Value, kind: i32) -> Result<(), Error> {
        for (text, id) in map.as_object().into_iter().flatten() {
            let id = id.as_u64().ok_or_else(|| refuse(format!("its token {text:?} has no id")))?;
            if let Some((other, _)) =
                self.tokens.insert(id, (text.clone(), kind)).filter(|(other, _)| other != text)
            {
                return Err(refuse(format!("its tokens {other:?} and {text:?} have the same id, {id}")));
            }
        }
        Ok(())
    }
}

/// A text and a type for every row of the embedding table. Unused rows get unique names, because llama.cpp
/// aborts if two tokens have the same text.
fn rows(tokens: BTreeMap<u64, (String, i32)>, count: u64) -> Result<(Vec<String>, Vec<i32>), Error> {
    if tokens.is_empty() {
        return Err(refuse("its tokenizer has no tokens"));
    }
    if let Some((id, _)) = tokens.range(count..).next_back() {
        return Err(refuse(format!(
            "its tokenizer has a token {id}, but its config.json a vocab_size of {count}"
        )));
    }
    let mut seen: HashSet<String> = HashSet::with_capacity(tokens.len());
    for (id, (text, _)) in &tokens {
        if text.is_empty() {
            return Err(refuse(format!("its token {id} is empty")));
        }
        if !seen.insert(text.clone()) {
            return Err(refuse(format!("it has the token {text:?} twice, the second time as number {id}")));
        }
    }
    let row = |id| tokens.get(&id).cloned().unwrap_or_else(|| (unused(id, &seen), UNUSED));
    Ok((0..count).map(row).unzip())
}

fn unused(id: u64, seen: &HashSet<String>) -> String {
    let name = format!("[UNUSED_{id}]");
    if seen.contains(&name) { format!("[UNUSED_{id}_]") } else { name }
}

/// A JSON file of the checkpoint, if it exists.
fn json(folder: &Path, name: &str) -> Result<Option<Value>, Error> {
    let Some(text) = text_of(folder, name)? else { return Ok(None) };
    let parsed = serde_json::from_str(&text);
    parsed
        .map(Some)
        .map_err(|e| refuse(format!("its {name} is not JSON (line {}, column {})", e.line(), e.column())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tokenizer() -> Value {
        json!({
            "added_tokens": [{"id": 3, "content": "<end>", "special": true}, {"id": 4, "content": "<x>", "special": false}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
            "normalizer": null,
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<end>": 3}, "merges": ["a b"]},
        })
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut json = tokenizer();
        change(&mut json);
        fast(&json).and_then(|read| rows(read.tokens, 8)).expect_err("it must be refused").to_string()
    }

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let read = fast(&tokenizer()).unwrap();
        assert_eq!(read.merges, ["a b"]);
        let (tokens, kinds) = rows(read.tokens, 7).unwrap();
        assert_eq!(tokens, ["a", "b", "ab", "<end>", "<x>", "[UNUSED_5]", "[UNUSED_6]"]);
        assert_eq!(kinds, [NORMAL, NORMAL, NORMAL, CONTROL, USER_DEFINED, UNUSED, UNUSED]);
    }

    #[test]
    fn merges_may_be_pairs() {
        let mut json = tokenizer();
        json["model"]["merges"] = json!([["a", "b"]]);
        assert_eq!(fast(&json).unwrap().merges, ["a b"]);
    }

    #[test]
    fn what_llama_cpp_would_stumble_over_is_refused() {
        assert!(refusal(|json| json["model"]["vocab"][""] = 5.into()).contains("5 is empty"));
        assert!(refusal(|json| json["model"]["vocab"]["c"] = 0.into()).contains("same id, 0"));
        assert!(refusal(|json| json["added_tokens"][1]["content"] = "a".into()).contains("\"a\" twice"));
        assert!(refusal(|json| json["model"]["vocab"]["c"] = 9.into()).contains("token 9"));
        assert!(refusal(|json| json["model"]["type"] = "Unigram".into()).contains("byte-level BPE"));
        assert!(
            refusal(|json| json["pre_tokenizer"]["type"] = "Metaspace".into()).contains("byte-level BPE")
        );
        assert!(refusal(|json| json["model"]["merges"] = json!([1])).contains("not a pair"));
    }
}
