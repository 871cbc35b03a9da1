"""The model that a server names: in the catalogue, on the hub, or in a config that was given for its name."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from msgspec import Struct

from kvplan.domain.model import Model
from kvplan.errors import InputError, UnknownModel
from kvplan.files import is_hub_id
from kvplan.loading import load
from kvplan.loading.catalogue import find, listing, load_entry
from kvplan.loading.copies import as_asked

#: How a hub's repository is named where several hubs may be.
_HUB: Final = re.compile(r"^(?:hf\.co/|huggingface\.co/|hf://)")
_GGUF: Final = re.compile(r"\.gguf$", re.IGNORECASE)
_PART: Final = re.compile(r"-\d{5}-of-\d{5}$")
#: How GGUF files are called by the mix of their tensors.
_QUANT: Final = re.compile(r"[-_.](?:UD-)?(I?Q\d(?:_?[0-9KMSLX]+)*(?:_(?:NL|XXS|XS))?|MXFP4|BF16|F16|F32|FP16)$", re.IGNORECASE)
_SHORT: Final = re.compile(r"(q\d)(k)")
_UNSLOTH: Final = re.compile(r"_XL$", re.IGNORECASE)


class Named(Struct, frozen=True, kw_only=True):
    """A model with what its name says of its weights; `note` says what a path was taken for."""

    model: Model
    source: str
    weights_dtype: str | None = None
    note: str = ""


def named_model(
    text: str, configs: Mapping[str, Path], *, infer: bool = False, aliases: Iterable[tuple[str, str | None]] = ()
) -> Named:
    """The model that a server is told.

    No path of the input is opened: a local path is looked for in the catalogue by its last part, else its config must be given.

    Raises:
        InputError: nobody knows it.
    """
    for name in (text, text.rstrip("/").rpartition("/")[2]):
        if name in configs:
            return Named(model=load(configs[name], infer=infer), source=str(configs[name]))
    plain, dtype = _without_quant(_HUB.sub("", text))
    entry = find(plain) or _published(plain)
    if entry is not None:
        model = _copy(plain, entry)
        return Named(model=model, source=model.hub or plain, weights_dtype=dtype)
    for alias, mix in aliases:
        entry = find(alias)
        if entry is not None:
            model = _copy(alias, entry)
            note = f"`{text}` is taken for {alias}" + (f" in {mix}" if mix else "")
            return Named(model=model, source=model.hub or alias, weights_dtype=mix, note=note)
    last = re.split(r"[\\/]", plain.rstrip("/\\"))[-1].replace("--", "/")
    entry = find(last) or _published(last)
    if entry is not None:
        model = _copy(last, entry)
        note = f"`{text}` is taken for {last}, by its name"
        return Named(model=model, source=model.hub or last, weights_dtype=dtype, note=note)
    if dtype is None and is_hub_id(text) and not text.startswith(("models/", "model/", "data/")):
        return Named(model=load(text, infer=infer), source=text)
    raise UnknownModel(
        f"`{text[:120]}` is a local path or private, and its config is not known",
        hint=f"give it: «model_config {text[:80]}=config.json»",
    )


@cache
def _hubs() -> dict[str, str]:
    """Hub ids of the catalogue, and their last parts where one entry alone has it -> the entry's name."""
    rows = [(row["hub"].lower(), row["model"]) for row in json.loads(listing().read_text(encoding="utf-8")) if row.get("hub")]
    lasts = [hub.rpartition("/")[2] for hub, _ in rows]
    found = {last: model for last, (_, model) in zip(lasts, rows, strict=True) if lasts.count(last) == 1}
    return found | dict(rows)


def _published(name: str) -> Path | None:
    """The entry whose hub id this is, or its last part."""
    found = _hubs().get(name.lower())
    return find(found) if found is not None else None


def _copy(name: str, entry: Path) -> Model:
    """An entry under the name that found it, in the format that the name says; a bare name is its publisher's."""
    model = load_entry(entry)
    owner = model.hub.partition("/")[0]
    return as_asked(model, name if "/" in name or not owner or name.lower() == model.name else f"{owner}/{name}", entry)


def _without_quant(text: str) -> tuple[str, str | None]:
    """(a name without a GGUF file's ending and mix, the mix); `owner/repo:Q4_K_M` too."""
    name, colon, tag = text.rpartition(":")
    if colon and is_hub_id(name) and _QUANT.fullmatch(f"-{tag}"):
        return _without_copy(name), _mix(tag)
    if not _GGUF.search(text):
        return (_without_copy(text), "q4_k_m") if text.lower().endswith("-gguf") and is_hub_id(text) else (text, None)
    name = _PART.sub("", _GGUF.sub("", text))
    found = _QUANT.search(name)
    return (name[: found.start()], _mix(found[0][1:])) if found else (name, None)


def _without_copy(name: str) -> str:
    return re.sub(r"-GGUF$", "", name, flags=re.IGNORECASE)


def _mix(text: str) -> str:
    """A mix as kvplan names it: `UD-Q4_K_XL` is nearest to q4_k_m."""
    plain = re.sub(r"^UD-", "", text, flags=re.IGNORECASE).lower().replace("-", "_")
    return _SHORT.sub(r"\1_\2", _UNSLOTH.sub("_m", plain))


def given_configs(pairs: tuple[str, ...]) -> dict[str, Path]:
    """`NAME=config.json`, several.

    Raises:
        InputError: no `=`, or given twice.
    """
    found: dict[str, Path] = {}
    for pair in pairs:
        name, equals, path = pair.rpartition("=")
        if not equals or not name or not path:
            raise InputError(f"«model_config»: expected NAME=config.json, got `{pair[:80]}`", hint="NAME as the input has it")
        if name in found:
            raise InputError(f"«model_config»: `{name[:80]}` is given twice", hint="leave one out")
        found[name] = Path(path)
    return found
