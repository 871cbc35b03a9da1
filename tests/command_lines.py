"""Command lines against the server's own parser (tests/golden/flags): unknown flags, missing values, wrong choices."""

import json
import re
import shlex
from functools import cache
from typing import Any

from golden import GOLDEN

FLAGS = GOLDEN / "flags"
#: Engine -> the file of its options.
FILES = {
    "vllm": "vllm", "sglang": "sglang", "llama.cpp": "llama_cpp", "lmdeploy": "lmdeploy", "mlx-lm": "mlx_lm",
    "exllamav3": "tabbyapi", "tensorrt-llm": "tensorrt_llm", "ollama": "ollama",
}  # fmt: skip
_NUMBERS: dict[str, Any] = {"int": int, "float": float}
_FILE = re.compile(r"<\(echo (?:'[^']*'|[^'() ]+)\)")  # bash's: what is echoed, as a file
_PAIR = re.compile(r"[2-8],[2-8]")  # TabbyAPI's cache modes beside its named ones


@cache
def parser(engine: str) -> dict[str, Any]:
    """An engine's options."""
    data: dict[str, Any] = json.loads((FLAGS / f"{FILES[engine]}.json").read_text(encoding="utf-8"))
    return data


def number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release)[:3])


def known(engine: str, release: str | None, program: str) -> dict[str, dict[str, Any]]:
    """Name -> the flag, of those that the release has."""
    found: dict[str, dict[str, Any]] = {}
    for flag in parser(engine)["flags"]:
        if release is not None:
            if "since" in flag and number(release) < number(flag["since"]):
                continue
            if "until" in flag and number(release) > number(flag["until"]):
                continue
        elif "until" in flag:
            continue
        if flag.get("removed") or ("programs" in flag and program not in flag["programs"]):
            continue
        for name in flag["names"]:
            found[name] = flag
        negated = flag.get("negated") or []
        for name in [negated] if isinstance(negated, str) else negated:
            found[name] = {**flag, "takes": "none"}
    return found


def problems(engine: str, command: str, release: str | None = None) -> list[str]:
    """What the engine's parser would say of a command line; empty where it takes it."""
    words = shlex.split(_FILE.sub("/dev/fd/63", command))
    if shlex.split(shlex.join(words)) != words:
        return ["it does not split into the words that it was made of"]
    while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0], re.DOTALL):
        words.pop(0)
    beginnings = [*parser(engine)["program"], *parser(engine).get("also", [])]
    begun = max((len(start) for start in beginnings if words[: len(start)] == start), default=0)
    if not begun:
        return [f"no program of {engine}: {words[:3]}"]
    flags, rest, found = known(engine, release, words[0]), words[begun:], []
    if parser(engine)["positional"] and rest and not rest[0].startswith("-"):
        rest.pop(0)
    seen: set[str] = set()
    while rest:
        word = rest.pop(0)
        flag = flags.get(word)
        if flag is None:
            found.append(f"unknown: {word}")
            continue
        if flag["dest"] in seen:
            found.append(f"twice: {word}")
        seen.add(flag["dest"])
        values: list[str] = []
        takes = flag["takes"]
        most = {"none": 0, "one": 1, "optional": 1, "json": 1, "two": 2}.get(takes, len(rest))
        while rest and len(values) < most and rest[0] not in flags:
            values.append(rest.pop(0))
        if takes not in {"none", "optional"} and not values:
            found.append(f"{word} without a value")
        found += [f"{word} {value}: {why}" for value in values if (why := _wrong(flag, value))]
    return found


def _wrong(flag: dict[str, Any], value: str) -> str:
    kind = flag["type"]
    if kind in _NUMBERS:
        try:
            _NUMBERS[kind](value)
        except ValueError:
            return f"no {kind}"
    if kind == "json":
        try:
            json.loads(value)
        except ValueError:
            return "no JSON"
    if kind == "bool" and flag["takes"] == "one" and value.lower() not in {"true", "false"}:
        return "neither true nor false"
    pair = flag["dest"].endswith("cache_mode") and _PAIR.fullmatch(value)
    if kind == "choice" and value not in map(str, flag["choices"]) and not pair:
        return f"none of {flag['choices']}"
    if flag["dest"] == "kv_cache_dtype" and value not in flag.get("known", [value]):
        return f"none of {flag['known']}"
    return ""
