"""Command lines to paste: kvplan's own that ask a question again, and the name an engine is given for a model."""

from collections.abc import Mapping
from fractions import Fraction
from shlex import quote
from typing import TYPE_CHECKING

from kvplan.domain.model import Model
from kvplan.units import short_count, short_size

if TYPE_CHECKING:
    from kvplan.questions.fit.question import Question


def served_name(model: Model, source: str = "") -> str:
    """What an engine is given as the model: its hub id where one is known, else the path or name that was typed."""
    return model.hub or source.removesuffix("/config.json") or model.name


def fit_command(q: "Question") -> str:
    """The command line that asks `q`."""
    words = ["kvplan fit", quote(q.source or q.model.name), "--gpu", q.gpu.id if q.gpus == 1 else f"{q.gpu.id}:{q.gpus}"]
    if q.tensor_parallel != q.gpus:
        words += ["--tp", str(q.tensor_parallel)]
    words += ["-e", quote(q.engine)]
    words += ["--context", short_count(q.text)] if q.text is not None else []
    words += [f"--{name} {value}" for name, value in q.media.media.written().items()] if q.media is not None else []
    words += ["--batch", str(q.batch_size)] if q.batch_size is not None else []
    counted = 0 if q.media is None else q.media.tokens
    words += ["--encoder-len", str(q.encoder_len)] if q.encoder_len and not (q.media and q.media.cost.cross) else []
    words += ["--average", short_count(q.average - counted)] if q.average is not None else []
    words += ["--mix", quote(q.mix.words)] if q.mix is not None else []
    words += [_quoted(q.weights_flag)] if q.weights_flag else []
    words += ["--reserve", short_size(q.reserve_bytes)] if q.reserve_bytes is not None else []
    words += ["--memory", short_size(q.memory_bytes)] if q.memory_bytes is not None else []
    words += ["--utilization", f"{q.utilization:g}"] if q.utilization is not None else []
    words += ["--free", ",".join(map(short_size, q.free))] if q.free else []
    words += ["--machine", quote(q.machine)] if q.machine else []
    words += _below(q)
    words += ["--infer"] if q.model.inferred else []
    for key, value in q.options.items():
        shown = value.name if isinstance(value, Model) else value
        words += ["--kv-dtype", quote(str(shown))] if key == "kv_dtype" else ["--set", quote(f"{key}={shown}")]
    return " ".join(words)


def _below(q: "Question") -> list[str]:
    ask = q.below
    if ask is None:
        return []
    words = ["--host", short_size(ask.host_bytes)] if ask.host_bytes is not None else []
    words += ["--disk", short_size(ask.disk_bytes)] if ask.disk_bytes is not None else []
    return words + (["--sessions", quote(f"{ask.sessions} at {short_count(ask.tokens)}")] if ask.sessions else [])


def committee_command(source: str, overrides: Mapping[str, str], scale: Fraction) -> str:
    """The command line that asks about a plan with some of its values replaced."""
    words = ["kvplan committee", quote(source) if source else "PLAN.yaml"]
    for key, value in overrides.items():
        words.append(f"--{key} {quote(value)}" if key in {"gpu", "memory"} else f"--set {quote(f'{key}={value}')}")
    words += [f"--scale {scale}"] if scale != 1 else []
    return " ".join(words)


def _quoted(flag: str) -> str:
    """A flag and its value, as one shell would take them."""
    name, space, value = flag.partition(" ")
    return f"{name} {quote(value)}" if space else quote(name)
