"""How SGLang reads a command line: plain argparse.

Source: srt/server_args.py:prepare_server_args, srt/arg_groups/arg_utils.py:add_cli_args_from_dataclass, cli/serve.py:
_normalize_positional_model_path, srt/utils/server_args_config_parser.py:ConfigArgumentMerger.
"""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from kvplan.domain.model import Model
from kvplan.engines.kernel.commandline.asked import Asked
from kvplan.engines.kernel.commandline.commands import ALLOCATOR, Commands, module_of, program_name
from kvplan.engines.kernel.commandline.flags import AtRelease, at_release
from kvplan.engines.kernel.commandline.parser import Style, is_flag, scan, store
from kvplan.engines.kernel.commandline.settings import yaml_keys
from kvplan.engines.kernel.commandline.told import Told
from kvplan.engines.kernel.commandline.words import UNRESOLVED, Call, Image, Word
from kvplan.engines.sglang.typed import ENVIRONMENT

_FOLDER: Final = "kvplan.engines.sglang"
#: The server's module, and NVIDIA Dynamo's in front of the same arguments, with others of its own.
_BEHIND: Final = "dynamo.sglang"
_MODULES: Final = ("sglang.launch_server", _BEHIND)
_STYLE: Final = Style(human=False)


class SglangCommands(Commands):
    """`python -m sglang.launch_server` and `sglang serve`."""

    name: ClassVar[str] = "sglang"
    folder: ClassVar[str] = _FOLDER
    packages: ClassVar[tuple[str, ...]] = ("sglang",)
    variables: ClassVar[tuple[str, ...]] = (
        "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN", *ENVIRONMENT.values(), *ALLOCATOR,
    )  # fmt: skip

    drafters: ClassVar[tuple[str, ...]] = ("speculative_draft_model_path",)
    container: ClassVar[str] = "lmsysorg/sglang:v{version}"
    settable: ClassVar[Mapping[str, str]] = {name: option for option, name in ENVIRONMENT.items()}
    without_bytes: ClassVar[frozenset[str]] = frozenset(
        {"model_path", "load_format", "is_embedding", "base_gpu_id", "gpu_id_step", "device", "max_queued_requests"}
    )

    def begins(self, words: Sequence[Word], call: Call) -> int:
        """The module, or the program."""
        if len(words) > 1 and program_name(words[0]) == "sglang" and words[1].text == "serve":
            return 2
        module, end = module_of(words)
        return end if module in _MODULES else 0

    def owns(self, found: Image) -> bool:
        """lmsysorg/sglang and what others build of it."""
        return "sglang" in found.name.lower() and "router" not in found.name.lower()

    def started(self, found: Image, words: Sequence[Word], version: str) -> tuple[str, ...] | None:
        """Its image starts nothing by itself."""
        return None

    def read(self, program: Sequence[Word], rest: Sequence[Word], call: Call, version: str) -> Told:
        """The words after the program; a bare word is the model only as the first of `sglang serve`."""
        told, known = Told(), at_release(_FOLDER, version)
        given = list(rest)
        if not module_of(program)[1] and given and (not given[0].known or not is_flag(given[0].text)):
            given.insert(0, Word("--model-path", given[0].line))
        given = _with_config(given, call.files, known)
        for found in scan(given, known, _STYLE, told, named_release=bool(version)):
            if isinstance(found, Word):
                if found.known:
                    told.refused.append(f"`{found.text}` is one word too many: the server refuses it")
            elif found.named.flag.dest == "model_path":
                if found.values:
                    told.model = found.values[-1].text if found.values[-1].known else UNRESOLVED
                    told.lines["model"] = found.line
            else:
                store(found, told, _STYLE)
        return told.behind() if module_of(program)[0] == _BEHIND else told

    def serving(self, model: Word | None) -> tuple[Word, ...]:
        """`sglang serve MODEL`."""
        return (Word("sglang"), Word("serve"), *((model,) if model is not None else ()))

    def file(self, keys: Mapping[str, Any]) -> bool:
        """A file for `--config`: its keys are flags, and one is the model's path, or three are known."""
        known = at_release(_FOLDER, "").names
        ours = [key for key in keys if f"--{key}" in known or f"--{key}".replace("_", "-") in known]
        named = "model-path" in keys or "model_path" in keys
        return len(ours) * 2 > len(keys) and (named or len(ours) >= 3)

    def settings(self, keys: Mapping[str, Any]) -> Told:
        """What the server makes of such a file."""
        given = list(_config_words(keys, at_release(_FOLDER, "")))
        return self.read((Word("sglang"), Word("serve")), given, Call(words=()), "")

    def too_long(self, options: Mapping[str, Any], environment: Mapping[str, str], model: Model) -> tuple[str, int]:
        """Source: srt/configs/model_config.py:ModelConfig._derive_context_length; what rewrites the config may lengthen it."""
        from kvplan.engines.sglang.models import longest_request

        length, derived = options.get("context_length"), longest_request(model)
        allowed = environment.get("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN", "0").lower() in {"1", "true"}
        if allowed or not isinstance(length, int) or length <= derived or "json_model_override_args" in options:
            return "", 0
        return f"User-specified context_length ({length}) is greater than the derived context_length ({derived})", derived

    def asked(self, options: Mapping[str, Any], environment: Mapping[str, str], known: Container[str]) -> Asked:
        """Graphs by their backend."""
        given, first = dict(options), Asked()
        _graphs(given, first)
        found = super().asked(given, environment, known)
        found.options |= first.options
        return found


def _graphs(given: dict[str, Any], found: Asked) -> None:
    """`--cuda-graph-backend-decode disabled` captures none."""
    for part in ("decode", "prefill"):
        if given.get(f"cuda_graph_backend_{part}") == "disabled":
            given.pop(f"cuda_graph_backend_{part}")
            found.put(f"disable_{part}_cuda_graph", True)


def _with_config(given: list[Word], files: Mapping[str, str], known: AtRelease) -> list[Word]:
    """A YAML file that the same input writes, before the flags in place of `--config FILE`."""
    for at, word in enumerate(given[:-1]):
        if word.text == "--config" and given[at + 1].text in files:
            keys = yaml_keys(files[given[at + 1].text])
            if keys is not None:
                return [*_config_words(keys, known), *given[:at], *given[at + 2 :]]
    return given


def _config_words(keys: Mapping[str, Any], known: AtRelease) -> Iterator[Word]:
    """A file's keys as words: any long spelling, `_` or `-`; false for a switch adds nothing."""
    for key, value in keys.items():
        name = f"--{key}"
        if known.named(name)[0] is None:
            name = name.replace("_", "-")
        if value is False or value is None:
            continue
        yield Word(name)
        if value is not True:
            yield Word(json.dumps(value) if isinstance(value, dict | list) else str(value))


COMMANDS: Final = SglangCommands()
