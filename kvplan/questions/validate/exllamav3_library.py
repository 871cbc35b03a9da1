"""ExLlamaV3's own classes from a config: the library imported, with or without its kernels, and a model without weights."""

import importlib.machinery
import importlib.util
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import MagicMock

from kvplan.domain.model import Model
from kvplan.engines.exllamav3.engine import ExLlamaV3
from kvplan.engines.exllamav3.models import named
from kvplan.errors import EnvironmentMissing, InputError
from kvplan.questions.validate.devices import import_torch

#: Packages that only run kernels or grammars.
_STAND_INS: Final = ("exllamav3_ext", "triton", "formatron", "kbnf")
#: Keys that a shortened config may lack and that decide no cache tensor.
_NEUTRAL: Final[Mapping[str, Any]] = {
    "rms_norm_eps": 1e-6, "layer_norm_eps": 1e-5, "norm_eps": 1e-5, "layernorm_epsilon": 1e-5, "intermediate_size": 4096,
    "moe_intermediate_size": 1024, "shared_expert_intermediate_size": 1024, "hidden_act": "silu", "vocab_size": 32000,
    "rope_theta": 10000.0, "num_experts": 8, "num_local_experts": 8, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "n_shared_experts": 1, "routed_scaling_factor": 1.0, "first_k_dense_replace": 0, "logit_scale": 1.0,
    "q_lora_rank": 1024, "norm_topk_prob": True, "image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3,
    "vision_end_token_id": 4, "layer_norm_epsilon": 1e-5, "moe_num_experts": 8, "index_n_heads": 32, "no_rope_layers": [],
    "order_of_interleaved_layers": "local_attn_first", "vision_soft_tokens_per_image": 280,
    "mm_tokens_per_image": 256, "spatial_patch_size": 14, "moe_k": 2, "index_topk": 2048,
}  # fmt: skip
#: The same for the sections of wrappers.
_VISION: Final[Mapping[str, Any]] = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_heads": 16,
    "num_hidden_layers": 1, "depth": 1, "patch_size": 16, "image_size": 896, "spatial_merge_size": 2, "temporal_patch_size": 2,
    "in_channels": 3, "num_channels": 3, "out_hidden_size": 1024, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "head_dim": 72,
    "deepstack_visual_indexes": [], "num_position_embeddings": 2304, "window_size": 112, "fullatt_block_indexes": [0],
    "num_soft_tokens": 280, "pooling_kernel_size": 3, "num_patches": 256,
}  # fmt: skip
#: What wrappers read of an image preprocessor, which never reaches the cache.
_PREPROCESSOR: Final[Mapping[str, Any]] = {
    "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3,
    "rescale_factor": 1 / 255, "do_convert_rgb": True, "do_rescale": True, "do_normalize": True, "do_resize": True,
    "size": {"shortest_edge": 65536, "longest_edge": 16777216, "height": 896, "width": 896}, "patch_size": 16, "merge_size": 2,
    "temporal_patch_size": 2, "max_soft_tokens": 280, "pooling_kernel_size": 3,
}  # fmt: skip
#: Wrapper's class, by how its name begins -> the processor that it insists on.
_PROCESSORS: Final = {
    "Qwen2_5": "Qwen2_5_VLImageProcessor", "Gemma3": "Gemma3ImageProcessor", "Mistral3": "PixtralImageProcessorFast",
    "Glm": "Glm4vImageProcessor", "Lfm2": "Lfm2VlImageProcessorFast", "": "Qwen2VLImageProcessorFast",
}  # fmt: skip
_MISSING: Final = re.compile(r"Missing any of the following keys: \[(.*)\]|Key \['?(\w+)'?\] expected but not present")
_WRAPPED: Final = "vision_config"


class _StandIn:
    """Finds the packages of `_STAND_INS` that are not installed, and puts a mock there."""

    def __init__(self) -> None:
        self.used: list[str] = []
        self._names = tuple(name for name in _STAND_INS if importlib.util.find_spec(name) is None)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The import system's question."""
        if name.partition(".")[0] not in self._names:
            return None
        origin = "stand-in" + importlib.machinery.EXTENSION_SUFFIXES[0]
        return importlib.machinery.ModuleSpec(name, self, origin=origin, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> Any:
        """A module of mocks."""
        module = MagicMock(name=spec.name)
        module.__path__ = []
        self.used.append(spec.name)
        return module

    def exec_module(self, module: Any) -> None:
        """Nothing to run."""


@contextmanager
def opened() -> Iterator[tuple[Any, str, bool]]:
    """The exllamav3 module, its release, and whether its compiled kernels are there.

    Raises:
        EnvironmentMissing: it is not installed, or does not start.
    """
    import_torch()
    if importlib.util.find_spec("exllamav3") is None:
        raise EnvironmentMissing("exllamav3 is not installed, so nothing was compared", hint="pip install exllamav3")
    real = importlib.util.find_spec("exllamav3_ext") is not None  # it would be compiled otherwise, which takes minutes
    finder = _StandIn()
    if not real:
        sys.meta_path.insert(0, finder)
    try:
        library, version = _imported()
        yield library, version, real
    finally:
        if not real:
            sys.meta_path.remove(finder)
            for name in finder.used:
                sys.modules.pop(name, None)


def _imported() -> tuple[Any, str]:
    """The library and its release."""
    try:
        with redirect_stdout(io.StringIO()):
            library, version = import_module("exllamav3"), import_module("exllamav3.version")
    except Exception as problem:  # a missing dependency, or whatever a compiler says
        said = str(problem).strip().splitlines() or [""]
        raise EnvironmentMissing(
            f"exllamav3 cannot be imported: {type(problem).__name__}: {said[0][:200]}", hint="pip install exllamav3"
        ) from problem
    return library, str(vars(version)["__version__"])


def built(library: Any, model: Model, engine: ExLlamaV3) -> tuple[Any, tuple[str, ...]]:
    """The library's model without weights, and the keys that its config lacked.

    Raises:
        InputError: the library refuses the config; its own words are in the message.
    """
    config = dict(model.origin.config) if model.origin is not None else {}
    config.setdefault("architectures", [named(model)[0]])
    filled: list[str] = []
    while True:
        try:
            return _network(library, config, engine), tuple(filled)
        except Exception as problem:  # whatever the library raises is its answer
            wanted = _lacking(str(problem), filled)
            if wanted is None:
                said = f"{type(problem).__name__}: {str(problem).strip().splitlines()[0][:200] if str(problem).strip() else ''}"
                raise InputError(
                    f"the library does not take this config: {said}", hint="give the checkpoint's whole config.json"
                ) from problem
            filled.append(wanted)
            _fill(config, wanted)


def _fill(config: dict[str, Any], wanted: str) -> None:
    """A neutral value for a key, in its section; the whole section of a wrapper's encoder."""
    section, _, key = wanted.rpartition("->")
    if wanted == _WRAPPED:
        config[wanted] = {**_VISION, "model_type": config.get("model_type"), **(config.get(wanted) or {})}
    elif section:
        config[section] = {**(config.get(section) or {}), key: _NEUTRAL[key]}
    else:
        config[key] = _NEUTRAL[key]


def _lacking(message: str, filled: list[str]) -> str | None:
    """The key that the library misses, where its value decides no cache tensor; for a wrapper's, its whole section."""
    match = _MISSING.search(message)
    keys = [key.strip(" '\"") for key in ((match[1] or match[2]) if match else "").split(",")]
    known = (key for key in keys if key.rpartition("->")[2] in _NEUTRAL and key.count("->") <= 1)
    found = next((key for key in known if key not in filled), None)
    if _WRAPPED in filled or (found and not found.startswith(_WRAPPED)):
        return found
    return _WRAPPED if any(key.startswith(_WRAPPED) or key in _VISION for key in keys) else found


def _network(library: Any, config: Mapping[str, Any], engine: ExLlamaV3) -> Any:
    options = engine.options
    processor = next(name for start, name in _PROCESSORS.items() if str(config["architectures"][0]).startswith(start))
    layer_map = {"layer_map": options.layer_map} if options.layer_map.strip() else {}
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        for name in ("preprocessor_config.json", "processor_config.json"):
            told = {**_PREPROCESSOR, "image_processor_type": processor}
            (Path(folder) / name).write_text(json.dumps({"image_processor": told, **told}), encoding="utf-8")
        read = library.Config.from_directory(folder, **layer_map)
        return library.Model.from_config(read, **({"swa_full": True} if options.swa_full else {}))
