//! Backend errors → failures with remedies.

use super::{Failure, usage, worded};
use crate::backend::remote::{Fault, listed};
use crate::backend::{Error, ServerFault};
use crate::settings::servers::AT;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Engine(error) => error.into(),
            Error::Interrupted => Failure::interrupted(),
            Error::Server(ref fault) => server(&error, fault),
            Error::Setting { line, hint } => Failure { hint, ..Failure::usage(line) },
            Error::Unsound { .. } => worded(&error, None).hint(
                "the file may be damaged, or made for another version of llama.cpp; try fetching it again",
            ),
            Error::NoMemory { .. } => worded(&error, None).hint(
                "close other programs, or use a smaller quantisation, a smaller --ctx-size, or fewer --gpu-layers; \
                 --cpu-moe keeps the experts of a mixture in main memory",
            ),
            Error::NoProbabilities(_) => usage(&error),
            Error::Load { .. } | Error::NotTried { .. } | Error::Script(_) | Error::Stopped => {
                worded(&error, None)
            }
        }
    }
}

/// The remedies for what is wrong with a server.
fn server(error: &Error, ServerFault { server, fault }: &ServerFault) -> Failure {
    let hint = match fault {
        Fault::Offline => "--offline and FIRESIDE_OFFLINE forbid the network".into(),
        Fault::Address(_) => {
            return usage(error).hint("as in http://localhost:8080 or https://example.org/v1");
        }
        Fault::Unencrypted { key: true } => {
            "use https, or take the key back; allow-http = true in the server's section of the config file \
             sends it nevertheless"
                .into()
        }
        Fault::Unencrypted { key: false } => {
            "use https; allow-http = true in the server's section of the config file sends it nevertheless"
                .into()
        }
        Fault::KeyCommand(_) | Fault::KeyCharacters => {
            "run the key-command of the config file by hand".into()
        }
        Fault::Unreachable(_) => "check that the server runs, and its address".into(),
        Fault::Key { variable, given, .. } => {
            let other = std::env::var_os("OPENAI_API_KEY").is_some_and(|key| !key.is_empty());
            let other =
                if other && !given { "; fireside does not take OPENAI_API_KEY by itself" } else { "" };
            format!(
                "{variable}, or key-command or key in the server's section of the config file, has the key{other}"
            )
        }
        Fault::Redirects(_) => "if that is where the text shall go, give that address".into(),
        Fault::Refused { status: 429 | 503, .. } => "try again later".into(),
        Fault::NotTheApi(_) => "the address of the API often ends in /v1".into(),
        Fault::NoModel { models, .. } if models.is_empty() => return worded(error, None),
        Fault::NoModel { models, .. } => format!("it has {}", listed(models)),
        Fault::Unnamed(models) if models.is_empty() => format!("name one: -m NAME{AT}{server}"),
        Fault::Unnamed(models) => format!("name one with -m: {}", listed(models)),
        Fault::CannotContinue => "/retry gets another answer; -n raises the limit of tokens".into(),
        Fault::Lacks("schema") => return worded(error, None),
        Fault::Lacks(_) => {
            "a JSON schema (--json-schema) may do; grammars need llama-server or a model on this machine"
                .into()
        }
        Fault::Unmatched(_) => "the server ignores it, or the model broke off: nothing else was shown".into(),
        Fault::NoProbabilities => "leave out --logprobs, or use a server that gives OpenAI's logprobs".into(),
        Fault::Refused { .. } | Fault::BrokeOff(_) => return worded(error, None),
    };
    worded(error, Some(hint))
}
