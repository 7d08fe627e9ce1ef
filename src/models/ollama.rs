//! Ollama's store → model files by their Ollama names.
//!
//! The store is laid out like a container registry: `manifests/HOST/NAMESPACE/MODEL/TAG` is a JSON list of
//! layers, each with a digest, and `blobs/sha256-DIGEST` holds a layer. The layer with the media type `MODEL`
//! is the GGUF file.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

const MODEL: &str = "application/vnd.ollama.image.model";
/// Omitted from names, as in Ollama.
const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";

/// A model in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The name that Ollama shows: `llama3.2:1b`.
    pub name: String,
    pub manifest: PathBuf,
    /// The GGUF file.
    pub blob: PathBuf,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    config: Option<Layer>,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(default, rename = "mediaType")]
    media_type: String,
    digest: String,
}

/// Every model with a readable manifest, sorted by name.
pub fn list(store: &Path) -> Vec<Stored> {
    let mut found = Vec::new();
    for manifest in manifests(store) {
        let Some(name) = name(store, &manifest) else { continue };
        let layers = read(&manifest).map(|manifest| manifest.layers).unwrap_or_default();
        let model = layers.iter().find(|layer| layer.media_type == MODEL);
        if let Some(blob) = model.and_then(|layer| blob(store, &layer.digest)) {
            found.push(Stored { name, manifest, blob });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The files to remove with a model: its manifest, and the blobs that no other manifest uses.
pub fn files_of(store: &Path, manifest: &Path) -> Vec<PathBuf> {
    let layers = |manifest: &Path| {
        let manifest = read(manifest);
        manifest.into_iter().flat_map(|m| m.layers.into_iter().chain(m.config)).map(|layer| layer.digest)
    };
    let others = manifests(store).into_iter().filter(|other| other != manifest);
    let kept: HashSet<String> = others.flat_map(|other| layers(&other)).collect();
    let blobs = layers(manifest).filter(|digest| !kept.contains(digest)).filter_map(|d| blob(store, &d));
    std::iter::once(manifest.to_path_buf()).chain(blobs).collect()
}

fn read(manifest: &Path) -> Option<Manifest> {
    serde_json::from_str(&crate::files::small_file(manifest)?).ok()
}

/// The files four levels below `manifests`.
fn manifests(store: &Path) -> Vec<PathBuf> {
    let inside = |folder: &PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut level = vec![store.join("manifests")];
    for _ in 0..4 {
        level = level.iter().flat_map(inside).collect();
    }
    level
}

fn name(store: &Path, manifest: &Path) -> Option<String> {
    let inside = manifest.strip_prefix(store.join("manifests")).ok()?;
    let parts: Vec<&str> = inside.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    let [host, namespace, model, tag] = parts[..] else { return None };
    Some(match (host, namespace) {
        (HOST, NAMESPACE) => format!("{model}:{tag}"),
        (HOST, namespace) => format!("{namespace}/{model}:{tag}"),
        _ => format!("{host}/{namespace}/{model}:{tag}"),
    })
}

/// The path of a layer. Accepts only valid digests: they become part of a path.
fn blob(store: &Path, digest: &str) -> Option<PathBuf> {
    let hex = digest.strip_prefix("sha256:")?;
    let whole = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    whole.then(|| store.join("blobs").join(format!("sha256-{hex}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(models: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let store = tempfile::tempdir().unwrap();
        for (path, model, license) in models {
            let manifest = store.path().join("manifests").join(path);
            fs::create_dir_all(manifest.parent().unwrap()).unwrap();
            let layer = |kind: &str, digit: &str| {
                format!(r#"{{"mediaType":"{kind}","digest":"sha256:{}"}}"#, digit.repeat(64))
            };
            let layers = [layer("application/vnd.ollama.image.license", license), layer(MODEL, model)];
            fs::write(manifest, format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.join(","))).unwrap();
        }
        store
    }

    #[test]
    fn models_go_by_ollamas_names() {
        let store = store(&[
            ("registry.ollama.ai/library/llama3.2/1b", "a", "c"),
            ("registry.ollama.ai/me/own/latest", "b", "c"),
            ("hf.co/bartowski/Some-GGUF/Q4_K_M", "d", "c"),
        ]);
        fs::write(store.path().join("manifests/registry.ollama.ai/library/llama3.2/broken"), "{").unwrap();
        let names: Vec<String> = list(store.path()).into_iter().map(|stored| stored.name).collect();
        assert_eq!(names, ["hf.co/bartowski/Some-GGUF:Q4_K_M", "llama3.2:1b", "me/own:latest"]);
        assert!(list(store.path())[1].blob.ends_with(format!("blobs/sha256-{}", "a".repeat(64))));
    }

    #[test]
    fn a_layer_that_another_model_uses_stays() {
        let store = store(&[
            ("registry.ollama.ai/library/a/latest", "a", "c"),
            ("registry.ollama.ai/library/b/latest", "b", "c"),
        ]);
        let gone = files_of(store.path(), &list(store.path())[0].manifest);
        assert_eq!(gone.len(), 2);
        assert!(gone[1].ends_with(format!("sha256-{}", "a".repeat(64))));
    }

    #[test]
    fn a_digest_that_is_none_leads_nowhere() {
        assert_eq!(blob(Path::new("/s"), "sha256:../../etc/passwd"), None);
    }
}
