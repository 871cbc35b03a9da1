"""The page of vLLM's memory ledger: which lines are exact, where a band stands, and every recorded start with its error."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
FILES = ("vllm_gpu", "vllm_memory", "vllm_starts", "vllm_starts_gpus")
RELEASES = ("0.11", "0.19", "0.26", "0.33")
CARDS = ("h200-sxm-141gb", "h100-sxm-80gb", "a100-sxm-80gb", "l4-24gb", "rtx-4090-24gb", "b200-sxm-180gb", "gb10-dgx-spark-128gb")
LEAD = """# Memory ledgers

[Where memory goes](../concepts/where-memory-goes.md) explains the lines: `exact` ones follow from the engine's source, of
the others the band is given, in GiB.

## Which lines of which engine

What `kvplan fit` takes from the card before the cache: four requests of 8,192 tokens of Llama 3.1 8B. An engine whose
lines beside weights and cache were not read has one `assumed` line for them.

"""
_VLLM = """
## vLLM by release and card

Llama 3.1 8B with the server's defaults.

"""


def page(note: str) -> str:
    """The whole page."""
    return "".join([note, LEAD, *_engines(), _VLLM, *_lines(), "\n## Every recorded start\n\n", _RECORDS, *_records()])


_RECORDS = """Figures in GiB where the record printed GiB, else in bytes. Records without a config, or whose start printed no
figure, are left out; an empty error is a figure that is met (in bytes, or to the printed digits).

"""


def _engines() -> Iterator[str]:
    import kvplan
    from kvplan.engines import PREDICTED, about

    yield "| engine | line | " + " | ".join(CARDS[1:5]) + " |\n|" + " --- |" * 6 + "\n"
    for engine in PREDICTED:
        if about(engine).theory:
            continue
        found = {}
        for card in CARDS[1:5]:
            budget = kvplan.try_fit("llama-3.1-8b", card, engine=engine, context=8192, batch_size=4).budget
            found[card] = {line.name: line for line in budget.lines[2:] if line.low or line.high}
        for name in dict.fromkeys(name for lines in found.values() for name in lines):
            cells = (_cell(found[card].get(name)) for card in found)
            yield f"| {engine} {about(engine).latest} | {name} | " + " | ".join(cells) + " |\n"


def _cell(line: Any) -> str:
    from kvplan.units import GIB

    if line is None:
        return ""
    low, high = sorted((abs(line.low), abs(line.high)))
    return f"{'exact, ' if line.basis == 'rule' else f'{low / GIB:.2f}, '}{line.basis}" if line.exact else (
        f"{low / GIB:.2f} to {high / GIB:.2f}, {line.basis}"
    )  # fmt: skip


def _lines() -> Iterator[str]:
    import kvplan
    from kvplan.units import GIB

    yield "| line | vLLM | " + " | ".join(CARDS) + " |\n|" + " --- |" * (2 + len(CARDS)) + "\n"
    for release in RELEASES:
        found = {}
        for card in CARDS:
            ledger = kvplan.receipt("llama-3.1-8b", card, engine=f"vllm@{release}", max_model_len=8192).budget.ledger
            assert ledger is not None
            found[card] = {line.name: line for line in (ledger.total, *ledger.lines, *ledger.beside)}
        for name in dict.fromkeys(name for lines in found.values() for name in lines):
            cells = []
            for card in CARDS:
                line = found[card].get(name)
                if line is None:
                    cells.append("")
                elif line.exact:
                    cells.append(f"exact, {line.basis}")
                else:
                    cells.append(f"{line.low / GIB:.2f} to {line.high / GIB:.2f}, {line.basis}")
            yield f"| {name} | {release} | " + " | ".join(cells) + " |\n"


def _records() -> Iterator[str]:
    from kvplan.engines.kernel.cases import record_from
    from kvplan.questions.audit.judge import judge

    for name in FILES:
        yield f"### `{name}.jsonl`\n\n| start | vLLM | figure | recorded | predicted | error |\n|{' --- |' * 6}\n"
        for text in (GOLDEN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            case = json.loads(text)
            result = judge(record_from(case, where=name))
            if result.status not in {"exact", "differs"}:
                continue
            facts = [fact for fact in result.facts if fact.name in _SHOWN or fact.name.startswith("profile")]
            wrong = [fact for fact in facts if not fact.agrees]
            start, release = case["id"].partition("/")[2].replace("|", " "), case["engine_version"].split("+")[0]
            if not wrong:
                yield f"| {start} | {release} | all {len(facts)} |  |  |  |\n"
            for fact in wrong:
                figures = f"{_text(fact.recorded)} | {_text(fact.predicted)} | {_error(fact)}"
                yield f"| {start} | {release} | {fact.name} | {figures} |\n"
        yield "\n"


_SHOWN = frozenset({
    "requested_memory", "weights_bytes", "peak_activation_bytes", "non_torch_bytes", "available_memory", "num_blocks",
    "weights_gib", "peak_activation_gib", "available_kv_gib", "kv_cache_tokens", "max_concurrency",
})  # fmt: skip


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _error(fact: Any) -> str:
    return f"{100 * (fact.predicted - fact.recorded) / fact.recorded:+.2f} %" if fact.recorded else ""
