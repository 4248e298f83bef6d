"""What goes wrong with the embedded servers."""

from __future__ import annotations


class StackError(Exception):
    """The embedded servers cannot run; the text says why and what to do."""
