"""Write `kvplan/architectures/parameters/class_defaults.json`: what transformers' config classes assume about sizes.

    python tools/make_parameter_defaults.py            (needs transformers 5.24.0)

A config.json leaves out what equals its class's default. Kept are the defaults of the fields that the counters of
parameters may read, of every model type that kvplan reads and of the parts inside their configs (towers); `fixed` parts have
one class, whatever their `model_type` says. Lists with one entry a layer are left out: they belong to the default's own
number of layers.
"""

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from kvplan.architectures import known_model_types

OUT = Path(__file__).resolve().parent.parent / "kvplan" / "architectures" / "parameters" / "class_defaults.json"

#: Fields that never decide a shape.
SKIP = re.compile(
    r"dropout|drop_path|layerdrop|token_id|_token_|_token$|token_index|^eos|^bos|^pad_|_pad|init|use_cache|output_(attentions|hidden|router|scores|logits|values)|return|problem|label|(^|_)eps|epsilon|rope|theta|"
    r"transformers|torch|^dtype|chunk_size_feed|act$|act_fn|activation|^is_(?!encoder_decoder)|prune|^tf_|id$|task|loss|"
    r"coef|position_embedding_type|attribute_map|model_type|_name|implement|jitter|prob|softcap|pretraining|capping|"
    r"sub_configs|base_model|base_config|extra_|_auto_class|architectures|layer_types|layers_block_type|indexer_types|"
    r"pdrop|mask_|summary_|scale_|reorder|apply_spec|sampling_rate|strategy|topk|top_k|attention_type$|factor$|"
    r"mamba_chunk|time_step_(min|max|floor|limit)|multiplier$|range$|temperature|dilation|norm_eps|num_logits"
)


def fields(cls: type) -> dict[str, Any]:
    """A class's defaults that may decide shapes."""
    found = {}
    for key, field in cls.__dataclass_fields__.items():  # type: ignore[attr-defined]
        value = field.default if field.default is not dataclasses.MISSING else None
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        if value is None or SKIP.search(key) or not isinstance(value, bool | int | float | str | list | tuple):
            continue
        if isinstance(value, list | tuple) and (len(value) > 40 or not all(isinstance(v, int | float | str) for v in value)):
            continue
        found[key] = value
    aliases = {alias: key for alias, key in cls.attribute_map.items() if not SKIP.search(alias)}  # type: ignore[attr-defined]
    return {**found, **({"_aliases": aliases} if aliases else {})}


def collect(model_type: str, cls: type, into: dict[str, Any]) -> None:
    """A class and the parts in its config."""
    if model_type in into or not model_type:
        return
    into[model_type] = fields(cls)
    parts: dict[str, Any] = {}
    for key, spec in (getattr(cls, "sub_configs_defaults", None) or {}).items():
        name = spec.model_type
        inner = spec.config_class if issubclass(spec.config_class, PretrainedConfig) else CONFIG_MAPPING[name]
        given = {
            k: v for k, v in spec.init_kwargs.items() if isinstance(v, bool | int | float | str | list) and not SKIP.search(k)
        }
        fixed = (getattr(cls, "sub_configs", None) or {}).get(key) not in (None, AutoConfig)  # whatever its model_type says
        parts[key] = {
            "type": name,
            **({"given": given} if given else {}),
            **({"optional": True} if spec.optional else {}),
            **({"fixed": True} if fixed else {}),
        }
        collect(name, inner, into)
    if parts:
        into[model_type]["_parts"] = parts


def main() -> int:
    """Write the file."""
    found: dict[str, Any] = {}
    for model_type in sorted(known_model_types()):
        if model_type in CONFIG_MAPPING and issubclass(CONFIG_MAPPING[model_type], PretrainedConfig):
            collect(model_type, CONFIG_MAPPING[model_type], found)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(found[name], separators=(',', ':'))}" for name in sorted(found))
    OUT.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    print(f"{len(found)} classes, {OUT.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
