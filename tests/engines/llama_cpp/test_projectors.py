"""Projectors of llama.cpp: every type that it names has a rule or is refused by name; counts of its own preprocessors."""

from typing import Any

import pytest
from each import each

from kvplan.engines.llama_cpp.convert.projector import PROJECTOR_OF, filed
from kvplan.engines.llama_cpp.media import GlobalAndTiles
from kvplan.engines.llama_cpp.projectors import NOT_READ, PROJECTORS, Limits, rule_of
from kvplan.errors import Refused

#: `tools/mtmd/clip-impl.h: PROJECTOR_TYPE_NAMES` of llama.cpp 0c1e57098.
TEXT = (
    "mlp ldp ldpv2 resampler adapter qwen2vl_merger qwen2.5vl_merger qwen3vl_merger ling3vl step3vl gemma3 gemma3nv "
    "gemma3na gemma4v gemma4a gemma4uv gemma4ua phi4 idefics3 pixtral ultravox internvl llama4 qwen2a qwen3a glma qwen2.5o "
    "voxtral meralion musicflamingo lfm2 kimivl paddleocr lightonocr cogvlm janus_pro dots_ocr dots3note_v dots3note_a "
    "deepseekocr deepseekocr2 deepseek4v lfm2a glm4v glm5v youtuvl yasa2 kimik25 nemotron_v2_vl exaone4_5 hunyuanvl "
    "minicpmv4_6 granite_speech mimovl minimax_m3 granite4_vision mimo_audio parakeet qwen3tts_spkenc qwen3tts_gen "
    "pockettts_spkenc pockettts_gen muse-glimmer"
)
SIZES = [(1080, 1920), (3000, 4000), (1000, 500), (3000, 1), (768, 769), (2017, 504)]


def test_every_projector_has_a_rule_or_says_why_not() -> None:
    names = TEXT.split()
    known = {filed(name) for name in names}
    assert len(known) == len(names) - 1  # Qwen2.5-Omni's vision is Qwen2.5-VL's
    assert known == {*PROJECTORS, *NOT_READ}
    assert not PROJECTORS.keys() & NOT_READ.keys()
    assert set(PROJECTOR_OF.values()) <= PROJECTORS.keys()
    for name, why in NOT_READ.items():
        with pytest.raises(Refused, match=f"projector `{name}` was not read: {why[:20]}"):
            rule_of(name, {}, Limits())


@each(
    ("projector", "keys", "counts"),
    [
        # mtmd_image_preprocessor_*::preprocess of llama.cpp, compiled and run on sizes without pixels; None: it aborts, or more
        # pixels than were tried
        ("minimax_m3", {}, [576, 540, 528, 107, 552, 528]),
        ("ling3vl", {}, [2040, 4015, 496, 94, 576, 1008]),
        ("gemma4uv", {}, [920, 1064, 210, 459, 256, 462]),
        ("exaone4_5", {"image_min_pixels": 3136, "image_max_pixels": 1003520}, [1222, 1230, 648, 107, 729, 1207]),
        ("paddleocr", {"image_min_pixels": 147456, "image_max_pixels": 2359296}, [2691, 2961, 648, 752, 729, 1296]),
        ("phi4", {"image_min_pixels": 65536, "image_max_pixels": 921600}, [3600, 3519, 1953, 877, 2304, 3480]),
        ("hunyuanvl", {}, [2076, 11846, 529, 1756, 602, 1073]),
        ("lightonocr", {"n_merge": 2, "image_longest_edge": 1540}, [1705, 2310, 1540, 55, 3025, 770]),
        ("glm5v", {"image_min_pixels": 12544, "image_max_pixels": 6272000}, [2691, 7931, 648, 108, 784, 1314]),
        ("youtuvl", {}, [2040, 11750, 512, 94, 600, 1024]),
        ("muse-glimmer", {}, [2691, 4015, 648, 108, 784, 1296]),
        ("deepseekocr2", {}, [545, None, 545, None, 833, 833]),
        ("step3vl", {}, [817, None, 331, None, 493, 493]),
    ],
)  # fmt: skip
def test_counts_of_llama_cpps_own_preprocessors(projector: str, keys: dict[str, Any], counts: list[int | None]) -> None:
    rule = rule_of(projector, keys, Limits())
    found = [None if count is None else rule.one(*size).placeholders for size, count in zip(SIZES, counts, strict=True)]
    assert found == counts


def test_tiles_are_looked_at_in_the_engines_order_without_its_loop() -> None:
    """`mtmd_image_preprocessor_deepseekocr2`: squares from `least` to `most` on a side, of which a file may say 256."""
    for least, most in ((1, 12), (2, 6), (5, 30)):
        keys = {"preproc_min_tiles": least, "preproc_max_tiles": most}
        rule = rule_of("deepseekocr2", keys, Limits())
        assert isinstance(rule, GlobalAndTiles)
        squares = {(c, r): n for n in range(least, most + 1) for c in range(1, n + 1) for r in range(1, n + 1)}
        met = [grid for grid in squares if least <= grid[0] * grid[1] <= most]
        assert rule.order() == sorted(met, key=lambda grid: grid[0] * grid[1])
    assert len(GlobalAndTiles(side=1024, tile=768, patch=16, least=1, most=256).order()) < 2000


def test_limits_of_tokens() -> None:
    """The same with `--image-min-tokens` and `--image-max-tokens`."""
    stepped = rule_of("youtuvl", {}, Limits(most=512))
    assert [stepped.one(*size).placeholders for size in SIZES] == [493, 494, 512, 94, 484, 473]
    ranged = {"image_min_pixels": 8 * 14**2, "image_max_pixels": 4096 * 14**2}
    kimi = [rule_of("kimik25", keys, Limits(most=64)).one(1080, 1920).placeholders for keys in ({}, ranged)]
    assert kimi == [60, 1008]  # a file's range of pixels wins over the option
    longest = rule_of("lightonocr", {"n_merge": 2, "image_longest_edge": 1540}, Limits(least=64, most=1024))
    assert [longest.one(*size).placeholders for size in SIZES] == [1008, 972, 990, 439, 992, 770]


@each(
    ("projector", "keys", "count"),
    [
        ("gemma3nv", {}, 256),
        ("ldp", {"image_size": 336}, 144),
        ("adapter", {"image_size": 672, "boi": True}, 578),
        ("cogvlm", {"image_size": 490}, 1227),
        ("janus_pro", {"image_size": 384, "patch_size": 16}, 576),
        ("nemotron_v2_vl", {}, 256),
        ("yasa2", {"image_size": 512}, 64),
    ],
)
def test_projectors_of_one_size(projector: str, keys: dict[str, Any], count: int) -> None:
    """`clip_n_output_tokens`, which is the same for every image."""
    assert {rule_of(projector, keys, Limits()).one(*size).placeholders for size in SIZES} == {count}
