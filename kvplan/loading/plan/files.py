"""The files that a plan is put together from: itself, and those that it includes. Bounded, and never outside its folder."""

from pathlib import Path
from typing import Final

from kvplan.errors import SpecError
from kvplan.files import read_bounded
from kvplan.loading.yaml_spec.fields import Fields, shown
from kvplan.loading.yaml_spec.nodes import MAX_BYTES, ListNode, Node, Scalar, at, parse_yaml

MAX_MEMBERS: Final = 64
_MAX_INCLUDES: Final = 8  # files inside files
#: What an included file may hold.
_KEYS: Final = ("include", "members", "notes")


class PlanFiles:
    """Member nodes of a plan and of what it includes; a file that includes itself in the end is refused."""

    def __init__(self, plan: Path | None) -> None:
        self.root = None if plan is None else plan.parent.resolve()
        self.open: list[Path] = [] if plan is None else [plan.resolve()]

    def members(self, top: Fields, folder: Path | None) -> list[tuple[Node, str]]:
        """The member nodes of a file, those of its includes first, each with its source.

        Raises:
            SpecError: too many members, or an include that cannot be read or must not be.
        """
        found: list[tuple[Node, str]] = []
        if top.has("include"):
            if folder is None:
                top.refuse("include", "needs a plan that is a file", hint="put the members into the plan")
            node = top.entries["include"]
            entries = node.items if isinstance(node, ListNode) else (node,)
            for entry in entries:
                found += self._included(top, entry, folder)
        if top.has("members"):
            found += [(node, top.source) for node in top.items("members")]
        if len(found) > MAX_MEMBERS:
            top.refuse("members", f"are {len(found)} in all, and at most {MAX_MEMBERS} are allowed")
        return found

    def _included(self, top: Fields, entry: Node, folder: Path) -> list[tuple[Node, str]]:
        if not isinstance(entry, Scalar) or not isinstance(entry.value, str):
            top.refuse("include", f"must be a file name or a list of them, got {shown(entry)}")
        path, where = folder / entry.value, at(top.source, entry.line)
        resolved = path.resolve()
        if resolved in self.open:
            raise SpecError(
                f"{where}: `include` goes in a circle: `{entry.value[:80]}` is being read already",
                hint="take one of the includes out",
            )
        if self.root is None or not resolved.is_relative_to(self.root):
            raise SpecError(
                f"{where}: `include` leads out of the plan's folder: `{entry.value[:80]}`", hint="keep the files beside the plan"
            )
        if len(self.open) > _MAX_INCLUDES:
            raise SpecError(f"{where}: `include` is nested too deeply", hint="include the files directly")
        try:
            raw = read_bounded(path, MAX_BYTES, SpecError, "a YAML plan")
        except SpecError as problem:
            raise problem.at(where, SpecError) from problem
        self.open.append(resolved)
        inner = Fields(parse_yaml(raw, str(path)), str(path), "", _KEYS)
        found = self.members(inner, path.parent)
        self.open.pop()
        return found
