"""Who forgoes cross-layer sharing: Hunyuan-Large's keys are read by no released engine."""

import kvplan


def per_token(engine: str) -> int:
    answer = kvplan.estimate("hunyuan-large", seq_len=131_072, engine=engine)
    assert isinstance(answer, kvplan.Allocation)
    return answer.bytes_per_token


def test_the_theory_halves_hunyuan_large_and_transformers_does_not() -> None:
    assert per_token("ideal") == 131_072
    assert per_token("transformers") == 262_144


def test_the_note_says_so_beside_both() -> None:
    for engine in ("ideal", "transformers"):
        answer = kvplan.estimate("hunyuan-large", seq_len=1, engine=engine)
        assert any("no released engine honors CLA" in note for note in answer.notes)  # type: ignore[union-attr]
