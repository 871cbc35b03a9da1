"""Write `model_specs/`: one small spec a published model, from the real configs in `tests/configs/hf`.

    python tools/make_catalogue.py            write every spec
    python tools/make_catalogue.py --check    exit 1 if a spec would change

A config is trimmed by rule: what the architecture reader and the counter of parameters look at, and KEEP, which engines look
at. The trimmed config must read as the whole one does, and give the same tensors, or nothing is written. Keys that a file
leaves out come from `tools/catalogue_keys.py`. `parameters` is what the tensors count to, which must be the known count
(`tests/configs/params.tsv`) or be explained there. The CLA paper's rows come from `tests/golden/papers.jsonl`.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from catalogue_keys import MENDED, NOTES, ORIGINALS, UNEQUAL, completed

from kvplan import architectures
from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters import counted
from kvplan.domain.model import Model
from kvplan.domain.origin import Settings
from kvplan.domain.parameters import Parameter, elements
from kvplan.domain.storage.schemes import scheme_of, stored
from kvplan.errors import KvplanError
from kvplan.loading.catalogue import candidates
from kvplan.loading.yaml_spec.read import model_from_data, parse_spec
from kvplan.loading.yaml_spec.text import block
from kvplan.loading.yaml_spec.write import dump_spec
from kvplan.units import ceil_div

ROOT = Path(__file__).resolve().parent.parent
SPECS = ROOT / "model_specs"
CONFIGS = ROOT / "tests" / "configs"

#: Keys that engines (not the reader) look at, kept where a config has them.
KEEP = frozenset({
    "architectures", "model_type", "torch_dtype", "dtype", "hidden_size", "d_model", "n_embd", "vocab_size",
    "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings", "n_positions", "n_ctx",
    "use_sliding_window", "sliding_window", "max_window_layers", "layer_types", "is_encoder_decoder", "num_nextn_predict_layers",
    "expert_dtype", "tie_word_embeddings", "rope_theta", "rope_local_base_freq", "partial_rotary_factor", "rotary_pct",
    "rotary_dim",
    "sliding_window_pattern", "num_experts_per_tok", "moe_topk", "experts_per_token", "top_k_experts", "moe_top_k",
    "final_logit_softcapping", "alibi", "attn_config", "position_embedding_type", "kv_lora_rank", "qk_rope_head_dim",
    "qk_nope_head_dim", "v_head_dim", "index_topk", "indexer_rope_interleave", "linear_num_key_heads", "linear_key_head_dim",
    "linear_num_value_heads", "linear_value_head_dim", "image_size", "patch_size", "spatial_merge_size",
    "mm_tokens_per_image", "vision_soft_tokens_per_image", "rope_type",
    "n_group", "topk_group", "num_expert_group", "norm_topk_prob", "routed_scaling_factor", "mtp_use_dedicated_embeddings",
    "sparse_disable_index_value", "sparse_attention_freq", "sparse_index_dim", "use_sparse_attention", "deepstack_visual_indexes",
    "hybrid_layer_pattern", "compress_rate_csa", "compress_rate_hca", "indexer_compress_ratio",
})  # fmt: skip
#: Sections that are kept whole but for long lists: the shape of rotary embeddings.
WHOLE = frozenset({"rope_scaling", "rope_parameters"})
#: A count further from the known one needs a reason in `UNEQUAL`.
CLOSE = 0.001
#: Sections that say what a model also takes in, kept even where nothing in them was read.
SENSES = ("vision_config", "audio_config")
#: Files whose name by rule would be clumsy.
NAMES = {
    "allenai__OLMo-2-1124-7B-Instruct": "olmo-2-1124-7b-instruct",  # bfloat16, and the base is float32
    "allenai__OLMo-2-1124-13B-Instruct": "olmo-2-1124-13b-instruct",
    "mistralai__Mistral-7B-v0.1": "mistral-7b-v0.1",
    "mistralai__Mistral-7B-Instruct-v0.1": "mistral-7b-v0.1",
    "mistralai__Mistral-7B-Instruct-v0.2": "mistral-7b-v0.2",
    "mistralai__Mistral-7B-v0.3": "mistral-7b-v0.3",
    "mistralai__Mistral-7B-Instruct-v0.3": "mistral-7b-v0.3",
    "BAAI__bge-base-en-v1.5": "bge-base-en-v1.5",
    "IQuestLab__IQuest-Coder-V1-40B-Instruct": "iquest-coder-v1-40b",
}
#: Models that have no whole config in `tests/configs/hf`, from the config of a recorded case: name -> (file, model).
RECORDED = {
    "bart-base": ("transformers", "facebook/bart-base"),
    "bloom": ("transformers", "bigscience/bloom"),
    "bloom-560m": ("transformers", "bigscience/bloom-560m"),
    "bloom-7b1": ("transformers", "bigscience/bloom-7b1"),
    "command-r-plus": ("transformers", "CohereForAI/c4ai-command-r-plus"),
    "command-r7b": ("vllm", "CohereForAI/c4ai-command-r7b-12-2024"),
    "deepseek-coder-33b": ("transformers", "deepseek-ai/deepseek-coder-33b-base"),
    "deepseek-llm-67b": ("transformers", "deepseek-ai/deepseek-llm-67b-base"),
    "deepseek-llm-7b": ("transformers", "deepseek-ai/deepseek-llm-7b-base"),
    "falcon-h1-0.5b": ("vllm", "tiiuae/Falcon-H1-0.5B-Instruct"),
    "falcon-h1-34b": ("vllm", "tiiuae/Falcon-H1-34B-Instruct"),
    "falcon-rw-1b": ("transformers", "tiiuae/falcon-rw-1b"),
    "gemma-3-270m": ("transformers", "google/gemma-3-270m"),
    "gpt-neo-1.3b": ("transformers", "EleutherAI/gpt-neo-1.3B"),
    "gpt-neo-2.7b": ("transformers", "EleutherAI/gpt-neo-2.7B"),
    "granite-3.0-2b": ("transformers", "ibm-granite/granite-3.0-2b-base"),
    "granite-3.0-8b": ("transformers", "ibm-granite/granite-3.0-8b-base"),
    "hunyuan-large": ("vllm", "tencent/Tencent-Hunyuan-Large"),
    "jamba-1.5-large": ("transformers", "ai21labs/AI21-Jamba-1.5-Large"),
    "llama-13b": ("transformers", "huggyllama/llama-13b"),
    "llama-65b": ("transformers", "huggyllama/llama-65b"),
    "llama-7b": ("transformers", "huggyllama/llama-7b"),
    "llava-1.5-13b": ("transformers", "llava-hf/llava-1.5-13b-hf"),
    "mamba-codestral-7b": ("vllm", "mistralai/Mamba-Codestral-7B-v0.1"),
    "ministral-8b": ("transformers", "mistralai/Ministral-8B-Instruct-2410"),
    "mpt-30b": ("transformers", "mosaicml/mpt-30b"),
    "nllb-200-distilled-600m": ("transformers", "facebook/nllb-200-distilled-600M"),
    "paligemma-3b-pt-224": ("transformers", "google/paligemma-3b-pt-224"),
    "persimmon-8b": ("transformers", "adept/persimmon-8b-base"),
    "starcoder2-15b": ("transformers", "bigcode/starcoder2-15b"),
    "starcoder2-3b": ("transformers", "bigcode/starcoder2-3b"),
    "step3": ("vllm", "stepfun-ai/step3"),
    "whisper-base": ("transformers", "openai/whisper-base"),
    "whisper-large-v3": ("transformers", "openai/whisper-large-v3"),
    "whisper-large-v3-turbo": ("transformers", "openai/whisper-large-v3-turbo"),
    "whisper-medium": ("transformers", "openai/whisper-medium"),
    "whisper-small": ("transformers", "openai/whisper-small"),
    "xglm-564m": ("transformers", "facebook/xglm-564M"),
    "zamba2-7b": ("vllm", "Zyphra/Zamba2-7B"),
}
#: Files with only a model's dimensions, whose shipped config.json spells `"sliding_window": null`: the class default would
#: make every layer slide. File -> the section that holds the key.
WINDOWLESS = {
    "mistralai__Mistral-7B-Instruct-v0.2": None,
    "mistralai__Mistral-Large-Instruct-2407": None,
    "mistralai__Mistral-Large-Instruct-2411": None,
    "mistralai__Mistral-Small-24B-Instruct-2501": None,
    "mistralai__Mistral-Small-3.1-24B-Instruct-2503": "text_config",
}
#: Files that no entry is made of: INDEX.tsv has only their dimensions, and an absent key decides.
SKIP = frozenset({
    "mistralai__Mistral-7B-v0.3",
    "tencent__Tencent-Hunyuan-Large",  # without the head size, which is not hidden size / heads
})  # fmt: skip
#: Files that stand for their name before others: the copy that people use.
PREFERRED = frozenset(
    {"meta-llama__Llama-4-Scout-17B-16E-Instruct", "openbmb__MiniCPM-2B-sft-bf16", "mistralai__Mistral-7B-Instruct-v0.3"}
)
#: Longer lists are shortened.
LONG = 24
DATE = re.compile(r"\d{4}")
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
        """The keys that were looked at, and KEEP."""
        kept = {}
        for key, value in self.items():
            if isinstance(value, Recording):
                if key == "quantization_config":
                    inner = shortened(value)
                elif key in WHOLE:
                    inner = {k: v for k, v in value.items() if not isinstance(v, list) or len(v) <= LONG}
                else:
                    inner = value.trimmed() if key in self.seen or key in SENSES else {}
                if inner or key in SENSES:
                    kept[key] = inner
            elif key in self.seen or (key in KEEP and value is not None):  # a null may mean other than an absent key
                kept[key] = value
        return kept


def shortened(quant: Mapping[str, Any]) -> dict[str, Any]:
    """A `quantization_config` whose lists of modules name layers by a star; what describes its making is left out."""
    kept: dict[str, Any] = {}
    for key, value in quant.items():
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value) and len(value) > LONG:
            entries = (entry if entry.startswith("re:") else re.sub(r"\b\d+\b", "*", entry) for entry in value)
            kept[key] = sorted(set(entries))
        elif isinstance(value, Mapping):
            kept[key] = shortened(value)
        elif value is not None and key not in {"observer", "observer_kwargs", "producer"}:
            kept[key] = value
    return {key: value for key, value in kept.items() if key not in {"producer", "observer_kwargs"}}


def tensors(data: Mapping[str, Any], source: str) -> tuple[Parameter, ...] | None:
    """What the counter makes of a config; None where no rule counts it."""
    try:
        return counted(Config(data, source)).tensors
    except KvplanError as problem:
        print(f"not counted: {problem}", file=sys.stderr)
        return None


def stored_bytes(data: Mapping[str, Any], model: Model, found: tuple[Parameter, ...]) -> int:
    """What the checkpoint takes."""
    assert model.origin is not None
    return stored(found, 2, scheme_of(Settings(data), model.origin.text)).bytes


def trimmed_config(data: dict[str, Any], source: str) -> tuple[dict[str, Any], Model]:
    """A config without what decides nothing, and the model that it describes."""
    recording = Recording(data)
    model = architectures.read(recording, source=source)
    found = tensors(recording, source)
    small = recording.trimmed()
    again = architectures.read(small, source=source)
    if again != model:
        raise SystemExit(f"{source}: the trimmed config reads as another model")
    if found is not None:
        if tensors(small, source) != found and "id2label" in data:
            small["id2label"] = data["id2label"]  # a classifier's scores
            again = architectures.read(small, source=source)
        if tensors(small, source) != found:
            raise SystemExit(f"{source}: the trimmed config has other tensors")
        if stored_bytes(small, again, found) != stored_bytes(data, model, found):
            small["quantization_config"] = data["quantization_config"]  # its lists do not mean all layers
            again = architectures.read(small, source=source)
            if stored_bytes(small, again, found) != stored_bytes(data, model, found):
                raise SystemExit(f"{source}: the trimmed config's checkpoint has another size")
    return small, again


def rows() -> list[dict[str, str]]:
    """INDEX.tsv, the most trustworthy copy and the plainest name first."""
    with (CONFIGS / "INDEX.tsv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    mirrors = ("nvidia/", "RedHatAI/", "sgl-project/")

    def rank(row: dict[str, str]) -> tuple[Any, ...]:
        hub = row["hub_id"]
        mirror = hub.startswith(mirrors) and ("NVFP4" in hub or "FP8" in hub)
        preferred = row["file"].removesuffix(".json") in PREFERRED
        return not preferred, mirror, len(list(candidates(hub.rpartition("/")[2]))), KINDS[row["copy_kind"]], len(hub), hub

    return sorted((row for row in found if row["file"].removesuffix(".json") not in SKIP), key=rank)


@cache
def parameters() -> dict[str, int]:
    """Hub id -> parameters, from params.tsv; counts of packed storage elements and round figures are left out."""
    with (CONFIGS / "params.tsv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    exact = (r for r in found if r["total_params"] and "+" not in (r["dtype"] or ""))
    unclear = ("quantised", "round", "packed")
    return {r["model"]: int(r["total_params"]) for r in exact if not any(word in (r["note"] or "") for word in unclear)}


def is_quantised(data: Mapping[str, Any]) -> bool:
    """Whether the checkpoint is stored in another type than its dtype, so that parameters do not tell its bytes."""
    return any(section.get("quantization_config") for section in (data, data.get("text_config") or {}))


def count(hub: str, name: str) -> int | None:
    """The parameters of a repository, or of a copy of it."""
    return parameters().get(hub) or next((n for other, n in parameters().items() if is_copy(other, hub, name)), None)


def is_copy(other: str, hub: str, name: str) -> bool:
    """Whether a repository is a tuned or republished copy of the entry `name`: as many parameters."""
    owner, _, repository = other.partition("/")
    return owner == hub.partition("/")[0] and name in candidates(repository.lower())


def published() -> Iterator[tuple[str, str]]:
    """(name, spec text) of every model whose architecture is known."""
    taken: dict[str, Model] = {}
    for row in rows():
        stem = row["file"].removesuffix(".json")
        data = json.loads((CONFIGS / "hf" / row["file"]).read_text(encoding="utf-8"))
        said = f"{SAID[row['copy_kind']]} ({row['source'][:160]})"
        if stem in WINDOWLESS:
            section = WINDOWLESS[stem]
            (data[section] if section else data)["sliding_window"] = None
            said += "; sliding_window is null in the shipped config.json"
        whole = completed(stem, data)
        hub = ORIGINALS.get(stem, row["hub_id"])
        if stem in ORIGINALS:
            said += "; its quantization_config left out, as the model itself has none"
        elif whole != data:
            said += "; keys that decide its weights added (tools/catalogue_keys.py)"
        try:
            config, model = trimmed_config(whole, stem)
        except KvplanError as problem:
            print(f"left out: {problem}", file=sys.stderr)
            continue
        for name in choices(row):
            if name not in taken:
                taken[name] = model
                known = None if is_quantised(data) else count(hub, name)
                yield name, entry(name, hub, said, config, parameters=parameters_of(name, config, known))
            if same(taken[name], model, tuned=is_tuned(name, row)):
                break
            print(f"{row['hub_id']}: differs from {name}: {difference(taken[name], model)}", file=sys.stderr)


def choices(row: dict[str, str]) -> list[str]:
    """Names for a file's entry, the shortest first."""
    stem = row["file"].removesuffix(".json")
    return [NAMES[stem]] if stem in NAMES else list(candidates(row["hub_id"].rpartition("/")[2]))[::-1]


def is_tuned(name: str, row: dict[str, str]) -> bool:
    """Whether a repository is `name` but for tuning and format words: its layers count, not how long it was tuned."""
    words = re.sub(r"(?<=\d)_(?=\d)", ".", row["hub_id"].rpartition("/")[2].lower()).replace("_", "-").split("-")
    return not any(DATE.fullmatch(word) and word not in name for word in words)


def same(a: Model, b: Model, *, tuned: bool) -> bool:
    """Whether one entry may stand for both: the same bytes, and the same longest context unless one is a tuned variant."""
    return a.layers == b.layers and a.dtype == b.dtype and (tuned or a.max_tokens == b.max_tokens)


def difference(a: Model, b: Model) -> str:
    """What keeps two models apart, in a few words."""
    if a.layers != b.layers:
        return "layers"
    return f"dtype {a.dtype} and {b.dtype}" if a.dtype != b.dtype else f"max_tokens {a.max_tokens} and {b.max_tokens}"


def recorded() -> Iterator[tuple[str, str]]:
    """(name, spec text) of each model in RECORDED."""
    cases: dict[tuple[str, str], dict[str, Any]] = {}
    for stem in sorted({file for file, _ in RECORDED.values()}):
        with (ROOT / "tests" / "golden" / f"{stem}.jsonl").open(encoding="utf-8") as file:
            for case in map(json.loads, file):
                cases.setdefault((stem, case["model"]), case)
    for name, key in RECORDED.items():
        try:
            config, _ = trimmed_config(completed(name, cases[key]["config"]), name)
        except KvplanError as problem:
            print(f"left out: {problem}", file=sys.stderr)
            continue
        said = f"the config of a recorded run (tests/golden/{key[0]}.jsonl, {cases[key]['id']})"
        yield name, entry(name, key[1], said, config, parameters=parameters_of(name, config, count(key[1], name)))


def parameters_of(name: str, config: Mapping[str, Any], known: int | None) -> int | None:
    """What an entry's `parameters` says: what its tensors count to, unless `UNEQUAL` says that the known count is right.

    Raises:
        SystemExit: the two differ and nobody has said why.
    """
    found = tensors(config, name)
    if found is None:
        return known
    number = elements(found)
    if known is None or abs(number / known - 1) <= CLOSE:
        return number
    if name not in UNEQUAL:
        raise SystemExit(f"{name}: counts to {number:,}, and {known:,} is known: say why in tools/catalogue_keys.py")
    return known if UNEQUAL[name].startswith("config: ") else number


def entry(name: str, hub: str, source: str, config: dict[str, Any], *, parameters: int | None = None) -> str:
    """The text of one spec."""
    counted: dict[str, Any] = {"notes": NOTES[name]} if name in NOTES else {}
    counted |= {"parameters": parameters} if parameters else {}
    source += MENDED.get(name, "")
    text = "".join(f"{line}\n" for line in block({"name": name, "hub": hub, "source": source, **counted, "config": config}))
    parse_spec(text.encode(), f"{name}.yaml")
    return text


def paper_parameters(c: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of one of the paper's designs, whose feed-forward width and vocabulary its tables do not give.

    Attention is as the table says. A gated feed-forward of 8/3 d and a plain one of 4 d both hold 8 d² parameters a layer; Llama
    rounds the gated width up to a multiple of 256. GPT-NeoX's tokenizer has 50,257 entries, 50,432 where padded as its authors
    pad them; the output matrix is the embedding's or one of its own.
    """
    width, layers, heads, kv_heads, dim = (
        c[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
    )
    attention = 2 * layers * width * heads * dim + 2 * c["num_kv_layers"] * width * kv_heads * dim
    rest = attention + (2 * layers + 1) * width  # with two norms a layer and the last
    plain, rounded = 8 * width * width * layers, 3 * width * layers * 256 * ceil_div(8 * width, 3 * 256)
    return {
        "assumed": rest + plain + 2 * 50_257 * width,
        "low": rest + plain + 50_257 * width,
        "high": rest + rounded + 2 * 50_432 * width,
        "because": "the paper names no feed-forward width: 8/3 of the hidden size in Llama's way, GPT-NeoX's vocabulary",
    }


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
                    "parameters": paper_parameters(c),
                    "layers": c["num_hidden_layers"],
                    "attention": attention,
                    "cross_layer_sharing": c["kv_source_layer"],
                },
                name,
            )
            yield name, dump_spec(model)


def main(check: bool) -> int:
    """Write or check every spec; what is no longer made is removed."""
    made = dict((*published(), *recorded(), *paper_rows()))
    there = {p.relative_to(SPECS).with_suffix("").as_posix() for p in SPECS.rglob("*.yaml")}
    order = "".join(f"{name.removeprefix('cla-paper/')}\n" for name, _ in paper_rows())  # which catalogue.expanded keeps
    kept = SPECS / "cla-paper" / "order.txt"
    misplaced = not kept.is_file() or kept.read_text(encoding="utf-8") != order
    stale = sorted(name for name, text in made.items() if name not in there or (SPECS / f"{name}.yaml").read_text() != text)
    extra = sorted(there - made.keys())
    if check:
        print(f"{len(made)} specs, {len(stale)} would change, {len(extra)} are no longer made", *stale, *extra)
        return 1 if stale or extra or misplaced else 0
    for name in stale:
        path = SPECS / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[name], encoding="utf-8")
    kept.write_text(order, encoding="utf-8")
    for name in extra:
        (SPECS / f"{name}.yaml").unlink()
    print(f"{len(made)} specs: {len(stale)} written, {len(extra)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
