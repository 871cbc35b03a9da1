"""Attack every door of kvplan with what strangers send, for a bounded time: `python tools/attack.py --seconds 600 --seed 1`.

Each door takes one input and must give an answer or one printable sentence (a `KvplanError`), in bounded time. Structured
inputs come from real ones by mutation: a key taken out, renamed, set to a nasty value; bytes flipped, cut, repeated.
Prints what was tried a door and the slowest, and exits 1 on a finding; the seed and number of each are printed, and
`--only DOOR --seed N --input I` repeats one. A new door is a function and a row in `DOORS`.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kvplan.errors import KvplanError  # noqa: E402

MOST_SECONDS = 10.0  # of processor time, for one input
CONFIGS = ROOT / "tests" / "configs" / "hf"
GOLDEN = ROOT / "tests" / "golden"

NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7,
    2**31 - 1, 2**31, 2**53, 2**63, 2**64, 10**18, 10**30, -(2**40), 0.0, 0.5, -0.5, 1e308,
    float("nan"), float("inf"),
    "", "x", "auto", "none", "0", "1e9", "\x1b[31mred", "\u202e\u2028\0", "a" * 300, "../../x", "$(id)",
    "=1+1",
    [], [1], [[]], [None] * 9, ["full_attention"] * 3, [0] * 40, [10**30], {}, {"a": 1}, {"rope_type": {}}, {"factor": "x"},
    [["global", "local"], 12], "full_attention", "float64", "torch.float8",
)  # fmt: skip


class Door:
    """One way in: what it makes of a random source, and what it does with it."""

    def __init__(self, make: Callable[[random.Random], Any], enter: Callable[[Any], object]) -> None:
        self.make = make
        self.enter = enter
        self.tried = 0
        self.slowest = 0.0
        self.answers = 0


def mutated(r: random.Random, data: Any, *, changes: int | None = None) -> Any:
    """A copy of a JSON value with some of its parts replaced, removed, renamed or repeated."""
    copy = json.loads(json.dumps(data))
    for _ in range(r.choice((1, 1, 1, 2, 3, 6)) if changes is None else changes):
        spots = list(_spots(copy))
        if not spots:
            break
        holder, key = r.choice(spots)
        how = r.random()
        if how < 0.6:
            holder[key] = deepcopy(r.choice(NASTY))
        elif how < 0.75 and isinstance(holder, dict):
            holder.pop(key)
        elif how < 0.85 and isinstance(holder, dict):
            holder[r.choice((str(key) + "x", str(key).upper(), "\x1b" + str(key)))] = holder.pop(key)
        elif isinstance(holder[key], list):
            holder[key] = holder[key] * r.choice((0, 2, 40))
        elif isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * r.choice((0, -1, 2, 3, 1000, 10**9)) + r.choice((-1, 0, 1))
        else:
            holder[key] = [holder[key]]
    return copy


def _spots(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    if depth > 6:
        return
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs)[:200]:
        yield value, key
        yield from _spots(inner, depth + 1)


def flipped(r: random.Random, raw: bytes) -> bytes:
    """Bytes with some changed, cut, repeated, or a number made huge."""
    data = bytearray(raw)
    for _ in range(r.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        at, how = r.randrange(len(data)), r.random()
        if how < 0.5:
            data[at] = r.randrange(256)
        elif how < 0.65:
            del data[at:]
        elif how < 0.8:
            data[at:at] = data[at : at + r.choice((1, 8, 64))]
        else:
            data[at : at + 8] = struct.pack("<Q", r.choice((0, 1, 2**16, 2**31, 2**32, 2**60, 2**63, 2**64 - 1)))
    return bytes(data)


# Inputs to begin with, read once.


@cache
def configs() -> list[dict[str, Any]]:
    """Small real configs of many families."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(CONFIGS.glob("*.json")):
        if path.stat().st_size < 20_000:
            data = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(data, dict):
                found.setdefault(str(data.get("model_type")), data)
    return list(found.values())


@cache
def headers() -> list[bytes]:
    """Real GGUF headers."""
    return [path.read_bytes() for path in sorted((GOLDEN / "gguf").glob("*.gguf"))]


@cache
def lines(name: str) -> list[dict[str, Any]]:
    """Recorded cases of one file."""
    return [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[::7]]


# Doors.


def _engines() -> tuple[str, ...]:
    from kvplan.engines import PREDICTED

    return PREDICTED


def make_config(r: random.Random) -> Any:
    """A mutated hub config, an engine, and sometimes an option of it with a nasty value."""
    from kvplan.engines import option_names

    engine = r.choice(_engines())
    options = {r.choice(sorted(option_names(engine))): r.choice(NASTY)} if r.random() < 0.3 else {}
    return mutated(r, r.choice(configs())), engine, r.choice((1, 17, 4096, 131072, 2**40)), options, r.random() < 0.2


def enter_config(given: Any) -> object:
    """Estimate it."""
    import kvplan

    config, engine, seq_len, options, infer = given
    return kvplan.estimate(config, seq_len=seq_len, engine=engine, infer=infer, **options)


def make_gguf(r: random.Random) -> bytes:
    """A mutated GGUF header."""
    return flipped(r, r.choice(headers()))


def enter_gguf(raw: bytes) -> object:
    """Read it as a file, and estimate."""
    import kvplan

    return kvplan.estimate(_file(raw, ".gguf"), seq_len=4096, engine="llama.cpp")


INSTALL: dict[str, Any] = {
    "schemaVersion": 2,
    "config": {"digest": "sha256:" + "c" * 64, "size": 9},
    "layers": [
        {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": "sha256:" + letter * 64, "size": 9}
        for kind, letter in (("model", "a"), ("params", "b"), ("draft", "a"))
    ],
}
SAID: dict[str, Any] = {"model_family": "llama", "model_families": ["llama"], "num_ctx": 4096, "num_gpu": 3, "use_mmap": False}


def make_install(r: random.Random) -> Any:
    """A manifest of a local install, mutated, and the blobs that it names."""
    texts = [json.dumps(mutated(r, what, changes=r.choice((0, 1, 3)))).encode() for what in (INSTALL, SAID, SAID)]
    return [flipped(r, text) if r.random() < 0.1 else text for text in texts], r.choice(headers())


def enter_install(given: Any) -> object:
    """Estimate the model by its name."""
    import os

    import kvplan

    (manifest, config, parameters), gguf = given
    models = Path(_FOLDER.name) / "models"
    place = models / "manifests" / "registry.ollama.ai" / "library" / "x"
    for folder in (place, models / "blobs"):
        folder.mkdir(parents=True, exist_ok=True)
    (place / "1").write_bytes(manifest)
    for letter, data in (("a", gguf), ("b", parameters), ("c", config)):
        (models / "blobs" / f"sha256-{letter * 64}").write_bytes(data)
    os.environ["OLLAMA_MODELS"] = str(models)
    try:
        return kvplan.estimate("x:1", engine="ollama")
    finally:
        del os.environ["OLLAMA_MODELS"]


def make_safetensors(r: random.Random) -> bytes:
    """A mutated safetensors header."""
    entry = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}
    header = json.dumps(mutated(r, {"a": entry, "b": {**entry, "data_offsets": [12, 24]}, "__metadata__": {"format": "pt"}}))
    raw = struct.pack("<Q", len(header)) + header.encode() + b"\0" * 24
    return flipped(r, raw) if r.random() < 0.5 else raw


def enter_safetensors(raw: bytes) -> object:
    """Sum its tensors."""
    from kvplan.loading.weights.safetensors import header_bytes

    return header_bytes(_file(raw, ".safetensors"))


DESCRIPTION: dict[str, Any] = {
    "name": "acme/hybrid", "dtype": "bfloat16", "pattern": 2,
    "layers": [
        {"repeat": 3, "of": {"type": "recurrent", "states": [{"name": "c", "shape": [9, 4]}, {"name": "s", "shape": [4, 8]}]}},
        {"type": "softmax", "kv_heads": 2, "key_dim": 64, "value_dim": 64, "sliding_window": 128},
    ],
}  # fmt: skip
PLAN: dict[str, Any] = {
    "gpu": "h100-80gb:2",
    "members": [
        {"name": "chat", "model": "llama-3.1-8b", "engine": "vllm", "context": "8k", "users": 4, "kv_dtype": "fp8"},
        {"name": "side", "weights": "2GB", "cache": "1GB", "engine": "sglang", "share": 0.1},
    ],
}  # fmt: skip


def make_description(r: random.Random) -> Any:
    """A mutated description, and an engine."""
    return mutated(r, DESCRIPTION), r.choice(_engines())


def enter_description(given: Any) -> object:
    """Estimate it."""
    import kvplan

    return kvplan.estimate(given[0], seq_len=5000, engine=given[1])


def make_plan(r: random.Random) -> Any:
    """A mutated plan."""
    return mutated(r, PLAN)


def enter_plan(plan: Any) -> object:
    """Answer it."""
    import kvplan

    if not isinstance(plan, dict):
        return None
    return kvplan.committee(plan).to_dict()


def make_case(r: random.Random) -> Any:
    """A mutated recorded case."""
    name = r.choice(sorted(path.stem for path in GOLDEN.glob("*.jsonl") if path.stat().st_size < 8_000_000))
    return mutated(r, r.choice(lines(name)))


def enter_case(case: Any) -> object:
    """Audit it; nothing that a record holds raises."""
    import kvplan

    if not isinstance(case, dict):
        return None
    return json.dumps(kvplan.audit(case).to_dict(), allow_nan=False)


MEDIA_WORDS = (
    "1x1x1", "4x1024x1024", "1x65536x65536", "0x1x1", "1x1x65536", "9999x1x1", "1x0x3", "x", "1x1", "60s@1fps@720x1280",
    "1f@1fps@1x1", "1000000f@1000fps@1x65536", "1m@0.01fps@9x9", "30s", "0.0001s", "999999s", "-1s", "1e9s", "2x30s", "", ",",
    "1x1x1,",
)  # fmt: skip


def make_media(r: random.Random) -> Any:
    """A mutated processor and config of a family, media as they are typed, and vLLM's own options for them."""
    case = r.choice([line for line in lines("image_tokens") if line["engine"] == "transformers"])
    words = [
        r.choice(MEDIA_WORDS) if r.random() < 0.6 else "".join(r.choices("0123456789x@fps.m,s ", k=r.randrange(1, 24)))
        for _ in range(3)
    ]
    kwargs = mutated(r, {"max_pixels": 1003520, "min_pixels": 3136, "size": {"longest_edge": 50176}, "dynamic_hd": 4})
    limits = mutated(r, {"image": 2, "video": 0})
    return [case["family"], mutated(r, case["config"]), mutated(r, case["preprocessor"]), words, kwargs, limits]


def enter_media(given: Any) -> object:
    """Read the processor, and what the media cost in it; then through a model of the catalogue in every engine that counts."""
    from kvplan.architectures.media import family_of, processor
    from kvplan.domain.media.asked import parse_media
    from kvplan.loading import load
    from kvplan.questions.media import costed, used

    family, config, files, words, kwargs, limits = given
    names = [{"images": words[0]}, {"video": words[1]}, {"audio": words[2]}]
    media = []
    for name in names:
        try:
            media.append(parse_media(**name))
        except KvplanError:
            continue
    said = []
    row = family_of(family)
    if row is not None and isinstance(config, dict) and isinstance(files, dict):
        found = processor(row, config, files)
        for one in media:
            try:
                said.append(costed(found, one, row).tokens)
            except KvplanError as problem:
                said.append(str(problem))
    model = load("qwen2.5-vl-7b")
    options = {"mm_processor_kwargs": json.dumps(kwargs), "limit_mm_per_prompt": json.dumps(limits)}
    for one in media:
        for engine, told in (("vllm", options), ("llama.cpp", {}), ("transformers", {})):
            said.append(json.dumps(used(model, one, engine, told).to_dict(), allow_nan=False))
    return said


def make_log(r: random.Random) -> bytes:
    """Lines of logs, mutated and mixed."""
    text = "\n".join(line for case in lines("fieldlogs") for line in str(case.get("note", case)).splitlines()[:20])
    words = [
        "Initializing a V1 LLM engine (v0.11.0) with config: model='x', max_seq_len=16", "Available KV cache memory: 9.99 GiB",
        "GPU KV cache size: 999,999 tokens", "llama_context:", "llama_kv_cache: size = 1.00 MiB ( 256 cells, 1 layers, 1/1 seqs)",
        'msg="starting runner" cmd="ollama runner --ollama-engine --model x"', 'msg="kv cache" device=CUDA0 size="1.0 GiB"',
        'msg=load request="{Operation:commit L:[] Parallel:2 BatchSize:512 FlashAttention:true KvSize:8192 KvCacheType:q8_0 N:1"',
    ]  # fmt: skip
    picked = [r.choice((*words, *text.splitlines()[:400])) for _ in range(r.choice((1, 5, 60)))]
    return flipped(r, "\n".join(picked).encode()) if r.random() < 0.7 else "\n".join(picked).encode()


def enter_log(raw: bytes) -> object:
    """Audit it."""
    import kvplan

    return kvplan.audit(_file(raw, ".log"), model="llama-3.1-8b").to_dict()


def make_words(r: random.Random) -> list[str]:
    """A command line of words that are nearly right."""
    values = [str(value) for value in NASTY if "\0" not in str(value)] + [
        "llama-3.1-8b",
        "h100-80gb",
        "8k",
        "8k,32k",
        "70% 4k, 30% 32k",
        "fp8",
        "~nosuchuser/x",
        "vllm@0.26",
        "vllm@0.33",
        "kv-dtype",
    ]
    commands = (
        "estimate", "compare", "fit", "reserve", "explain", "spec", "models", "committee", "sweep", "diff", "conformance",
        "report",
    )  # fmt: skip
    flags = (
        "-s",
        "-b",
        "-e",
        "--kv-dtype",
        "--set",
        "--gpu",
        "--context",
        "--tp",
        "--weights",
        "-f",
        "--unit",
        "--target",
        "--memory",
        "--mix",
        "--table",
        "--dp",
        "--ep",
        "--example",
        "--of",
        "--budget",
        "--host",
        "--disk",
        "--sessions",
    )
    return [r.choice(commands), r.choice(values), *(r.choice((*flags, *values)) for _ in range(r.randrange(6)))]


def enter_words(words: list[str]) -> object:
    """Run it as the command line does, in this process; what it writes is kept."""
    import contextlib
    import io

    from kvplan.cli.app import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    if code not in {0, 1, 2, 3}:
        raise AssertionError(f"exit {code}: {err.getvalue()[:300]}")
    shown = (out.getvalue() + err.getvalue()).replace("\n", "")
    if not shown.isprintable():
        raise AssertionError("characters that could steer a terminal reach it")
    return code


#: Where things lie, as it is typed, and values that each of these options takes, well or badly.
_PLACED = {
    "-ngl": ("20", "99", "0", "1", "all", "auto", "-7", "x", "1e9"),
    "-ts": ("10,6", "1,3", "1,0", "0,0", "1/1", "nan,1", "inf", "-1,2", ",", "3", ",".join(["1"] * 300), "1e-300,1e300"),
    "-ncmoe": ("1", "20", "0", "99999999999"),
    "-ot": ("exps=CPU", ".*=CUDA0", "(a+)+$=CPU", "blk\\.(1|2)\\..*=CUDA1", "=", "x=",
            "[=CPU", "a=b=c", "(" * 99 + "=CPU", "(?P<a>x)=CPU", ".*=CUDA9"),
    "-md": ("llama-3.2-1b", "qwen3-0.6b", "gemma-3-1b", "nobody"),
    "--free": ("20GiB,23GiB", "9GiB,9GiB", "0,0", "1PiB", "-1", "x"),
    "--set": (
        "split_mode=row", "split_mode=none", "main_gpu=7", "devices=CUDA1", "devices=CUDA1,CUDA0,Metal", "mmproj_offload=false",
        "no_host=1", "unified=true", "lora=x.gguf", "ctx_checkpoints=9", "cache_ram=-1", "fit=on", "fit_target=x",
    ),
    "-s": ("8k", "1M", "1"),
    "-b": ("1", "7", "4096"),
}  # fmt: skip
#: Those of them that `validate` has.
_ALLOCATED = ("-ngl", "-ts", "--free", "--set", "-s", "-b")
_RIGS = ("rtx-4090,rtx-3090", "rtx-3090:2", "rtx-3060,rtx-3060,rtx-4090", "24GiB,1MiB", "rtx-4090:64", "h100", "rtx-4060,x", ",")


def _projector() -> bytes:
    """A projector's header: its kind, a few numbers, one tensor."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    words = {"general.architecture": "clip", "clip.projector_type": "qwen2.5vl_merger", "clip.vision.projector_type": "gemma3"}
    numbers = {"image_size": 336, "patch_size": 14, "block_count": 2, "embedding_length": 64, "projection_dim": 64}
    keys = [text(key) + struct.pack("<I", 8) + text(word) for key, word in words.items()]
    keys += [text(f"clip.vision.{key}") + struct.pack("<II", 4, number) for key, number in numbers.items()]
    tensor = text("mm.0.weight") + struct.pack("<IQQIQ", 2, 64, 64, 0, 0)
    return b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys)) + b"".join(keys) + tensor


def make_placed(r: random.Random) -> Any:
    """A llama.cpp command line over several cards, a projector's file beside it; or its parts, allocated on the CPU."""
    command = r.choice(("fit", "estimate", "validate"))
    model = r.choice(("llama-3.1-8b", "qwen3-30b-a3b", "gemma-3-4b", "qwen2.5-vl-7b"))
    words = [command, model if command != "validate" else "gemma-3-1b", "-e", "llama.cpp", "--gpu", r.choice(_RIGS)]
    for option in r.sample(list(_PLACED if command != "validate" else _ALLOCATED), r.randrange(4)):
        value = r.choice(_PLACED[option][: r.choice((2, 99))])  # the first two are well
        if r.random() < 0.1:
            value = flipped(r, value.encode()).decode(errors="replace").replace("\0", "0")
        words += [option, value]
    if command == "validate":
        return [*words, *(() if "-s" in words else ("-s", "256")), "--device", "cpu", "--limit", "64MiB"], None
    projector = flipped(r, r.choice((_projector(), _projector(), *headers()))) if r.random() < 0.4 else None
    return words, projector


def enter_placed(given: Any) -> object:
    """Run it as the command line does."""
    words, projector = given
    return enter_words(words if projector is None else [*words, "--mmproj", str(_file(projector, ".gguf"))])


MACHINE: dict[str, Any] = {
    "machine": {"source": "server.log", "total": 85_029_612_257, "non_torch": 2**28, "graphs": 2**29, "tensor_parallel": 2}
}


#: What vLLM leaves for its next start.
STARTUP_PLAN = {"schema": 1, "fingerprint": "0f" * 8, "kv_cache_memory_bytes": 55 * 10**9, "free_memory_baseline": 84 * 10**9}


def make_machine(r: random.Random) -> bytes:
    """A mutated machine file, as `kvplan audit LOG --save` or vLLM writes one (JSON is YAML too)."""
    raw = json.dumps(mutated(r, r.choice((MACHINE, STARTUP_PLAN)))).encode()
    return flipped(r, raw) if r.random() < 0.3 else raw


def enter_machine(raw: bytes) -> object:
    """Read it as `--machine` does, write it again, and ask what fits beside it."""
    import kvplan
    from kvplan.loading.machine import machine_text, read_machine

    path = _file(raw, ".yaml")
    return machine_text(read_machine(path)), kvplan.fit("llama-3.1-8b", "h100", context=512, machine=path).to_dict()


LOOPED: dict[str, Any] = {
    "name": "acme/looped", "dtype": "bfloat16", "pattern": 4, "loop": {"first": 1, "stop": 3, "passes": 3, "kept": "last"},
    "layers": [{"type": "softmax", "kv_heads": 2, "key_dim": 64, "value_dim": 64}],
}  # fmt: skip
CARDS = (
    "h100",
    "8xh100",
    "h100x8",
    "NVIDIA H100 80GB HBM3",
    "Tesla T4",
    "Apple M4 Max 64GB",
    "24GiB",
    "rtx4090:2",
    "nvidia",
    "all",
)


def make_loop(r: random.Random) -> Any:
    """A mutated description whose layers run several times, and an engine."""
    return mutated(r, LOOPED), r.choice(_engines())


def make_card(r: random.Random) -> str:
    """A card's name, its characters changed, or put together of several."""
    name = flipped(r, r.choice(CARDS).encode()).decode(errors="replace")
    return name if r.random() < 0.7 else r.choice(("", " ", "x", ":", ",", "10000000000000")).join((name, r.choice(CARDS)))


def enter_card(name: str) -> object:
    """Ask what fits on it."""
    import kvplan

    return kvplan.fit("gpt2", name, engine="ideal", context=512, batch_size=1).to_dict()


def make_stages(r: random.Random) -> Any:
    """Layers of pipeline stages as they are typed, well or badly, and how many stages there are."""
    parts = (r.choice(("1", "16", "12", "", "-3", "x", "9" * 30, "1e3", "\x1b")) for _ in range(r.choice((1, 2, 2, 3, 400))))
    return r.choice((",".join(parts), "16,16", "[10,22]", r.choice(NASTY))), r.choice((1, 2, 2, 3, 400, *NASTY[:9]))


def enter_stages(given: Any) -> object:
    """Estimate with them."""
    import kvplan

    partition, stages = given
    options = {"pp_layer_partition": partition, "pipeline_parallel_size": stages}
    return kvplan.estimate("llama-3.1-8b", seq_len=4096, engine="vllm", **options)


@cache
def scenarios() -> list[dict[str, Any]]:
    """The smallest recorded scenarios of vLLM's scheduler, and of SGLang's."""
    files = [(GOLDEN / f"{engine}_scheduler.jsonl").read_text(encoding="utf-8").splitlines() for engine in ("vllm", "sglang")]
    return [json.loads(row) for rows in files for row in sorted(rows, key=len)[:12]]


def make_scenario(r: random.Random) -> Any:
    """One of them, what the replay reads mutated more often than the rest."""
    case = deepcopy(r.choice(scenarios()))
    part = r.choice(("config", "workload", "options", "expected"))
    return {**case, part: mutated(r, case[part])} if r.random() < 0.8 and part in case else mutated(r, case)


_TRACES = (
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n",
    b"arrival_s,input_tokens,output_tokens\n0.046927,2358,531\n0.347939,1034,769\n",
    b'{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]}\n'
    b'{"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14, 15, 16, 17, 18]}\n',
    b"arrival_s,input_tokens,output_tokens,images,video\n0.1,23,5,2x480x640,4s@2fps@64x64\n0.3,10,7,1x64x64,\n",
    b"arrival_s,input_tokens,output_tokens,num_images,image_height,image_width,image_tokens\n0,23,5,2,480,640,9\n1,1,7,0,0,0,9\n",
)


def make_trace(r: random.Random) -> tuple[bytes, str]:
    """A few requests, their bytes or their values changed."""
    raw = r.choice(_TRACES)
    if raw.startswith(b"{") and r.random() < 0.5:
        rows = [mutated(r, json.loads(row)) for row in raw.splitlines()]
        return "".join(json.dumps(row) + "\n" for row in rows).encode(), ".jsonl"
    if not raw.startswith(b"{") and r.random() < 0.5:
        fields = [line.split(b",") for line in raw.splitlines()]
        row = r.choice(fields)
        row[r.randrange(len(row))] = str(r.choice(NASTY)).encode("utf-8", "replace")
        return b"\n".join(b",".join(line) for line in fields), ".csv"
    return flipped(r, raw), r.choice((".csv", ".jsonl", ".parquet"))


def enter_trace(given: tuple[bytes, str]) -> object:
    """Replay it; what has hashes over host memory."""
    import kvplan

    host = "1GiB" if b"hash_ids" in given[0] else None
    return kvplan.replay(_file(*given), "qwen2.5-vl-7b", "h100", host=host, prefill_rate=1e4, decode_rate=100).to_dict()


#: Forms that no record has: SkyPilot's task, NVIDIA Dynamo's deployment, production-stack's operator.
_FORMS: list[tuple[str, str]] = [
    ("task.yaml", "resources: {accelerators: 'H100:2'}\nenvs: {M: qwen3-8b}\nrun: |\n  vllm serve $M --max-model-len 50000\n"),
    (
        "graph.yaml",
        "apiVersion: nvidia.com/v1alpha1\nkind: DynamoGraphDeployment\nspec:\n  services:\n    decode:\n"
        "      resources: {limits: {gpu: '1'}}\n"
        "      extraPodSpec: {mainContainer: {command: [python3, -m, dynamo.vllm], args: [--model, qwen3-8b]}}\n",
    ),
    (
        "runtime.yaml",
        "apiVersion: production-stack.vllm.ai/v1alpha1\nkind: VLLMRuntime\nspec:\n  model: {modelURL: qwen3-8b}\n"
        "  vllmConfig: {gpuMemoryUtilization: '0.8'}\n  deploymentConfig: {resources: {gpu: '1'}}\n",
    ),
]  # fmt: skip


@cache
def pasted() -> list[tuple[str, str]]:
    """(file name, text) of what people paste."""
    return [(case["file"], case["input"]) for case in lines("command_lines")] + _FORMS


#: What shells, YAML and manifests give a meaning to.
_MARKS = (
    "$(", "`", "${", "}", '"', "'", "\\", "<<EOF\n", ">", "|", "&", ";", "\n", "#", "{", "[", "]", ": ", "- ", "*a", "&a ",
    "<<: *a\n", "!!python/object/apply:os.system ", "--", "=", "\x00", "\u202e", "\ud7ff", "9" * 400, "(" * 300, "${A:-" * 40,
    "%X%", "^\n", "\t", "A=$A$A$A$A$A$A$A$A\n" * 12, "sh -c '", "docker run ", "@", ",", "/" * 200,
)  # fmt: skip


def make_paste(r: random.Random) -> Any:
    """(file name, text): what people paste with pieces taken out, put in, and swapped; sometimes under another's name."""
    name, text = r.choice(pasted())
    for _ in range(r.choice((1, 1, 2, 3, 8))):
        at, end = sorted(r.randrange(len(text) + 1) for _ in range(2))
        piece = r.choice((r.choice(_MARKS), "", r.choice(pasted())[1][:200], text[at:end][:300]))
        cut = at + (min(end - at, 40) if r.random() < 0.5 else 0)
        text = (text[:at] + piece + text[cut:])[:100_000]
    return (r.choice(pasted())[0] if r.random() < 0.2 else name), text


def enter_paste(given: Any) -> object:
    """What is read; of some whether it starts."""
    from kvplan.api.check import checked, place_of
    from kvplan.api.mended import mended
    from kvplan.loading.servers.read import servers_of

    name, text = given
    read = servers_of(text, name, {"X": "1"}, {"MODEL": "Qwen/Qwen3-8B"})
    json.dumps([server.to_dict() for server in read.servers], allow_nan=False)
    if read.servers and len(text) % 16 == 0:
        few = type(read)(name=read.name, servers=tuple(s for s in read.servers[:2] if "/" not in (s.model or "/")), text=text)
        place = place_of("h100")
        checked([few], place)
        if len(few.servers) == len(read.servers) == 1:  # a change counts the servers that it reads again
            mended([few], place)
    return read


CONNECTOR: dict[str, Any] = {
    "kv_connector": "MultiConnector",
    "kv_connector_extra_config": {
        "connectors": [
            {"kv_connector": "OffloadingConnector", "kv_connector_extra_config": {"cpu_bytes_to_use": 10**11, "block_size": 32}},
            {"kv_connector": "SimpleCPUOffloadConnector", "kv_connector_extra_config": {"num_cpu_blocks": 1000}},
            {"kv_connector": "LMCacheConnectorV1", "kv_connector_extra_config": {}},
        ]
    },
}


def make_tiers(r: random.Random) -> Any:
    """Budgets below a device, sessions, and a connector's JSON, nearly right."""
    sizes = ("256GB", "1B", "2TiB", "900PiB", "64GiB", None, r.choice(("0GB", *NASTY)))
    sessions = ("200 at 60k", "1 at 1", "9 at 1M", "5000000 at 17", None, None, r.choice(("0 at 5", "at", "5 at 6 at 7", *NASTY)))
    sized = ("kv_offloading_size", "dyn_kvbm_cpu_cache_gb", "lmcache_max_local_cpu_size", "lmcache_chunk_size")
    return {
        "model": r.choice(("llama-3.1-8b", "gpt-oss-20b", "qwen3-next-80b-a3b", "deepseek-v3")),
        "host": r.choice(sizes),
        "disk": r.choice(sizes),
        "sessions": r.choice(sessions),
        "kv_transfer_config": json.dumps(mutated(r, CONNECTOR)) if r.random() < 0.5 else "",
        r.choice(sized): r.choice((1.0, "7", "300", r.choice(("nan", "1e300", *NASTY)))),
    }


def enter_tiers(given: Any) -> object:
    """Reserve with them."""
    import kvplan

    found = kvplan.try_reserve(given.pop("model"), memory="60GiB", **given).to_dict()
    return json.dumps(found, allow_nan=False)


#: What servers say of themselves, by path (kvplan/engines/*/live.py).
_SAID: tuple[dict[str, Any], ...] = (
    {
        "/version": {"version": "0.33.0"},
        "/v1/models": {"data": [{"id": "chat", "root": "Qwen/Qwen3-8B", "max_model_len": 32768}]},
        "/metrics": 'vllm:cache_config_info{block_size="16",gpu_memory_utilization="0.9",num_gpu_blocks="9"} 1.0\n',
    },
    {"/get_server_info": {"model_path": "Qwen/Qwen3-8B", "tp_size": 1, "max_total_num_tokens": 9, "internal_states": [{}]}},
    {"/props": {"default_generation_settings": {"n_ctx": 8192}, "total_slots": 4, "model_path": "a.gguf"}, "/slots": [{"id": 1}]},
    {
        "/api/ps": {"models": [{"name": "qwen3:8b", "size_vram": 9, "context_length": 8192, "details": {}}]},
        "/api/version": {},
        '/api/show {"model": "qwen3:8b"}': {"parameters": "num_gpu 9\nnum_batch 7", "model_info": {"general.name": "x"}},
    },
    {"/v1/model": {"id": "Qwen3-8B", "parameters": {"max_seq_len": 8192, "cache_size": 32768, "cache_mode": "Q8"}}},
)


def make_said(r: random.Random) -> Any:
    """A server's answers, their values or their bytes changed."""
    found = mutated(r, r.choice(_SAID))
    texts = (
        {str(path): one if isinstance(one, str) else json.dumps(one) for path, one in found.items()}
        if isinstance(found, dict)
        else {}
    )
    return {
        path: flipped(r, one.encode("utf-8", "replace")).decode("utf-8", "replace") if r.random() < 0.3 else one
        for path, one in texts.items()
    }


def enter_said(answers: Any) -> object:
    """What every engine reads out of them, and the prediction beside it."""
    from kvplan.api.live import result_of
    from kvplan.engines import live_askings

    found = [(name, live) for name, asking in live_askings() for live in asking.read(answers)]
    for _, asking in live_askings():
        if asking.further is not None:
            asking.further(answers)
    return [
        result_of("x", name, live, "h100", None).to_dict()
        for name, live in found[:2]
        if "/" not in live.model.removeprefix("Qwen/")
    ]


#: What a process says that ran a stranger's class.
SEEN: dict[str, Any] = {
    "seen": {
        "facts": {"name": "M", "dtype": "bfloat16", "layers": 2, "attention_heads": 4, "max_tokens": 512,
                  "numbers": {"window": 9}},
        "points": [
            {
                "batch_size": batch, "seq_len": tokens, "prompt_len": tokens - 1, "check": tokens == 11,
                "held": [
                    {
                        "path": ["layers", f"#{layer}/2", name], "shape": [batch, 2, min(tokens, window), 8], "dtype": "bfloat16",
                        "view_bytes": batch * 32 * min(tokens, window), "storage_bytes": batch * 32 * min(tokens, window),
                    }
                    for layer, window in enumerate((9, 9**9))
                    for name in ("keys", "values")
                ],
            }
            for batch, tokens in ((2, 3), (2, 4), (2, 8), (2, 25), (3, 8), (1, 11))
        ],
    }
}  # fmt: skip


def make_seen(r: random.Random) -> bytes:
    """A mutated answer of the process that `kvplan measure` starts."""
    raw = json.dumps(mutated(r, SEEN)).encode()
    return flipped(r, raw) if r.random() < 0.2 else raw


def enter_seen(raw: bytes) -> object:
    """Read it, fit its laws, and write the description, which reads back as the same model."""
    from kvplan.loading.yaml_spec.read import parse_spec
    from kvplan.loading.yaml_spec.write import dump_spec
    from kvplan.questions.measure.apart import understood
    from kvplan.questions.measure.measured import measured

    found = measured(understood(raw, 0, Path("m.py"), "M", 2**30))
    if found.passed and parse_spec(dump_spec(found.model).encode(), "m.yaml") != found.model:
        raise AssertionError("the description is another model")
    return found.to_dict()


def make_variant(r: random.Random) -> str:
    """Rewrites that are nearly right, in any order."""
    parts = (
        "mqa", "gqa=2", "mha", "mla=512+64", "state", "state=8x16:1/2", "state:3/4", "window=64:5/6", "window=1k:sliding",
        "window=64:full", "full", "index=128", "cla=2", "loop=2", "loop=9999", "cla=0", "state=x", "window=:1/", "gqa=",
    )  # fmt: skip
    text = "+".join(r.choice(parts) for _ in range(r.randrange(1, 5)))
    if r.random() < 0.3:
        place = r.randrange(len(text) + 1)
        text = text[:place] + r.choice("+=:/x0159 \x1b\u202e") + text[place + r.randrange(2) :]
    return text


def enter_variant(text: str) -> object:
    """Rewrite a model of each kind, and ask how much that is."""
    import kvplan

    return [
        kvplan.estimate(kvplan.variant(name, text), engine=engine).to_dict()
        for name in ("llama-3.1-8b", "gemma-3-1b", "deepseek-v3", "gemma-3n-e2b", "qwen3-next-80b-a3b")
        for engine in ("ideal", "vllm")
    ]


DOORS: dict[str, Door] = {
    "config": Door(make_config, enter_config),
    "gguf": Door(make_gguf, enter_gguf),
    "safetensors": Door(make_safetensors, enter_safetensors),
    "description": Door(make_description, enter_description),
    "plan": Door(make_plan, enter_plan),
    "case": Door(make_case, enter_case),
    "log": Door(make_log, enter_log),
    "words": Door(make_words, enter_words),
    "machine": Door(make_machine, enter_machine),
    "loop": Door(make_loop, enter_description),
    "card": Door(make_card, enter_card),
    "stages": Door(make_stages, enter_stages),
    "scenario": Door(make_scenario, enter_case),
    "install": Door(make_install, enter_install),
    "trace": Door(make_trace, enter_trace),
    "paste": Door(make_paste, enter_paste),
    "said": Door(make_said, enter_said),
    "media": Door(make_media, enter_media),
    "tiers": Door(make_tiers, enter_tiers),
    "seen": Door(make_seen, enter_seen),
    "variant": Door(make_variant, enter_variant),
    "placed": Door(make_placed, enter_placed),
}
#: Share of the time that each door gets: the cheap ones get more inputs all the same.
SHARES = {
    "config": 5,
    "gguf": 14,
    "safetensors": 1,
    "description": 2,
    "plan": 2,
    "case": 2,
    "log": 1,
    "words": 2,
    "machine": 1,
    "paste": 4,
    "said": 1,
} | dict.fromkeys(("loop", "card", "stages", "scenario", "install", "trace", "media", "tiers", "seen", "variant", "placed"), 1)
_FOLDER = tempfile.TemporaryDirectory(prefix="attack")


def _file(raw: bytes, suffix: str) -> Path:
    path = Path(_FOLDER.name) / f"x{suffix}"
    path.write_bytes(raw)
    return path


class Hangs(BaseException):
    """One input takes more processor time than any may: raised where it is, so that the place is told."""


def _interrupt(*_: object) -> None:
    raise Hangs(f"more than {2 * MOST_SECONDS:.0f} s of processor time")


def attempt(door: Door, given: Any) -> str:
    """What is wrong with the answer to one input; empty when nothing is."""
    signal.signal(signal.SIGPROF, _interrupt)
    signal.setitimer(signal.ITIMER_PROF, 2 * MOST_SECONDS)
    start = time.process_time()
    said = ""
    try:
        door.enter(given)
        door.answers += 1
    except KvplanError as problem:
        said = f"{problem}{problem.hint}"
    except (Exception, Hangs):
        return traceback.format_exc(limit=-4)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    took = time.process_time() - start
    door.slowest = max(door.slowest, took)
    if took > MOST_SECONDS:
        return f"took {took:.1f} s of processor time"
    return "" if said.isprintable() else f"a message with characters that could steer a terminal: {said!r}"


def main() -> int:
    """Attack until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(DOORS), help="one door")
    parser.add_argument("--input", type=int, help="repeat one input of that door")
    asked = parser.parse_args()
    if asked.input is not None and asked.only:
        door = DOORS[asked.only]
        given = door.make(random.Random(f"{asked.seed}/{asked.only}/{asked.input}"))
        print(repr(given)[:4000])
        print(attempt(door, given) or "no finding")
        return 0
    chosen = [asked.only] if asked.only else [name for name, share in SHARES.items() for _ in range(share)]
    findings: dict[str, str] = {}
    end = time.monotonic() + asked.seconds
    turn = 0
    while time.monotonic() < end and len(findings) < 50:
        name = chosen[turn % len(chosen)]
        turn += 1
        door = DOORS[name]
        for _ in range(20 if name in {"config", "gguf", "safetensors"} else 1):
            number = door.tried
            door.tried += 1
            problem = attempt(door, door.make(random.Random(f"{asked.seed}/{name}/{number}")))
            if problem:
                key = problem.strip().splitlines()[-1][:100] + "|" + "".join(problem.strip().splitlines()[-3:-2])[:120]
                if key not in findings:
                    findings[key] = problem
                    print(f"\nFOUND --only {name} --seed {asked.seed} --input {number}\n{problem}", flush=True)
    print(f"\n{'door':12} {'tried':>9} {'answered':>9} {'slowest [s]':>12}")
    for name, door in DOORS.items():
        if door.tried:
            print(f"{name:12} {door.tried:>9,} {door.answers:>9,} {door.slowest:>12.2f}")
    print(f"seed {asked.seed}: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
