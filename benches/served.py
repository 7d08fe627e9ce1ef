"""The cost of other machines: fireside --server against the same llama-server asked by curl, with the same request; and a worker
on this machine (--rpc) against the same model without it."""

import json
import os
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

TOKENS = 64
PROMPT = "Tell me a story about a lighthouse keeper who finds a message in a bottle."


@contextmanager
def served(tool, model, threads):
    """The URL of a llama-server with this model."""
    words = [str(tool), "--model", model, "--port", "0", "--parallel", "1", "--threads", threads, "--ctx-size", "2048"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "listening on " in line:
                break
        threading.Thread(target=process.stderr.read, daemon=True).start()  # it never waits for a reader
        yield line.split("listening on ")[1].strip()
    finally:
        process.kill()
        process.wait()


def streamed(command, home, marks):
    """Seconds to the first text, and tokens a second after it. `marks`: what stands before text in the output."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out, first = b"", None
    while piece := os.read(process.stdout.fileno(), 1 << 16):
        out += piece
        if first is None and marks in out:
            first = time.perf_counter() - started
    process.wait()
    total = time.perf_counter() - started
    return first, (TOKENS - 1) / (total - first)


def remote_path(bench, tools, threads):
    with served(tools / "llama-server", bench.model, threads) as url:
        ours = [bench.program, "--server", url, "-p", PROMPT, "--temp", "0", "-n", str(TOKENS), "-s", "1"]
        body = {
            "model": "", "stream": True, "temperature": 0, "max_tokens": TOKENS, "seed": 1, "cache_prompt": True,
            "messages": [{"role": "user", "content": PROMPT}],
        }
        question = Path(bench.folder) / "question.json"
        question.write_text(json.dumps(body))
        curl = ["curl", "-sN", "-H", "content-type: application/json", "-d", f"@{question}", f"{url}/v1/chat/completions"]
        pairs = bench.alternate(lambda: streamed(ours, bench.home, b""), lambda: streamed(curl, bench.home, b'"content":"'))
    bench.row("SRV", "first text of a server, against curl (goal: and 2 ms)", [(a[0], b[0] + 0.002) for a, b in pairs], 1.05)
    bench.row("SRV", f"write {TOKENS} tokens of a server, against curl", [(a[1], b[1]) for a, b in pairs], 0.95, "t/s", more_is_better=True)


@contextmanager
def lent(program, home, threads):
    """The address of a worker on this machine."""
    words = [program, "worker", "--listen", "127.0.0.1:0", "--threads", threads]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in process.stdout:
            if line.startswith("lending "):
                break
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield line.rsplit(" at ", 1)[1].strip()
    finally:
        process.terminate()
        process.wait()


def loopback(bench, threads):
    """A worker's weights are not repacked for its processor, so neither are the others."""
    words = ["--no-repack", "--no-speculative", "--no-prompt-cache", "-n", str(TOKENS), "-p", 20 * PROMPT]
    with lent(bench.program, bench.home, threads) as address:
        pairs = bench.alternate(lambda: bench.told("--rpc", address, *words), lambda: bench.told(*words))
    for what, name in (("read a prompt", "prompt"), (f"write {TOKENS} tokens", "generation")):
        speeds = [(a["speed"][name], b["speed"][name]) for a, b in pairs]
        bench.row("RPC", f"{what} on a worker on this machine, against without", speeds, 0.8, "t/s", more_is_better=True)
