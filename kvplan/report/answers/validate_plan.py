"""What `kvplan validate PLAN.yaml` shows: each member's cache, predicted and real, all on the device at once."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from kvplan.domain.tables import Column, Table
from kvplan.report.blocks import Block, Rows, View

if TYPE_CHECKING:
    from kvplan.questions.validate.together import Together

#: The columns of the CSV: one row a member, then one a figure of the device.
CSV_COLUMNS = (
    "plan", "gpu", "device", "divisor", "users_divisor", "what", "name", "model", "engine", "kv_dtype", "batch_size", "seq_len",
    "tensors", "predicted_bytes", "real_bytes", "exact", "equal", "card",
)  # fmt: skip


class TogetherAnswer(Struct, frozen=True):
    """A plan's caches against real tensors, all at once."""

    key: ClassVar[str] = "together"
    together: "Together"

    def dicts(self) -> dict[str, Any]:
        """One object for all."""
        return self.together.to_dict()

    def rows(self) -> Rows:
        """One row a member, then one a figure of the device."""
        return CSV_COLUMNS, _csv_rows(self.together)

    def blocks(self, view: View) -> list[Block]:
        """One table."""
        return [together_table(self.together)]


def together_table(together: "Together") -> Table:
    """One row a member and one a figure of the device, in whole bytes."""
    columns = (
        Column(title="figure", key="name"),
        Column(title="users", key="users", kind="count"),
        Column(title="context", key="context", kind="count"),
        Column(title="tensors", key="tensors", kind="count", drop=1),
        Column(title="predicted", key="predicted", kind="count"),
        Column(title="real", key="real", kind="count"),
        Column(title="verdict", key="verdict", kind="verdict"),
    )
    rows: list[tuple[Any, ...]] = []
    for m in together.members:
        at = m.allocation.workload
        verdict = "equal" if m.passed else "differs"
        rows.append(
            (f"{m.name}{together.on_card(m)}", at.batch_size, at.seq_len, m.tensors, m.predicted_bytes, m.real_bytes, verdict)
        )
    for c in together.checks:
        verdict = ("equal" if c.equal else "differs") if c.exact else "information"
        rows.append((c.name, None, None, None, c.predicted, c.real, verdict))
    total = sum(m.real_bytes for m in together.members)
    title = f"{len(together.members)} caches at once on {together.device}: {total:,} bytes; {scale_words(together)}"
    notes = (f"{together.device_name}, torch {together.torch_version}",)
    return Table(title=title, columns=columns, rows=tuple(rows), notes=notes)


def scale_words(together: "Together") -> str:
    """At which scale the plan was proven."""
    scales = [f"every context divided by {together.divisor:,}"] if together.divisor > 1 else []
    scales += [f"users divided by {together.users_divisor:,}"] if together.users_divisor > 1 else []
    return f"scaled down: {', '.join(scales)}" if scales else "the plan as it is"


def _csv_rows(together: "Together") -> Iterator[dict[str, Any]]:
    shared = together.to_dict()
    for member in together.members:
        yield {**shared, **member.to_dict(), "what": "member", "exact": True}
    for c in together.checks:
        figures = {"predicted_bytes": c.predicted, "real_bytes": c.real, "exact": c.exact, "equal": c.equal}
        yield {**shared, "what": "check", "name": c.name, **figures}
