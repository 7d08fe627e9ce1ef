//! config.json → the model's family and sizes, or why it cannot be converted.

use serde_json::Value;

use super::error::{Error, refuse};

/// The families that llama.cpp's own converter handles, by `model_type`; the common ones.
const ELSEWHERE: &str = "baichuan bloom chatglm cohere cohere2 dbrx deepseek deepseek_v2 deepseek_v3 exaone falcon falcon_h1 \
    falcon_mamba gemma gemma2 gemma3 gemma3_text glm4 gpt2 gpt_bigcode gpt_neox gpt_oss granite granitemoe internlm2 \
    jamba llama llama4 mamba mamba2 minicpm mistral mixtral mpt nemotron olmo olmo2 olmoe phi phi3 qwen qwen2 qwen2_moe \
    qwen3 qwen3_moe rwkv6 smollm3 stablelm starcoder2 xverse";

/// The properties of a model that determine its tensors and its GGUF metadata.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CheckpointConfig {
    pub family: Family,
    pub width: u64,
    pub layers: u64,
    pub heads: u64,
    /// Width of the feed-forward network's hidden layer.
    pub hidden: u64,
    /// Context length in training, in tokens.
    pub positions: u64,
    /// Rows of the embedding table; there may be fewer tokens.
    pub vocabulary: u64,
    pub epsilon: f64,
    pub bos: Option<u64>,
    pub eos: Option<u64>,
    /// Whether input and output share the embedding table.
    pub tied: bool,
}

/// The families that this converter handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// The rotary embedding applies to the first `rotated` numbers of each head.
    GptJ { rotated: u64 },
    /// `window`: how many tokens layers with local attention look back; `None`: there are no such layers.
    GptNeo { window: Option<u64> },
}

impl Family {
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::GptJ { .. } => "GPT-J",
            Family::GptNeo { .. } => "GPT-Neo",
        }
    }
}

impl CheckpointConfig {
    pub(super) fn head(&self) -> u64 {
        self.width / self.heads
    }

    /// Reads the text of a config.json.
    pub(super) fn read(text: &str) -> Result<CheckpointConfig, Error> {
        let json: Value = serde_json::from_str(text).map_err(|e| {
            refuse(format!("its config.json is not JSON (line {}, column {})", e.line(), e.column()))
        })?;
        let config = match json.get("model_type").and_then(Value::as_str) {
            Some("gptj") => gptj(&json)?,
            Some("gpt_neo") => gpt_neo(&json)?,
            Some(other) => {
                let elsewhere = ELSEWHERE.split(' ').any(|name| name == other);
                return Err(Error::Architecture { name: other.into(), elsewhere });
            }
            None => return Err(refuse("its config.json does not say what it is (model_type)")),
        };
        config.make_sense()?;
        Ok(config)
    }

    fn make_sense(&self) -> Result<(), Error> {
        let CheckpointConfig { width, layers, heads, hidden, positions, vocabulary, .. } = *self;
        if [width, layers, heads, hidden, positions, vocabulary].iter().any(|n| *n == 0 || *n > 1 << 24) {
            return Err(refuse("its config.json has a size that is 0 or beyond all reason"));
        }
        if width % heads != 0 {
            return Err(refuse(format!("its config.json has {heads} heads, which do not divide {width}")));
        }
        match self.family {
            Family::GptJ { rotated } if rotated == 0 || rotated % 2 == 1 || rotated > self.head() => {
                Err(refuse(format!("its config.json has rotary_dim {rotated}, but heads of {}", self.head())))
            }
            Family::GptNeo { window: Some(0) } => Err(refuse("its config.json has a window_size of 0")),
            _ => Ok(()),
        }
    }
}

fn gptj(json: &Value) -> Result<CheckpointConfig, Error> {
    activation(json)?;
    let width = size(json, "n_embd", None)?;
    let heads = size(json, "n_head", None)?;
    Ok(CheckpointConfig {
        family: Family::GptJ { rotated: size(json, "rotary_dim", Some(64))? },
        width,
        layers: size(json, "n_layer", None)?,
        heads,
        hidden: size(json, "n_inner", Some(4 * width))?,
        positions: size(json, "n_positions", Some(2048))?,
        tied: flag(json, "tie_word_embeddings", false),
        ..common(json)?
    })
}

fn gpt_neo(json: &Value) -> Result<CheckpointConfig, Error> {
    activation(json)?;
    let width = size(json, "hidden_size", None)?;
    let layers = size(json, "num_layers", None)?;
    let window = size(json, "window_size", Some(256))?;
    Ok(CheckpointConfig {
        family: Family::GptNeo { window: looks_back(json, layers)?.then_some(window) },
        width,
        layers,
        heads: size(json, "num_heads", None)?,
        hidden: size(json, "intermediate_size", Some(4 * width))?,
        positions: size(json, "max_position_embeddings", Some(2048))?,
        tied: flag(json, "tie_word_embeddings", true),
        ..common(json)?
    })
}

/// The properties with the same keys in both families; each family fills in the rest.
fn common(json: &Value) -> Result<CheckpointConfig, Error> {
    Ok(CheckpointConfig {
        family: Family::GptNeo { window: None },
        width: 0,
        layers: 0,
        heads: 0,
        hidden: 0,
        positions: 0,
        vocabulary: size(json, "vocab_size", None)?,
        epsilon: json.get("layer_norm_epsilon").and_then(Value::as_f64).unwrap_or(1e-5),
        bos: json.get("bos_token_id").and_then(Value::as_u64),
        eos: json.get("eos_token_id").and_then(Value::as_u64),
        tied: false,
    })
}

/// Whether any layer has local attention. `attention_layers` has the kinds of all layers; if it is missing,
/// `attention_types` has them as pairs of a pattern and a repeat count.
fn looks_back(json: &Value, layers: u64) -> Result<bool, Error> {
    let one = |kind: &Value| match kind.as_str() {
        Some("global") => Ok(false),
        Some("local") => Ok(true),
        _ => Err(refuse(format!("its config.json has an attention of the kind {kind}"))),
    };
    let any =
        |kinds: &[Value]| kinds.iter().map(one).try_fold(false, |any, local| Ok::<_, Error>(any | local?));
    if let Some(kinds) = json.get("attention_layers").and_then(Value::as_array) {
        if kinds.len() as u64 != layers {
            return Err(refuse(format!(
                "its config.json has {} attention_layers for {layers} layers",
                kinds.len()
            )));
        }
        return any(kinds);
    }
    let Some(patterns) = json.get("attention_types").and_then(Value::as_array) else {
        return Ok(layers > 1); // the default alternates, starting with a global layer
    };
    let kinds = patterns.iter().filter_map(|pattern| pattern.get(0)?.as_array()).flatten();
    any(&kinds.cloned().collect::<Vec<_>>())
}

/// Refuses other activations: both of llama.cpp's graphs compute GELU with the tanh approximation.
fn activation(json: &Value) -> Result<(), Error> {
    match json.get("activation_function").and_then(Value::as_str).unwrap_or("gelu_new") {
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(()),
        other => {
            Err(refuse(format!("its activation function is '{other}', which llama.cpp does not have for it")))
        }
    }
}

/// A positive number; `default` if the key is missing or null.
fn size(json: &Value, key: &str, default: Option<u64>) -> Result<u64, Error> {
    let given = json.get(key).filter(|value| !value.is_null());
    match (given, default) {
        (None, Some(default)) => Ok(default),
        (Some(value), _) if value.is_u64() => Ok(value.as_u64().unwrap_or_default()),
        (Some(value), _) => Err(refuse(format!("its config.json has {key} {value}, which is no size"))),
        (None, None) => Err(refuse(format!("its config.json lacks {key}"))),
    }
}

fn flag(json: &Value, key: &str, default: bool) -> bool {
    json.get(key).and_then(Value::as_bool).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPTJ: &str = r#"{"model_type": "gptj", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 600,
        "rotary_dim": 8, "n_inner": null, "bos_token_id": 5, "eos_token_id": 5}"#;
    const NEO: &str =
        r#"{"model_type": "gpt_neo", "hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 600}"#;

    fn refusal(text: &str, from: &str, to: &str) -> Error {
        assert!(text.contains(from));
        CheckpointConfig::read(&text.replace(from, to)).expect_err("it must be refused")
    }

    #[test]
    fn both_families_are_understood() {
        let gptj = CheckpointConfig::read(GPTJ).unwrap();
        assert_eq!((gptj.family, gptj.hidden, gptj.positions), (Family::GptJ { rotated: 8 }, 256, 2048));
        assert_eq!((gptj.tied, gptj.eos, gptj.head()), (false, Some(5), 16));
        let neo = CheckpointConfig::read(NEO).unwrap();
        assert_eq!((neo.family, neo.tied), (Family::GptNeo { window: Some(256) }, true));
    }

    #[test]
    fn local_attention_is_found_in_either_spelling() {
        let family = |more: &str| {
            CheckpointConfig::read(&NEO.replace("600", &format!("600, {more}"))).map(|config| config.family)
        };
        let global = Family::GptNeo { window: None };
        let local = Family::GptNeo { window: Some(256) };
        assert_eq!(family(r#""attention_layers": ["global", "global"]"#).unwrap(), global);
        assert_eq!(family(r#""attention_layers": ["global", "local"]"#).unwrap(), local);
        assert_eq!(family(r#""attention_types": [[["global"], 2]]"#).unwrap(), global);
        assert_eq!(family(r#""attention_types": [[["global", "local"], 1]]"#).unwrap(), local);
        assert!(
            family(r#""attention_layers": ["global"]"#)
                .unwrap_err()
                .to_string()
                .contains("1 attention_layers for 2")
        );
        assert!(family(r#""attention_layers": ["odd", "odd"]"#).unwrap_err().to_string().contains("\"odd\""));
    }

    #[test]
    fn what_does_not_make_sense_is_refused() {
        assert!(refusal(GPTJ, "\"n_head\": 4", "\"n_head\": 5").to_string().contains("5 heads"));
        assert!(
            refusal(GPTJ, "\"rotary_dim\": 8", "\"rotary_dim\": 18").to_string().contains("rotary_dim 18")
        );
        assert!(refusal(GPTJ, "\"n_layer\": 2, ", "").to_string().contains("lacks n_layer"));
        assert!(refusal(GPTJ, "\"n_layer\": 2", "\"n_layer\": -2").to_string().contains("n_layer -2"));
        assert!(refusal(GPTJ, "\"n_layer\": 2", "\"n_layer\": 0").to_string().contains("is 0"));
        assert!(refusal(NEO, "600", "600, \"activation_function\": \"relu\"").to_string().contains("'relu'"));
        assert!(refusal(GPTJ, "}", "").to_string().contains("not JSON"));
        assert!(refusal(GPTJ, "model_type", "x").to_string().contains("does not say what it is"));
    }

    #[test]
    fn families_that_are_converted_elsewhere_are_told_apart() {
        let llama = refusal(GPTJ, "gptj", "llama");
        assert!(llama.to_string().contains("'llama'"));
        assert!(matches!(llama, Error::Architecture { elsewhere: true, .. }));
        assert!(matches!(refusal(GPTJ, "gptj", "codegen"), Error::Architecture { elsewhere: false, .. }));
    }
}
