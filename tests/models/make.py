#!/usr/bin/env python3
"""Writes the tiny models that the tests run: real GGUF files of real architectures, with random weights.

    pip install gguf numpy        (written with gguf 0.19 and numpy 2.4)
    python tests/models/make.py [FOLDER]

The same bytes every time: seeds are fixed, and numpy's RandomState never changes its stream. What the models say is
nonsense, but each next token depends on all the tokens before it, which is what the tests need. Weights are f32, so that
results hardly depend on how a prompt is split into batches. At temperature 0 the models with SentencePiece end by
themselves after some tens of tokens; the others go on for hundreds.

    llama-bpe.gguf   llama, byte-level BPE, ChatML template with a system role and <think>
    llama-spm.gguf   llama, SentencePiece with BOS and a space prefix; its template refuses a system role
    gemma3.gguf      gemma3, a sliding window of 64 in every other layer
    mamba.gguf       mamba, recurrent: nothing can be removed from its memory but everything
    falcon-h1.gguf   falcon-h1, a hybrid of attention and recurrence (Mamba 2) in each layer
    lfm2.gguf        lfm2, a hybrid: a layer of short convolutions, one of attention
    qwen35.gguf      qwen35, a hybrid: a layer of linear attention (gated delta net), one of attention
    base.gguf        gpt2 without a chat template, a table of 256 positions
    aborts.gguf      jamba with an impossible size: a sound file that makes llama.cpp abort while loading
"""

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

# What the vocabularies are learned from.
TEXT = """
The fire is low and the evening is long. Tell me a story, said the child, and the old man began to talk. There was once
a small house at the end of the road, where the river turns and the hills begin. In the house lived a woman who could
read the weather from the colour of the smoke. Every morning she opened the window and looked at the sky; every evening
she wrote down what she had seen. What is the answer to the question? Hello, how are you today? I would like to know
which of these is the best one, and why. Please write a short list of three things that you can do with water. The
answer is that there are many ways to do this, but the first thing to know is that it takes some time. You should
never think that it will be easy. He thought about it for a while, then he said: this is not what they were looking for.
The capital of France is Paris. The user asks a question and the assistant gives an answer. If you have read this far,
you can see that the words repeat, because a vocabulary is learned from words that come again and again and again.
"""

CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)

# The turns of Gemma 2, which knows no system role and insists on alternation.
TURNS = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


def pair_merges(words, count):
    """Byte-pair encoding: words (tuples of symbols) with their frequencies in, the `count` best merges out."""
    merges = []
    for _ in range(count):
        pairs = Counter()
        for word, frequency in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += frequency
        # Ties are broken by the text, so that the result does not depend on the order of a dictionary.
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        merged = Counter()
        for word, frequency in words.items():
            out = []
            for symbol in word:
                if out and (out[-1], symbol) == best:
                    out[-1] += symbol
                else:
                    out.append(symbol)
            merged[tuple(out)] += frequency
        words = merged
    return merges


def gpt2_alphabet():
    """GPT-2's printable stand-in for every byte, in the order of its vocabulary."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


class Vocabulary:
    """Tokens with their types and loudness: how large a token's row of weights is, hence how often it is said."""

    def __init__(self):
        self.tokens, self.types, self.scores, self.loudness = [], [], [], []

    def add(self, token, kind=TokenType.NORMAL, loudness=1.0, score=0.0):
        self.tokens.append(token)
        self.types.append(kind)
        self.scores.append(score)
        self.loudness.append(loudness)

    def __len__(self):
        return len(self.tokens)

    def write(self, out):
        out.add_token_list(self.tokens)
        out.add_token_types(self.types)


class Bpe(Vocabulary):
    """256 bytes, merges, then the markers."""

    def __init__(self, merges, markers):
        super().__init__()
        alphabet = gpt2_alphabet()
        for byte, symbol in alphabet.items():
            self.add(symbol, loudness=0.8 if 0x20 <= byte < 0x7F else 0.3)
        spell = lambda text: tuple(alphabet[byte] for byte in text.encode())
        words = Counter(spell(word) for word in re.findall(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+", TEXT))
        self.merges = pair_merges(words, merges)
        for left, right in self.merges:
            self.add(left + right)
        for token, kind, loudness in markers:
            self.add(token, kind, loudness)

    def write(self, out):
        out.add_tokenizer_model("gpt2")
        out.add_tokenizer_pre("gpt-2")
        super().write(out)
        out.add_token_merges([" ".join(pair) for pair in self.merges])
        out.add_add_bos_token(False)


class Spm(Vocabulary):
    """<unk> <s> </s>, the markers, 256 bytes, characters, then pieces in the order of their scores."""

    def __init__(self, merges, markers, space_prefix):
        super().__init__()
        self.space_prefix = space_prefix
        self.add("<unk>", TokenType.UNKNOWN, 0.2)
        self.add("<s>", TokenType.CONTROL, 0.2)
        self.add("</s>", TokenType.CONTROL)
        for token in markers:
            self.add(token, TokenType.CONTROL)
        for byte in range(256):
            self.add(f"<0x{byte:02X}>", TokenType.BYTE, 0.8 if byte == 0x0A else 0.3)
        words = Counter(tuple("▁" + word) for word in TEXT.split())
        letters = sorted({letter for word in words for letter in word} | set("0123456789'\"!()-+*/="))
        pieces = [left + right for left, right in pair_merges(words, merges)]
        for rank, piece in enumerate(pieces):
            self.add(piece, score=-float(rank))
        for rank, letter in enumerate(letters):
            self.add(letter, loudness=0.8, score=-float(len(pieces) + rank))

    def write(self, out):
        out.add_tokenizer_model("llama")
        out.add_tokenizer_pre("default")
        super().write(out)
        out.add_token_scores(self.scores)
        out.add_bos_token_id(1)
        out.add_eos_token_id(2)
        out.add_unk_token_id(0)
        out.add_add_bos_token(True)
        out.add_add_space_prefix(self.space_prefix)


class Model:
    """A file under construction. Tensors are named as in GGUF and given as llama.cpp prints them: inputs first."""

    def __init__(self, folder, file, arch, seed):
        self.out = GGUFWriter(folder / file, arch)
        self.out.add_name(f"tiny {file.removesuffix('.gguf')}")
        self.random = np.random.RandomState(seed)

    def tensor(self, name, values):
        self.out.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))

    def noise(self, *shape):
        return self.random.standard_normal(shape[::-1])

    def matrix(self, name, inputs, outputs, gain=1.0):
        """A linear map that turns numbers of size 1 into numbers of size `gain`."""
        self.tensor(f"{name}.weight", gain * self.noise(inputs, outputs) / np.sqrt(inputs))

    def ones(self, name, size, value=1.0):
        self.tensor(name, np.full(size, value))

    def embeddings(self, vocabulary, width, scale=1.0):
        """Input and output share one table. Random signs before the output keep a token from predicting itself."""
        rows = self.noise(width, len(vocabulary)) * np.array(vocabulary.loudness)[:, None]
        self.tensor("token_embd.weight", rows * scale)
        self.tensor("output_norm.weight", np.sign(self.noise(width)))

    def attention(self, block, width, heads, groups, length):
        self.matrix(f"{block}.attn_q", width, heads * length, gain=1.5)
        self.matrix(f"{block}.attn_k", width, groups * length, gain=1.5)
        self.matrix(f"{block}.attn_v", width, groups * length)
        self.matrix(f"{block}.attn_output", heads * length, width, gain=4.0)

    def gated(self, block, width, hidden):
        self.matrix(f"{block}.ffn_gate", width, hidden)
        self.matrix(f"{block}.ffn_up", width, hidden)
        self.matrix(f"{block}.ffn_down", hidden, width, gain=4.0)

    def sizes(self, context, width, blocks, hidden=0):
        self.out.add_context_length(context)
        self.out.add_embedding_length(width)
        self.out.add_block_count(blocks)
        self.out.add_feed_forward_length(hidden)

    def heads(self, count, groups, length):
        self.out.add_head_count(count)
        self.out.add_head_count_kv(groups)
        self.out.add_key_length(length)
        self.out.add_value_length(length)
        self.out.add_rope_dimension_count(length)
        self.out.add_rope_freq_base(10000.0)

    def close(self):
        self.out.write_header_to_file()
        self.out.write_kv_data_to_file()
        self.out.write_tensors_to_file()
        self.out.close()


def chatml_vocabulary(merges):
    markers = [
        ("<|endoftext|>", TokenType.CONTROL, 0.4),
        ("<|im_start|>", TokenType.CONTROL, 0.2),
        ("<|im_end|>", TokenType.CONTROL, 0.5),
        ("<think>", TokenType.USER_DEFINED, 0.4),
        ("</think>", TokenType.USER_DEFINED, 0.4),
    ]
    return Bpe(merges, markers)


def add_chatml(model, vocabulary):
    vocabulary.write(model.out)
    model.out.add_bos_token_id(vocabulary.tokens.index("<|endoftext|>"))
    model.out.add_eos_token_id(vocabulary.tokens.index("<|im_end|>"))
    model.out.add_chat_template(CHATML)


def llama(model, vocabulary):
    width, heads, groups, length, hidden, blocks = 64, 4, 2, 16, 48, 2
    model.sizes(4096, width, blocks, hidden)
    model.heads(heads, groups, length)
    model.out.add_layer_norm_rms_eps(1e-5)
    model.embeddings(vocabulary, width)
    for i in range(blocks):
        block = f"blk.{i}"
        model.ones(f"{block}.attn_norm.weight", width)
        model.attention(block, width, heads, groups, length)
        model.ones(f"{block}.ffn_norm.weight", width)
        model.gated(block, width, hidden)
    model.close()


def llama_bpe(folder):
    model = Model(folder, "llama-bpe.gguf", "llama", seed=1)
    vocabulary = chatml_vocabulary(merges=150)
    add_chatml(model, vocabulary)
    llama(model, vocabulary)


def llama_spm(folder):
    model = Model(folder, "llama-spm.gguf", "llama", seed=2)
    vocabulary = Spm(90, ["<start_of_turn>", "<end_of_turn>"], space_prefix=True)
    vocabulary.write(model.out)
    model.out.add_chat_template(TURNS)
    llama(model, vocabulary)


def gemma3(folder):
    model = Model(folder, "gemma3.gguf", "gemma3", seed=3)
    vocabulary = Spm(90, ["<start_of_turn>", "<end_of_turn>"], space_prefix=False)
    vocabulary.write(model.out)
    model.out.add_chat_template(TURNS)
    width, heads, groups, length, hidden, blocks = 64, 4, 1, 16, 48, 2
    model.sizes(4096, width, blocks, hidden)
    model.heads(heads, groups, length)
    model.out.add_layer_norm_rms_eps(1e-6)
    model.out.add_sliding_window(64)
    model.out.add_sliding_window_pattern(2)
    # gemma3 multiplies embeddings by the root of the width.
    model.embeddings(vocabulary, width, scale=1 / np.sqrt(width))
    for i in range(blocks):
        block = f"blk.{i}"
        model.ones(f"{block}.attn_norm.weight", width)
        model.attention(block, width, heads, groups, length)
        model.ones(f"{block}.attn_q_norm.weight", length, 1.5)
        model.ones(f"{block}.attn_k_norm.weight", length, 1.5)
        model.ones(f"{block}.post_attention_norm.weight", width, 4.0)
        model.ones(f"{block}.ffn_norm.weight", width)
        model.gated(block, width, hidden)
        model.ones(f"{block}.post_ffw_norm.weight", width, 3.0)
    model.close()


def mamba(folder):
    model = Model(folder, "mamba.gguf", "mamba", seed=4)
    vocabulary = chatml_vocabulary(merges=150)
    add_chatml(model, vocabulary)
    width, inner, state, rank, kernel, blocks = 48, 96, 8, 4, 4, 2
    model.sizes(4096, width, blocks)
    model.out.add_ssm_conv_kernel(kernel)
    model.out.add_ssm_inner_size(inner)
    model.out.add_ssm_state_size(state)
    model.out.add_ssm_time_step_rank(rank)
    model.out.add_layer_norm_rms_eps(1e-5)
    model.embeddings(vocabulary, width)
    for i in range(blocks):
        block = f"blk.{i}"
        model.ones(f"{block}.attn_norm.weight", width)
        model.matrix(f"{block}.ssm_in", width, 2 * inner, gain=1.5)
        model.tensor(f"{block}.ssm_conv1d.weight", model.noise(kernel, inner) / np.sqrt(kernel))
        model.tensor(f"{block}.ssm_conv1d.bias", 0.1 * model.noise(inner))
        model.matrix(f"{block}.ssm_x", inner, rank + 2 * state, gain=2.0)
        model.matrix(f"{block}.ssm_dt", rank, inner)
        model.ones(f"{block}.ssm_dt.bias", inner, -1.0)
        # How fast each part of the state forgets: from slowly to at once.
        model.tensor(f"{block}.ssm_a", np.tile(-np.linspace(0.05, 2.0, state), (inner, 1)))
        model.ones(f"{block}.ssm_d", inner)
        model.matrix(f"{block}.ssm_out", inner, width, gain=4.0)
    model.close()


def falcon_h1(folder):
    model = Model(folder, "falcon-h1.gguf", "falcon-h1", seed=5)
    vocabulary = chatml_vocabulary(merges=150)
    add_chatml(model, vocabulary)
    width, heads, groups, length, hidden, blocks = 48, 3, 1, 16, 32, 2
    inner, state, ssm_heads, ssm_groups, kernel = 64, 16, 4, 1, 4
    model.sizes(4096, width, blocks, hidden)
    model.heads(heads, groups, length)
    model.out.add_layer_norm_rms_eps(1e-5)
    model.out.add_ssm_conv_kernel(kernel)
    model.out.add_ssm_inner_size(inner)
    model.out.add_ssm_state_size(state)
    model.out.add_ssm_time_step_rank(ssm_heads)
    model.out.add_ssm_group_count(ssm_groups)
    model.embeddings(vocabulary, width)
    convolved = inner + 2 * ssm_groups * state
    for i in range(blocks):
        block = f"blk.{i}"
        model.ones(f"{block}.attn_norm.weight", width)
        model.attention(block, width, heads, groups, length)
        model.matrix(f"{block}.ssm_in", width, inner + convolved + ssm_heads)
        model.tensor(f"{block}.ssm_conv1d.weight", model.noise(kernel, convolved) / np.sqrt(kernel))
        model.tensor(f"{block}.ssm_conv1d.bias", 0.1 * model.noise(convolved))
        model.ones(f"{block}.ssm_dt.bias", ssm_heads, -1.0)
        model.tensor(f"{block}.ssm_a", -np.linspace(0.05, 2.0, ssm_heads)[:, None])
        model.tensor(f"{block}.ssm_d", np.ones((ssm_heads, 1)))
        model.matrix(f"{block}.ssm_out", inner, width, gain=4.0)
        # llama.cpp looks for this one without a suffix.
        model.ones(f"{block}.ffn_norm", width)
        model.gated(block, width, hidden)
    model.close()


def lfm2(folder):
    model = Model(folder, "lfm2.gguf", "lfm2", seed=8)
    vocabulary = chatml_vocabulary(merges=150)
    add_chatml(model, vocabulary)
    width, heads, groups, length, hidden, kernel = 48, 3, 1, 16, 32, 3
    model.sizes(4096, width, 2, hidden)
    model.heads(heads, [0, groups], length)
    model.out.add_layer_norm_rms_eps(1e-5)
    model.out.add_shortconv_l_cache(kernel)
    rows = model.noise(width, len(vocabulary)) * np.array(vocabulary.loudness)[:, None]
    model.tensor("token_embd.weight", rows)
    model.tensor("token_embd_norm.weight", np.sign(model.noise(width)))
    for block in ("blk.0", "blk.1"):
        model.ones(f"{block}.attn_norm.weight", width)
        model.ones(f"{block}.ffn_norm.weight", width)
        model.gated(block, width, hidden)
    model.matrix("blk.0.shortconv.in_proj", width, 3 * width)
    model.tensor("blk.0.shortconv.conv.weight", model.noise(kernel, width) / np.sqrt(kernel))
    model.matrix("blk.0.shortconv.out_proj", width, width, gain=4.0)
    model.attention("blk.1", width, heads, groups, length)
    model.ones("blk.1.attn_q_norm.weight", length, 1.5)
    model.ones("blk.1.attn_k_norm.weight", length, 1.5)
    model.close()


def qwen35(folder):
    model = Model(folder, "qwen35.gguf", "qwen35", seed=9)
    vocabulary = chatml_vocabulary(merges=150)
    add_chatml(model, vocabulary)
    width, heads, groups, length, hidden = 48, 3, 1, 16, 32
    state, key_heads, value_heads, kernel = 16, 2, 4, 4
    keys, values = state * key_heads, state * value_heads
    model.sizes(4096, width, 2, hidden)
    model.heads(heads, groups, length)
    model.out.add_rope_dimension_sections([3, 3, 2, 0])
    model.out.add_layer_norm_rms_eps(1e-5)
    model.out.add_ssm_conv_kernel(kernel)
    model.out.add_ssm_inner_size(values)
    model.out.add_ssm_state_size(state)
    model.out.add_ssm_time_step_rank(value_heads)
    model.out.add_ssm_group_count(key_heads)
    model.out.add_full_attention_interval(2)
    model.embeddings(vocabulary, width)
    for block in ("blk.0", "blk.1"):
        model.ones(f"{block}.attn_norm.weight", width)
        model.ones(f"{block}.post_attention_norm.weight", width)
        model.gated(block, width, hidden)
    model.matrix("blk.0.attn_qkv", width, 2 * keys + values)
    model.matrix("blk.0.attn_gate", width, values)
    model.tensor("blk.0.ssm_conv1d.weight", model.noise(kernel, 2 * keys + values) / np.sqrt(kernel))
    model.ones("blk.0.ssm_dt.bias", value_heads, -1.0)
    model.tensor("blk.0.ssm_a", -np.linspace(0.05, 2.0, value_heads))
    model.matrix("blk.0.ssm_beta", width, value_heads)
    model.matrix("blk.0.ssm_alpha", width, value_heads)
    model.ones("blk.0.ssm_norm.weight", state)
    model.matrix("blk.0.ssm_out", values, width, gain=4.0)
    # The query comes with a gate for each of its numbers.
    model.matrix("blk.1.attn_q", width, 2 * heads * length, gain=1.5)
    model.matrix("blk.1.attn_k", width, groups * length, gain=1.5)
    model.matrix("blk.1.attn_v", width, groups * length)
    model.matrix("blk.1.attn_output", heads * length, width, gain=4.0)
    model.ones("blk.1.attn_q_norm.weight", length, 1.5)
    model.ones("blk.1.attn_k_norm.weight", length, 1.5)
    model.close()


def base(folder):
    model = Model(folder, "base.gguf", "gpt2", seed=6)
    vocabulary = Bpe(150, [("<|endoftext|>", TokenType.CONTROL, 0.4)])
    vocabulary.write(model.out)
    end = vocabulary.tokens.index("<|endoftext|>")
    model.out.add_bos_token_id(end)
    model.out.add_eos_token_id(end)
    width, heads, hidden, context, blocks = 48, 3, 48, 256, 2
    model.sizes(context, width, blocks, hidden)
    model.out.add_head_count(heads)
    model.out.add_layer_norm_eps(1e-5)
    model.embeddings(vocabulary, width)
    model.ones("output_norm.bias", width, 0.0)
    model.tensor("position_embd.weight", model.noise(width, context))
    for i in range(blocks):
        block = f"blk.{i}"
        for norm in ("attn_norm", "ffn_norm"):
            model.ones(f"{block}.{norm}.weight", width)
            model.ones(f"{block}.{norm}.bias", width, 0.0)
        layers = [("attn_qkv", width, 3 * width, 1.5), ("attn_output", width, width, 3.0)]
        layers += [("ffn_up", width, hidden, 1.0), ("ffn_down", hidden, width, 4.0)]
        for name, inputs, outputs, gain in layers:
            model.matrix(f"{block}.{name}", inputs, outputs, gain)
            model.ones(f"{block}.{name}.bias", outputs, 0.0)
    model.close()


def aborts(folder):
    """llama.cpp asserts that jamba's inner size is twice its width. No check of the header knows that rule."""
    model = Model(folder, "aborts.gguf", "jamba", seed=7)
    vocabulary = Spm(1, [], space_prefix=True)
    vocabulary.write(model.out)
    model.sizes(256, 8, 1, 8)
    model.out.add_head_count(2)
    model.out.add_head_count_kv([0])
    model.out.add_layer_norm_rms_eps(1e-5)
    model.out.add_ssm_conv_kernel(4)
    model.out.add_ssm_inner_size(15)
    model.out.add_ssm_state_size(8)
    model.out.add_ssm_time_step_rank(1)
    model.embeddings(vocabulary, 8)
    model.close()


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for make in (llama_bpe, llama_spm, gemma3, mamba, falcon_h1, lfm2, qwen35, base, aborts):
        make(folder)


if __name__ == "__main__":
    main()
