"""A class of somebody's file, loaded and built from a config. This runs the file's code: in a process of its own (`child`)."""

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from kvplan.errors import nearest
from kvplan.questions.measure.depth import LAYERS
from kvplan.questions.measure.observe import line_in
from kvplan.questions.measure.observed import NotMeasured
from kvplan.questions.measure.subjects import Subject, is_library, words_of
from kvplan.questions.validate.devices import import_torch

#: Keys of a config that no cache depends on, and that may lead to other code or files.
_DROPPED: Final = ("pad_token_id", "bos_token_id", "eos_token_id", "quantization_config", "auto_map")
#: A file of transformers' own tree says `from ...cache_utils import Cache`.
_IN_TREE: Final = re.compile(r"^\s*from \.\.", re.MULTILINE)
_PACKAGE: Final = "kvplan_measured"
_SMALL: Final = 2**24  # weights that are built with numbers


class Keys(dict[str, Any]):
    """The config as a dict, whose keys may also be read as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the config has no key `{name}`") from None


class Stranger:
    """A class of somebody's file, which may be built from more than one config."""

    def __init__(self, file: str, name: str) -> None:
        """Load the file: its code runs.

        Raises:
            NotMeasured: no such class, or its code fails: one sentence with the line.
        """
        self.file, self.name = file, name
        self.kind = _class(file, name)
        self.library = is_library(self.kind)
        self.source = f"{Path(file).name}:{name}"

    def built(self, config: Mapping[str, Any], device: str) -> Any:
        """The module, its weights on a device; whatever its code raises."""
        with import_torch().device(device):
            return (_library_class if self.library else _module_class)(self.kind, config)

    def subject(self, config: Mapping[str, Any]) -> Subject:
        """The class, built from a config.

        Raises:
            NotMeasured: its code fails: one sentence with the line.
        """
        small: Any = None
        first: Exception | None = None
        for device in ("meta", "cpu"):
            try:
                built = self.built(config, device)
            except MemoryError:
                raise
            except Exception as problem:  # whatever the code raises is its answer
                first = first or problem
                continue
            small = built
            if device == "cpu" or sum(weight.numel() for weight in built.parameters()) > _SMALL:
                break
        if small is None:
            raise not_built(first, self.file, self.name)

        def subject(network: Any) -> Subject:
            return Subject(network, config=None if self.library else config, source=self.source)

        found = subject(small)
        found.with_numbers = lambda: subject(self.built(config, "cpu"))
        return found

    def section(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What the class makes of the part of a config that has the layers, and where in the config that part is.

        Raises:
            Exception: whatever the code of a config class raises.
        """
        if not self.library:
            inner = [key for key, value in config.items() if isinstance(value, Mapping) and any(n in value for n in LAYERS)]
            if any(name in config for name in LAYERS) or len(inner) != 1:
                return dict(config), ()
            return dict(config[inner[0]]), (inner[0],)
        made = self.kind.config_class.from_dict(_kept(config))
        held = made.get_text_config(decoder=True)
        where = () if held is made else tuple(key for key, value in vars(made).items() if value is held)[:1]
        given: Any = config
        for step in where:
            given = given.get(step, {})
        return {**held.to_dict(), **given}, where

    def sources(self) -> Iterator[tuple[str, str]]:
        """(name, text) of each file beside the class that was loaded."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if _PACKAGE in name and file and Path(file).parent == Path(self.file).parent:
                yield Path(file).name, Path(file).read_text(encoding="utf-8", errors="replace")


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _DROPPED}


def not_built(problem: Exception | None, file: str, name: str) -> NotMeasured:
    """The error for a class that does not build, with the line."""
    told = problem or ValueError("nothing")
    where = line_in(told, Path(file).name) or Path(file).name
    return NotMeasured(f"{where}: {name} does not build: {words_of(told)}", hint="mend the code, or another config")


def _class(file: str, name: str) -> Any:
    path = Path(file)
    module = _module(path)
    kind = getattr(module, name, None)
    torch = import_torch()
    if not isinstance(kind, type) or not issubclass(kind, torch.nn.Module):
        known = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, torch.nn.Module)]
        own = [key for key in known if vars(module)[key].__module__ == module.__name__]
        near = nearest(name, own)
        what = "is no torch.nn.Module" if kind is not None else "is not there"
        hint = f"did you mean `{near}`?" if near else f"its modules: {', '.join(own[:12]) or 'none'}"
        raise NotMeasured(f"{path.name}: `{name[:60]}` {what}", hint=hint)
    return kind


def _module(path: Path) -> ModuleType:
    """The file as a module of a package that is its folder, so that it may import what stands beside it."""
    text = path.read_text(encoding="utf-8", errors="replace")
    package = _PACKAGE
    if _IN_TREE.search(text):
        package = f"{importlib.import_module('transformers.models').__name__}.{_PACKAGE}"
    holder = ModuleType(package)
    holder.__path__ = [str(path.parent)]
    holder.__spec__ = ModuleSpec(package, None, is_package=True)
    sys.modules[package] = holder
    sys.path.append(str(path.parent))
    full = f"{package}.{path.stem}"
    spec = importlib.util.spec_from_file_location(full, path)
    if spec is None or spec.loader is None:
        raise NotMeasured(f"{path.name}: not a Python file", hint="give FILE.py:CLASS")
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    try:
        spec.loader.exec_module(module)
    except MemoryError:
        raise
    except Exception as problem:  # whatever the code raises is its answer
        where = line_in(problem, path.name) or path.name
        raise NotMeasured(
            f"{where}: the file does not load: {words_of(problem)}", hint="what it imports must be installed"
        ) from problem
    return module


def _module_class(kind: Any, config: Mapping[str, Any]) -> Any:
    return kind(Keys(config))


def _library_class(kind: Any, config: Mapping[str, Any]) -> Any:
    """A model of transformers, from its own config class, in the config's dtype, with no weights loaded."""
    torch = import_torch()
    if kind.config_class is None:
        raise TypeError(f"{kind.__name__}.config_class is not set")
    values = _kept(config)
    made = kind.config_class.from_dict(values)
    said = values.get("dtype") or values.get("torch_dtype") or "bfloat16"
    dtype = getattr(torch, str(said).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"no dtype `{str(said)[:40]}`")
    last: Exception | None = None
    for attention in ("sdpa", "eager"):
        try:
            return kind._from_config(made, dtype=dtype, attn_implementation=attention)
        except (ValueError, ImportError) as problem:  # an attention that the class does not have
            last = last or problem
    raise last or ValueError("nothing")
