"""`kvplan.check`: the servers of files and command lines as their engines would read them, and whether they start."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kvplan.loading.servers.read import Servers, command_servers, read_servers, servers_of


def parsed(
    files: Iterable[str | Path] = (),
    *,
    command: Sequence[str] | str | None = None,
    text: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[Servers]:
    """What is read out of files, a command line and a text, one value an input; nothing is computed, and nothing is run.

    Args:
        files: shell scripts, compose files, manifests, units, Modelfiles, settings files.
        command: a command line, in words or as one text.
        text: what would stand in a file, where there is none.
        variables: values of variables that the inputs use.

    Raises:
        InputError: an input that cannot be read.
    """
    found = [read_servers(path, variables) for path in files]
    if isinstance(command, str):
        found.append(servers_of(command, "command.sh", variables))
    elif command:
        found.append(command_servers(tuple(command), variables))
    if text is not None:
        found.append(servers_of(text, "", variables))
    return found
