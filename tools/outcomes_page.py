"""The page of recorded outcomes: what threads say happened with a command line, beside what `kvplan check` says of it.

A record that disagrees must have its reason here, and one that agrees must have none: else the page is not written.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from kvplan.api.check import checked, parsed, place_of
from kvplan.domain.servers import Servers
from kvplan.questions.check import Checked
from kvplan.report.answers.servers import heading

RECORDS: Final = Path(__file__).resolve().parent.parent / "tests" / "golden" / "command_lines.jsonl"
#: A card that is sold in several sizes -> the one that the thread's figures leave.
CARDS: Final = {"A100": "a100-sxm-80gb"}
#: What the thread says beside its command line -> a line that says it.
BESIDE: Final = {"ollama-shell/parallel-10": "ollama run gemma3:12b-it-q8_0\n"}
#: A record whose verdict is another -> the rule or the input that is missing.
MISSING: Final = {
    "vllm-shell/deepseek-coder-33b-2xl40": "the catalogue's config was kept without its rope scaling: with the published one "
    "(linear, 4), given by `--model-config`, vLLM's length is 65,536, more than the 60,704 that fit: it does not start",
    "llama-shell/mistral-small-3x3090": "the drafter of 0.5 B is in no catalogue, and which rows of a matrix each card gets "
    "(`-sm row`) was not read",
    "llama-shell/qwen3.8-27b-mtp-windows": "a model on a disk that no catalogue has: `--model-config` gives its config",
    "llama-shell/llama2-70b-3xp40": "the rules of builds of 2023, with one scratch buffer beside the cache, were not read",
}  # fmt: skip


def page(note: str) -> str:
    """The page; records without a card are counted beneath it."""
    records = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    told = [record for record in records if record.get("outcome")]
    rows = [row for record in told if record.get("gpu") for row in _rows(record)]
    none = [f"`{record['id']}`" for record in told if not record.get("gpu")]
    agree = sum(row.startswith("| yes") for row in rows)
    return "".join(
        [
            note,
            "# Recorded outcomes\n\n",
            "Command lines and manifests of public threads that say what happened, and what `kvplan check` says of them: ",
            f"{agree} of {len(rows)} agree, each other names what is missing. `tests/golden/command_lines.jsonl`.\n\n",
            "| agrees | input | server | cards | happened | kvplan | why not |\n| --- | --- | --- | --- | --- | --- | --- |\n",
            *rows,
            f"\nNo card is named in {', '.join(none)}.\n",
        ]
    )


def _rows(record: dict[str, Any]) -> Iterator[str]:
    cards = _cards(record["gpu"])
    read = _read(record)
    found = checked([read], place_of(cards)).servers
    said = record["outcome"]
    only = said.get("for")
    for one in found:
        if (only and one.server.place != only) or (record["id"] in BESIDE and not one.server.model):
            continue
        agrees = one.outcome.status == ("starts" if said["started"] else "does not start")
        why = MISSING.get(record["id"], "")
        if agrees is bool(why):
            raise SystemExit(
                f"tools/outcomes_page.py: {record['id']} {'agrees' if agrees else 'disagrees'}: MISSING is not right"
            )
        server = heading(replace(one.server, file=""))
        cells = ("yes" if agrees else "no", f"`{record['id']}`", server, cards, _happened(said), _verdict(one), why)
        yield f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |\n"


def _read(record: dict[str, Any]) -> Servers:
    """The input, with the release that the thread names, and its model where that stands beside it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / record["file"]
        file.write_text(record["input"].rstrip("\n") + "\n" + BESIDE.get(record["id"], ""), encoding="utf-8")
        (read,) = parsed([file])
    servers = tuple(replace(one, version=one.version or record.get("release") or "") for one in read.servers)
    return replace(read, servers=servers)


def _cards(said: Any) -> str:
    listed = said if isinstance(said, list) else [said]
    names = [(CARDS.get(one.get("name", ""), one.get("name") or one["memory"]), one.get("count", 1)) for one in listed]
    return ",".join(f"{name}:{count}" if count > 1 else name for name, count in names)


def _happened(said: dict[str, Any]) -> str:
    words = "started" if said["started"] else "did not start"
    figures = [
        f"{key} {value:,}" for key, value in said.items() if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return "; ".join([words, *([said["says"]] if "says" in said else []), *figures])


def _verdict(one: Checked) -> str:
    found = one.outcome
    words = [found.status]
    words += [f"{found.tokens:,} tokens"] if found.tokens else []
    if found.receipt is not None:
        words.append(f"{found.receipt.budget.cache.bytes / 2**30:,.2f} GiB for the cache")
    elif found.laid is not None:
        needed = " + ".join(f"{place.needed.bytes / 2**30:,.2f}" for place in found.laid.spread.devices)
        words.append(f"{needed} GiB on the cards")
    elif found.fit is not None:
        words.append(f"{found.taken_bytes / 2**30:,.2f} GiB taken")
    return "; ".join(words)
