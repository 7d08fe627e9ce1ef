//! Chat templates by name, for models whose file has none: each writes the format that its models were
//! trained on.
//!
//! The names are llama.cpp's where it has one. The template of a format without a system role refuses that
//! role; `template.rs` then merges the system prompt into the first message.

/// A built-in template.
pub struct Builtin {
    pub name: &'static str,
    /// The models that use the format.
    pub models: &'static str,
    pub source: &'static str,
}

const fn of(name: &'static str, models: &'static str, source: &'static str) -> Builtin {
    Builtin { name, models, source }
}

pub const BUILTIN: &[Builtin] = &[
    of("alpaca", "Stanford Alpaca, and many trained on its data", include_str!("templates/alpaca.jinja")),
    of("chatml", "Qwen, SmolLM, Hermes, Yi and many more", include_str!("templates/chatml.jinja")),
    of("deepseek", "DeepSeek Coder", include_str!("templates/deepseek.jinja")),
    of("deepseek2", "DeepSeek LLM, V2, V2.5", include_str!("templates/deepseek2.jinja")),
    of("deepseek3", "DeepSeek V3", include_str!("templates/deepseek3.jinja")),
    of("falcon-instruct", "Falcon 7B and 40B Instruct", include_str!("templates/falcon-instruct.jinja")),
    of("falcon3", "Falcon 3 Instruct", include_str!("templates/falcon3.jinja")),
    of("gemma", "Gemma, Gemma 2, Gemma 3", include_str!("templates/gemma.jinja")),
    of("llama2", "Llama 2 Chat", include_str!("templates/llama2.jinja")),
    of("llama3", "Llama 3 Instruct", include_str!("templates/llama3.jinja")),
    of("mistral-v3", "Mistral 7B Instruct v0.3, Mixtral 8x22B", include_str!("templates/mistral-v3.jinja")),
    of("oasst", "Open-Assistant (Pythia, GPT-NeoX)", include_str!("templates/oasst.jinja")),
    of("openchat", "OpenChat 3.5", include_str!("templates/openchat.jinja")),
    of("phi3", "Phi-3", include_str!("templates/phi3.jinja")),
    of("vicuna", "Vicuna 1.1 and later", include_str!("templates/vicuna.jinja")),
    of("zephyr", "Zephyr, StableLM Zephyr", include_str!("templates/zephyr.jinja")),
];

/// The source of the built-in template of this name.
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|known| known.name == name).map(|known| known.source)
}

/// The names of all built-in templates.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|known| known.name)
}

#[cfg(test)]
mod tests {
    use super::super::template::{Template, Turn};
    use super::*;
    use crate::chat::message::Role;

    const VICUNA: &str = "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives \
        helpful, detailed, and polite answers to the user's questions. USER: Hi ASSISTANT:";
    const ALPACA: &str = "<s>Below is an instruction that describes a task. Write a response that appropriately completes \
        the request.\n\n### Instruction:\nHi\n\n### Response:";
    const CODER: &str = "<s>You are an AI programming assistant, utilizing the Deepseek Coder model, developed by Deepseek \
        Company, and you only answer questions related to computer science. For politically sensitive questions, \
        security and privacy issues, and other non-computer science questions, you will refuse to answer\n\
        ### Instruction:\nHi\n### Response:\n";

    /// Per template: its name, the prompt of a single question, and that of a system prompt, question,
    /// answer, and question.
    const PUBLISHED: [(&str, &str, &str); 16] = [
        (
            "alpaca",
            ALPACA,
            "<s>Sys\n\n### Instruction:\nA\n\n### Response:B</s>\n\n### Instruction:\nC\n\n### Response:",
        ),
        (
            "chatml",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>system\nSys<|im_end|>\n<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n\
             <|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "deepseek",
            CODER,
            "<s>Sys### Instruction:\nA\n### Response:\nB\n<|EOT|>\n### Instruction:\nC\n### Response:\n",
        ),
        (
            "deepseek2",
            "<s>User: Hi\n\nAssistant:",
            "<s>Sys\n\nUser: A\n\nAssistant: B</s>User: C\n\nAssistant:",
        ),
        (
            "deepseek3",
            "<s><｜User｜>Hi<｜Assistant｜>",
            "<s>Sys<｜User｜>A<｜Assistant｜>B</s><｜User｜>C<｜Assistant｜>",
        ),
        ("falcon-instruct", "User: Hi\nAssistant:", "User: Sys\n\nA\nAssistant: B\nUser: C\nAssistant:"),
        (
            "falcon3",
            "<|user|>\nHi\n<|assistant|>\n",
            "<|system|>\nSys\n<|user|>\nA\n<|assistant|>\nB</s>\n<|user|>\nC\n<|assistant|>\n",
        ),
        (
            "gemma",
            "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
            "<s><start_of_turn>user\nSys\n\nA<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n\
             <start_of_turn>user\nC<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "llama2",
            "<s>[INST] Hi [/INST]",
            "<s>[INST] <<SYS>>\nSys\n<</SYS>>\n\nA [/INST] B </s><s>[INST] C [/INST]",
        ),
        (
            "llama3",
            "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            "<s><|start_header_id|>system<|end_header_id|>\n\nSys<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nA\
             <|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nB<|eot_id|><|start_header_id|>user\
             <|end_header_id|>\n\nC<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("mistral-v3", "<s>[INST] Hi[/INST]", "<s>[INST] Sys\n\nA[/INST] B</s>[INST] C[/INST]"),
        (
            "oasst",
            "<|prompter|>Hi</s><|assistant|>",
            "<|prompter|>Sys\n\nA</s><|assistant|>B</s><|prompter|>C</s><|assistant|>",
        ),
        (
            "openchat",
            "<s>GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant:",
            "<s>GPT4 Correct System: Sys<|end_of_turn|>GPT4 Correct User: A<|end_of_turn|>GPT4 Correct Assistant: B\
             <|end_of_turn|>GPT4 Correct User: C<|end_of_turn|>GPT4 Correct Assistant:",
        ),
        (
            "phi3",
            "<|user|>\nHi<|end|>\n<|assistant|>\n",
            "<|system|>\nSys<|end|>\n<|user|>\nA<|end|>\n<|assistant|>\nB<|end|>\n<|user|>\nC<|end|>\n<|assistant|>\n",
        ),
        ("vicuna", VICUNA, "<s>Sys USER: A ASSISTANT: B</s>USER: C ASSISTANT:"),
        (
            "zephyr",
            "<|user|>\nHi</s>\n<|assistant|>\n",
            "<|system|>\nSys</s>\n<|user|>\nA</s>\n<|assistant|>\nB</s>\n<|user|>\nC</s>\n<|assistant|>\n",
        ),
    ];

    #[test]
    fn each_writes_the_published_format() {
        let turn = Turn::new;
        let question = [turn(Role::User, "Hi")];
        let conversation = [
            turn(Role::System, "Sys"),
            turn(Role::User, "A"),
            turn(Role::Assistant, "B"),
            turn(Role::User, "C"),
        ];
        assert!(names().eq(PUBLISHED.iter().map(|(name, ..)| *name)), "the same templates in the same order");
        for (name, short, long) in PUBLISHED {
            let template = Template::new(builtin(name).unwrap(), "<s>", "</s>", &[]).unwrap();
            assert_eq!(template.render(&question, true).unwrap().text, short, "{name}");
            assert_eq!(template.render(&conversation, true).unwrap().text, long, "{name}");
            let silenced = [&[turn(Role::System, "")], &question[..]].concat();
            assert!(
                !template.render(&silenced, true).unwrap().text.contains(" assistant. "),
                "{name}: no default"
            );
        }
        assert_eq!(builtin("none"), None);
    }
}
