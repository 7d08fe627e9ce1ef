//! The name of a file → the language for its code fence, as Markdown renderers and models know it.

use std::path::Path;

/// Endings with their language. Plain text has none.
const ENDINGS: &[(&[&str], &str)] = &[
    (&["bash", "sh", "zsh"], "sh"),
    (&["bat", "cmd"], "bat"),
    (&["c", "h"], "c"),
    (&["cc", "cpp", "cxx", "hh", "hpp", "hxx"], "cpp"),
    (&["clj", "cljs"], "clojure"),
    (&["cmake"], "cmake"),
    (&["cs"], "csharp"),
    (&["css"], "css"),
    (&["csv"], "csv"),
    (&["cu", "cuh"], "cuda"),
    (&["dart"], "dart"),
    (&["diff", "patch"], "diff"),
    (&["ex", "exs"], "elixir"),
    (&["erl", "hrl"], "erlang"),
    (&["fish"], "fish"),
    (&["fs", "fsx"], "fsharp"),
    (&["go"], "go"),
    (&["gradle", "groovy"], "groovy"),
    (&["graphql"], "graphql"),
    (&["hs"], "haskell"),
    (&["htm", "html"], "html"),
    (&["cfg", "ini"], "ini"),
    (&["java"], "java"),
    (&["cjs", "js", "mjs"], "javascript"),
    (&["ipynb", "json", "jsonc", "jsonl"], "json"),
    (&["jl"], "julia"),
    (&["jsx"], "jsx"),
    (&["kt", "kts"], "kotlin"),
    (&["lua"], "lua"),
    (&["m"], "objectivec"),
    (&["markdown", "md"], "markdown"),
    (&["mk"], "makefile"),
    (&["ml", "mli"], "ocaml"),
    (&["nix"], "nix"),
    (&["php"], "php"),
    (&["pl", "pm"], "perl"),
    (&["proto"], "protobuf"),
    (&["ps1"], "powershell"),
    (&["py", "pyi"], "python"),
    (&["r"], "r"),
    (&["rb"], "ruby"),
    (&["rs"], "rust"),
    (&["sass", "scss"], "scss"),
    (&["scala"], "scala"),
    (&["sql"], "sql"),
    (&["svg", "xml", "xsd", "xsl"], "xml"),
    (&["swift"], "swift"),
    (&["tex"], "latex"),
    (&["tf"], "hcl"),
    (&["toml"], "toml"),
    (&["ts"], "typescript"),
    (&["tsx"], "tsx"),
    (&["vim"], "vim"),
    (&["vue"], "vue"),
    (&["yaml", "yml"], "yaml"),
    (&["zig"], "zig"),
];

/// Whole names with their language.
const NAMES: &[(&str, &str)] = &[
    ("cmakelists.txt", "cmake"),
    ("containerfile", "dockerfile"),
    ("dockerfile", "dockerfile"),
    ("gnumakefile", "makefile"),
    ("makefile", "makefile"),
];

/// The language of a file by its name; empty: none.
pub fn language(name: &str) -> &'static str {
    let path = Path::new(name);
    let lower = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().to_lowercase();
    let (whole, ending) = (lower(path.file_name()), lower(path.extension()));
    let named = NAMES.iter().find(|(known, _)| *known == whole).map(|(_, language)| *language);
    let by_ending = || ENDINGS.iter().find(|(known, _)| known.contains(&ending.as_str()));
    named.or_else(|| by_ending().map(|(_, language)| *language)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_endings_tell_the_language() {
        for (name, expected) in [
            ("src/main.rs", "rust"),
            ("A.PY", "python"),
            ("Makefile", "makefile"),
            ("a/CMakeLists.txt", "cmake"),
            ("notes.txt", ""),
            ("rs", ""),
            (".rs", ""),
            ("", ""),
        ] {
            assert_eq!(language(name), expected, "{name}");
        }
    }
}
