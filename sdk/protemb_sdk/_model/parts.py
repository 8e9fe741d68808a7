"""Sessions of parts of a graph, made on first use, so that nothing is computed that is not needed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from protemb_sdk._model.subgraph import ELEMENTS, Parts

MOST = 6
"""Sessions of each kind that are kept, those used last."""

Key = tuple[tuple[str, ...], ...]
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class SplitSessions:
    """Two sessions, for what is computed once and what is computed again with other inputs.

    Parameters
    ----------
    once, again : onnxruntime.InferenceSession
        The sessions.
    reads_once, reads_again : tuple of str
        Inputs of the whole graph that they take.
    shared : tuple of str
        Outputs of the first that are inputs of the second.
    """

    once: Any
    again: Any
    reads_once: tuple[str, ...]
    reads_again: tuple[str, ...]
    shared: tuple[str, ...]


class PartSessions:
    """Sessions of parts of one graph; threads may share it.

    Parameters
    ----------
    parts : Parts
        The graph.
    load : callable
        Returns a session of an ONNX model.
    """

    def __init__(self, parts: Parts, load: Callable[[bytes], Any]) -> None:
        self._parts, self._load = parts, load
        self._sessions: OrderedDict[Key, Any] = OrderedDict()
        self._splits: OrderedDict[Key, SplitSessions | None] = OrderedDict()
        self._last: Key = ()
        self._keeper: Key = ()
        self._lock = threading.Lock()

    def of(self, inputs: Iterable[str], outputs: Sequence[str]) -> tuple[Any, bool]:
        """Return a session for these outputs, and whether it may keep the memory of its maps.

        That is one session at a time, so that `memory_limit` holds: the first, or another that is used twice
        in a row, for which the former is loaded anew when it is needed.
        """
        key = tuple(inputs), tuple(outputs)
        with self._lock:
            session = _recent(self._sessions, key, lambda: self._load(self._parts.of(*key)))
            if key == self._last and key != self._keeper:
                self._sessions.pop(self._keeper, None)
                self._keeper = key
            self._keeper = self._keeper or key
            self._last = key
            return session, key == self._keeper

    def split(
        self, inputs: Iterable[str], changing: Sequence[str], outputs: Sequence[str]
    ) -> SplitSessions | None:
        """Return sessions for what depends on `changing` and what does not; None if all depends on it."""
        key = tuple(inputs), tuple(changing), tuple(outputs)
        with self._lock:
            return _recent(self._splits, key, lambda: self._made(*key))

    def _made(
        self, inputs: tuple[str, ...], changing: tuple[str, ...], outputs: tuple[str, ...]
    ) -> SplitSessions | None:
        split = self._parts.split(inputs, changing, outputs)
        if split is None:
            return None
        once = self._load(self._parts.fixed(split))
        types = {value.name: value.type for value in once.get_outputs()}
        if not set(types.values()) <= set(ELEMENTS):
            return None
        again = self._load(self._parts.changing(split, types))
        once_reads, again_reads = (
            tuple(x.name for x in session.get_inputs() if x.name in inputs) for session in (once, again)
        )
        return SplitSessions(once, again, once_reads, again_reads, split.shared)


def _recent(kept: OrderedDict[Key, Made], key: Key, make: Callable[[], Made]) -> Made:
    """Return the value of a key, made if it is not there, and forget the one that was not used longest."""
    if key not in kept:
        kept[key] = make()
        if len(kept) > MOST:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
