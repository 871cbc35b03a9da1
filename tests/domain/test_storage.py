"""Stored formats: counts of real checkpoints are met, lists of modules mean what they say, mangled configs are refused."""

import json
from typing import Any

import pytest
from each import each
from golden import CONFIGS
from hypothesis import given
from hypothesis import strategies as st

from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters import parameters
from kvplan.architectures.wrappers import text_part
from kvplan.domain.origin import Settings
from kvplan.domain.parameters import Parameter, elements
from kvplan.domain.storage import formats
from kvplan.domain.storage.formats import Format, Stored
from kvplan.domain.storage.named import NAMES, format_in, named_scheme
from kvplan.domain.storage.names import Names, bare
from kvplan.domain.storage.schemes import Scheme, scheme_of, stored
from kvplan.errors import KvplanError


def checkpoint(stem: str) -> "tuple[tuple[Parameter, ...], Scheme | None]":
    data = json.loads((CONFIGS / "hf" / f"{stem}.json").read_text(encoding="utf-8"))
    config = Config(data, stem)
    text, _ = text_part(config, data["model_type"])
    return parameters(config), scheme_of(Settings(data, stem), Settings(text.data, stem))


@each(
    ("stem", "count"),
    [  # params.tsv: elements of all tensors of the files, scales included
        ("MiniMaxAI__MiniMax-M2.5", 228_703_644_928), ("Qwen__Qwen3-235B-A22B-FP8", 235_107_904_512),
        ("Qwen__Qwen3-30B-A3B-FP8", 30_533_947_392), ("Qwen__Qwen3-32B-FP8", 32_764_027_904),
        ("RedHatAI__Llama-4-Scout-17B-16E-Instruct-FP8-dynamic", 108_659_340_800), ("deepseek-ai__DeepSeek-V3", 684_531_386_000),
        ("deepseek-ai__DeepSeek-V3.1", 684_531_386_000), ("deepseek-ai__DeepSeek-V3.2-Exp", 685_396_921_376),
        ("zai-org__GLM-5-FP8", 753_910_024_032), ("zai-org__GLM-5.1-FP8", 753_910_024_032),
    ],
)  # fmt: skip
def test_fp8_checkpoints_have_as_many_elements_as_their_files(stem: str, count: int) -> None:
    tensors, scheme = checkpoint(stem)
    assert stored(tensors, 2, scheme).elements == count


@each(
    ("stem", "count", "floats"),
    [  # params.tsv: what llmfit counted of these is the 16-bit elements and the packed bytes, `floats` the fp8 matrices too
        ("nvidia__MiniMax-M2.5-NVFP4", 116_349_510_656, False), ("nvidia__Qwen3.5-122B-A10B-NVFP4", 64_580_759_280, False),
        ("nvidia__Qwen3.6-27B-NVFP4", 18_164_649_200, True), ("nvidia__Qwen3.6-35B-A3B-NVFP4", 18_683_860_336, True),
        ("nvidia__MiniMax-M3-NVFP4", 220_479_056_768 - 57 * 128, True),  # its selection biases are in 16 bits, not in 32
    ],
)  # fmt: skip
def test_nvfp4_checkpoints_convert_the_modules_that_their_configs_name(stem: str, count: int, floats: bool) -> None:
    tensors, scheme = checkpoint(stem)
    assert scheme is not None
    found = 0
    for parameter in (p for p in tensors if p.component != "draft" and p.dtype != "float32" and not p.buffer):
        for layer in parameter.layers or (None,):
            form = scheme.format_of(parameter, layer)
            size = elements([parameter]) // max(1, len(parameter.layers))
            found += size // 2 if form is not None and form.bits == 4 else size if form is None or floats else 0
    assert found == count


def test_gpt_oss_keeps_its_experts_in_mxfp4() -> None:
    tensors, scheme = checkpoint("openai__gpt-oss-20b")
    experts = 24 * 32 * (2 * 2880 + 2880) * 2880
    rest = elements(tensors) - experts
    assert stored(tensors, 2, scheme).bytes == experts * 17 // 32 + 2 * rest


@each(
    ("form", "shape", "size"),
    [
        (formats.FP8_BLOCK, (256, 128), 256 * 128 + 2 * 4),
        (formats.FP8_BLOCK, (129, 129), 129 * 129 + 4 * 4),
        (formats.FP8_MATRIX, (4, 8), 32 + 4),
        (formats.FP8_ROW, (4, 8), 32 + 4 * 2),
        (formats.NVFP4, (4, 32), 64 + 4 * 2 + 8),
        (formats.MXFP4, (4, 64), 128 + 4 * 2),
        (formats.awq(), (256, 256), 256 * 128 + 256 * 2 * 2 + 256),
        (formats.gptq(), (256, 256), 256 * 128 + 256 * 2 * 2 + 256 + 4 * 256),
        (formats.packed_int(4, 128), (256, 256), 256 * 128 + 256 * 2 * 2 + 16),
        (formats.mlx(), (8, 128), 8 * 64 + 8 * 2 * 4),
        (formats.BNB_4BIT, (1024, 1024), 2**19 + 2**14 + 2**6 * 4 + 272 * 4),
        (formats.BNB_8BIT, (16, 64), 16 * 64 + 16 * 4),
    ],
)
def test_formats_by_hand(form: Format, shape: "tuple[int, int]", size: int) -> None:
    assert form.stored(shape).bytes == size


def tiny(name: str = "model.layers.{layer}.mlp.up_proj.weight", **changes: Any) -> Parameter:
    return Parameter(
        **{"name": name, "shape": (256, 512), "role": "up", "component": "mlp", "linear": True, "layers": (0, 1, 10)} | changes
    )


@each(
    ("entries", "kept"),
    [
        ([], ()), (["lm_head"], ()), (["mlp"], (0, 1, 10)), (["up_proj"], (0, 1, 10)), (["model.layers.1.mlp.up_proj"], (1,)),
        (["layers.1"], (1,)), (["model.layers.1.*"], (1,)), (["model.layers.1*"], (1, 10)),
        (["re:.*layers\\.(0|10)\\..*"], (0, 10)),
        (["re:model.language_model.*"], ()), (["model.language_model.layers.0.mlp.up_proj"], (0,)), (["down_proj", "gate"], ()),
        (["*.feed_forward.*"], (0, 1, 10)), (["model.layers.0.mlp.up_proj.weight"], (0,)),
    ],
)  # fmt: skip
def test_a_list_means_the_modules_that_it_names(entries: "list[str]", kept: "tuple[int, ...]") -> None:
    scheme = scheme_of(Settings({"quantization_config": {"quant_method": "fp8", "ignored_layers": entries}}), Settings({}))
    assert scheme is not None
    assert tuple(layer for layer in (0, 1, 10) if scheme.format_of(tiny(), layer) is None) == kept


@each("entry", ["re:(a+)+$", "re:[", "re:.*a.*b.*c.*d.*e", "re:" + "x" * 300, "re:(?:a|b){3,}"])
def test_expressions_that_could_take_long_are_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="expression"):
        Names([entry])


@given(st.text(max_size=30), st.lists(st.text(max_size=12), max_size=5))
def test_any_name_is_in_a_list_or_not(name: str, entries: "list[str]") -> None:
    try:
        names = Names(entries)
    except ValueError:
        return
    assert (name in names) in {True, False}
    assert bare(bare(name)) == bare(name) or "." in name


@each("name", NAMES)
def test_every_named_format_is_lighter_than_sixteen_bits(name: str) -> None:
    scheme = named_scheme(name, [tiny()])
    assert scheme is not None
    assert stored([tiny()], 2, scheme).bytes < stored([tiny()], 2).bytes
    norm = tiny(shape=(512,), role="norm", component="norm", linear=False)
    assert stored([norm], 2, scheme) == stored([norm], 2)


@each(
    ("repository", "form"),
    [
        ("Qwen3-32B-AWQ", "awq"), ("Meta-Llama-3.1-70B-Instruct-AWQ-INT4", "awq"), ("llama-3-8b-bnb-4bit", "bnb-4bit"),
        ("Qwen2.5-7B-Instruct-GPTQ-Int8", "gptq-int8"), ("Qwen2.5-7B-Instruct-GPTQ-Int4", "gptq"), ("Qwen3-8B-4bit", "mlx-4bit"),
        ("Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "w8a8"), ("Llama-3.3-70B-Instruct-FP8-dynamic", "fp8"),
        ("Llama-3.1-8B", ""),
        ("gpt-oss-20b", ""), ("Llama-4-Scout-17B-16E-Instruct-NVFP4", "nvfp4"), ("w4a16less", ""),
    ],
)  # fmt: skip
def test_the_format_in_a_repositorys_name(repository: str, form: str) -> None:
    assert format_in(repository) == form


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
METHODS = ("fp8", "awq", "gptq", "mxfp4", "bitsandbytes", "modelopt", "compressed-tensors", "fbgemm_fp8", "mlx", "", "quark")
KEYS = (
    "weight_block_size", "bits", "w_bit", "group_size", "ignore", "config_groups", "quant_algo", "quantized_layers",
    "activation_scheme",
    "modules_to_not_convert", "load_in_8bit", "format", "scale_fmt",
)  # fmt: skip


@given(st.sampled_from(METHODS), st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=4))
def test_mangled_quantisation_configs_are_read_or_refused(method: str, keys: "dict[str, Any]") -> None:
    try:
        scheme = scheme_of(Settings({"quantization_config": {"quant_method": method, **keys}}), Settings({}))
        found = stored([tiny(), tiny(experts=4)], 2, scheme)
    except KvplanError as problem:
        found, message = Stored(0, 0), str(problem)
    else:
        message = ""
    assert "\n" not in message
    assert found.bytes >= 0
