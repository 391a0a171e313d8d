"""What went wrong in a stage and did not end it: told once each, and kept in the stage's journal line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

EVALUATION_BATCH = 500
"""Images in a batch of evaluation; no result depends on it beyond rounding."""


@dataclass
class Notes:
    """The texts of a stage so far, and the batches that evaluation came down to; a resumed stage goes on with both.

    say: called with each text that is new. evaluation_batch: images; fewer where memory ran out with more, so that
    later epochs need not find that out again.
    """

    say: Callable[[str], None]
    texts: list[str] = field(default_factory=list)
    evaluation_batch: int = EVALUATION_BATCH

    def __call__(self, text: str) -> None:
        """Tell and keep a text, unless it was told before."""
        if text not in self.texts:
            self.texts.append(text)
            self.say(text)
