"""`kvplan.site`: a static site of the catalogue, or of some models, in a folder."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.api.given import Count, Counts, Names, Source, counts, names, sources
from kvplan.api.models import entry_of
from kvplan.api.page import page
from kvplan.api.workers import installed, runner
from kvplan.architectures.index import FAMILY_OF
from kvplan.domain.model import Model
from kvplan.errors import InputError, KvplanError, OptionError, printable
from kvplan.files import expanded
from kvplan.loading import load
from kvplan.loading.catalogue import matching
from kvplan.report.site import Row, file_name, held, model_files, site_files

ENGINES: Final = "vllm,llama.cpp,transformers,ideal"
KV_DTYPES: Final = "auto,fp8"
SEQ_LENS: Final = "4k:128k:x2"
BATCH_SIZES: Final = "1,8,32"
GPUS: Final = "rtx-3060-12gb,rtx-4090,l40s,h100-80gb,h200,h200:8"
#: A file of every site, by which a folder is known to be one.
_MARK: Final = "json/index.json"


class Site(Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        folder: where.
        models: how many have a page; `missing` are those that have none, each with the reason.
        files, bytes: how many, and what they take together.
    """

    folder: str
    models: int
    files: int
    bytes: int
    missing: tuple[tuple[str, str], ...] = ()


class _Asked(Struct, frozen=True, kw_only=True):
    """One model's piece of the work, as a process is sent it."""

    source: Any
    gpu: str
    engines: tuple[str, ...]
    kv_dtypes: tuple[str, ...]
    seq_lens: tuple[int, ...]
    batch_sizes: tuple[int, ...]


def site(
    folder: str | Path,
    models: Source | Iterable[Source] | None = None,
    gpu: str = GPUS,
    *,
    engine: Names = ENGINES,
    kv_dtype: Names = KV_DTYPES,
    seq_len: Counts = SEQ_LENS,
    batch_size: Counts = BATCH_SIZES,
    workers: Count = 1,
    advance: Callable[[int, int], None] = lambda done, of: None,
) -> Site:
    """Write a static, searchable site: an index, what fits a card, a page a model, and one JSON a model and engine.

    It is written beside the folder and takes its place when it is whole; what else stands in the folder is never replaced.

    Args:
        folder: a new folder, an empty one, or an earlier site.
        models: one or several of what `kvplan.load` takes; the whole catalogue when None.
        gpu, engine, kv_dtype, seq_len, batch_size: what a reader chooses between, as `kvplan.page` takes them.
        workers: processes of this machine; the site is the same.
        advance: told how many more models are done, and how many there are.

    Raises:
        OptionError: a bad value, or a folder that holds something else or cannot be written.
        KvplanError: one of `models` cannot be read.
    """
    target = Path(os.path.realpath(expanded(folder)))
    listed = list(matching()) if models is None else sources(models)
    asked = _Asked(
        source=None,
        gpu=gpu,
        engines=names(engine, "engine"),
        kv_dtypes=names(kv_dtype, "kv_dtype"),
        seq_lens=counts(seq_len, "seq_len"),
        batch_sizes=counts(batch_size, "batch_size"),
    )
    run = runner(workers, None)
    if models is not None:
        for source in listed:  # a slip is said before the work
            load(source)
    with _replaced(target) as place:
        rows, missing, taken, cards = list[Row](), list[tuple[str, str]](), set[str](), ()
        number, size = 0, 0

        def write(files: dict[str, str]) -> None:
            nonlocal number, size
            for name, text in files.items():
                path = place / name
                path.parent.mkdir(parents=True, exist_ok=True)
                size += path.write_bytes(text.encode())
                number += 1

        for made in run(_made, [replace(asked, source=source) for source in listed]):
            advance(1, len(listed))
            if isinstance(made, tuple):
                missing.append(made)
                continue
            row, files, cards = made.row, made.files, made.cards
            if row.file in taken:
                missing.append((row.entry.model, "a model of that name is there already"))
                continue
            taken.add(row.file)
            rows.append(row)
            write(files)
        if not rows:
            raise OptionError(f"no model has an answer: {missing[0][1] if missing else 'there are none'}")
        write(site_files(rows, engines=asked.engines, cards=cards, seq_lens=asked.seq_lens, version=installed()))
    return Site(folder=str(target), models=len(rows), files=number, bytes=size, missing=tuple(missing))


class _Made(Struct, frozen=True, kw_only=True):
    """One model, done."""

    row: Row
    files: dict[str, str]
    cards: tuple[str, ...]


def _made(asked: _Asked) -> _Made | tuple[str, str]:
    """One model's files and its row in the lists; its name and the reason, where nothing is predicted."""
    try:
        model = load(asked.source)
        found = page(
            [asked.source],
            asked.gpu,
            seq_len=asked.seq_lens,
            batch_size=asked.batch_sizes,
            kv_dtype=asked.kv_dtypes,
            engine=asked.engines,
        )
        entry = entry_of(asked.source, model)
    except KvplanError as problem:
        return printable(asked.source, 100), printable(problem, 300)
    file = file_name(model.name)
    row = Row(entry=entry, file=file, family=_family(model), held=held(found))
    return _Made(row=row, files=model_files(found, file), cards=found.cards)


def _family(model: Model) -> str:
    """As the file of rows is called that reads it; a paper's rows: the paper."""
    paper, slash, _ = model.name.partition("/")
    types = [model.model_type, model.text_type]
    return next((FAMILY_OF[one] for one in types if one in FAMILY_OF), paper if slash and file_name(paper) == paper else "others")


@contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place when the block succeeds, and is removed when it does not.

    Raises:
        OptionError: `target` is no folder, holds something else, or cannot be written.
    """
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or (target / _MARK).is_file())):
        raise OptionError(f"`{target}` holds something else", hint="name a new folder, or an earlier site: -o FOLDER")
    try:
        place = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".tmp"))
    except OSError as problem:
        raise _cannot(target, problem) from problem
    try:
        yield place
        mask = os.umask(0)
        os.umask(mask)
        place.chmod(0o777 & ~mask)
        old = place.with_suffix(".old")
        if target.exists():
            target.rename(old)
        place.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as problem:
        raise _cannot(target, problem) from problem
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _cannot(target: Path, problem: OSError) -> InputError:
    return OptionError(
        f"cannot write `{target}`: {(problem.strerror or str(problem)).lower()}", hint="choose another folder: -o FOLDER"
    )
