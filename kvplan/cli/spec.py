"""`kvplan spec`: any model as a YAML description."""

from kvplan.cli import options as o


def spec(model: o.ModelArg, output: o.Output = None, infer: o.Infer = False) -> None:
    """Any model as YAML, layer by layer, to edit and reload."""
    from kvplan.cli.output import emit
    from kvplan.loading import load
    from kvplan.loading.yaml_spec.write import dump_spec

    emit(dump_spec(load(model, infer=infer)), output)
