"""Evidence: measured only where recorded cases cover every kind; and those cases are in the repository."""

from golden import cases

from kvplan.domain.model import Layer, Memory, Model, Recurrent, Shared, Softmax, State, Window
from kvplan.domain.words import memory_kinds
from kvplan.engines.ideal.about import ABOUT as IDEAL
from kvplan.engines.kernel.about import About
from kvplan.engines.kernel.evidence import evidence

FULL = Softmax(kv_heads=1, key_dim=64, value_dim=64)
LOCAL = Softmax(kv_heads=1, key_dim=64, value_dim=64, reach=Window(8))
STATE = Recurrent(states=(State(name="s", shape=(4,)),), kind="kda")


def model_of(*kept: Memory, inferred: bool = False) -> Model:
    layers = tuple(Layer(index=i, memories=(m,)) for i, m in enumerate(kept))
    return Model(name="m", model_type="spec", layers=layers, inferred=inferred)


def test_one_kind_without_a_case_makes_the_whole_derived() -> None:
    assert evidence(IDEAL, (1,), model_of(FULL, Shared(source=0))) == "measured"
    assert evidence(IDEAL, (1,), model_of(FULL, LOCAL)) == "derived"
    assert evidence(IDEAL, (1,), model_of(FULL, STATE)) == "derived"


def test_an_inferred_model_stays_inferred() -> None:
    assert evidence(IDEAL, (1,), model_of(FULL), inferred=True) == "inferred"


def test_another_engine_or_version_is_not_covered() -> None:
    assert evidence(About(name="abacus"), (1,), model_of(FULL)) == "derived"
    assert evidence(IDEAL, (2,), model_of(FULL)) == "derived"


def test_the_kinds_that_papers_cover_are_the_kinds_of_their_models() -> None:
    from kvplan.engines.kernel.cases import record_from
    from kvplan.questions.audit.papers import model_of as paper_model

    kinds = frozenset[str]().union(*(memory_kinds(paper_model(record_from(case, where="x").case)) for case in cases("papers")))
    assert [row.kinds for row in IDEAL.recorded] == [kinds]
