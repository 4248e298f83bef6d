"""What a command answers with when it cannot do its work."""

from __future__ import annotations


class Trouble(Exception):
    """A sentence for the user, and the exit status: 2 for wrong usage or settings, else 1."""

    def __init__(self, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status
