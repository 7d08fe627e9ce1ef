"""The rows of benches/rivals on models with random weights: a hybrid one, one of 8 billion parameters, and large ones on a GPU.

On the large ones everything takes long, so there are few pairs, and beside each ratio stands a bound: how long it takes only to
copy the file once from the system's cache, or to the GPU; or only to read for each token what it reads, at the speed of the memory.
"""

import json
import os
import re
import statistics
import time
from pathlib import Path

import shapes

FOLDER = shapes.ROOT / "target/shapes"
STORY = "Once upon a time, in a small village by the sea, there lived"
TUNED = ["-c", "512", "--no-warmup", "-fit", "off"]
# llama.cpp's tools take the model's whole context unless told otherwise: 16 GiB of KV cache.
AS_THEY_COME = 36 << 30


def model(shape):
    """The path of a model of this shape, made when there is none."""
    path = FOLDER / f"{shape}.gguf"
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        print(f"making {path}", flush=True)
        shapes.make(shape, path)
    return str(path)


def undo_and_edit(bench):
    """HU, HE. llama.cpp's own tools evaluate everything again."""
    chat = bench.chat_of_19_turns("undone")
    prompts = []

    def undone(exchanges, question):
        """Undoes some exchanges and asks; the seconds to the first of the answer."""
        for _ in range(exchanges):
            chat.command("/undo", "removed: ")
        time.sleep(1.0)
        seconds = chat.ask(question)
        prompts.append(chat.prompt_tokens()[0])
        return seconds

    undo = [undone(1, f"{number}. Which of these lamps is yours?") for number in range(bench.pairs)]
    edit = [undone(3, f"{number}. Which of these lamps would you take?") for number in range(bench.pairs)]
    chat.leave()
    whole = [prompt / bench.llama_bench(prompt=prompt) for prompt in prompts]
    bench.row("HU", "undo and another question, against evaluating the prompt", list(zip(undo, whole)), 0.15)
    bench.row("HE", "edit of the third message from the end, against the same", list(zip(edit, whole[bench.pairs :])), 0.15)


def stopping(bench):
    """W14: Ctrl-C in the middle of reading a prompt."""
    words = ["--raw", "-n", "1", "--no-prompt-cache", "-p"]
    begun, whole = (bench.ours(*words, " house" * count)[0] for count in (1, 1024))
    places = [0.1 + 0.7 * number / bench.pairs for number in range(bench.pairs)]
    times = [bench.interrupted(*words, " house" * 1024, after=begun + (whole - begun) * place) for place in places]
    times = [seconds for seconds in times if seconds is not None]
    bench.row("W14", "from Ctrl-C while it reads to its end, against 0.3 s", [(seconds, 0.3) for seconds in times], 1.0)


HYBRID = {
    "H6": lambda bench: bench.on("hybrid", "H").later_questions(),
    "H8": lambda bench: bench.on("hybrid", "H").w8(),
    "H9": lambda bench: bench.on("hybrid", "H").w9(),
    "HU": lambda bench: undo_and_edit(bench.on("hybrid", "H")),
    "H14": lambda bench: stopping(bench.on("hybrid", "H")),
}


def bound(what, seconds):
    print(f"     {what:62} {seconds:8.3f}", flush=True)


def start(bench):
    """B1, B10: to the first token, and the peak memory of that."""
    ours = lambda: bench.ours("--raw", "-p", "Hello", "-n", "1", "--no-prompt-cache")
    chatting = lambda: bench.ours("-p", "Hello", "-n", "1", "--no-prompt-cache")
    rivals = {
        "llama-completion tuned by hand": (ours, lambda: bench.completion("-p", "Hello", "-n", "1", *TUNED)),
        "llama-cli tuned by hand": (chatting, lambda: bench.cli("-p", "Hello", "-n", "1", *TUNED)),
    }
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") > AS_THEY_COME:
        rivals["llama-completion as it comes"] = ours, lambda: bench.completion("-p", "Hello", "-n", "1")
        rivals["llama-cli as it comes"] = chatting, lambda: bench.cli("-p", "Hello", "-n", "1")
    else:
        print("     the tools as they come: not on this machine, they take 26 GiB of memory", flush=True)
    for rival, (ours, theirs) in rivals.items():
        pairs = bench.alternate(ours, theirs)
        bench.row("B1", f"start to one token, against {rival}", [(a[0], b[0]) for a, b in pairs], 0.9)
        bench.row("B10", "the same, peak memory", [(a[1], b[1]) for a, b in pairs], 0.6, "MiB")
    bound("bound: copying the cached file once", copying(bench.model))


def copying(path):
    """Seconds to copy a file once from the system's cache."""
    piece = bytearray(16 << 20)
    with open(path, "rb", buffering=0) as file:
        started = time.perf_counter()
        while file.readinto(piece):
            pass
        return time.perf_counter() - started


def reading(bench):
    """B3. The text varies, so that all experts of a mixture work."""
    text = (bench.folder / "document.txt").read_text()[:1400]
    told = lambda: bench.told("--raw", "-p", text, "-n", "1", "--no-prompt-cache")
    tokens = told()["tokens"]["prompt"]
    pairs = bench.alternate(lambda: told()["speed"]["prompt"], lambda: bench.llama_bench(prompt=tokens))
    bench.row("B3", f"read {tokens} tokens, against llama-bench", pairs, 0.98, "t/s", more_is_better=True)


def writing(bench):
    """B2, at depth 0 and 1,024. The deeper prompt comes out of the prompt cache."""
    for depth, prompt in (0, STORY), (1024, " house" * 1024):
        words = ["--raw", "-p", prompt, "-n", "32", "--no-speculative"]
        ours = lambda: bench.told(*words)["speed"]["generation"]
        pairs = bench.alternate(ours, lambda: bench.llama_bench(write=32, depth=depth))
        bench.row("B2", f"write 32 tokens at depth {depth}, against llama-bench", pairs, 0.98, "t/s", more_is_better=True)
    bench.against_mistralrs("B2", STORY, 16)
    most = statistics.median(bandwidth(bench) for _ in range(3)) / read_a_token(bench)
    bound("bound: tokens a second at the speed of the memory", most)


def bandwidth(bench):
    """Bytes a second of main memory, as `fireside bench` measures them with a small model."""
    small = [bench.program, "bench", "-m", str(shapes.TOKENIZER), "-c", "256", "--json"]
    return json.loads(bench.run(small, bench.home)[2])["bandwidth"]


def read_a_token(bench):
    """Bytes of weights that a token reads: neither the embeddings nor experts that it does not use."""
    shown = json.loads(bench.run([bench.program, "show", bench.model, "--json"], bench.home)[2])
    return sum(device["read"] for device in shown["memory"]["plan"]["devices"])


def resuming(bench):
    """B7: a stored chat of some 1,000 tokens."""
    file = bench.folder / "document.txt"
    file.write_text(file.read_text()[:2600])
    talked = bench.new_home("talked")
    bench.chat_about(talked, str(file))
    ours = lambda: bench.continued(talked, "Why is that so?")
    pairs = bench.alternate(ours, lambda: bench.completion("-f", str(file), "-n", "1", "-c", "2048", "--no-warmup", "-fit", "off"))
    assert all(a["tokens"]["cached"] > 500 for a, _ in pairs), "nothing was restored"
    bench.row("B7", "continue a stored chat of 1,000 tokens, against llama-completion", [(a["wall"], b[0]) for a, b in pairs], 0.15)


BIG = {"B1": start, "B3": reading, "B2": writing, "B7": resuming, "B14": stopping}


# GPUs. Reading is measured twice: in a process of its own, which also loads the driver's code, and warm, as `fireside bench` does.

MIB_FREE = "4096"  # what the last row leaves of the GPU's memory
GOALS = {"gpt-oss-20b": 0.95}  # of reading and writing; 0.98 for others


def compare(bench, name, what, ours, rival, theirs, goal, unit="s", more_is_better=False):
    """A row, or without the rival only what fireside does."""
    if bench.has_tools():
        bench.row(name, f"{what}, against {rival}", bench.alternate(ours, theirs), goal, unit, more_is_better)
    else:
        bound(f"{name}   {bench.about}{what}", statistics.median(ours() for _ in range(bench.pairs)))


def gpu_start(bench):
    """G1: to the first token. No program can avoid starting the driver and copying the weights."""
    words = ["--raw", "-p", "Hello", "-n", "1", "--no-prompt-cache"]
    ours = lambda: bench.ours(*words)[0]
    theirs = lambda: bench.completion("-p", "Hello", "-n", "1", *TUNED)[0]
    bound("the first start ever, with a trial of the file", bench.first)
    compare(bench, "G1", "start to one token", ours, "llama-completion tuned by hand", theirs, 1.0)
    driver = statistics.median(bench.run([bench.program, "--list-devices"], bench.home)[0] for _ in range(bench.pairs))
    filling = min(device["filling"] for device in bench.measured()["devices"])
    least = driver + Path(bench.model).stat().st_size / filling
    what = f"the same, against starting the driver ({driver:.3f} s) and copying at {filling / 1e9:.1f} GB/s"
    bench.row("G1", what, [(ours(), least) for _ in range(bench.pairs)], 1.2)


def gpu_writing(bench):
    """G2."""
    words = ["--raw", "-p", STORY, "-n", "128", "--no-speculative"]
    ours, theirs = lambda: bench.told(*words)["speed"]["generation"], lambda: bench.llama_bench(write=128)
    compare(bench, "G2", "write 128 tokens", ours, "llama-bench", theirs, goal(bench), "t/s", True)
    devices = bench.measured()["devices"]
    bound("bound: tokens a second at the speed of the memory", 1 / sum(each["read"] / each["bandwidth"] for each in devices))


def gpu_reading(bench):
    """G3, cold and warm."""
    text = (bench.folder / "document.txt").read_text()
    cold = lambda: bench.told("--raw", "-p", text, "-n", "1", "--no-prompt-cache")
    tokens = cold()["tokens"]["prompt"]
    ours = lambda: cold()["speed"]["prompt"]
    compare(bench, "G3", f"read {tokens:,} tokens, cold", ours, "llama-bench, warm", lambda: best_reading(bench, tokens), goal(bench), "t/s", True)
    for number, run in enumerate(bench.measured()["runs"]):
        tokens = run["depth"]
        if tokens > 1000:
            ours = lambda: bench.measured()["runs"][number]["prefill"]
            compare(bench, "G3", f"read {tokens:,} tokens, warm", ours, "llama-bench", lambda: best_reading(bench, tokens), goal(bench), "t/s", True)


def best_reading(bench, tokens):
    """llama-bench's better one of two sizes of batches."""
    return max(bench.llama_bench(prompt=tokens, more=["-ub", size]) for size in ("512", "1024"))


def gpu_with_little_memory(bench):
    """G4: as if another program held the rest. llama-bench puts as much there as fireside has chosen."""
    words = ["--raw", "-p", STORY, "-n", "32", "--no-speculative"]
    run = lambda: bench.told(*words, FIRESIDE_TEST_GPUS=MIB_FREE)
    device = run()["model"]["device"]
    layers, _, experts = re.search(r"(\d+) of (\d+) layers(?:, experts of (\d+))?", device).groups("0")
    theirs = lambda: bench.llama_bench(write=32, more=["-ngl", layers, "-ncmoe", experts])
    where = f"write 32 tokens with {MIB_FREE} MiB of the GPU, {layers} layers there but for {experts} layers' experts"
    compare(bench, "G4", where, lambda: run()["speed"]["generation"], "llama-bench with as many", theirs, goal(bench), "t/s", True)


def goal(bench):
    return GOALS.get(Path(bench.model).stem, 0.98)


GPU = {"G1": gpu_start, "G2": gpu_writing, "G3": gpu_reading, "G4": gpu_with_little_memory}
