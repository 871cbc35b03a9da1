"""Loaded into a process whose ranks shall not wait for long (`Forks("torch.distributed", "impatient")`)."""

from kvplan.questions.validate import distributed

distributed.RANK_SECONDS, distributed.RANK_WORD_SECONDS = 4.0, 0.5  # type: ignore[misc]
