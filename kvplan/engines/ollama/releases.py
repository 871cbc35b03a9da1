"""What changed between Ollama's releases up to 0.24: defaults, and which models its own engine ran. By reading all tags."""

from typing import Final

from kvplan.engines.kernel.releases import Quirk, Release, parse_version, quirk
from kvplan.engines.llama_cpp.builds import build, unknown
from kvplan.engines.ollama.about import ABOUT
from kvplan.gguf.hparams import Hparams

#: The first release whose GGUF models all run in llama-server; the first that has an engine of its own, and the last.
SERVED: Final = (0, 30)
FIRST_OWN: Final = (0, 5, 13)
#: Tokens when nobody says; 0: by the memory of all GPUs.
CONTEXT: Final[Quirk[int]] = quirk(
    ((0, 0, 6), 2048, "api/types.go"), ((0, 6, 7), 4096, "envconfig/config.go"), ((0, 15, 5), 0, "server/routes.go")
)
#: The build of llama.cpp that its llama-server is.
BUILD: Final[Quirk[int]] = quirk(
    (SERVED, 9452, "LLAMA_CPP_VERSION"),
    ((0, 31), 9840, "LLAMA_CPP_VERSION"),
    ((0, 32, 2), 10_069, "LLAMA_CPP_VERSION"),
    ((0, 32, 8), 10_353, "LLAMA_CPP_VERSION"),
    ((0, 32, 15), 10_488, "LLAMA_CPP_VERSION"),
)
#: Slots when nobody says: so many where they fit, else one.
SLOTS: Final[Quirk[int]] = quirk(
    ((0,), 1, "server/sched.go"),
    ((0, 2), 4, "server/sched.go: defaultParallel"),
    ((0, 6, 7), 2, "server/sched.go: defaultParallel"),
    ((0, 10), 1, "envconfig/config.go"),
)
#: Family of the config blob -> the release from which it gets one slot.
ONE_SLOT_SINCE: Final = {
    "mllama": (0, 12, 7), "qwen3vl": (0, 12, 7), "qwen3vlmoe": (0, 12, 7), "qwen3next": (0, 15, 5), "lfm2": (0, 15, 5),
    "lfm2moe": (0, 15, 5), "qwen35": (0, 17, 1), "qwen35moe": (0, 17, 1), "nemotron_h": (0, 17, 1), "nemotron_h_moe": (0, 17, 1),
    "nemotron_h_omni": (0, 22),
}  # fmt: skip
#: Architecture -> the release from which the own engine ran it without being asked (`OllamaEngineRequired`); qwen3 paused in
#: 0.12.5.
_OWN_SINCE: Final = {
    "gemma3": (0, 6), "mistral3": (0, 6, 5), "llama4": (0, 6, 7), "mllama": (0, 7), "qwen25vl": (0, 7), "gemma3n": (0, 9, 3),
    "gptoss": (0, 11), "gpt-oss": (0, 11, 5), "qwen3": (0, 12), "qwen3moe": (0, 12, 2), "qwen3vl": (0, 12, 7),
    "qwen3vlmoe": (0, 12, 7), "deepseek2": (0, 13), "deepseekocr": (0, 13), "nomic-bert": (0, 13, 1), "olmo3": (0, 13, 4),
    "bert": (0, 13, 5), "glm4moelite": (0, 14, 3), "lfm2": (0, 14, 3), "qwen3next": (0, 15, 5), "glmocr": (0, 15, 5),
    "nemotron_h": (0, 17, 1), "nemotron_h_moe": (0, 17, 1), "qwen35": (0, 17, 1), "qwen35moe": (0, 17, 1), "lfm2moe": (0, 17, 1),
    "gemma4": (0, 20), "laguna": (0, 22), "nemotron_h_omni": (0, 22),
}  # fmt: skip
_PAUSED: Final = {"qwen3": (0, 12, 5)}
#: Architecture -> the release from which flash attention is on without being asked.
_FLASH_SINCE: Final = {
    "gptoss": (0, 11, 8), "gpt-oss": (0, 11, 8), "qwen3": (0, 12, 4), "qwen3moe": (0, 12, 4), "gemma3": (0, 12, 6),
    "qwen3vl": (0, 12, 8), "qwen3vlmoe": (0, 12, 8), "mistral3": (0, 13, 2), "olmo3": (0, 13, 4), "bert": (0, 13, 5),
    "glm4moelite": (0, 14, 3), "lfm2": (0, 14, 3), "qwen3next": (0, 15, 5), "glmocr": (0, 15, 5), "nemotron_h": (0, 17, 1),
    "nemotron_h_moe": (0, 17, 1), "qwen35": (0, 17, 1), "qwen35moe": (0, 17, 1), "lfm2moe": (0, 17, 1), "gemma4": (0, 20, 4),
    "nemotron_h_omni": (0, 22),
}  # fmt: skip
_NEVER: Final = (10**6,)


def ran_in_own_engine(architecture: str, release: Release) -> bool:
    """Whether the own engine ran the architecture by itself."""
    return _PAUSED.get(architecture) != release and release >= _OWN_SINCE.get(architecture, _NEVER)


def flash_by_itself(architecture: str, release: Release) -> bool:
    """Whether flash attention was on when nobody said."""
    return release >= _FLASH_SINCE.get(architecture, _NEVER)


def one_slot(family: str, release: Release) -> bool:
    """Whether a family got one slot whatever was said."""
    return release >= ONE_SLOT_SINCE.get(family, _NEVER)


def behind(release: Release) -> str | None:
    """The llama.cpp whose rules a release's llama-server has; None: the commit that was studied.

    The newest release brings a build before that commit; of what was counted nothing changed between them but new models.

    >>> behind((0, 30)), behind((0, 32, 14)), behind((0, 32, 15))
    ('b9452', 'b10353', None)
    """
    return None if release >= BUILD.rows[-1][0] else f"b{BUILD.at(release)}"


def unserved(h: Hparams, release: Release) -> str:
    """Why the llama-server of a release does not read a model that a later build does; or nothing."""
    if release > parse_version(ABOUT.latest):
        return ""  # brings a build that was not counted
    return unknown(h, build(BUILD.at(release)), mtp=False, rollback=False, flash=False)
