"""Outcomes on their way from a sandboxed worker, in frames no larger than its parent takes."""

from __future__ import annotations

from typing import Any

from millpond.worker.answers import Answers


class BoundedAnswers(Answers):
    """As ``Answers``, but that many large outcomes of short tasks go in several frames."""

    def flush(self, seq: int) -> None:
        while len(self._outcomes) > 1 and not self._encoded:
            batches: list[list[Any]] = self._wire.halves(self._outcomes)
            if len(batches) < 2:
                break
            if self._due is not None:
                self._hand_over()
            self._emit(len(batches[0]))
        super().flush(seq)
