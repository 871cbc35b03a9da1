"""`kvplan measure`: what a class that nobody has a row for really keeps."""

from pathlib import Path
from typing import Annotated

import typer

from kvplan import limits
from kvplan.cli import options as o

ClassArg = Annotated[str, typer.Argument(metavar="FILE.py:CLASS", help="A class; its file's code is run", show_default=False)]
ConfigOpt = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="What the class is built from, in JSON")]
NameOpt = Annotated[str | None, typer.Option("--name", metavar="NAME", help="What the model is called (default: the class)")]
Seconds = Annotated[float, typer.Option("--seconds", metavar="N", help="About how much processor time the runs may take")]
MemoryOpt = Annotated[str, typer.Option("--memory", metavar="SIZE", help="What the process that runs the class may take")]
SpecOutput = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="FILE.yaml: the description; else the report")
]


def measure(
    model: ClassArg,
    config: ConfigOpt = None,
    name: NameOpt = None,
    seconds: Seconds = limits.MEASURE_SECONDS,
    memory: MemoryOpt = "8GiB",
    fmt: o.FormatOpt = None,
    output: SpecOutput = None,
    unit: o.Unit = None,
) -> None:
    """Run a class and describe what it keeps, in YAML.

    This runs the file's code. CLASS is a model of transformers, or a torch.nn.Module that takes the config as a dict, with
    forward(input_ids, past=None). Exit 1 when something that it keeps follows no law.
    """
    from kvplan.api.measure import check_seconds, file_and_class
    from kvplan.api.measure import measure as measured
    from kvplan.cli.output import emit, remark, show, told
    from kvplan.errors import Mismatch
    from kvplan.loading.yaml_spec.write import dump_spec
    from kvplan.report.answers.measure import MeasureAnswer

    file, kind = file_and_class(model)
    if not file.exists():
        from kvplan.errors import InputError

        raise InputError(f"there is no file `{file}`", hint="give FILE.py:CLASS")
    check_seconds(seconds)  # before it is said what runs
    remark(
        f"runs the code of {file.name} ({kind}) in a process of its own: about {seconds:g} s of work, at most {memory} of memory"
    )
    found = measured(f"{file}:{kind}", config=config, name=name or "", seconds=seconds, memory=memory)
    described = output is not None and output.suffix.lower() in {".yaml", ".yml"}
    show(MeasureAnswer(found, spec_shown=not described), fmt, None if described else output, unit)
    if not found.passed:
        raise Mismatch(found.failure(), hint="describe that part by hand (docs/guides/measure.md), or mend the class")
    if described:
        text = dump_spec(found.model)
        emit(text, output)
        told(output, f"yaml, {len(text.encode()):,} bytes")
