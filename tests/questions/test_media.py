"""`--images`, `--video`, `--audio`: what they are in each engine, where their bytes are, what they change, what is refused."""

import json
import shlex
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from each import each
from golden import CONFIGS
from hypothesis import given, settings
from hypothesis import strategies as st

import kvplan
from kvplan.architectures.describe import describe
from kvplan.architectures.media import processor, processor_of
from kvplan.architectures.media.index import ROWS
from kvplan.cli.app import main
from kvplan.domain.media.asked import MOST_SIDE, parse_media
from kvplan.domain.media.cost import NotTaken
from kvplan.domain.media.images import PixelRange
from kvplan.engines import make_engine
from kvplan.engines.vllm.ledger.vision import item_of
from kvplan.engines.vllm.media import largest_image, own
from kvplan.errors import KvplanError, OptionError
from kvplan.loading import catalogue, load
from kvplan.questions.media import one_image, used, used_by
from kvplan.report.answers.media import savings

LLAMA = CONFIGS / "hf" / "meta-llama__Llama-3.1-8B-Instruct.json"
QWEN = CONFIGS / "hf" / "Qwen__Qwen2.5-VL-7B-Instruct.json"
PICTURE = "1x3000x4000"
Run = Callable[..., tuple[int, str, str]]
sides = st.integers(1, 6000)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "100")

    def ask(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return ask


@each(
    ("given", "words"),
    [
        ({"images": "4x1024x768"}, "4 images of 1024x768"),
        ({"images": "480x640,2x8x8"}, "3 images of 480x640 and 8x8"),
        ({"video": "60s@1fps@720x1280"}, "1 video of 60s@1fps@720x1280"),
        ({"video": "1m@0.5fps@720x1280"}, "1 video of 60s@0.5fps@720x1280"),
        ({"video": "16f@2fps@9x9"}, "1 video of 8s@2fps@9x9"),
        ({"audio": "2x7.5s"}, "2 clips of 7.5s"),
    ],
)
def test_media_are_read_as_people_write_them_and_written_so_that_they_read_back(given: dict[str, str], words: str) -> None:
    found = parse_media(**given)
    assert str(found) == words
    assert parse_media(**found.written()) == found


@each(
    ("given", "said"),
    [
        ({"images": "1024"}, "count x height x width"),
        ({"images": "0x8x8"}, "1 to 10,000 are taken, got 0"),
        ({"images": "1x0x8"}, "1 to 65,536 pixels, got 0"),
        ({"images": "1x8x70000"}, "got 70,000"),
        ({"images": "1x8x8,"}, "got ``"),
        ({"images": "-1x8x8"}, "expected count"),
        ({"video": "60s"}, "60s@1fps@720x1280"),
        ({"video": "60s@0fps@8x8"}, "above 0 and at most 1,000"),
        ({"video": "999999999s@1000fps@8x8"}, "1 to 1,000,000 frames"),
        ({"audio": "0s"}, "more than 0"),
        ({"audio": "30"}, "30s or 2x30s"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(given: dict[str, str], said: str) -> None:
    with pytest.raises(OptionError) as problem:
        parse_media(**given)
    assert said in str(problem.value)
    assert problem.value.option in given


def test_one_picture_in_three_engines() -> None:
    model = load("qwen2.5-vl-7b")
    counts = {
        engine: used(model, parse_media(PICTURE), engine) for engine in ("transformers", "vllm", "llama.cpp", "ollama", "sglang")
    }
    assert {engine: use.cost.placeholders for engine, use in counts.items()} == {
        "transformers": 15301, "vllm": 15301, "llama.cpp": 4015, "ollama": 4015, "sglang": 15301,
    }  # fmt: skip
    own = counts["llama.cpp"].own
    assert own is not None
    assert own.placeholders == 15301
    assert counts["vllm"].own is None
    small = {engine: used(model, parse_media("1x224x224"), engine).cost.placeholders for engine in ("llama.cpp", "ollama")}
    assert small == {"llama.cpp": 64, "ollama": 1024}  # it passes --image-min-tokens 1024
    assert not counts["sglang"].read
    assert "what sglang does otherwise was not read" in counts["sglang"].notes[0]


def test_placeholders_enter_the_cache_like_text() -> None:
    text = kvplan.estimate("qwen2.5-vl-7b", seq_len=1000 + 2693, engine="vllm")
    found = kvplan.estimate("qwen2.5-vl-7b", seq_len=1000, engine="vllm", images="1x1080x1920")
    alone = kvplan.estimate("qwen2.5-vl-7b", seq_len=1000, engine="vllm")
    assert found.media is not None
    assert (found.media.tokens, found.workload.seq_len) == (2693, 3693)
    assert found.total_bytes == text.total_bytes == alone.total_bytes + found.media_bytes
    assert found.to_dict()["media"]["cache_bytes"] == found.media_bytes


def test_cross_attention_has_keys_of_its_own_whatever_the_size() -> None:
    for size, images in ((8, 1), (4000, 2)):
        found = kvplan.estimate("llama-3.2-11b-vision", engine="transformers", seq_len=100, images=f"{images}x{size}x{size}")
        assert found.media is not None
        assert (found.media.tokens, found.media.cost.cross) == (images, images * 6404)
        assert found.workload.encoder_len == images * 6404
    clip = used(load("whisper-tiny"), parse_media(audio="30s"), "transformers")
    assert (clip.tokens, clip.cost.cross) == (0, 1500)


def test_vllm_keeps_rows_for_the_largest_item_and_a_limit_makes_them_fewer() -> None:
    model, media = load("qwen2.5-vl-7b"), parse_media("1x336x336")
    rows = [
        next(iter(used(model, media, "vllm", options).held)).count
        for options in (
            {"max_model_len": 8192, "max_num_batched_tokens": 2048},
            {"max_model_len": 131072, "max_num_batched_tokens": 16384},
            {"max_model_len": 131072, "max_num_batched_tokens": 16384, "limit_mm_per_prompt": '{"video": 0}'},
            {"max_model_len": 8192, "limit_mm_per_prompt": '{"video": 0}', "mm_processor_kwargs": '{"max_pixels": 1003520}'},
        )
    ]
    assert rows == [16384, 114688, 16384, 8192]
    deep = used(load("qwen3-vl-8b"), media, "vllm")
    assert next(iter(deep.held)).bytes == next(iter(deep.held)).count * 4096 * 2 * 4  # and three layers of the tower
    with pytest.raises(NotTaken, match=r"At most 1 image\(s\) may be provided in one prompt, and there are 2"):
        used(model, parse_media("2x336x336"), "vllm", {"limit_mm_per_prompt": "1"})


def test_vllms_ledger_profiles_the_same_largest_image(run: Run) -> None:
    """One truth: the rows of the encoder's cache and the image of the profile's peak; what limits one makes the other smaller."""
    for name in ("qwen2.5-vl-7b", "qwen3-vl-8b", "gemma-3-4b", "mistral-small-3.1-24b", "llava-1.5-7b"):
        model = load(name)
        found, rules = describe(model), processor_of(model)
        assert found is not None
        assert rules is not None
        assert rules.image is not None
        assert item_of(found).tokens == largest_image(own(rules, found.config, {}).image or rules.image), name
    asked = (
        "fit",
        "qwen2.5-vl-7b",
        "--gpu",
        "rtx-4090",
        "-e",
        "vllm",
        "--context",
        "8k",
        "-b",
        "4",
        "--images",
        "1x8x8",
        "-f",
        "json",
    )
    peaks = []
    for more in ((), ("--set", 'mm_processor_kwargs={"max_pixels": 1003520}')):
        fit = json.loads(run(*asked, *more)[1])["fits"][0]
        peaks.append(next(line["low"] for line in fit["budget"] if line["name"] == "peak activation"))
    assert peaks[0] < peaks[1] < 0
    use = used(load("qwen2.5-vl-7b"), parse_media(PICTURE), "vllm", {"max_model_len": 24000})
    fix = next(savings(use))
    assert fix.change == "fewer tokens"
    assert fix.result == "1,232 instead of 15,303 a request, an encoder cache of 8,960 rows instead of 16,384 (61.25 MiB)"


def test_fit_says_what_that_is_and_what_it_changes(run: Run) -> None:
    asked = ("fit", "qwen2.5-vl-7b", "--gpu", "a100-80gb", "-e", "vllm", "--context", "8k", "--images", PICTURE)
    code, out, _ = run(*asked)
    assert code == 0
    flat = " ".join(out.split())
    assert "x 23,495 tokens" in flat
    assert (
        "in each request 1 image of 3000x4000 is 15,303 tokens (15,301 placeholders, 2 marks), beside 8,192 tokens of text"
        in flat
    )
    assert "without them: " in flat
    assert "x 8,192 tokens, FITS" in flat
    assert "--max-model-len 23495" in flat
    assert "FIX: fewer tokens -> 1,232 instead of 15,303 a request" in flat
    code, out, _ = run(*asked, "-f", "json")
    found = json.loads(out)["fits"][0]
    assert found["media"]["tokens"] == 15303
    assert found["text_alone"]["batch_size"] > found["batch_size"]


def test_a_fix_with_fewer_tokens_an_image_is_a_command_that_fits(run: Run) -> None:
    code, out, _ = run(
        "fit", "qwen2.5-vl-7b", "--gpu", "5090", "-e", "vllm", "-b", "4", "--context", "8k", "--images", "4x3000x4000"
    )
    assert code == 1
    lines = out.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("FIX: media of 4,928 tokens a request -> 4 x 13,120"))
    words = shlex.split(lines[place + 1])
    assert words[:2] == ["kvplan", "fit"]
    assert "4x3000x4000" in words
    code, out, _ = run(*words[1:])
    assert code == 0
    assert "4 x 13,120 tokens" in " ".join(out.split())


@pytest.mark.parametrize("command", ["estimate", "explain", "reserve", "receipt", "fit", "compare", "sweep"])
def test_a_text_only_model_refuses_in_one_sentence(run: Run, command: str) -> None:
    more = {"reserve": ("--memory", "9GiB"), "receipt": ("--gpu", "h100"), "fit": ("--gpu", "h100")}.get(command, ())
    code, out, err = run(command, "llama-3.1-8b", *more, "--images", "1x8x8")
    assert (code, out) == (2, "")
    assert err == "error: llama-3.1-8b takes no images: its config is a text-only model's\n"


def test_what_a_model_does_not_take_or_was_not_read_is_said(run: Run, tmp_path: Path) -> None:
    assert "its processor takes images" in run("estimate", "gemma-3-4b", "--audio", "30s")[2]
    (tmp_path / "config.json").write_text(json.dumps({**json.loads(LLAMA.read_text()), "vision_config": {}}))
    code, out, _ = run("estimate", str(tmp_path), "--images", "1x8x8")
    assert (code, "how llama turns images into tokens was not read" in " ".join(out.split())) == (1, True)
    code, out, _ = run("estimate", "qwen2.5-vl-7b", "--images", "1x1x3000")
    assert (code, "absolute aspect ratio must be smaller than 200, got 3000.0" in " ".join(out.split())) == (1, True)
    assert run("fit", "qwen2.5-vl-7b", "--gpu", "h100", "--images", "1x1x3000")[0] == 2
    assert "«" not in run("fit", "qwen2.5-vl-7b", "--gpu", "h100", "--mix", "100% 4k", "--images", "1x8x8")[2]
    assert (
        "images are: --images 1x1080x1920" in run("fit", "gemma-4-e4b", "--gpu", "h100", "-e", "llama.cpp", "--audio", "30s")[2]
    )


def projector(path: Path, **keys: str | int | bool | list[int]) -> str:
    """A projector's GGUF file without tensors; `_` in a name of `vision_…` stands for a dot."""

    def text(said: str) -> bytes:
        return struct.pack("<Q", len(said)) + said.encode()

    def value(said: str | int | bool | list[int]) -> bytes:
        if isinstance(said, str):
            return struct.pack("<I", 8) + text(said)
        if isinstance(said, bool):
            return struct.pack("<I?", 7, said)
        if isinstance(said, int):
            return struct.pack("<II", 4, said)
        return struct.pack("<IIQ", 9, 5, len(said)) + struct.pack(f"<{len(said)}i", *said)

    named = {"general.architecture": "clip", **{f"clip.{key.replace('__', '.')}": said for key, said in keys.items()}}
    body = b"".join(text(key) + value(said) for key, said in named.items())
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(named)) + body)
    return str(path)


def test_a_projectors_file_says_what_an_image_is_in_llama_cpp(run: Run, tmp_path: Path) -> None:
    """The same counts as by the model's type, and other ones where the file has other numbers."""
    files = {
        "qwen2.5-vl-7b": {"projector_type": "qwen2.5vl_merger", "vision__patch_size": 14, "vision__spatial_merge_size": 2},
        "gemma-3-4b": {"projector_type": "gemma3", "vision__image_size": 896, "vision__patch_size": 14},
        "llava-1.5-7b": {"vision__projector_type": "mlp", "vision__image_size": 336, "vision__patch_size": 14},
        "lfm2.5-vl-1.6b": {"projector_type": "lfm2", "vision__patch_size": 16, "vision__projector__scale_factor": 2},
    }
    for name, keys in files.items():
        file = projector(tmp_path / f"{name}.gguf", **keys)
        by_type = used(load(name), parse_media(PICTURE), "llama.cpp").tokens
        _, out, _ = run("estimate", name, "-e", "llama.cpp", "-s", "1k", "--images", PICTURE, "--mmproj", file, "-f", "json")
        media = json.loads(out)["estimates"][0]["media"]
        assert media["tokens"] == by_type, name
        assert f"by the numbers of {name}.gguf" in media["notes"]
    wide = projector(
        tmp_path / "wide.gguf",
        projector_type="mlp",
        vision__image_size=336,
        vision__patch_size=14,
        vision__image_grid_pinpoints=[336, 672, 672, 336, 672, 672],
    )
    out = run("estimate", "llava-1.5-7b", "-e", "llama.cpp", "--images", PICTURE, "--mmproj", wide)[1]
    assert "2,880 placeholders" in out or "2,880" in out  # five views of 576: LLaVA 1.6
    # a projector of a type that the model's own row does not know, and a language model that is a GGUF file
    asked = ("fit", "llama-3.1-8b", "--gpu", "h100", "-e", "llama.cpp", "--context", "8k", "--images", "1x256x512")
    assert "1 x 8,322 tokens" in " ".join(
        run(*asked, "--mmproj", projector(tmp_path / "x.gguf", **files["lfm2.5-vl-1.6b"]))[1].split()
    )


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "`clip.projector_type` is missing"),
        ({"projector_type": "ultravox"}, "llama.cpp's projector `ultravox` was not read"),
        ({"projector_type": "gemma3", "has_vision_encoder": False}, "has no vision encoder"),
        ({"projector_type": "mlp", "vision__image_grid_pinpoints": [336]}, "an even number of elements, got 1"),
        ({"projector_type": "gemma3", "vision__image_size": 0}, "must be a whole number from 1 to 65,536, got `0`"),
        ({"projector_type": "mlp", "vision__image_grid_pinpoints": [336, -1]}, "must hold pairs of sides in pixels"),
    ],
)
def test_a_projectors_file_that_says_nothing_is_refused(
    keys: dict[str, str | int | bool | list[int]], said: str, run: Run, tmp_path: Path
) -> None:
    file = projector(tmp_path / "mmproj.gguf", **keys)
    code, out, err = run("estimate", "gemma-3-4b", "-e", "llama.cpp", "--images", "1x8x8", "--mmproj", file)
    assert code in {1, 2}
    assert said in " ".join((out + err).split())
    assert run("estimate", "gemma-3-4b", "-e", "vllm", "--images", "1x8x8", "--mmproj", file)[0] == 2


def test_compare_and_sweep_count_media_in_each_engine(run: Run) -> None:
    asked = ("qwen2.5-vl-7b", "-e", "transformers,llama.cpp", "-s", "1k", "--images", PICTURE)
    lengths = {"transformers": 1024 + 15303, "llama.cpp": 1024 + 4017}
    single = {
        engine: kvplan.estimate("qwen2.5-vl-7b", engine=engine, seq_len=1024, images=PICTURE).total_bytes for engine in lengths
    }
    code, out, _ = run("compare", *asked)
    flat = " ".join(out.split())
    assert code == 0
    assert "1 x 1,024 tokens of text and 1 image of 3000x4000" in flat
    assert "note: llama.cpp: 1 image of 3000x4000 is 4,017 tokens (4,015 placeholders, 2 marks)" in flat
    rows = json.loads(run("compare", *asked, "-f", "json")[1])["comparison"]
    assert {row["engine"]: row["total_bytes"] for row in rows} == single
    cells = run("sweep", *asked, "-f", "csv")[1].splitlines()
    found = [dict(zip(cells[0].split(","), cell.split(","), strict=True)) for cell in cells[1:]]
    assert {row["engine"]: int(row["seq_len"]) for row in found} == lengths
    assert {row["engine"]: int(row["total_bytes"]) for row in found} == single
    assert "in each sequence 1 image of 3000x4000 is 4,017 tokens" in " ".join(run("sweep", *asked)[1].split())
    # keys of cross-attention, by what each model sees
    grid = kvplan.sweep("llama-3.2-11b-vision", engine="transformers", seq_len=100, images="2x8x8")
    alone = kvplan.estimate("llama-3.2-11b-vision", engine="transformers", seq_len=100, images="2x8x8")
    assert grid.to_dict()["columns"]["total_bytes"] == [alone.total_bytes]
    assert grid.to_dict()["columns"]["encoder_len"] == [12808]
    beside = kvplan.compare(["gemma-3-4b", "llama-3.1-8b"], engine="transformers", seq_len=100, images="1x8x8")
    assert [row.total_bytes is None for row in beside.rows] == [False, True]
    assert "takes no images" in beside.to_dict()["rows"][1]["not_predicted"]


def test_explain_shows_the_steps_from_pixels_to_tokens(run: Run) -> None:
    _, out, _ = run("explain", "qwen2.5-vl-7b", "--images", "1x1080x1920")
    for words in (
        "from 1 image of 1080x1920 to 2,693 tokens",
        "1,092 x 1,932",
        "78 x 138 = 10,764",
        "merged 2 x 2",
        "smart_resize",
    ):
        assert words in out
    _, out, _ = run("explain", "llama-4-scout-17b-16e", "--images", "1x1080x1920")
    assert "in tiles of 336, at most 16" in out


def test_a_vision_model_that_is_asked_without_any_says_what_one_costs(run: Run) -> None:
    for arguments in (("estimate", "gemma-3-4b"), ("fit", "gemma-3-4b", "--gpu", "h100", "-e", "vllm", "--context", "8k")):
        flat = " ".join(run(*arguments)[1].split())
        assert flat.count("no images were given: 1 image of 1024x1024 is 258 tokens") == 1
    assert "were given" not in run("estimate", "gpt2", "-s", "9")[1]


def test_every_model_of_the_catalogue_says_what_one_costs_or_takes_none() -> None:
    """A model with a tower has a line; of any other, each kind of media is refused as a text-only model's."""
    engine, wrong = make_engine("transformers", {}), []
    kinds = parse_media("1x8x8"), parse_media(video="8f@1fps@8x8"), parse_media(audio="1s")
    for name in catalogue.names():
        model = load(name)
        lines = one_image(model, engine)
        if lines:
            wrong += [f"{name}: {lines}"] if len(lines) != 1 or " is 0 " in lines[0] else []
            continue
        for media in kinds:
            try:
                wrong.append(f"{name}: {used_by(engine, model, media).words}")
            except OptionError as problem:
                if "its config is a text-only model's" not in str(problem):
                    wrong.append(str(problem))
    assert not wrong, "\n".join(wrong)
    assert one_image(load("whisper-tiny"), engine) == (
        "no audio was given: 1 clip of 30s is 1,500 keys of each cross-attention layer (--audio 1x30s)",
    )
    assert "no audio was given: 1 clip of 30s is 376 tokens" in one_image(load("voxtral-mini-3b"), engine)[0]


@pytest.mark.parametrize(
    ("family", "given", "counts"),
    [
        # what the reference code of each gives for these: pads of Kimi K3's own processor, vLLM's tests of Phi-3.5-Vision,
        # transformers' FuyuProcessor and VibeVoiceProcessor on blank input
        ("kimi_k3", [(3000, 4000), (100, 10_000), (100, 100), (448, 448)], [15_444, 768, 16, 256]),
        ("phi3_v", [(876, 1300), (1300, 876), (336, 336), (100, 4000)], [757, 757, 757, 745]),
        ("fuyu", [(1080, 1920), (30, 30), (1, 1), (2160, 1920), (1081, 400)], [2304, 1, 1, 1152, 504]),
        ("vibevoice", [30, 0.1, 1], [225, 1, 8]),
    ],
)
def test_families_without_records(family: str, given: list[tuple[int, int]] | list[float], counts: list[int]) -> None:
    found = processor(family, {}, {})
    assert found is not None
    rule = found.image.one if found.image is not None else found.audio and found.audio.one
    assert rule is not None
    assert [rule(*one).placeholders if isinstance(one, tuple) else rule(one).placeholders for one in given] == counts


def test_a_folders_own_processor_files_are_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(QWEN.read_bytes())
    (tmp_path / "preprocessor_config.json").write_text('{"min_pixels": 3136, "max_pixels": 1003520}')
    assert kvplan.estimate(tmp_path, seq_len=9, images=PICTURE).media.tokens == 1232  # type: ignore[union-attr]
    assert kvplan.estimate(QWEN, seq_len=9, images=PICTURE).media.tokens == 15303  # type: ignore[union-attr]
    for text, said in (
        ('{"min_pixels": 3136', "not valid JSON"),
        ('{"min_pixels": 9, "max_pixels": 3}', "a range of pixels that is none: 9 to 3"),
        ('{"patch_size": -1}', "`image_processor.patch_size` must be a whole number from 1 to 65,536, got `-1`"),
        ('{"patch_size": {"height": null}}', "the processor's files: `image_processor.patch_size.height` is missing"),
    ):
        (tmp_path / "preprocessor_config.json").write_text(text)
        code, out, err = run("estimate", str(tmp_path), "--images", "1x8x8")
        assert (code, out) == (2, "")
        assert said in err


@given(sides, sides, st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_laws_of_every_familys_images(height: int, width: int, count: int) -> None:
    """An answer or the processor's refusal, never less than nothing; a range of pixels keeps to it."""
    for family in ROWS:
        rule = _PROCESSORS[family].image
        if rule is None:
            continue
        try:
            one = rule.one(height, width)
        except NotTaken:
            continue
        assert one.placeholders > 0 or one.cross > 0
        assert one.marks >= 0
        assert one.steps
        several = rule.of([(height, width)] * count)
        if count > 1 and family not in {"llava_onevision", "deepseek_vl2", "idefics2", "phi4_multimodal"}:
            assert several.tokens == count * one.tokens
        if isinstance(rule, PixelRange) and rule.how == "plain" and not rule.breaks:
            high, wide = rule.resized(height, width)
            assert high % rule.factor == wide % rule.factor == 0
            assert high * wide >= rule.least


_PROCESSORS = {family: found for family in ROWS if (found := processor(family, {}, {})) is not None}


@each("family", ROWS)
def test_every_row_says_where_it_is_from_and_takes_what_it_says(family: str) -> None:
    found = _PROCESSORS[family]
    assert found.source
    assert found.kinds
    if found.image is not None:
        assert found.image.one(MOST_SIDE, MOST_SIDE).steps
    if found.audio is not None:
        assert found.audio.one(30).steps


def test_what_transformers_own_processors_gave_beyond_the_records() -> None:
    """Found by running the real processors of transformers 5.24 on random sizes and lengths; each was once counted otherwise."""
    omni = _PROCESSORS["qwen3_omni_moe"].audio
    assert omni is not None
    assert [omni.of(clips).tokens for clips in ([31.003], [31.003, 2.5], [31.003, 31.002], [1, 0.005], [0.3333, 7.77777])] == [
        405, 440, 810, 18, 110,
    ]  # fmt: skip
    with pytest.raises(NotTaken, match="Padding size should be less than"):
        omni.one(0.01)
    phi = _PROCESSORS["phi4_multimodal"].audio
    assert phi is not None
    with pytest.raises(NotTaken, match="maximum size for tensor at dimension 1 is 160 but size is 400"):
        phi.one(0.01)
    fuyu = _PROCESSORS["fuyu"].image
    assert fuyu is not None
    with pytest.raises(
        NotTaken, match=r"^Size must .* or 'shortest_edge' key\. Got SizeDict\(height=0, width=1920, longest_edge=None"
    ):
        fuyu.one(1, 10_000)
    granite = _PROCESSORS["granite_speech"].audio
    assert granite is not None
    assert [granite.one(seconds).placeholders for seconds in (0.02, 0.31, 30, 30.01)] == [3, 6, 300, 303]
    assert granite.of([0.005, 0.31]).placeholders == 6  # beside a longer one, it is padded
    with pytest.raises(NotTaken, match=r"got: padding \(256, 256\) at dimension 2 of input \[1, 1, 256\]"):
        granite.one(0.016)
    kimi = _PROCESSORS["kimi_k25"].video
    assert kimi is not None
    assert (kimi.one(5, 64, 33, 30.0).placeholders, kimi.one(29, 179, 476, 60.0).placeholders) == (6, 119)  # one frame is left


def test_videos_are_counted_by_the_frames_that_are_left() -> None:
    model = load("qwen3-vl-8b")
    assert (
        used(model, parse_media(video="60s@30fps@720x1280"), "transformers").tokens
        == used(model, parse_media(video="60s@2fps@720x1280"), "transformers").tokens
    )
    with pytest.raises(KvplanError, match="requested number of frames exceeds total_num_frames=8"):
        used(load("gemma-4-e4b"), parse_media(video="8f@1fps@480x640"), "transformers")
    with pytest.raises(KvplanError, match="was not read"):
        used(model, parse_media(video="8f@1fps@480x640"), "llama.cpp")
