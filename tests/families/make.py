#!/usr/bin/env python3
"""Writes small checkpoints of every family with what the reference implementation makes of them.

    python make.py --llama-cpp DIR [--only NAME,NAME] [FOLDER]

README.md says what is needed. For each family: a model of transformers with random weights and a tokenizer of the family's
own kind → NAME.gguf (or, where `fireside convert` makes it, the checkpoint itself in NAME/), and NAME.json with the token
ids of five prompts, 32 tokens of greedy continuation, and the logits before the first and after the last of them.

A greedy token says something only if no other comes near it: a seed is taken if every kind of text has a prompt whose
continuation keeps the two best logits apart by ten times the tolerance of the test (`TOLERANCE`) at each step.
"""

import argparse
import importlib.util
import json
import logging
import sys
import tempfile
from pathlib import Path

import sentencepiece
import torch
import transformers as hf
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

# Of the largest logit; the test knows the same number.
TOLERANCE = 1e-3
STEPS = 32
SEEDS = 400
# Different tokens that a continuation must have: one that only repeats itself proves little.
VARIETY = 6

# What vocabularies are learned from, beside the text that the tiny models use.
MORE = """
def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n
for (int i = 0; i < 10; i++) { printf("%d\\n", i); }   let x = vec![1, 2, 3];
1 2 3 10 100 1000 1999 2024 3.14159 12:30 1,000,000 50% $20
Der Fluss fließt über die Wiese; où est la bibliothèque? ¿Dónde está? Привет, мир. 你好，世界。 こんにちは 안녕하세요
The child doesn't know what it's for, they've said; we'll see. I'M HERE, YOU'RE THERE. <b>bold</b> &amp; more...
"""

# Five kinds of text; of each kind the first that keeps its distance is taken.
PROMPTS = [
    ["The fire is low and", "Once there was a small house", "Tell me a story about the river", "The capital of France is",
     "What is the answer to the question?", "Every morning she opened the window", "He thought about it for a while",
     "Please write a short list"],
    ["def fibonacci(n):\n    if n < 2:", "for (int i = 0; i < 3; i++) {\n\tx += i;\n}", "let x = vec![1, 2, 3];\n\n",
     "<html>\n  <b>it's bold</b>\n</html>", "if (a && b || !c) return -1; // no", "x = {'a': 1, \"b\": [2, 3]}",
     "#include <stdio.h>\n\nint main()", "SELECT * FROM t WHERE id = 7;"],
    ["où est la bibliothèque? Привет, мир.", "你好，世界。 こんにちは 안녕하세요", "naïve café – “quoted” … 👩‍👩‍👧 done", "Grüße aus Köln, schöne Straße!",
     "¿Dónde está el niño? ¡Aquí!", "العربية ועברית together", "Ελληνικά and हिन्दी", "tab\tand  two spaces, 日本語"],
    ["1 2 3 10 100 1000 12345678", "On 2024-12-31 at 23:59, 3.14159 > 3", "It's 50% of $1,000,000", "7 * 8 = 56; 56 / 8 = 7",
     "0x1F + 0b1010 = 41", "They've said we'll see: it's 12:30", "room 101, floor 7, year 1984", "phone 555-0199 ext. 23"],
    [" ".join(words) for words in (
        ["the fire is low and the evening is long."] * 9, ["a small house at the end of the road;"] * 9,
        ["one, two, three, four, five, six."] * 9, ["she opened the window and looked at the sky."] * 8,
        ["read the weather from the colour of the smoke,"] * 8, ["what is the answer to the question?"] * 10,
        ["there are many ways to do this"] * 12, ["again and again and again."] * 14)],
]

LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
                r"|\s+(?!\S)|\s+")
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O_SPLIT = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
               r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
               r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(*patterns):
    """Pieces as each pattern in turn cuts them, then bytes."""
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def deepseek_llm():
    cuts = [r"[\r\n]", r"\s?\p{L}+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+"]
    steps = [pre_tokenizers.Split(Regex(cut), "isolated") for cut in cuts]
    steps += [pre_tokenizers.Digits(individual_digits=True)]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def deepseek_v3_cut():
    return split(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
                 r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
                 r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def falcon():
    return pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
    ])


class Bpe:
    """A byte-level BPE vocabulary. `bos` is put before every text if it is given."""

    def __init__(self, pre, cut, markers=("<|endoftext|>",), bos=None, eos=None, size=520, normalizer=None, template=None):
        self.pre, self.size, self.template = pre, size, template
        self.bos, self.eos = bos, eos or markers[0]
        tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
        tokenizer.pre_tokenizer, tokenizer.decoder = cut, decoders.ByteLevel()
        if normalizer:
            tokenizer.normalizer = normalizer
        trainer = trainers.BpeTrainer(vocab_size=size - len(markers), show_progress=False,
                                      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
        tokenizer.train_from_iterator(corpus(), trainer)
        tokenizer.add_special_tokens([AddedToken(marker, special=True, normalized=False) for marker in markers])
        if bos:
            ids = [(bos, tokenizer.token_to_id(bos))]
            tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=ids)
        self.tokenizer = tokenizer

    def __len__(self):
        return self.tokenizer.get_vocab_size()

    def encode(self, text):
        return self.tokenizer.encode(text).ids

    def id(self, token):
        return self.tokenizer.token_to_id(token)

    def save(self, folder):
        fast = hf.PreTrainedTokenizerFast(tokenizer_object=self.tokenizer, bos_token=self.bos or self.eos, eos_token=self.eos)
        fast.chat_template = self.template
        fast.save_pretrained(folder)
        config = folder / "tokenizer_config.json"
        about = json.loads(config.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
        about |= {"add_bos_token": bool(self.bos)} | ({"chat_template": self.template} if self.template else {})
        config.write_text(json.dumps(about))


class Spm:
    """A SentencePiece vocabulary with bytes for what it has no pieces for."""

    pre = None

    def __init__(self, space_prefix, size=520, template=None):
        self.template, self.bos, self.eos, self.space_prefix = template, "<s>", "</s>", space_prefix
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder, "text")
            text.write_text("\n".join(corpus() * 3))
            sentencepiece.SentencePieceTrainer.train(
                input=str(text), model_prefix=f"{folder}/m", vocab_size=size, model_type="bpe", byte_fallback=True,
                add_dummy_prefix=space_prefix, remove_extra_whitespaces=False, normalization_rule_name="identity",
                split_digits=True, hard_vocab_limit=False, minloglevel=2, num_threads=1)
            self.bytes = Path(folder, "m.model").read_bytes()
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=self.bytes)

    def __len__(self):
        return self.processor.vocab_size()

    def encode(self, text):
        return [self.processor.bos_id(), *self.processor.encode(text)]

    def id(self, token):
        return self.processor.piece_to_id(token)

    def save(self, folder):
        (folder / "tokenizer.model").write_bytes(self.bytes)
        about = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "bos_token": "<s>",
                 "eos_token": "</s>", "unk_token": "<unk>", "add_prefix_space": self.space_prefix}
        if self.template:
            about["chat_template"] = self.template
        (folder / "tokenizer_config.json").write_text(json.dumps(about))


def corpus():
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "models/make.py")
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    return [line for line in (tiny.TEXT + MORE).splitlines() if line.strip()]


def gpt2_cut():
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


# Their checkpoints are committed in 16 bits, so these must hold all of a weight.
HALF = ("gptj", "gpt_neo")
FINAL_NORMS = {"transformer.ln_f.weight", "model.norm.weight", "backbone.norm_f.weight", "model.final_layernorm.weight"}


def randomize(model, seed, silent):
    """Weights that make every token depend on all before it, and a few tokens much louder than the rest."""
    generator = torch.Generator().manual_seed(seed)
    noise = lambda shape: torch.randn(shape, generator=generator)
    gemma = model.config.model_type.startswith("gemma")
    output = model.get_output_embeddings().weight
    tied = output is model.get_input_embeddings().weight
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            kind = name.split(".")[-1]
            if kind in ("A_log", "D", "dt_bias"):
                weight.add_(0.2 * noise(weight.shape))
            elif kind == "sinks":
                weight.copy_(noise(weight.shape))
            elif kind == "e_score_correction_bias":
                weight.copy_(0.1 * noise(weight.shape))
            elif weight.ndim == 1 and "bias" not in kind:
                values = 1 + 0.2 * noise(weight.shape)
                if tied and name in FINAL_NORMS: # or else a token predicts itself
                    values *= torch.sign(noise(weight.shape))
                weight.copy_(values - 1 if gemma else values)
            elif weight.ndim == 1 or kind.endswith("_bias"):
                weight.copy_(0.2 * noise(weight.shape))
            elif any(table in name for table in ("embed", "wte", "lm_head")):
                # Gemma multiplies them by the root of the width.
                weight.copy_(noise(weight.shape) / (weight.shape[1] ** 0.5 if gemma else 1))
            elif "wpe" in name:
                weight.copy_(0.7 * noise(weight.shape))
            else:
                weight.copy_(1.4 * noise(weight.shape) / weight.shape[-1] ** 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(0.1 * noise(buffer.shape))
        loud = torch.exp((0.5 if tied else 0.8) * noise((output.shape[0], 1)))
        loud[silent] = 0.02
        output.mul_(loud)
        if model.config.model_type in HALF:
            for weight in model.parameters():
                weight.copy_(weight.half().float())


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids])).logits[0, -1].float()


def continuation(model, ids):
    """32 greedy tokens with the logits before the first and after the last; None if two logits come close anywhere, or if the
    same few tokens come again and again."""
    ids, first, least = list(ids), None, len(ids) + STEPS
    while len(ids) < least:
        logits = logits_of(model, ids)
        first = logits if first is None else first
        best = logits.topk(2).values
        if best[0] - best[1] < 10 * TOLERANCE * logits.abs().max():
            return None
        ids.append(int(logits.argmax()))
    greedy = ids[-STEPS:]
    varied = len(set(greedy)) >= VARIETY
    return (greedy, first, logits_of(model, ids)) if varied else None


def numbers(row):
    return [float(f"{x:.5g}") for x in row.tolist()]


def record(model, tokenizer):
    cases = []
    for pool in PROMPTS:
        for text in pool:
            ids = tokenizer.encode(text)
            found = continuation(model, ids)
            if found:
                greedy, first, last = found
                cases.append({"prompt": text, "ids": ids, "greedy": greedy, "first": numbers(first), "last": numbers(last)})
                break
        else:
            return None
    return cases


# --- the families ------------------------------------------------------------------------------------------------------

WIDE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=512)


def gpt2_tokens(**more):
    return Bpe("gpt-2", gpt2_cut(), **more)


def llama3_tokens():
    markers = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    return Bpe("llama-bpe", split(LLAMA3_SPLIT), markers, bos=markers[0], eos=markers[4], template=LLAMA3_TEMPLATE)


# As in the models' own files, tools left out.
LLAMA3_TEMPLATE = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now(\"%d %b %Y\") %}{%- else %}{%- set date_string = \"26 Jul 2024\" %}{%- endif %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = \"\" %}{%- endif %}"
    "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}"
    "{{- \"Cutting Knowledge Date: December 2023\\n\" }}{{- \"Today Date: \" + date_string + \"\\n\\n\" }}"
    "{{- system_message }}{{- \"<|eot_id|>\" }}"
    "{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' "
    "+ message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)


def llama(tokens, **more):
    config = hf.LlamaConfig(**(WIDE | dict(num_key_value_heads=2, vocab_size=len(tokens), rope_theta=10000.0) | more))
    return hf.LlamaForCausalLM(config)


def gpt2(tokens):
    config = hf.GPT2Config(vocab_size=len(tokens), n_positions=256, n_ctx=256, n_embd=32, n_layer=2, n_head=4,
                           bos_token_id=tokens.id(tokens.eos), eos_token_id=tokens.id(tokens.eos))
    return hf.GPT2LMHeadModel(config)


def gpt_neox(tokens, parallel):
    config = hf.GPTNeoXConfig(**WIDE, vocab_size=len(tokens), rotary_pct=0.5, use_parallel_residual=parallel,
                              hidden_act="gelu_new")
    return hf.GPTNeoXForCausalLM(config)


def gptj(tokens):
    end = tokens.id(tokens.eos)
    config = hf.GPTJConfig(vocab_size=len(tokens) + 7, n_positions=512, n_embd=32, n_layer=2, n_head=4, rotary_dim=4,
                           bos_token_id=end, eos_token_id=end)
    return hf.GPTJForCausalLM(config)


def gpt_neo(tokens):
    end = tokens.id(tokens.eos)
    config = hf.GPTNeoConfig(vocab_size=len(tokens), max_position_embeddings=512, hidden_size=32, num_layers=2, num_heads=4,
                             attention_types=[[["global", "local"], 1]], window_size=256, bos_token_id=end, eos_token_id=end)
    return hf.GPTNeoForCausalLM(config)


def falcon_model(tokens, **more):
    config = hf.FalconConfig(vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, bias=False,
                             parallel_attn=True, alibi=False, activation="gelu_pytorch_tanh", **more)
    return hf.FalconForCausalLM(config)


def bloom(tokens):
    config = hf.BloomConfig(vocab_size=len(tokens), hidden_size=32, n_layer=2, n_head=4, seq_length=512)
    return hf.BloomForCausalLM(config)


def deepseek2_config(tokens, **more):
    sizes = WIDE | dict(
        vocab_size=len(tokens), num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=None, qk_nope_head_dim=12, qk_rope_head_dim=8,
        v_head_dim=12, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=32,
        first_k_dense_replace=1, n_group=1, topk_group=1, routed_scaling_factor=1.0, norm_topk_prob=False)
    return sizes | more


def deepseek_v2(tokens):
    return hf.DeepseekV2ForCausalLM(hf.DeepseekV2Config(**deepseek2_config(tokens, topk_method="greedy", q_lora_rank=24)))


def deepseek_v3(tokens):
    more = dict(q_lora_rank=24, n_group=2, topk_group=1, routed_scaling_factor=1.5, norm_topk_prob=True)
    return hf.DeepseekV3ForCausalLM(hf.DeepseekV3Config(**deepseek2_config(tokens, **more)))


def deepseek_v1(tokens):
    """transformers has no class of its own: the attention of LLaMA with the experts of DeepSeek V2, chosen one by one."""
    from transformers.models.deepseek_v2 import modeling_deepseek_v2 as v2
    model = llama(tokens, num_key_value_heads=4)
    experts = hf.DeepseekV2Config(**deepseek2_config(tokens, topk_method="greedy"))
    experts._experts_implementation = "eager"
    model.model.layers[1].mlp = next(m for n, m in vars(v2).items() if n in ("DeepseekV2Moe", "DeepseekV2MoE"))(experts)
    return model


def save_deepseek_v1(model, folder):
    weights = {}
    for name, weight in model.state_dict().items():
        if name.endswith("experts.gate_up_proj"):
            for i, expert in enumerate(weight):
                gate, up = expert.chunk(2)
                stem = name.removesuffix("gate_up_proj") + f"{i}."
                weights |= {f"{stem}gate_proj.weight": gate.contiguous(), f"{stem}up_proj.weight": up.contiguous()}
        elif name.endswith("experts.down_proj"):
            stem = name.removesuffix("down_proj")
            weights |= {f"{stem}{i}.down_proj.weight": expert.contiguous() for i, expert in enumerate(weight)}
        else:
            weights[name] = weight.contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | dict(
        architectures=["DeepseekForCausalLM"], model_type="deepseek", n_routed_experts=4, num_experts_per_tok=2,
        n_shared_experts=1, moe_intermediate_size=32, first_k_dense_replace=1, moe_layer_freq=1, norm_topk_prob=False,
        scoring_func="softmax", rope_theta=10000.0)
    (folder / "config.json").write_text(json.dumps(config))


def qwen2(tokens):
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(**WIDE, vocab_size=len(tokens), num_key_value_heads=2, tie_word_embeddings=False))


def gemma3(tokens):
    config = hf.Gemma3TextConfig(**(WIDE | dict(num_hidden_layers=6, intermediate_size=32)), vocab_size=len(tokens), num_key_value_heads=1,
                                 head_dim=16, query_pre_attn_scalar=16, sliding_window=24, tie_word_embeddings=True,
                                 bos_token_id=1, eos_token_id=2)
    return hf.Gemma3ForCausalLM(config)


def mamba(tokens):
    config = hf.MambaConfig(vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, state_size=8, time_step_rank=4)
    return hf.MambaForCausalLM(config)


def falcon_h1(tokens):
    config = hf.FalconH1Config(**WIDE, vocab_size=len(tokens), num_key_value_heads=2, head_dim=8,
                               mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=1, mamba_d_state=16,
                               mamba_d_conv=4, mamba_chunk_size=16, tie_word_embeddings=False)
    return hf.FalconH1ForCausalLM(config)


def gpt_oss(tokens):
    # llama.cpp rounds the two dimensions between which YaRN blends to whole ones; the reference does with `truncate`.
    yarn = dict(rope_type="yarn", rope_theta=150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=True,
                original_max_position_embeddings=4096)
    config = hf.GptOssConfig(**(WIDE | dict(intermediate_size=32)), vocab_size=len(tokens), num_key_value_heads=2,
                             head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=24,
                             rope_parameters=yarn)
    return hf.GptOssForCausalLM(config)


FAMILIES = {
    # name: (what it covers, the model, its tokenizer, who converts it)
    "llama-spm": ("LLaMA: grouped-query attention, SentencePiece", llama, lambda: Spm(space_prefix=True)),
    "llama-bpe": ("LLaMA 3: byte-level BPE, the template with its date", llama, llama3_tokens),
    "gpt2": ("GPT-2: tied embeddings, learned positions", gpt2, gpt2_tokens),
    "gpt-neox": ("GPT-NeoX, Pythia: parallel residual", lambda tokens: gpt_neox(tokens, True),
                 lambda: Bpe("olmo", gpt2_cut(), normalizer=normalizers.NFC())),
    "open-assistant": ("GPT-NeoX, Open-Assistant: sequential residual", lambda tokens: gpt_neox(tokens, False),
                       lambda: Bpe("olmo", gpt2_cut(), ("<|endoftext|>", "<|prompter|>", "<|assistant|>"))),
    "gpt-j": ("GPT-J, converted by fireside", gptj, gpt2_tokens),
    "gpt-neo": ("GPT-Neo, converted by fireside: 256 positions", gpt_neo, gpt2_tokens),
    "falcon-7b": ("Falcon 7B: one key for all heads, parallel", lambda tokens: falcon_model(tokens, multi_query=True),
                  lambda: Bpe("falcon", falcon())),
    "falcon-40b": ("Falcon 40B: grouped keys, two norms",
                   lambda tokens: falcon_model(tokens, new_decoder_architecture=True, num_kv_heads=2),
                   lambda: Bpe("falcon", falcon())),
    "falcon3": ("Falcon 3", llama, lambda: Bpe("falcon3", split(LLAMA3_SPLIT))),
    "bloom": ("BLOOM: ALiBi, a norm of the embeddings", bloom,
              lambda: Bpe("bloom", split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), ("<unk>", "<s>", "</s>"), eos="</s>")),
    "deepseek-v1": ("DeepSeek V1: experts", deepseek_v1, lambda: Bpe("deepseek-llm", deepseek_llm())),
    "deepseek-v2": ("DeepSeek V2: latent attention, experts", deepseek_v2, lambda: Bpe("deepseek-llm", deepseek_llm())),
    "deepseek-v3": ("DeepSeek V3, R1: latent attention, groups of experts", deepseek_v3, lambda: Bpe("deepseek-v3", deepseek_v3_cut())),
    "deepseek-r1-distill": ("DeepSeek R1 distillates (Qwen 2)", qwen2, lambda: Bpe("deepseek-r1-qwen", split(QWEN2_SPLIT))),
    "gpt-oss": ("GPT-OSS: MXFP4 experts, sinks, windows, YaRN", gpt_oss,
                lambda: Bpe("gpt-4o", split(GPT4O_SPLIT), ("<|endoftext|>", "<|return|>", "<|start|>", "<|message|>", "<|end|>"))),
    "gemma3": ("Gemma 3: sliding windows", gemma3, lambda: Spm(space_prefix=False)),
    "mamba": ("Mamba: recurrent", mamba, lambda: Bpe("olmo", gpt2_cut())),
    "falcon-h1": ("Falcon-H1: attention and recurrence", falcon_h1, lambda: Bpe("falcon-h1", split(LLAMA3_SPLIT))),
}
REFERENCES = {"deepseek-v1": "LlamaForCausalLM with DeepseekV2Moe"}
CONVERTED_HERE = ("gpt-j", "gpt-neo")


def convert(folder, out, tokenizer):
    """llama.cpp's own converter, told the pre-tokenizer that it knows real vocabularies by the hash of."""
    import conversion
    from conversion.base import ModelBase, ModelType, TextModel, gguf, get_model_architecture
    TextModel.get_vocab_base_pre = lambda self, tokens: tokenizer.pre
    # As it stands in the file: transformers would bring old names of its settings up to date, which the converter wants.
    ModelBase.load_hparams = staticmethod(lambda folder, *_, **__: json.loads((folder / "config.json").read_text()))
    architecture = get_model_architecture(ModelBase.load_hparams(folder, False), ModelType.TEXT)
    with torch.inference_mode():
        model = conversion.get_model_class(architecture)(folder, gguf.LlamaFileType.ALL_F32, out)
        model.write()


def make(name, out):
    covers, build, tokens = FAMILIES[name]
    tokenizer = tokens()
    torch.manual_seed(0)
    model = build(tokenizer).eval().float()
    model.config._experts_implementation = "eager"
    markers = [tokenizer.id(token) for token in (tokenizer.bos, tokenizer.eos) if token]
    rows = model.get_output_embeddings().weight.shape[0]
    silent = sorted({*markers, *range(len(tokenizer), rows)} | set(getattr(tokenizer, "markers", [])))
    for seed in range(SEEDS):
        randomize(model, seed, torch.tensor(silent))
        packed = pack_experts(model, seed) if name == "gpt-oss" else None
        cases = record(model, tokenizer)
        if cases:
            break
    else:
        sys.exit(f"{name}: no seed keeps its distance")
    with tempfile.TemporaryDirectory() as scratch:
        folder = out / name if name in CONVERTED_HERE else Path(scratch)
        folder.mkdir(exist_ok=True)
        save(model, folder, name, packed)
        tokenizer.save(folder)
        if name not in CONVERTED_HERE:
            convert(folder, out / f"{name}.gguf", tokenizer)
    about = {"covers": covers, "reference": REFERENCES.get(name, type(model).__name__), "seed": seed, "cases": cases}
    (out / f"{name}.json").write_text(json.dumps(about, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{name}: seed {seed}, {len(tokenizer)} tokens")


def save(model, folder, name, packed):
    if name == "deepseek-v1":
        save_deepseek_v1(model, folder)
    elif packed:
        save_packed(model, folder, packed)
    elif name in CONVERTED_HERE:
        # One of them in several files, as large checkpoints are.
        model.half().save_pretrained(folder, max_shard_size="50kB" if name == "gpt-neo" else "1GB")
    else:
        model.save_pretrained(folder)
    older = OLDER.get(name)
    if older:
        config = json.loads((folder / "config.json").read_text()) | older
        present = {key: value for key, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(present))


# What the converter expects as the families' own files have it, and transformers no longer writes; None: leave it out.
OLDER = {
    "gpt-neox": {"rotary_pct": 0.5},
    "open-assistant": {"rotary_pct": 0.5},
    "falcon-7b": {"num_kv_heads": None},
    "deepseek-v3": {"scoring_func": "sigmoid"},
}


def pack_experts(model, seed):
    """Experts in MXFP4: four bits a number, a scale for 32. The model gets what they stand for, the file the bits.

    llama.cpp rounds what it multiplies such weights with to 8 bits, so the experts add only a little to the rest."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    generator = torch.Generator().manual_seed(seed)
    packed = {}
    for number, layer in enumerate(model.model.layers):
        for name, exponent in (("gate_up_proj", 123), ("down_proj", 113)):
            weight = getattr(layer.mlp.experts, name)
            experts, inputs, outputs = weight.shape
            blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8, generator=generator)
            scales = torch.randint(exponent, exponent + 3, blocks.shape[:3], dtype=torch.uint8, generator=generator)
            weight.data.copy_(convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
            stem = f"model.layers.{number}.mlp.experts.{name}"
            packed |= {f"{stem}_blocks": blocks, f"{stem}_scales": scales}
    return packed


def save_packed(model, folder, packed):
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()
               if not name.endswith(("experts.gate_up_proj", "experts.down_proj"))}
    save_file(weights | packed, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"architectures": ["GptOssForCausalLM"], "quantization_config": {"quant_method": "mxfp4"}}
    (folder / "config.json").write_text(json.dumps(config))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--llama-cpp", type=Path, required=True)
    arguments.add_argument("--only", default=",".join(FAMILIES))
    arguments.add_argument("out", nargs="?", type=Path, default=Path(__file__).parent)
    given = arguments.parse_args()
    sys.path[:0] = [str(given.llama_cpp), str(given.llama_cpp / "gguf-py")]
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)
    for name in given.only.split(","):
        make(name, given.out)


if __name__ == "__main__":
    main()
