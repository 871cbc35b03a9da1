"""Images, video and audio of a request: what they are in an engine, and what one image would be."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from kvplan.domain.media.asked import Media, Size, Sound
from kvplan.domain.media.cost import Cost
from kvplan.domain.media.use import Use
from kvplan.domain.model import Cross, Model
from kvplan.domain.workload import Workload
from kvplan.engines import located, make_engine
from kvplan.engines.kernel.engine import Engine
from kvplan.errors import ConfigError, KvplanError, OptionError, Refused

if TYPE_CHECKING:  # a text model's question does not load the families
    from kvplan.domain.media.processor import Kind, Processor
    from kvplan.engines.kernel.media import Used

#: The image by which models are compared where none is asked about.
ONE_IMAGE: Final = Media(images=(Size(1024, 1024),))
ONE_CLIP: Final = Media(sounds=(Sound(seconds=30.0),))
_WORDS: Final[dict["Kind", str]] = {"image": "images", "video": "video", "audio": "audio"}
#: Sections of configs that describe a tower.
_TOWERS: Final = frozenset({"vision_config", "audio_config", "thinker_config", "encoder_config", "vit_config", "img_processor"})
#: Model types that see or hear without such a section.
_SEES: Final = frozenset({"phi3_v", "molmo", "whisper", "moonshine"})


def used(
    model: Model,
    media: Media,
    engine: str,
    options: Mapping[str, Any] | None = None,
    files: Mapping[str, Any] | None = None,
) -> Use:
    """What the media of one request are.

    Args:
        model: which must see or hear.
        media: of one request.
        engine: `NAME` or `NAME@VERSION`.
        options: the engine's.
        files: sections of a processor's values, over what its family's row assumes.

    Raises:
        OptionError: a text-only model is given media.
        Refused: its processor refuses one (`NotTaken`), or no rule of it was read.
        ConfigError: a value of its config or files is out of range.
    """
    made = make_engine(engine, dict(options or {}))
    return used_by(made, model, media, files)


def used_or_refused(
    model: Model, media: Media, engine: str, options: Mapping[str, Any], files: Mapping[str, Any] | None = None
) -> Use:
    """As `used`, for a question that has no answer without it.

    Raises:
        OptionError: the model takes none, or its processor refuses these.
        ConfigError: a value of its config or files is out of range.
    """
    try:
        return used(model, media, engine, options, files)
    except Refused as problem:
        raise problem.at(model.name, OptionError) from problem


def used_by(engine: Engine, model: Model, media: Media, files: Mapping[str, Any] | None = None) -> Use:
    """As `used`, of an engine that is at hand."""
    from kvplan.engines.kernel.media import as_processed

    file = getattr(engine.options, engine.about.roles.get("projector", ""), None)
    processor = _processor(model, media, files, file.name if file is not None else "")
    count: Used = located(engine.about.media) if engine.about.media else as_processed
    try:
        found = count(engine, model, processor, media)
        said = files or {}
        notes = [f"the numbers are those of {said['source']}"] if "source" in said else []
        return replace(found, notes=(*found.notes, *notes, *([said["unread"]] if "unread" in said else [])))
    except (ArithmeticError, ValueError) as problem:  # numbers of a stranger's file that make no tiling
        raise ConfigError(f"{model.name}: its preprocessor's numbers make no tiling of {media}") from problem


def costed(processor: "Processor", media: Media, name: str) -> Cost:
    """What media cost by a processor alone.

    Raises:
        Refused: it takes no such media, or refuses these.
        ConfigError: its numbers make no tiling.
    """
    try:
        return processor.cost(media)
    except (ArithmeticError, ValueError) as problem:
        raise ConfigError(f"{name}: its preprocessor's numbers make no tiling of {media}") from problem


def _processor(model: Model, media: Media, files: Mapping[str, Any] | None, beside: str) -> "Processor":
    """The model's own; where a projector's file stands `beside` it, none is needed."""
    from kvplan.architectures.media import processor_of
    from kvplan.domain.media.processor import Processor

    found = processor_of(model, files)
    if beside and found is None:
        return Processor(family=model.model_type, source=beside)
    parts: tuple[tuple[Kind, int], ...] = (
        ("image", len(media.images)),
        ("video", len(media.videos)),
        ("audio", len(media.sounds)),
    )
    kinds = [kind for kind, count in parts if count]
    if found is None:
        asked = " or ".join(_WORDS[kind] for kind in kinds)
        if model.gguf:
            raise Refused(
                f"{model.name} is the GGUF file of a text part: its projector is another file, which is not read",
                see="--mmproj FILE names it (llama.cpp), or name the model as the catalogue or the hub does",
            )
        if sees_or_hears(model):
            raise Refused(
                f"how {model.model_type} turns {asked} into tokens was not read", see="`kvplan models` lists those that were"
            )
        raise OptionError(f"{model.name} takes no {asked}: its config is a text-only model's")
    missing = [kind for kind in kinds if kind not in found.kinds]
    if missing:
        asked, takes = " and ".join(_WORDS[kind] for kind in missing), " and ".join(_WORDS[kind] for kind in found.kinds)
        raise OptionError(f"{model.name}: no rule for {asked} was read; its processor takes {takes}")
    return found


def sees_or_hears(model: Model) -> bool:
    """Whether a config describes a tower beside the text part."""
    return model.model_type != model.text_type or model.model_type in _SEES or not model.config_keys.isdisjoint(_TOWERS)


def encoder_len(model: Model, use: Use, asked: int = 0) -> int:
    """Encoder tokens of a sequence: what was asked for, else the media's keys where the model does not fix them itself."""
    if asked or not use.cost.cross:
        return asked
    open_length = any(isinstance(m, Cross) and m.tokens is None for layer in model.layers for m in layer.memories)
    return use.cost.cross if open_length else 0


def one_image(model: Model, engine: Engine) -> tuple[str, ...]:
    """What one image, or a clip of a model that only hears, is in an engine: said of one that was asked about without any."""
    if not sees_or_hears(model):
        return ()
    for what, media in (("images were", ONE_IMAGE), ("audio was", ONE_CLIP)):
        try:
            use = used_by(engine, model, media)
        except KvplanError:
            continue
        if use.tokens or use.cost.cross:
            typed = " ".join(f"--{name} {value}" for name, value in media.written().items())
            return (f"no {what} given: {use.short} ({typed})",)
    return ()


def asked_with(model: Model, workload: Workload, use: Use) -> Workload:
    """The workload of text, with the media of each sequence."""
    return Workload(
        batch_size=workload.batch_size,
        seq_len=workload.seq_len + use.tokens,
        encoder_len=encoder_len(model, use, workload.encoder_len),
    )
