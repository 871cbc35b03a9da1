"""Record caches of the installed transformers as cases for `kvplan audit`, or compare them at once.

python tools/record_transformers.py -o cases.jsonl             small random models of every type in tests/tiny_configs.py
python tools/record_transformers.py --check                    record, predict, compare; exit 1 and name what differs
python tools/record_transformers.py --types llama,t5 -n 20     some types, more models of each

The development oracle for the next release: install it, run `--check`, and what moved is listed. Nothing here comes from a
formula of kvplan: every number is read from a tensor that the library's own cache holds.
"""

import argparse
import itertools
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tiny_configs import ROWS, configs  # noqa: E402

from kvplan.domain.workload import Workload  # noqa: E402
from kvplan.engines.transformers.engine import Transformers  # noqa: E402
from kvplan.engines.transformers.options import TransformersOptions  # noqa: E402
from kvplan.errors import InputError  # noqa: E402
from kvplan.questions.validate.against_transformers import held_after  # noqa: E402
from kvplan.questions.validate.cache_tensors import CacheTensor  # noqa: E402
from kvplan.questions.validate.library_model import library  # noqa: E402

ENCODER_TOKENS = 11
PAIRS = frozenset({"bart", "t5", "whisper"})
CACHES = {"dynamic": "dynamic", "static": "static", "plain": "DynamicCache_without_config"}


def drawn(model_type: str, number: int) -> list[dict[str, Any]]:
    """The same `number` configs and workloads at every run."""
    found: list[dict[str, Any]] = []

    @settings(max_examples=number, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(config=configs(model_type), cache=st.sampled_from(list(CACHES)), prompt=st.integers(1, 20), steps=st.integers(1, 3))
    def collect(config: dict[str, Any], cache: str, prompt: int, steps: int) -> None:
        found.append({"config": config, "cache": cache, "prompt": prompt, "steps": steps})

    collect()
    return found[:number]


def record(model_type: str, position: int, draw: dict[str, Any]) -> dict[str, Any] | None:
    """One case, or None where the library refuses."""
    encoder = ENCODER_TOKENS if model_type in PAIRS else 0
    prompt, tokens = draw["prompt"], draw["prompt"] + draw["steps"]
    engine = Transformers(TransformersOptions(cache=draw["cache"], max_cache_len=30, prompt_len=prompt))
    runs = []
    for length in (prompt, tokens):
        workload = Workload(batch_size=2, seq_len=length, encoder_len=encoder)
        try:
            runs.append(held_after(draw["config"], "bfloat16", workload, engine, "cpu"))
        except InputError as problem:
            print(f"{model_type}: not recorded: {problem}", file=sys.stderr)
            return None
    version = library().__version__
    first, last = runs
    counts: dict[str, Any] = {"batch": 2, "prefill": prompt, "decode_steps": draw["steps"], "seq_len": tokens}
    if encoder:
        counts["encoder_seq_len"] = encoder
    if draw["cache"] == "static":
        counts["max_cache_len"] = 30
    return {
        "id": f"transformers-{version}/tiny:{model_type}/{position}-{draw['cache']}-p{prompt}-d{draw['steps']}",
        "engine": "transformers",
        "engine_version": version,
        "model": f"tiny:{model_type}",
        "model_type": model_type,
        "config": draw["config"],
        "workload": counts,
        "options": {"cache_implementation": CACHES[draw["cache"]], "kv_dtype": "bfloat16"},
        "expected": {
            "total_bytes": kept(last),
            "storage_bytes": stored(last),
            "bookkeeping_bytes": sum(t.view_bytes for t in last if t.bookkeeping),
            "after_prefill": {"total_bytes": kept(first), "storage_bytes": stored(first)},
            "per_layer": list(per_layer(last)),
        },
        "how": "tiny real model on the CPU, its own forward: tensors found in the cache after the prompt and after the last step",
        "source": f"transformers {version}, tools/record_transformers.py",
    }


def kept(tensors: tuple[CacheTensor, ...]) -> int:
    """Bytes of the elements that the tensors show."""
    return sum(t.view_bytes for t in tensors if not t.bookkeeping)


def stored(tensors: tuple[CacheTensor, ...]) -> int:
    """Bytes of the storages behind them."""
    return sum(t.storage_bytes for t in tensors if not t.bookkeeping)


def per_layer(tensors: tuple[CacheTensor, ...]) -> Iterator[dict[str, Any]]:
    """One entry a layer, with its tensors."""
    held = sorted((t for t in tensors if not t.bookkeeping), key=lambda t: t.layer)
    for layer, group in itertools.groupby(held, key=lambda t: t.layer):
        found = list(group)
        yield {
            "layers": [layer, layer],
            "bytes": sum(t.view_bytes for t in found),
            "shapes": {t.name: list(t.shape) for t in found},
            "dtype": {t.name: t.dtype for t in found},
        }


def main(arguments: list[str] | None = None) -> int:
    """Record; write or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--types", default=",".join(ROWS), help="model types, separated by commas")
    parser.add_argument("-n", "--number", type=int, default=4, help="models of each type")
    parser.add_argument("-o", "--output", type=Path, help="write the cases here, one JSON object a line")
    parser.add_argument("--check", action="store_true", help="compare with kvplan's predictions")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.types.split(",")) - set(ROWS)
    if unknown:
        parser.error(f"no small configs for {', '.join(sorted(unknown))}; known: {', '.join(ROWS)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [
            case
            for model_type in chosen.types.split(",")
            for position, draw in enumerate(drawn(model_type, chosen.number))
            if (case := record(model_type, position, draw)) is not None
        ]
    if chosen.output:
        chosen.output.write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")
    print(f"{len(cases)} cases of transformers {library().__version__}")
    return compare(cases) if chosen.check else 0


def compare(cases: list[dict[str, Any]]) -> int:
    """0 when every case is exact; the others are named."""
    from kvplan.questions.audit import audit

    wrong = [result for result in audit(cases).results if result.status != "exact"]
    for result in wrong:
        facts = [f"{f.name}: predicted {f.predicted}, recorded {f.recorded}" for f in result.facts if not f.agrees]
        print(f"{result.id}: {result.status} {result.reason} {'; '.join(facts)[:300]}")
    print(f"{len(cases) - len(wrong)} of {len(cases)} exact")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
