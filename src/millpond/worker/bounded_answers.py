"""Outcomes on their way from a sandboxed worker, in frames no larger than its parent takes."""

from __future__ import annotations

from typing import Any

from millpond.worker.answers import Answers
from millpond.worker.outcome import AGAIN, Sealed


class BoundedAnswers(Answers):
    """As ``Answers``, but that many large outcomes of short tasks go in several frames."""

    def flush(self, seq: int) -> None:
        outcomes, mixed = self._outcomes, self._mixed
        batches: list[list[Any]] = self._wire.halves(outcomes) if outcomes else []
        if len(batches) < 2:
            super().flush(seq)
            return
        at = seq - len(outcomes)
        for batch in batches:
            self._outcomes, self._mixed = batch, mixed
            self._again = any(type(o) is Sealed and bool(o.tag & AGAIN) for o in batch)
            at += len(batch)
            super().flush(at)
