"""What the servers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from config.embedded.child import Child


class Server(ABC):
    """A server that starts step by step, so that one thread can start several at once."""

    child: Child

    @abstractmethod
    def starting(self) -> Iterator[None]:
        """Start it; each step returns quickly, and the last one after it answers. Raises `StackError`, `OSError`."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it, the same for the whole run."""

    def close(self) -> None:
        """Stop it for good."""
        self.child.stop()
