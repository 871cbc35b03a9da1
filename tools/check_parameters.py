"""Compare what kvplan counts from a config with what transformers builds from it on the meta device.

    python tools/check_parameters.py                    every model type, at its class's defaults
    python tools/check_parameters.py llama gemma3       these
    python tools/check_parameters.py -c DIR [WORD]      every *.json in a folder of configs (whose name has WORD in it)

Names differ (checkpoints keep the names that old releases gave), experts are stacked in one and single in the other: compared
are the shapes of all tensors, and the elements of all experts of a kind. Needs transformers 5.23 and torch.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

from kvplan.architectures import known_model_types
from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters import counted
from kvplan.domain.parameters import Parameter
from kvplan.errors import KvplanError

Shapes = Counter[tuple[int, ...]]


def built(config: Mapping[str, Any]) -> tuple[str, dict[str, tuple[int, ...]]]:
    """(class, the parameters' shapes by name) of the model that transformers makes of a config."""
    import torch
    import transformers
    from transformers.models.auto import modeling_auto as auto

    data = json.loads(json.dumps(dict(config)))
    for section in (data, data.get("text_config"), data.get("vision_config")):
        if isinstance(section, dict):
            section.pop("quantization_config", None)
    made = transformers.AutoConfig.for_model(**data)
    named = (getattr(transformers, name, None) for name in made.architectures or [])
    found = next((cls for cls in named if hasattr(cls, "_from_config")), None)
    for mapping in (
        auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
        auto.MODEL_FOR_CAUSAL_LM_MAPPING,
        auto.MODEL_MAPPING,
    ):
        if found is None and type(made) in mapping:
            found = mapping[type(made)]
    if isinstance(found, tuple):
        found = found[0]
    if found is None:
        raise KeyError(type(made).__name__)
    with torch.device("meta"):
        model = found._from_config(made)
    return found.__name__, {name: tuple(value.shape) for name, value in model.named_parameters()}


def theirs(parameters: Mapping[str, tuple[int, ...]]) -> Shapes:
    """Their shapes: axes in any order, experts of a layer and kind together."""
    shapes: Shapes = Counter()
    experts: Counter[str] = Counter()
    for name, shape in parameters.items():
        if re.search(r"experts\.(expert_)?\d+\.", name):
            experts[re.sub(r"experts\.(expert_)?\d+\.", "experts.", name)] += prod(shape)
        elif (len(shape) == 3 and "expert" in name) or (len(shape) == 2 and "expert" in name and name.endswith("bias")):
            experts[name] += prod(shape)
        else:
            shapes[_axes(shape)] += 1
    for total in experts.values():
        shapes[(total,)] += 1
    return shapes


def ours(parameters: Iterable[Parameter]) -> Shapes:
    """Our shapes likewise; prediction layers and buffers are left out, as transformers builds none."""
    shapes: Shapes = Counter()
    halves: dict[str, list[Parameter]] = {}
    for p in parameters:
        if p.buffer or p.component == "draft":
            continue
        if p.experts and p.role in {"gate", "up"} and not p.stacked:
            prefix = f"{p.name.partition('{expert}')[0]}{p.layers}{p.name.rpartition('.')[2]}"
            halves.setdefault(prefix, []).append(p)
        else:
            shapes[(prod(p.shape) * p.experts,) if p.experts else _axes(p.shape)] += max(1, len(p.layers))
    for pair in halves.values():  # transformers keeps gate and up of all experts in one tensor
        shapes[(sum(prod(p.shape) * p.experts for p in pair),)] += max(1, len(pair[0].layers))
    return shapes


def difference(config: Mapping[str, Any]) -> str:
    """What differs, in one line; empty where nothing does."""
    tensors = counted(Config(config, str(config.get("model_type")))).tensors
    cls, parameters = built(config)
    with_head = any(
        word in cls for word in ("ForCausalLM", "LMHead", "ForConditional", "Fuyu", "Decoder", "WithLMHead", "ForImage")
    )
    a, b = ours(p for p in tensors if with_head or p.role != "head"), theirs(parameters)
    if a == b or (sum(_size(a)) == sum(_size(b)) and _flat(a) == _flat(b)):
        return ""
    return f"{cls}: {sum(_size(a)) - sum(_size(b)):+,} elements; ours alone {_few(a - b)}, theirs alone {_few(b - a)}"


def _axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(size for size in shape if size != 1)) or (1,)


def _size(shapes: Shapes) -> list[int]:
    return [prod(shape) * number for shape, number in shapes.items()]


def _flat(shapes: Shapes) -> Counter[int]:
    """By elements alone: tensors that one of the two keeps flattened."""
    flat: Counter[int] = Counter()
    for shape, number in shapes.items():
        flat[prod(shape)] += number
    return flat


def _few(shapes: Shapes) -> str:
    return ", ".join(f"{number} x {shape}" for shape, number in list(shapes.items())[:4]) or "nothing"


def main(arguments: list[str]) -> int:
    """Print what differs; 1 if anything does."""
    if arguments[:1] == ["-c"]:
        word = arguments[2] if len(arguments) > 2 else ""
        paths = sorted(path for path in Path(arguments[1]).glob("*.json") if word in path.name)
        configs = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    else:
        configs = {name: {"model_type": name} for name in arguments or known_model_types()}
    tally: Counter[str] = Counter()
    for name, config in configs.items():
        try:
            words = difference(config)
        except KvplanError as problem:
            tally["not counted"] += 1
            words = f"not counted: {problem}"
        except Exception as problem:  # transformers raises anything for a config that it does not build
            tally["not built"] += 1
            words = f"not built: {type(problem).__name__}: {str(problem)[:100]}"
        else:
            tally["differ" if words else "equal"] += 1
        if words:
            print(f"{name}: {words[:300]}")
    print(dict(tally))
    return 1 if tally["differ"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
