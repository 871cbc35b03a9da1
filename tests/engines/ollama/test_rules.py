"""Ollama's rules beyond the recorded cases: laws, and what its sources say of inputs that nobody recorded."""

from each import each
from hypothesis import given
from hypothesis import strategies as st

from kvplan.engines.ollama.environment import duration_words, environment
from kvplan.engines.ollama.launch import Device, Started, Subject, System, start, stepped_down
from kvplan.engines.ollama.names import blob_path, manifest_path, parse_name
from kvplan.engines.ollama.printed import Held, held_in_log, human_bytes
from kvplan.engines.ollama.releases import flash_by_itself
from kvplan.units import GIB

KEYS = {
    "general.architecture": "llama", "llama.context_length": 131072, "llama.block_count": 32, "llama.embedding_length": 4096,
    "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8,
}  # fmt: skip
CARD = Device(total=24 * GIB, free=24 * GIB, major=8, minor=9, driver_major=13)


@each(
    ("text", "shown"),
    [
        ("1h30m", "1h30m0s"), ("90", "1m30s"), ("1.5s", "1.5s"), ("0", "0s"), ("250ms", "250ms"), ("soon", "5m0s"), ("", "5m0s"),
        ("-1", "2562047h47m16.854775807s"), ("1.5h", "1h30m0s"), ("+2m", "2m0s"), ("1m1", "5m0s"), ("3us", "3µs"),
    ],
)  # fmt: skip
def test_how_long_a_model_stays(text: str, shown: str) -> None:
    assert duration_words(environment({"OLLAMA_KEEP_ALIVE": text}, "/root").keep_alive) == shown


@each("text", ["-1", "1_000", "0x10", "4.0", " ", "18446744073709551616", "9" * 5000, "٣"])
def test_a_number_that_go_does_not_read_is_the_default(text: str) -> None:
    found = environment({"OLLAMA_NUM_PARALLEL": text, "OLLAMA_CONTEXT_LENGTH": text}, "/root")
    assert (found.num_parallel, found.context_length) == (1, 0)


@given(st.text("aZ9._-:/@!\0é", max_size=24))
def test_no_name_leaves_the_folder_of_manifests(text: str) -> None:
    name = parse_name(text)
    if name.valid:
        assert manifest_path("/m", name).startswith("/m/manifests/")
        assert parse_name(name.full) == name


@given(st.text("sha256:-/.f", max_size=80))
def test_no_digest_leaves_the_folder_of_blobs(text: str) -> None:
    path = blob_path("/m", text)
    assert path is None or path == "/m/blobs" or path.startswith("/m/blobs/sha256-")


@each("text", ["../../etc/passwd", "..:..", "a/../b", "./x", "a\0b", "", "é", "x" * 81, "a@sha256:00", "/a", "a/"])
def test_what_is_no_name(text: str) -> None:
    assert not parse_name(text).valid


def test_no_path_part_of_dots_only() -> None:
    """A part begins with a letter, a digit or an underscore, so none is `.` or `..`."""
    assert not parse_name("a/..:b").valid


@given(st.integers(1, 2**22), st.integers(0, 2**22))
def test_the_step_down_is_lower_and_comes_once(num_ctx: int, trained: int) -> None:
    lower = stepped_down(num_ctx, trained)
    if lower is not None:
        assert lower in {32_768, 4_096}
        assert lower < num_ctx


def _started(
    request: dict[str, int], *, devices: tuple[Device, ...] = (CARD,), runs_out: bool = False, **variables: str
) -> Started:
    subject = Subject(keys=KEYS, file_bytes=5 * 10**9)
    return start(subject, environment(variables, "/"), devices, request, System(total=64 * GIB, free=64 * GIB), runs_out=runs_out)


def test_an_explicit_context_is_never_lowered() -> None:
    assert _started({"num_ctx": 65536}, runs_out=True).retries == 0
    assert _started({}, runs_out=True).launches[-1].num_ctx == 4096


def test_slots_multiply_what_is_allocated() -> None:
    one, four = (_started({"num_ctx": 8192}, OLLAMA_NUM_PARALLEL=n).launches[0].arguments("m") for n in ("1", "4"))
    assert one[one.index("-c") + 1] == "8192"
    assert four[four.index("-c") + 1] == "32768"


def test_two_cards_are_one_tier_and_one_card_is_used_where_it_suffices() -> None:
    two = (Device(total=12 * GIB, free=11 * GIB, major=8), Device(name="CUDA1", total=12 * GIB, free=12 * GIB, major=8))
    found = _started({"num_ctx": 4096}, devices=two)
    assert found.default_num_ctx == 32768
    assert [device.name for device in found.launches[0].devices] == ["CUDA1"]
    assert "--split-mode" in found.launches[0].arguments("m")
    spread = _started({"num_ctx": 4096}, devices=two, OLLAMA_SCHED_SPREAD="1")
    assert len(spread.launches[0].devices) == 2
    big = _started({"num_ctx": 131072}, devices=two)
    assert len(big.launches[0].devices) == 2


def test_a_discrete_card_comes_before_an_integrated_one() -> None:
    both = (
        Device(library="Vulkan", name="Vulkan0", total=96 * GIB, free=90 * GIB, integrated=True),
        Device(library="CUDA", name="CUDA0", total=24 * GIB, free=20 * GIB, major=8),
    )
    assert _started({"num_ctx": 4096}, devices=both).launches[0].devices[0].name == "CUDA0"


def test_weights_are_copied_where_the_host_is_short_or_the_card_is_a_mac_that_does_not_hold_them() -> None:
    subject = Subject(keys=KEYS, file_bytes=5 * 10**9)

    def mode(device: Device, system: System, **request: int) -> str:
        return start(subject, environment({}, "/"), (device,), request, system).launches[0].load_mode

    assert mode(CARD, System(total=64 * GIB, free=64 * GIB), num_ctx=4096) == ""
    assert mode(CARD, System(total=16 * GIB, free=8 * GIB), num_ctx=4096) == "none"
    assert mode(CARD, System(total=64 * GIB, free=64 * GIB, windows=True), num_ctx=4096) == "none"
    mac = Device(library="Metal", name="MTL0", total=5 * GIB, free=5 * GIB, integrated=True)
    assert mode(mac, System(total=8 * GIB, free=8 * GIB), num_ctx=4096) == "none"
    assert mode(mac, System(total=8 * GIB, free=8 * GIB), num_ctx=4096, num_gpu=10) == "none"
    assert mode(mac, System(total=8 * GIB, free=8 * GIB), num_ctx=4096, num_gpu=33) == ""
    spark = Device(total=119 * GIB, free=110 * GIB, major=12, integrated=True)
    assert mode(spark, System(total=119 * GIB, free=110 * GIB), num_ctx=4096) == "dio"


def test_what_ps_shows() -> None:
    assert Held(total=3_053_453_312, vram=2_785_017_856).processor == "9%/91% CPU/GPU"
    assert Held(total=5, vram=5).processor == "100% GPU"
    assert Held(total=5, vram=0).processor == "100% CPU"
    assert held_in_log("nothing", 736) == Held(total=736, vram=736)
    assert held_in_log("a: CUDA0 KV buffer size = " + "9" * 400 + " MiB", 736) == Held(total=736, vram=736)


@given(st.integers(0, 10**15))
def test_sizes_are_printed_in_one_word_and_its_unit(size: int) -> None:
    number, _, unit = human_bytes(size).partition(" ")
    assert unit in {"B", "KB", "MB", "GB", "TB"}
    assert float(number) >= 0


@each(
    ("file_gib", "num_ctx", "batch"),
    [
        (1, 8192, 1024),
        (16.9, 8192, 1024),  # 17.9 of 24 GiB with the cache: less than 75 %
        (17.1, 8192, 512),
        (9, 40000, 2048),
        (9.6, 40000, 1024),  # 14.5 of 24: more than 60 %
        (13.2, 40000, 512),
        (30, 8192, 512),
    ],
)
def test_a_batch_is_lowered_where_the_guess_leaves_too_little(file_gib: float, num_ctx: int, batch: int) -> None:
    subject = Subject(keys=KEYS, file_bytes=int(file_gib * GIB))
    found = start(subject, environment({}, "/"), (CARD,), {"num_ctx": num_ctx}, System(total=64 * GIB, free=64 * GIB))
    assert found.launches[0].batch == batch


def test_flash_attention_came_by_architecture() -> None:
    assert [flash_by_itself("gpt-oss", release) for release in ((0, 11, 7), (0, 11, 8), (0, 24))] == [False, True, True]
    assert not flash_by_itself("llama", (0, 24))
