"""`kvplan spec`: any model as a YAML description."""

from kvplan.cli import options as o


def spec(model: o.ModelArg, output: o.Output = None, infer: o.Infer = False) -> None:
    """Any model as YAML, layer by layer, to edit and reload."""
    from kvplan.cli.output import emit, told
    from kvplan.errors import OptionError
    from kvplan.loading import load
    from kvplan.loading.yaml_spec.write import dump_spec
    from kvplan.report.formats import by_ending

    said = by_ending(output) if output is not None else None
    if said is not None and said.name != "table":
        raise OptionError(f"«output»: a spec is YAML, and `{output}` says {said.name}", hint="end the name in .yaml")
    text = dump_spec(load(model, infer=infer))
    emit(text, output)
    told(output, f"yaml, {len(text.encode()):,} bytes")
