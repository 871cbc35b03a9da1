"""Write `model_specs/`: one small spec a published model, from the real configs in `tests/configs/hf`.

    python tools/make_catalogue.py            write every spec
    python tools/make_catalogue.py --check    exit 1 if a spec would change

A config is trimmed by rule: what the architecture reader looks at, and KEEP, which engines look at. The trimmed config
must read as the whole one does, or nothing is written. The CLA paper's rows come from `tests/golden/papers.jsonl`.
"""

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kvplan import architectures
from kvplan.errors import KvplanError
from kvplan.loaders.catalogue import candidates
from kvplan.loaders.spec import model_from_data, parse_spec
from kvplan.loaders.spec_dump import dump_spec
from kvplan.loaders.yaml_text import block
from kvplan.model import Model

ROOT = Path(__file__).resolve().parent.parent
SPECS = ROOT / "model_specs"
CONFIGS = ROOT / "tests" / "configs"

#: Keys that engines (not the reader) look at, kept where a config has them.
KEEP = frozenset({
    "architectures", "model_type", "torch_dtype", "dtype", "hidden_size", "d_model", "n_embd", "vocab_size", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "n_positions", "n_ctx", "use_sliding_window", "sliding_window",
    "max_window_layers", "layer_types", "is_encoder_decoder", "num_nextn_predict_layers",
})  # fmt: skip
#: Sections that say what a model also takes in; only their model type is kept.
SENSES = ("vision_config", "audio_config")
#: Files whose name by rule would be clumsy.
NAMES = {
    "CohereForAI__c4ai-command-r-v01": "command-r",
    "bigcode__gpt_bigcode-santacoder": "santacoder",
    "rednote-hilab__dots.llm1.inst": "dots.llm1",
    "IQuestLab__IQuest-Coder-V1-40B-Instruct": "iquest-coder-v1-40b",
}
#: Files that no entry is made of: re-quantized copies, and configs that INDEX.tsv calls incomplete for the cache.
SKIP: frozenset[str] = frozenset()
KINDS = {"exact-copy": 0, "partial-copy": 1, "rebuilt-from-dims": 2, "class-defaults": 3}
SAID = {
    "exact-copy": "a copy of the shipped config.json",
    "partial-copy": "fields of the shipped config.json",
    "rebuilt-from-dims": "the published dimensions",
    "class-defaults": "the defaults of the transformers class that names this checkpoint",
}


class Recording(dict[str, Any]):
    """A dict that remembers which of its keys were looked at."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__({k: Recording(v) if isinstance(v, Mapping) else v for k, v in data.items()})
        self.seen: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.seen.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.seen.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As for any dict."""
        self.seen.add(key)
        return super().get(key, default)

    def trimmed(self) -> dict[str, Any]:
        """The keys that were looked at, and KEEP, without nulls."""
        kept = {}
        for key, value in self.items():
            if isinstance(value, Recording):
                inner = value.trimmed() if key in self.seen else {}
                if key in SENSES:
                    inner = {"model_type": value["model_type"]} if "model_type" in value else {}
                if inner or key in SENSES:
                    kept[key] = inner
            elif value is not None and (key in self.seen or key in KEEP):
                kept[key] = value
        return kept


def trimmed_config(data: dict[str, Any], source: str) -> tuple[dict[str, Any], Model]:
    """A config without what decides nothing, and the model that it describes."""
    recording = Recording(data)
    model = architectures.read(recording, source=source)
    small = recording.trimmed()
    again = architectures.read(small, source=source)
    if again != model:
        raise SystemExit(f"{source}: the trimmed config reads as another model")
    return small, again


def rows() -> list[dict[str, str]]:
    """INDEX.tsv, the most trustworthy copy and the plainest name first."""
    with (CONFIGS / "INDEX.tsv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    mirrors = ("nvidia/", "RedHatAI/", "sgl-project/")

    def rank(row: dict[str, str]) -> tuple[Any, ...]:
        hub = row["hub_id"]
        mirror = hub.startswith(mirrors) and ("NVFP4" in hub or "FP8" in hub)
        return mirror, len(list(candidates(hub.rpartition("/")[2]))), KINDS[row["copy_kind"]], len(hub), hub

    return sorted((row for row in found if row["file"].removesuffix(".json") not in SKIP), key=rank)


def published() -> Iterator[tuple[str, str]]:
    """(name, spec text) of every model whose architecture is known."""
    taken: dict[str, Model] = {}
    for row in rows():
        stem = row["file"].removesuffix(".json")
        data = json.loads((CONFIGS / "hf" / row["file"]).read_text(encoding="utf-8"))
        try:
            config, model = trimmed_config(data, stem)
        except KvplanError as problem:
            print(f"left out: {problem}", file=sys.stderr)
            continue
        hub = row["hub_id"]
        choices = [NAMES[stem]] if stem in NAMES else list(candidates(hub.rpartition("/")[2]))[::-1]
        for name in choices:
            if name not in taken:
                taken[name] = model
                yield name, entry(name, row, config)
            if same(taken[name], model):
                break
            print(f"{hub}: differs from {name}: {difference(taken[name], model)}", file=sys.stderr)


def same(a: Model, b: Model) -> bool:
    """Whether one entry may stand for both."""
    return a.layers == b.layers and (a.max_tokens == b.max_tokens or None in {a.max_tokens, b.max_tokens})


def difference(a: Model, b: Model) -> str:
    """What keeps two models apart, in a few words."""
    return "layers" if a.layers != b.layers else f"max_tokens {a.max_tokens} and {b.max_tokens}"


def entry(name: str, row: dict[str, str], config: dict[str, Any]) -> str:
    """The text of one spec."""
    source = f"{SAID[row['copy_kind']]} ({row['source'][:160]})"
    text = "".join(f"{line}\n" for line in block({"name": name, "hub": row["hub_id"], "source": source, "config": config}))
    parse_spec(text.encode(), f"{name}.yaml")
    return text


def paper_rows() -> Iterator[tuple[str, str]]:
    """(name, spec text) of each row of the Cross-Layer Attention paper's tables."""
    with (ROOT / "tests" / "golden" / "papers.jsonl").open(encoding="utf-8") as file:
        for case in map(json.loads, file):
            _, _, rest = case["id"].partition("paper/cla-")
            if not rest:
                continue
            c = case["config"]
            name = f"cla-paper/{rest.replace('/', '-').lower()}"
            attention = {
                "kv_heads": c["num_key_value_heads"],
                "head_dim": c["head_dim"],
                "attention_heads": c["num_attention_heads"],
            }
            model = model_from_data(
                {
                    "name": name,
                    "source": case["source"],
                    "dtype": c["torch_dtype"],
                    "layers": c["num_hidden_layers"],
                    "attention": attention,
                    "cross_layer_sharing": c["kv_source_layer"],
                },
                name,
            )
            yield name, dump_spec(model)


def main(check: bool) -> int:
    """Write or check every spec; what is no longer made is removed."""
    made = dict((*published(), *paper_rows()))
    there = {p.relative_to(SPECS).with_suffix("").as_posix() for p in SPECS.rglob("*.yaml")}
    stale = sorted(name for name, text in made.items() if name not in there or (SPECS / f"{name}.yaml").read_text() != text)
    extra = sorted(there - made.keys())
    if check:
        print(f"{len(made)} specs, {len(stale)} would change, {len(extra)} are no longer made", *stale, *extra)
        return 1 if stale or extra else 0
    for name in stale:
        path = SPECS / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[name], encoding="utf-8")
    for name in extra:
        (SPECS / f"{name}.yaml").unlink()
    print(f"{len(made)} specs: {len(stale)} written, {len(extra)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
