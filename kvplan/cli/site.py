"""`kvplan site`: a static site of the catalogue."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kvplan.cli import options as o

SomeModels = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL...]", help="These models alone (default: the whole catalogue)", callback=o.with_patterns),
]
Folder = Annotated[
    Path, typer.Option("-o", "--output", metavar="FOLDER", help="A new folder, or an earlier site", show_default=False)
]
Gpus = Annotated[
    str | None,
    typer.Option("--gpu", metavar="NAME[:N][,…]", help="GPUs to choose between (default: six, from 12 GB to eight of 141)"),
]
EnginesOpt = Annotated[
    str | None,
    typer.Option(
        "-e", "--engine", metavar="A,B,…", help="Engines to choose between (default: vllm, llama.cpp, transformers, ideal)"
    ),
]
Dtypes = Annotated[
    str | None, typer.Option("--kv-dtype", metavar="A,B,…", help="Cache dtypes to choose between (default: auto,fp8)")
]
Lengths = Annotated[
    str | None,
    typer.Option("-s", "--seq-len", "--context", metavar="TOKENS[,…]", help="Lengths to choose between (default: 4k:128k:x2)"),
]
Batches = Annotated[
    str | None,
    typer.Option(
        "-b", "--batch-size", "--batch", metavar="N[,…]", help="Numbers of sequences to choose between (default: 1,8,32)"
    ),
]


def site(
    output: Folder,
    models: SomeModels = None,
    gpu: Gpus = None,
    engines: EnginesOpt = None,
    seq_lens: Lengths = None,
    batch_sizes: Batches = None,
    kv_dtypes: Dtypes = None,
    workers: o.Workers = "1",
) -> None:
    """A searchable site of the catalogue, in a folder.

    A page a model, an index, what fits a card, and JSON: for those who will not install anything. It opens without a server.
    """
    from kvplan.api.site import site as written
    from kvplan.cli.output import remark
    from kvplan.cli.progress import progress
    from kvplan.loading.catalogue import names
    from kvplan.units import human_bytes

    chosen = {"gpu": gpu, "engine": engines and o.listed_engines(engines), "seq_len": seq_lens, "batch_size": batch_sizes}
    asked: dict[str, Any] = {word: value for word, value in {**chosen, "kv_dtype": kv_dtypes}.items() if value}
    with progress("models", len(models or names()), of="rows") as advance:
        found = written(output, models or None, workers=workers, advance=lambda done, of: advance(done), **asked)
    for name, reason in found.missing:
        remark(f"note: {name} has no page: {reason}")
    made = f"{found.models:,} model{'' if found.models == 1 else 's'}, {found.files:,} files, {human_bytes(found.bytes)}"
    remark(f"wrote {output}: {made}; open {output}/index.html")
