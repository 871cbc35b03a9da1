"""Where everything lies, as people ask it: two cards, a layer less, a cache in host memory, a drafter and a projector beside."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from kvplan.api.placement import cards_of, place
from kvplan.architectures.weights import projector_bytes
from kvplan.cli.app import main
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.spread import runs
from kvplan.domain.stored import SideFile, StoredTensor
from kvplan.engines.llama_cpp.options import LlamaCppOptions
from kvplan.errors import OptionError
from kvplan.questions.placement.answer import Laid

MIB = 2**20


def laid(model: str = "qwen2.5-32b", gpu: str = "rtx-4090:2", **more: Any) -> Laid:
    found = place(model, gpu, **{"engine": "llama.cpp", "weights_dtype": "q4_k_m", "brief": True, **more})
    assert isinstance(found, Laid)
    return found


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["fit", *arguments, "-e", "llama.cpp"])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_two_unequal_shares_are_those_of_the_public_log() -> None:
    """ggml-org/llama.cpp#11200: -ts 10,6 at 32,768 cells in q8_0: 2788.00 and 1564.00 MiB, 41 and 23 of 64 layers."""
    found = laid(context="32k", kv_dtype="q8_0", tensor_split="10,6")
    first, second, host = found.spread.places
    assert (first.blocks, second.blocks, host.blocks) == (41, 23, 0)
    caches = [next(line.bytes for line in each.lines if line.name == "cache") / MIB for each in (first, second)]
    assert caches == [2788.0, 1564.0]
    assert found.spread.offloaded == "65/65"
    assert "-ts 10,6" in found.spread.command


def test_a_model_that_no_card_holds_fits_on_two(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = asked(capsys, "llama-3.3-70b", "--gpu", "rtx-4090:2", "--weights-dtype", "q4_k_m", "-b", "1")
    assert code == 0
    assert text.startswith("FITS on 2 x rtx-4090-24gb")
    assert "41-79, output" in text
    assert "-fit off" in text  # its own --fit would keep 1 GiB of each card free


def test_what_does_not_fit_is_offered_layer_by_layer_with_its_price(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = asked(capsys, "llama-3.1-70b", "--gpu", "rtx-4090", "--weights-dtype", "q4_k_m", "-s", "8k", "-b", "1")
    assert code == 1
    assert "-ngl 42" in text
    assert "each token reads" in text
    command = next(line.strip() for line in text.splitlines() if line.strip().startswith("llama-server"))
    layers = command.split("-ngl ")[1]
    code, text = asked(
        capsys, "llama-3.1-70b", "--gpu", "rtx-4090", "--weights-dtype", "q4_k_m", "-s", "8k", "-b", "1", "-ngl", layers
    )
    assert code == 0
    assert f"{layers}/81 layers" in text
    more = str(int(layers) + 1)
    assert (
        asked(capsys, "llama-3.1-70b", "--gpu", "rtx-4090", "--weights-dtype", "q4_k_m", "-s", "8k", "-b", "1", "-ngl", more)[0]
        == 1
    )


def test_a_cache_in_host_memory_leaves_the_card_to_the_weights() -> None:
    with_cache, without = laid(context="32k", gpu="rtx-4090"), laid(context="32k", gpu="rtx-4090", offload_kqv=False)
    assert not with_cache.fits
    assert without.fits
    assert without.spread.host.lines[1].name == "cache"
    assert without.spread.host.lines[1].bytes == 8 * 2**30


def test_a_drafter_is_in_the_sum() -> None:
    from kvplan import load

    alone = laid("qwen3-8b", "rtx-4090", context="8k")
    beside = laid("qwen3-8b", "rtx-4090", context="8k", draft=load("qwen3-0.6b"))
    names = [line.name for line in beside.spread.places[0].lines]
    assert "drafter" in names
    drafter = next(line for line in beside.spread.places[0].lines if line.name == "drafter")
    assert drafter.low > 28 * 8192 * 8 * 128 * 4 + 300 * MIB  # its cache, and its weights
    assert beside.longest < alone.longest or alone.longest == alone.ceiling


def test_what_lies_beside_follows_the_build() -> None:
    """A drafter, and prediction layers: from b9460 on logits of one token a slot (#23861); a build knows a model or not."""
    from kvplan import load

    def side(name: str, build: int, model: str, **more: Any) -> int:
        found = laid(model, "h100-80gb", engine=f"llama.cpp@b{build}", context="8k", **more)
        return next(line.low for line in found.spread.places[0].lines if line.name == name)

    drafts = {"draft": load("qwen3-0.6b")}
    old, new = (side("drafter", build, "qwen3-8b", **drafts) for build in (9459, 9460))
    logits = 4 * 512 * (151_936 + 1024)
    assert old - new > logits // 2
    old, new = (side("MTP context", build, "qwen3.5-9b", spec_type="draft-mtp") for build in (9459, 9460))
    assert old > new
    for build, model, more, words in (
        (8000, "llama-3.1-8b", {"draft": load("gemma-4-e2b")}, "drafter: b8000 does not know gemma4: from b8637 on"),
        (9459, "glm-4.5-air", {"spec_type": "draft-mtp"}, "MTP context: b9459 has no context of prediction layers"),
    ):
        refused = place(model, "h100-80gb:8", engine=f"llama.cpp@b{build}", context="8k", weights_dtype="q4_k_m", **more)
        assert isinstance(refused, NotPredicted)
        assert words in refused.reason


def test_what_the_engine_chooses_leaves_room_for_what_lies_beside() -> None:
    """`--fit` measures a drafter with the model; the command says of which model its file is."""
    from kvplan import load

    def own(**more: Any) -> Laid:
        return laid("qwen3-8b", "rtx-4070", brief=False, **more)

    alone, beside = own(), own(draft=load("qwen3-0.6b"))
    assert beside.own_context < alone.own_context
    assert beside.own_context <= beside.longest < alone.own_context
    assert "-md DRAFT.gguf" in beside.spread.command
    assert "DRAFT.gguf: a GGUF of qwen3-0.6b, of the same vocabulary" in beside.needs


def test_a_split_leaves_room_for_what_lies_beside() -> None:
    """6 GiB of a projector lie on the first card, which then gets fewer layers."""
    tensor = StoredTensor(name="v", type="f32", dims=(1024, 3 * 512 * 1024), bytes=6 * 2**30)
    projector = SideFile(name="m.gguf", typed="m.gguf", keys={}, tensors=(tensor,))
    (change,) = laid(brief=False, mmproj=projector).changes
    assert change.change == "another split: -ts 27,38"
    assert int(change.result.split()[0].replace(",", "")) > 70_000


def test_of_a_context_that_is_said_as_many_requests_as_fit_are_counted() -> None:
    found = laid("llama-3.1-8b", "rtx-4070", context="16k")
    assert (found.requests, found.at_once) == (1, found.to_dict()["at_once"])
    fits = [laid("llama-3.1-8b", "rtx-4070", context="16k", batch_size=found.at_once + more).fits for more in (0, 1)]
    assert fits == [True, False]
    assert laid("llama-3.1-8b", "rtx-4070", context="16k", batch_size=1).at_once == 0
    assert laid("llama-3.1-8b", "rtx-4070").at_once == 0


def test_one_card_of_llama_cpp_is_asked_by_device(capsys: pytest.CaptureFixture[str]) -> None:
    """REPORTS.md's Q16: a vision model at its full length, its projector and its buffers beside; cards to choose from are not."""
    one = ("--weights-dtype", "q4_k_m", "--kv-dtype", "q4_0", "--context", "262144")
    code, text = asked(capsys, "qwen3.6-27b", "--gpu", "rtx-3090", *one)
    text = " ".join(text.split())
    assert (code, text.startswith("FITS on rtx-3090-24gb: 1 x 262,144 tokens, 66/66 layers on the cards")) == (0, True)
    assert "what it sees with is a file of its own, about 885 MiB in f16, and a buffer: not in these numbers: --mmproj" in text
    assert "1 image of 1024x1024 is 1,026 tokens" in text
    assert "in the slot" in text
    code, text = asked(capsys, "qwen2.5-32b", "--gpu", "rtx-4090", "--weights-dtype", "q4_k_m", "--kv-dtype", "q8_0", "-s", "32k")
    assert "-ngl 63, because it keeps 1,024 MiB of each card free; of what is left here a screen" in " ".join(text.split())
    code, text = asked(capsys, "llama-3.1-8b", "--gpu", "amd", "--weights-dtype", "q4_k_m")
    assert (code, "for the cache" in text) == (0, True)  # the smallest card of a maker: one budget
    code, text = asked(capsys, "llama-3.1-8b", "--gpu", "rtx-4090", "--weights-dtype", "q4_k_m", "-s", "8k", "--reserve", "2GiB")
    assert (code, "for the cache" in text) == (0, True)


def test_a_projectors_size_is_the_published_files() -> None:
    """Loaded by llama.cpp: 2198.75 MiB in float32 (ggml-org/llama.cpp#18181); a file of 1,354,163,040 bytes in float16."""
    from kvplan import load

    assert round(projector_bytes(load("qwen3-vl-8b"), item_bytes=4) / MIB, 2) == 2198.75
    assert 0 < 1_354_163_040 - projector_bytes(load("qwen2.5-vl-7b")) < 100_000  # the header
    whole, half = (projector_bytes(load("qwen3-vl-8b"), item_bytes=size) for size in (4, 2))
    assert 2 * half - whole > 4 * 2304 * 1152  # the table of positions stays in float32, as vectors do
    assert projector_bytes(load("llama-3.1-8b")) == 0


def test_prompts_and_checkpoints_are_in_the_hosts_sum() -> None:
    """What llama-server fills as it serves, at its ceilings: as `--host` asks of the tiers, and nothing of it on the card."""
    from kvplan import fit

    def lines(**more: Any) -> dict[str, tuple[int, int]]:
        found = laid("gemma-3-12b", "rtx-4090", context="16k", batch_size=2, **more).spread
        assert not {"prompt cache", "checkpoints"} & {line.name for line in found.places[0].lines}
        return {line.name: (line.low, line.high) for line in found.host.lines}

    asked = fit(
        "gemma-3-12b",
        "rtx-4090",
        engine="llama.cpp",
        weights="8GB",
        context="16k",
        batch_size=2,
        host="8GiB",
        sessions="2 at 16k",
    )
    assert asked.tiers is not None
    live = next(tier.beside_bytes for tier in asked.tiers.rows if tier.tier == "checkpoints")
    usual = lines()
    assert usual["prompt cache"] == (0, 8192 * MIB)
    assert usual["checkpoints"] == (0, live)
    assert lines(cache_ram=512)["prompt cache"] == (0, 512 * MIB)
    assert "prompt cache" not in lines(cache_ram=0)
    assert lines(ctx_checkpoints=8)["checkpoints"] == (0, live // 4)
    assert "checkpoints" not in lines(swa_full=True)
    assert "checkpoints" not in lines(ctx_checkpoints=0)
    assert not {"prompt cache", "checkpoints"} & set(lines(frontend="cli"))
    by_build = {number: lines(engine=f"llama.cpp@b{number}") for number in (6159, 6160, 6723, 8218)}
    assert [found.get("prompt cache") for found in by_build.values()] == [None, None, (0, 8192 * MIB), (0, 8192 * MIB)]
    assert by_build[6159].get("checkpoints") is None
    assert [32 * found["checkpoints"][1] // live for found in list(by_build.values())[1:]] == [3, 8, 32]


def test_a_prompt_cache_stays_within_shared_memory() -> None:
    """Nobody asked for its 8 GiB: the command holds it within what is left; a size that was said is counted whole."""
    left = laid("llama-3.1-8b", "m4-16gb", context="16k").spread
    assert left.pool is not None
    assert left.pool.left is not None
    assert f"--cache-ram {left.pool.left.low // MIB} " in f"{left.command} "
    said = laid("llama-3.1-8b", "m4-16gb", context="16k", cache_ram=4096).spread
    assert said.pool is not None
    assert said.pool.needed.high - left.pool.needed.high == 4096 * MIB
    assert "--cache-ram" not in laid("llama-3.1-8b", "m4-max-64gb", context="16k").spread.command


def test_a_projector_is_in_the_sum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mmproj.gguf"

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + text("general.architecture") + struct.pack("<I", 8) + text("clip")
    tensor = text("v.blk.0.attn_q.weight") + struct.pack("<IQQIQ", 2, 1152, 4608, 0, 0)
    path.write_bytes(head + tensor + b"\0" * (1152 * 4608 * 4 + 64))
    code, shown = asked(
        capsys,
        "qwen3-8b",
        "--gpu",
        "rtx-4090",
        "--weights-dtype",
        "q4_k_m",
        "-s",
        "8k",
        "-b",
        "1",
        "--mmproj",
        str(path),
        "-f",
        "json",
    )
    assert code == 0
    lines = json.loads(shown)["laid"][0]["spread"]["places"][0]["lines"]
    (projector,) = [line for line in lines if line["name"] == "projector"]
    assert projector["low"] > 1152 * 4608 * 4
    assert f"{1152 * 4608 * 4 / MIB:.2f} MiB" in projector["source"]
    assert f"--mmproj {path}" in json.loads(shown)["laid"][0]["spread"]["command"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu", "rtx-4090:2", "-ts", "3;1"], "is no share"),
        (["--gpu", "rtx-4090:2", "-ngl", "many"], "n_gpu_layers"),
        (["--gpu", "rtx-4090:17"], "at most 16 devices"),
        (["--gpu", "rtx-4090:2", "--free", "1GiB,2GiB,3GiB"], "3 sizes for 2 devices"),
        (["--gpu", "rtx-4090:2", "-ot", "(a+)+=CPU"], "repeats a repeat"),
        (["--gpu", "rtx-4090:2", "--mmproj", "nowhere.gguf"], "cannot read"),
        (["--gpu", "rtx-4090:2", "-ngl", "1", "--set", "n_gpu_layers=2"], "given twice"),
        (["--gpu", "rtx-4090:2", "--reserve", "2GiB"], "--reserve is not asked where layers are dealt out"),
        (["--gpu", "rtx-4090", "-ngl", "9", "--target", "2 users at 4k"], "--target is not asked where layers are dealt out"),
        (["--gpu", "rtx-4090", "-ngl", "9", "--encoder-len", "9"], "--encoder-len is not asked where layers are dealt out"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = asked(capsys, "llama-3.1-8b", "--weights-dtype", "q4_k_m", "-b", "1", *arguments)
    assert code in {1, 2, 3}
    assert words in text
    assert "Traceback" not in text


def test_free_memory_by_card_moves_layers() -> None:
    even = laid(context="8k")
    uneven = laid(context="8k", free="23GiB,12GiB")
    assert uneven.spread.places[0].blocks > even.spread.places[0].blocks
    assert uneven.spread.places[1].room is not None
    assert uneven.spread.places[1].room.bytes == 12 * 2**30


def test_devices_that_take_no_part_are_not_fitted() -> None:
    """Found by the attack: `--fit` measured every card, where `-sm none` and `-dev` leave some out."""
    for chosen, name in ({"split_mode": "none"}, "CUDA0"), ({"device": "CUDA2"}, "CUDA2"):
        found = laid("llama-3.1-8b", "rtx-3060,rtx-3060,rtx-4090", context="8k", weights_dtype="bf16", **chosen)
        assert [place.device for place in found.spread.places] == [name, "Host"]
        assert found.fits == (name == "CUDA2")


def test_the_processor_lays_nothing_out_anew_of_a_16_bit_file(capsys: pytest.CaptureFixture[str]) -> None:
    alone = {"split_mode": "none", "main_gpu": -1}
    host = laid("llama-3.1-8b", "rtx-4090", context="8k", weights_dtype=None, **alone).spread.places[0]
    weights = next(line for line in host.lines if line.name == "weights")
    assert weights.bytes < 1.01 * 8_030_261_248 * 2
    assert "CPU_REPACK" not in weights.source
    _, text = asked(capsys, "llama-3.1-8b", "--gpu", "rtx-4090", "-s", "8k", "--set", "split_mode=none", "--set", "main_gpu=-1")
    assert "no card takes part" in text


def test_cards_stand_side_by_side() -> None:
    found = cards_of("rtx-4090,rtx-3090:2", ())
    assert [card.id for card in found] == ["rtx-4090-24gb", "rtx-3090-24gb", "rtx-3090-24gb"]
    with pytest.raises(OptionError, match="at most 16"):
        cards_of("rtx-4090:99", ())


def test_every_option_of_places_is_typed() -> None:
    options = LlamaCppOptions(
        n_gpu_layers=-2, split_mode="none", tensor_split="3,1", main_gpu=1, device="CUDA1", cpu_moe=True, n_cpu_moe=2, fit=False,
        override_tensor=r"\.ffn_.*=CPU", mmap=False, spec_type="draft-mtp", n_gpu_layers_draft=3,
    )  # fmt: skip
    assert options.placed == (
        "-ngl all -sm none -ts 3,1 -mg 1 -dev CUDA1 --cpu-moe --n-cpu-moe 2 -ot '\\.ffn_.*=CPU' --no-mmap -fit off "
        "--spec-type draft-mtp -ngld 3"
    )


def test_runs_of_numbers() -> None:
    assert runs(()) == ""
    assert runs((3,)) == "3"
    assert runs((0, 1, 2, 4, 6, 7)) == "0-2, 4, 6-7"


def test_estimate_shows_everything_by_device(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", "qwen2.5-32b", "-e", "llama.cpp", "--gpu", "rtx-4090:2", "-s", "32k", "--weights-dtype", "q4_k_m"]
    assert main([*words, "-ts", "10,6", "--kv-dtype", "q8_0", "-f", "csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert any(",CUDA0," in row and f",cache,{2788 * MIB}," in row for row in rows)
    assert any(",CUDA1," in row and f",cache,{1564 * MIB}," in row for row in rows)
    assert main(["estimate", "qwen2.5-32b", "-e", "llama.cpp", "-ngl", "3"]) != 0
    assert "needs cards" in capsys.readouterr().err
