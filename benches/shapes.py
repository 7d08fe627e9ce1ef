#!/usr/bin/env python3
"""GGUF files with random weights in the shapes of real models, for measurements of speed and memory.

    benches/shapes.py 8b|hybrid|long|gpt-oss-20b OUT.gguf [TOKENIZER.gguf]

    8b       Llama 3.1 8B in the types that Q4_K_M mixes: 5 GB
    hybrid   Falcon-H1 0.5B: attention and recurrence (Mamba 2) in each of 36 layers, Q4_K
    long     a Llama of 8 layers with a context of 32,768, Q4_K: one that reads 16,000 tokens in a minute
    gpt-oss-20b   a mixture of 32 experts, of which a token uses 4; MXFP4, the rest Q8_0: 12 GB

Tokenizer and chat template are those of TOKENIZER.gguf, a byte-level BPE one; the default model's if left out. Matrices are pieces of
one pool of random blocks. What a layer adds is tiny beside the embeddings, and the output matrix is the embedding matrix shifted along
a chain of words: the model does all the work of a real one, but says the same 4,000 words from anything that is none of them. So it
never ends an answer, nor repeats itself, and no kernel changes what it says.
"""

import math
import random
import re
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
F32, Q8_0, Q4_K, Q6_K, MXFP4 = 0, 8, 12, 14, 39
NOISE = -1  # F32 in the file, of random numbers in place of one number
BLOCK = {F32: (1, 4), NOISE: (1, 4), Q8_0: (32, 34), Q4_K: (256, 144), Q6_K: (256, 210), MXFP4: (32, 17)}  # numbers and bytes of a block
U32, F32_VALUE, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, U32: 4, 5: 4, F32_VALUE: 4, BOOL: 1, 10: 8, 11: 8, 12: 8}
POOL = 16 << 20
WORDS = 4000
chance = random.Random(1)


def metadata(path):
    """A file's metadata: name to type and value as bytes; arrays of strings as lists."""
    with open(path, "rb") as file:
        data = file.read(16 << 20)
    at = 16

    def number(form):
        nonlocal at
        at += struct.calcsize("<" + form)
        return struct.unpack_from("<" + form, data, at - struct.calcsize("<" + form))[0]

    def piece(length):
        nonlocal at
        at += length
        return data[at - length : at]

    def value(kind):
        if kind == STRING:
            return piece(number("Q"))
        if kind != ARRAY:
            return piece(SIZES[kind])
        of, count = number("I"), number("Q")
        return of, [piece(number("Q")) for _ in range(count)] if of == STRING else piece(count * SIZES[of])

    found = {}
    for _ in range(number("Q")):
        name = piece(number("Q")).decode()
        kind = number("I")
        found[name] = kind, value(kind)
    return found


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(value)) + value


def entry(name, kind, value):
    head = text(name) + struct.pack("<I", kind)
    if kind == STRING:
        return head + text(value)
    if kind == ARRAY:
        of, items = value
        if of == STRING:
            return head + struct.pack("<IQ", of, len(items)) + b"".join(map(text, items))
        return head + struct.pack("<IQ", of, len(items) // SIZES[of]) + items
    return head + (value if isinstance(value, bytes) else struct.pack("<f" if kind == F32_VALUE else "<I", value))


def random_blocks(kind, count, deviation):
    """Blocks with values of about this standard deviation."""
    if kind == NOISE:
        return struct.pack(f"<{count}f", *(chance.gauss(0, deviation) for _ in range(count)))
    size = BLOCK[kind][1]
    blocks = bytearray(chance.randbytes(count * size))
    half = lambda value: struct.pack("<e", value)
    scales = {
        Q8_0: {0: half(deviation / 74)},
        Q4_K: {0: half(deviation / 258), 2: half(deviation / 258 * 7.5)},
        Q6_K: {208: half(deviation / 1366)},
        MXFP4: {0: bytes([128 + round(math.log2(deviation / 5.9))])},  # a power of 2
    }
    for place, scale in scales[kind].items():
        for number, byte in enumerate(scale):
            blocks[place + number :: size] = bytes([byte]) * count
    return blocks


class Matrices:
    """Bytes for matrices: pieces of a pool, each time from another place."""

    def __init__(self):
        self.pools = {}

    def pieces(self, kind, length, deviation):
        size = BLOCK[kind][1]
        if (kind, deviation) not in self.pools:
            self.pools[kind, deviation] = memoryview(random_blocks(kind, POOL // size, deviation))
        pool = self.pools[kind, deviation]
        while length:
            start = chance.randrange(len(pool) // size // 2) * size
            piece = pool[start : start + length]
            length -= len(piece)
            yield piece


def row_bytes(kind, width):
    numbers, size = BLOCK[kind]
    assert width % numbers == 0, (kind, width)
    return width // numbers * size


def embeddings(kind, width, tokens):
    """The rows of the input and of the output matrix; see above."""
    chain = [id for id, token in enumerate(tokens) if re.fullmatch("Ġ[a-z]{3,}".encode(), token)][:WORDS]
    size = row_bytes(kind, width)
    rows = lambda count: random_blocks(kind, count * (size // BLOCK[kind][1]), 1.0)
    leads_to, noise, other = rows(len(chain)), rows(2048), rows(2048)
    half = size // BLOCK[kind][1] // 2 * BLOCK[kind][1]
    row = lambda of, number: of[number * size : (number + 1) * size]
    first = bytes(row(leads_to, 0)[:half])  # half the way to the first word
    ours = [first + row(noise, id % 2048)[half:] for id in range(len(tokens))]
    out = [row(other, id % 2048) for id in range(len(tokens))]
    for number, id in enumerate(chain):
        ours[id] = row(leads_to, (number + 1) % len(chain))
        out[id] = row(leads_to, number)
    return ours, out


def llama(width, hidden, heads, groups, length, layers, context, tokens):
    """Llama in the types that Q4_K_M mixes."""
    values = {
        "context_length": context, "embedding_length": width, "block_count": layers, "feed_forward_length": hidden,
        "attention.head_count": heads, "attention.head_count_kv": groups, "rope.dimension_count": length,
        "rope.freq_base": 500000.0, "attention.layer_norm_rms_epsilon": 1e-5,
    }
    usual = width**-0.5
    tensors = []
    for layer in range(layers):
        finer = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2  # as llama.cpp decides
        larger = Q6_K if finer else Q4_K
        tensors += in_block(layer, [
            ("attn_norm.weight", [width], F32, 1.0), ("ffn_norm.weight", [width], F32, 1.0),
            ("attn_q.weight", [width, heads * length], Q4_K, usual), ("attn_k.weight", [width, groups * length], Q4_K, usual),
            ("attn_v.weight", [width, groups * length], larger, usual), ("attn_output.weight", [heads * length, width], Q4_K, 1e-4),
            ("ffn_gate.weight", [width, hidden], Q4_K, usual), ("ffn_up.weight", [width, hidden], Q4_K, usual),
            ("ffn_down.weight", [hidden, width], larger, 1e-4),
        ])
    return "llama", width, tokens, values, tensors


def llama_8b():
    return llama(width=4096, hidden=14336, heads=32, groups=8, length=128, layers=32, context=131072, tokens=128256)


def long_llama():
    return llama(width=512, hidden=1536, heads=8, groups=4, length=64, layers=8, context=32768, tokens=49152)


def falcon_h1_half_b():
    width, hidden, heads, groups, length, layers = 1024, 2048, 8, 2, 64, 36
    inner, state, ssm_heads, kernel = 1536, 128, 24, 4
    convolved = inner + 2 * state
    values = {
        "context_length": 16384, "embedding_length": width, "block_count": layers, "feed_forward_length": hidden,
        "attention.head_count": heads, "attention.head_count_kv": groups, "attention.key_length": length,
        "attention.value_length": length, "rope.dimension_count": length, "rope.freq_base": 1e11,
        "attention.layer_norm_rms_epsilon": 1e-5, "ssm.conv_kernel": kernel, "ssm.inner_size": inner,
        "ssm.state_size": state, "ssm.time_step_rank": ssm_heads, "ssm.group_count": 1,
    }
    tensors = []
    for layer in range(layers):
        tensors += in_block(layer, [
            ("attn_norm.weight", [width], F32, 1.0), ("ffn_norm", [width], F32, 1.0),
            ("attn_q.weight", [width, heads * length], Q4_K, 1 / 32), ("attn_k.weight", [width, groups * length], Q4_K, 1 / 32),
            ("attn_v.weight", [width, groups * length], Q4_K, 1 / 32), ("attn_output.weight", [heads * length, width], Q4_K, 1e-4),
            ("ssm_in.weight", [width, inner + convolved + ssm_heads], Q4_K, 1 / 32), ("ssm_out.weight", [inner, width], Q4_K, 1e-5),
            ("ssm_conv1d.weight", [kernel, convolved], F32, 0.25), ("ssm_conv1d.bias", [convolved], F32, 0.0),
            ("ssm_dt.bias", [ssm_heads], F32, -1.0), ("ssm_a", [1, ssm_heads], F32, -0.5), ("ssm_d", [1, ssm_heads], F32, 1.0),
            ("ffn_gate.weight", [width, hidden], Q4_K, 1 / 32), ("ffn_up.weight", [width, hidden], Q4_K, 1 / 32),
            ("ffn_down.weight", [hidden, width], Q4_K, 1e-4),
        ])
    return "falcon-h1", width, 49152, values, tensors


def gpt_oss(layers, experts, tokens):
    """As openai/gpt-oss: attention in every second layer sees 128 tokens; a router of random numbers chooses the experts."""
    width, hidden, heads, groups, length = 2880, 2880, 64, 8, 64
    values = {
        "context_length": 131072, "embedding_length": width, "block_count": layers, "feed_forward_length": hidden,
        "expert_feed_forward_length": hidden, "expert_count": experts, "expert_used_count": 4,
        "attention.head_count": heads, "attention.head_count_kv": groups, "attention.key_length": length,
        "attention.value_length": length, "attention.sliding_window": 128, "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": length, "rope.freq_base": 150000.0,
    }
    usual = width**-0.5
    tensors = []
    for layer in range(layers):
        tensors += in_block(layer, [
            ("attn_norm.weight", [width], F32, 1.0), ("post_attention_norm.weight", [width], F32, 1.0),
            ("attn_q.weight", [width, heads * length], Q8_0, usual), ("attn_q.bias", [heads * length], F32, 0.0),
            ("attn_k.weight", [width, groups * length], Q8_0, usual), ("attn_k.bias", [groups * length], F32, 0.0),
            ("attn_v.weight", [width, groups * length], Q8_0, usual), ("attn_v.bias", [groups * length], F32, 0.0),
            ("attn_output.weight", [heads * length, width], Q8_0, 1e-4), ("attn_output.bias", [width], F32, 0.0),
            ("attn_sinks.weight", [heads], F32, 0.0),
            ("ffn_gate_inp.weight", [width, experts], NOISE, usual), ("ffn_gate_inp.bias", [experts], F32, 0.0),
            ("ffn_gate_exps.weight", [width, hidden, experts], MXFP4, usual), ("ffn_gate_exps.bias", [hidden, experts], F32, 0.0),
            ("ffn_up_exps.weight", [width, hidden, experts], MXFP4, usual), ("ffn_up_exps.bias", [hidden, experts], F32, 0.0),
            ("ffn_down_exps.weight", [hidden, width, experts], MXFP4, 1e-4), ("ffn_down_exps.bias", [width, experts], F32, 0.0),
        ])
    return "gpt-oss", width, tokens, values, tensors


def gpt_oss_20b():
    return gpt_oss(layers=24, experts=32, tokens=201088)


def in_block(layer, tensors):
    return [(f"blk.{layer}.{name}", *rest) for name, *rest in tensors]


SHAPES = {"8b": llama_8b, "hybrid": falcon_h1_half_b, "long": long_llama, "gpt-oss-20b": gpt_oss_20b}


def make(shape, path, tokenizer=TOKENIZER):
    """Writes the file, under another name until it is complete."""
    arch, width, vocabulary, values, tensors = SHAPES[shape]()
    kept = {name: value for name, value in metadata(tokenizer).items() if name.startswith("tokenizer.")}
    tokens = kept["tokenizer.ggml.tokens"][1][1]
    missing = vocabulary - len(tokens)
    tokens += [b"[UNUSED_%d]" % number for number in range(missing)]
    kind, (of, types) = kept["tokenizer.ggml.token_type"]
    kept["tokenizer.ggml.token_type"] = kind, (of, types + struct.pack("<i", 5) * missing)
    kept.pop("tokenizer.ggml.scores", None)
    entries = {"general.architecture": (STRING, arch), "general.name": (STRING, f"Random weights, {shape}")}
    entries |= {f"{arch}.{name}": (F32_VALUE if isinstance(value, float) else U32, value) for name, value in values.items()}
    entries |= kept
    coded = Q6_K if width % BLOCK[Q6_K][0] == 0 else Q8_0
    tables = dict(zip(("token_embd.weight", "output.weight"), embeddings(coded, width, tokens)))
    tensors = [(name, [width, vocabulary], coded, None) for name in tables] + tensors
    tensors.append(("output_norm.weight", [width], F32, 25 / width))
    infos, sizes = b"", []
    for name, shape_of, kind, _ in tensors:
        infos += text(name) + struct.pack(f"<I{len(shape_of)}Q", len(shape_of), *shape_of)
        infos += struct.pack("<IQ", F32 if kind == NOISE else kind, sum(sizes))
        sizes.append((row_bytes(kind, shape_of[0]) * math.prod(shape_of[1:]) + 31) // 32 * 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    head += b"".join(entry(name, *value) for name, value in entries.items()) + infos
    part, matrices = Path(f"{path}.part"), Matrices()
    with open(part, "wb") as out:
        out.write(head + bytes(-len(head) % 32))
        for (name, shape_of, kind, value), size in zip(tensors, sizes):
            if name in tables:
                written = out.write(b"".join(tables.pop(name)))
            elif kind == F32:
                written = out.write(struct.pack("<f", value) * math.prod(shape_of))
            else:
                length = row_bytes(kind, shape_of[0]) * math.prod(shape_of[1:])
                written = sum(out.write(piece) for piece in matrices.pieces(kind, length, value))
            out.write(bytes(size - written))
    part.rename(path)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in SHAPES:
        sys.exit(__doc__)
    make(*sys.argv[1:])
