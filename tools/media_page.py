"""The page of what images, video and audio cost: every model of the catalogue that sees or hears, and every family."""

from collections.abc import Iterator

from kvplan.domain.media.asked import Media, parse_media
from kvplan.domain.model import Model
from kvplan.errors import KvplanError

LEAD = """# What an image, a minute of video and 30 s of audio cost

Tokens that one request takes for them, begin and end marks included, by each engine's own rules (`--images`, `--video`,
`--audio` of `estimate`, `compare`, `sweep`, `fit`, `reserve`, `receipt`, `explain` and `replay`;
[the guide](../guides/images.md)).
`+ keys`: kept by each cross-attention layer beside the sequence. Columns without an engine are the model's own processor's
(transformers); in brackets: the engine's own count was not read, and is taken to be that. Video: a minute of 720 x 1,280 at
2 frames a second. "-": it takes none; "not read": it does, and the rule is not known here. Plain text that comes along (time
stamps, newlines) is not counted.

| model | 1,024 x 1,024 | 1,080 x 1,920 | vLLM | llama.cpp | 3,000 x 4,000 | vLLM | llama.cpp | minute of video | 30 s of audio |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""
FAMILIES = """
## Families

A family is a row of `kvplan/architectures/media/`. Those marked * have the class's own numbers, because no published file of the
family was found; a model's `preprocessor_config.json` in its folder is read over them.

| family | model types | takes | source |
| --- | --- | --- | --- |
"""
ASKED: tuple[tuple[dict[str, str], str], ...] = (
    ({"images": "1x1024x1024"}, "transformers"),
    ({"images": "1x1080x1920"}, "transformers"),
    ({"images": "1x1080x1920"}, "vllm"),
    ({"images": "1x1080x1920"}, "llama.cpp"),
    ({"images": "1x3000x4000"}, "transformers"),
    ({"images": "1x3000x4000"}, "vllm"),
    ({"images": "1x3000x4000"}, "llama.cpp"),
    ({"video": "60s@2fps@720x1280"}, "transformers"),
    ({"audio": "30s"}, "transformers"),
)


def page(note: str) -> str:
    """The whole page."""
    return "".join([note, LEAD, *models(), FAMILIES, *families()])


def models() -> Iterator[str]:
    """One row a model of the catalogue that sees or hears; models of one family and size alike share it."""
    from kvplan.loading.catalogue import load, names
    from kvplan.questions.media import sees_or_hears

    rows: dict[tuple[str, ...], list[str]] = {}
    for name in names():
        model, _ = load(name)
        if sees_or_hears(model):
            cells = tuple(cost(model, parse_media(**asked), engine) for asked, engine in ASKED)
            rows.setdefault((*cells, model.model_type), []).append(name)
    for (*cells, _), alike in rows.items():
        yield f"| {', '.join(alike)} | {' | '.join(cells)} |\n"


def cost(model: Model, media: Media, engine: str) -> str:
    """What that is, in a few characters."""
    from kvplan.architectures.media import processor_of
    from kvplan.questions.media import used

    processor = processor_of(model)
    if processor is None:
        return "not read"
    kind = "image" if media.images else "video" if media.videos else "audio"
    if kind not in processor.kinds:
        return "-"
    try:
        use = used(model, media, engine)
    except KvplanError:
        return "not read"
    keys = f"{' + ' if use.tokens else ''}{use.cost.cross:,} keys" if use.cost.cross else ""
    said = f"{use.tokens:,}{keys}" if use.tokens else keys
    return said if use.read else f"[{said}]"


def families() -> Iterator[str]:
    """One row a family."""
    from kvplan.architectures.media.index import ROWS

    for name, row in ROWS.items():
        takes = ", ".join(kind for kind in ("image", "video", "audio") if getattr(row, kind) is not None)
        types = ", ".join(f"`{model_type}`" for model_type in row.types) or "by its files"
        yield f"| {name}{' *' if row.assumed else ''} | {types} | {takes} | {row.source} |\n"
