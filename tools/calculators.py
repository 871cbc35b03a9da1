"""Formulas that calculators use, answering `kvplan conformance`'s cases: writes docs/reference/calculators.md, in two minutes.

    python tools/calculators.py

Another calculator is judged in the same way: `kvplan conformance export`, its answers as JSON lines, `kvplan conformance score`.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import kvplan
from kvplan.api.conformance import conformance_cases
from kvplan.engines.kernel.cases import read_cases
from kvplan.errors import KvplanError
from kvplan.questions.audit.conformance import VERDICTS, Item, Score, score
from kvplan.questions.audit.judge import judge

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "calculators.md"
GOLDEN = ROOT / "tests" / "golden"
#: Engines whose cases ask for the cache of so many tokens; pools of servers and printed tables ask something else.
ENGINES: Final = ("transformers", "vllm", "llama.cpp", "mlx-lm", "exllamav3")
_SECTIONS: Final = ("text_config", "language_config", "llm_config", "decoder_config", "thinker_config")
Formula = Callable[[Item], int | None]


def _numbers(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Hub keys, those of the text part over the others; of a GGUF file its keys without the architecture."""
    arch = config.get("general.architecture")
    if arch:
        names = {
            "block_count": "num_hidden_layers",
            "attention.head_count": "num_attention_heads",
            "attention.head_count_kv": "num_key_value_heads",
            "attention.key_length": "head_dim",
            "embedding_length": "hidden_size",
        }
        return {name: config[f"{arch}.{key}"] for key, name in names.items() if isinstance(config.get(f"{arch}.{key}"), int)}
    inner = next((config[key] for key in _SECTIONS if isinstance(config.get(key), Mapping)), {})
    return {**config, **inner}


def _asked(item: Item) -> int:
    """Tokens of all sequences."""
    tokens = item.workload.get("seq_len") or item.workload.get("max_num_tokens") or 0
    return int(tokens) * int(item.workload.get("batch") or 1)


def _of_heads(item: Item, *, grouped: bool, stated: bool) -> int | None:
    """2 x layers x heads x elements of one x tokens x 2 bytes, from the keys that most configs have."""
    c = _numbers(item.config)
    try:
        layers, heads, hidden = c["num_hidden_layers"], c["num_attention_heads"], c["hidden_size"]
        kv = (c.get("num_key_value_heads") or heads) if grouped else heads
        dim = (c.get("head_dim") if stated else None) or hidden // heads
        return 2 * layers * kv * dim * _asked(item) * 2 or None
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def _ideal(item: Item) -> int | None:
    """kvplan's theory: what a model must remember, in no engine."""
    if "general.architecture" in item.config:
        return None
    batch = int(item.workload.get("batch") or 1)
    encoder = int(item.workload.get("encoder_seq_len") or 0)
    try:
        return kvplan.estimate(item.config, seq_len=_asked(item) // batch, batch_size=batch, encoder_len=encoder).total_bytes
    except KvplanError:
        return None


FORMULAS: Final[dict[str, Formula]] = {
    "2 x layers x hidden size x tokens": lambda item: _of_heads(item, grouped=False, stated=False),
    "the same, with KV heads, `hidden_size / heads` wide": lambda item: _of_heads(item, grouped=True, stated=False),
    "the same, with `head_dim` where it is stated": lambda item: _of_heads(item, grouped=True, stated=True),
}


def answers(formula: Formula, items: Iterable[Item]) -> dict[str, int | None]:
    """What a formula answers."""
    return {item.id: formula(item) for item in items}


def _own(items: Iterable[Item]) -> dict[str, int | None]:
    """kvplan's predictions, as `kvplan audit` makes them."""
    facts = {item.id: item.fact for item in items}
    found: dict[str, int | None] = {}
    for path in sorted(GOLDEN.glob("*.jsonl")):
        for record in read_cases(path):
            if record.case.id in facts:
                name = record.case.id
                found[name] = next((f.predicted for f in judge(record).facts if f.name == facts[name]), None)
    return found


def row(name: str, found: Score) -> str:
    """A line of the table: right of all by engine, and how all ended."""
    parts = []
    for engine in ENGINES:
        lines = [line for line in found.lines if line.engine == engine]
        cases = sum(line.cases for line in lines)
        parts.append(f"{100 * sum(line.verdicts.get('right', 0) for line in lines) / cases:.1f}%")
    total = sum(line.cases for line in found.lines)
    ended = [f"{100 * found.total(verdict) / total:.1f}%" for verdict in VERDICTS]
    return f"| {name} | {' | '.join(parts)} | {' | '.join(ended)} |\n"


def asked() -> tuple[Item, ...]:
    """The cases that a calculator can be asked."""
    return tuple(item for item in conformance_cases() if item.engine in ENGINES)


_PAGE: Final = """<!-- made by tools/calculators.py: do not edit -->

# Calculators against what engines did

{cases} recorded caches of {engines} engines, each the bytes of so many tokens of one config, with the engine's own
options (windows, blocks, cache dtypes, quantised caches): how many a calculator answers to the byte. `near` is within 1%.

| {head} |
|{rule}
{rows}
The formulas are those of spreadsheets and web pages, from the keys that most configs have, at two bytes an element. Yours is
judged so:

```console
$ kvplan conformance export -o cases.jsonl
```

Each line is a question (`config`, `workload`, `options`; the first line says whose they are). Write one
`{{"id": …, "bytes": …}}` for each, and `kvplan conformance score answers.jsonl` says right and wrong by engine and kind of
memory ([audit](audit.md#for-other-calculators)).
"""


def main() -> int:
    """Write the page."""
    items = asked()
    rows = [row(name, score(items, answers(formula, items))) for name, formula in FORMULAS.items()]
    rows.append(row("`kvplan estimate` (the theory, no engine)", score(items, answers(_ideal, items))))
    rows.append(row("`kvplan estimate -e ENGINE`", score(items, _own(items))))
    head = "calculator | " + " | ".join(ENGINES) + " | right of all | near | too little | too much | no answer"
    text = _PAGE.format(
        cases=f"{len(items):,}", engines=len(ENGINES), head=head, rule=" --- |" * (head.count("|") + 1), rows="".join(rows)
    )
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
