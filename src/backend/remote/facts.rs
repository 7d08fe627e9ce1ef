//! What a server tells of itself (`/v1/models`, `/props`, `/version`) → its kind, its models, and one of them.

use serde_json::Value;

use super::client::Client;
use super::fault::Fault;
use crate::backend::Error;

/// Servers by the extensions that they know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// llama.cpp's llama-server.
    Llama,
    Vllm,
    Sglang,
    /// The API alone.
    Other,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Llama => "llama-server",
            Kind::Vllm => "vLLM",
            Kind::Sglang => "SGLang",
            Kind::Other => "OpenAI-compatible server",
        }
    }

    /// Whether it continues the last message of a conversation.
    pub(super) fn continues(self) -> bool {
        self != Kind::Other
    }
}

/// A model as its server lists it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listed {
    pub id: String,
    /// Most tokens of context, if known.
    pub context: Option<usize>,
    pub trained_context: Option<usize>,
    pub parameters: Option<u64>,
    /// Bytes of its files.
    pub size: Option<u64>,
    pub(super) owner: String,
}

impl Listed {
    /// The name as people write it: the file's, if the id is the path of one.
    pub fn name(&self) -> &str {
        match self.id.strip_suffix(".gguf") {
            Some(path) => path.rsplit(['/', '\\']).next().unwrap_or(path),
            None => &self.id,
        }
    }

    fn of(entry: &Value) -> Option<Listed> {
        let number = |place: &str| entry.pointer(place).and_then(Value::as_u64);
        let size = |place: &str| number(place).and_then(|n| usize::try_from(n).ok());
        Some(Listed {
            id: entry.get("id")?.as_str()?.to_string(),
            context: size("/max_model_len").or_else(|| size("/meta/n_ctx")).filter(|tokens| *tokens > 0),
            trained_context: size("/meta/n_ctx_train"),
            parameters: number("/meta/n_params"),
            size: number("/meta/size"),
            owner: entry.get("owned_by").and_then(Value::as_str).unwrap_or_default().to_string(),
        })
    }
}

/// One model of a server, and what is known of both.
#[derive(Debug, Clone)]
pub struct Facts {
    pub kind: Kind,
    pub version: Option<String>,
    pub model: Listed,
    /// The chat template's source; empty: unknown.
    pub template: String,
}

/// All models of a server. `None`: it lists none.
pub(super) fn models(client: &Client) -> Result<Option<Vec<Listed>>, Error> {
    let Some(list) = client.get("models", false)? else { return Ok(None) };
    let entries = list.get("data").or_else(|| list.get("models")).and_then(Value::as_array);
    let entries = entries.ok_or_else(|| {
        client.fault(Fault::NotTheApi("lists its models in another format: it is no such server".into()))
    })?;
    Ok(Some(entries.iter().filter_map(Listed::of).collect()))
}

/// Finds a model at a server. `wanted`: its name; empty: the only one.
pub(super) fn facts(client: &Client, wanted: &str) -> Result<Facts, Error> {
    let listed = models(client)?;
    let names = |all: &[Listed]| all.iter().map(|one| one.name().to_string()).collect::<Vec<_>>();
    let mut model = match &listed {
        Some(all) => match (chosen(wanted, all), wanted) {
            (Some(one), _) => one.clone(),
            (None, "") => return Err(client.fault(Fault::Unnamed(names(all)))),
            (None, wanted) => {
                let fault = Fault::NoModel { wanted: wanted.into(), models: names(all) };
                return Err(client.fault(fault));
            }
        },
        None if wanted.is_empty() => return Err(client.fault(Fault::Unnamed(Vec::new()))),
        None => Listed { id: wanted.into(), ..Listed::default() },
    };
    let kind = match model.owner.as_str() {
        "vllm" => Kind::Vllm,
        "sglang" => Kind::Sglang,
        _ => Kind::Other,
    };
    if kind != Kind::Other {
        let version = client.get("version", true).ok().flatten();
        let version = version.and_then(|json| Some(json.get("version")?.as_str()?.to_string()));
        return Ok(Facts { kind, version, model, template: String::new() });
    }
    let props = props(client, &model.id, listed.map_or(0, |all| all.len()));
    let size = |props: &Value| props.pointer("/default_generation_settings/n_ctx")?.as_u64();
    let text = |name: &str| Some(props.as_ref()?.get(name)?.as_str()?.to_string());
    let Some(context) = props.as_ref().and_then(size) else {
        return Ok(Facts { kind, version: None, model, template: String::new() });
    };
    model.context = usize::try_from(context).ok().filter(|tokens| *tokens > 0).or(model.context);
    let (version, template) = (text("build_info"), text("chat_template").unwrap_or_default());
    Ok(Facts { kind: Kind::Llama, version, model, template })
}

/// llama-server's `/props`; with several models, those of one. Servers of other kinds have none, or refuse.
fn props(client: &Client, id: &str, models: usize) -> Option<Value> {
    let path = if models > 1 { format!("props?model={}", encoded(id)) } else { "props".to_string() };
    client.get(&path, true).ok().flatten()
}

/// Percent-encoded, for a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The model that a name means: an id, a file's name, one without its owner, or the
/// beginning of exactly one.
fn chosen<'a>(wanted: &str, all: &'a [Listed]) -> Option<&'a Listed> {
    let only = |fits: &dyn Fn(&Listed) -> bool| {
        let mut fitting = all.iter().filter(|one| fits(one));
        fitting.next().filter(|_| fitting.next().is_none())
    };
    if wanted.is_empty() {
        return only(&|_| true);
    }
    let lower = wanted.to_lowercase();
    let exactly = all.iter().find(|one| one.id == wanted);
    let named = || only(&|one| one.name().eq_ignore_ascii_case(wanted));
    let owned =
        |one: &Listed| one.name().rsplit('/').next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
    exactly
        .or_else(named)
        .or_else(|| only(&owned))
        .or_else(|| only(&|one| one.name().to_lowercase().starts_with(&lower)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_means_one_model() {
        let all = ["/m/Tiny-Q4.gguf", "org/Big-1", "llama3:8b", "llama3:70b"];
        let all = all.map(|id| Listed { id: id.into(), ..Listed::default() });
        let means = |wanted| chosen(wanted, &all).map(|one| one.id.as_str());
        assert_eq!(means("tiny-q4"), Some("/m/Tiny-Q4.gguf"));
        assert_eq!(means("org/Big-1"), Some("org/Big-1"));
        assert_eq!(means("big-1"), Some("org/Big-1"));
        assert_eq!(means("llama3:8"), Some("llama3:8b"));
        assert_eq!(means("llama3"), None, "two of them");
        assert_eq!(means(""), None);
        assert_eq!(chosen("", &all[..1]).map(Listed::name), Some("Tiny-Q4"));
    }

    #[test]
    fn what_servers_list_is_understood() {
        let vllm = json!({ "id": "m", "owned_by": "vllm", "max_model_len": 4096 });
        let of = |entry: &Value| Listed::of(entry).unwrap();
        assert_eq!((of(&vllm).context, of(&vllm).owner.as_str()), (Some(4096), "vllm"));
        let llama = json!({ "id": "m", "meta": { "n_ctx_train": 8192, "n_params": 5, "size": 9 } });
        assert_eq!(
            (of(&llama).trained_context, of(&llama).parameters, of(&llama).size),
            (Some(8192), Some(5), Some(9))
        );
        assert_eq!(of(&json!({ "id": "m", "max_model_len": null })).context, None);
        assert_eq!(Listed::of(&json!({ "name": "m" })), None);
    }
}
