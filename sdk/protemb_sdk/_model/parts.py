"""Sessions of parts of a graph, made on first use, so that nothing is computed that is not needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from protemb_sdk._model.bound import ONE_CHAIN
from protemb_sdk._model.subgraph import Parts


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
    """Sessions of parts of one graph.

    Parameters
    ----------
    content : bytes
        The ONNX model.
    load : callable
        Returns a session of an ONNX model.
    session : onnxruntime.InferenceSession
        Of the whole graph, or of the part for `usual`.
    usual : sequence of str
        Outputs of `session` if it is of a part.
    """

    def __init__(
        self, content: bytes, load: Callable[[bytes], Any], session: Any, usual: Sequence[str] = ()
    ) -> None:
        self._content, self._load = content, load
        self._parts: Parts | None = None
        self._whole = None if usual else session
        self._sessions: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}
        if usual:
            self._sessions[ONE_CHAIN, tuple(usual)] = session
        self._splits: dict[tuple[tuple[str, ...], ...], SplitSessions | None] = {}

    @property
    def parts(self) -> Parts:
        """The graph, read on first use."""
        if self._parts is None:
            self._parts = Parts(self._content)
        return self._parts

    def of(self, inputs: Iterable[str], outputs: Sequence[str]) -> Any:
        """Return a session for these outputs."""
        key = tuple(inputs), tuple(outputs)
        if key not in self._sessions:
            if self.parts.spares(outputs):
                self._sessions[key] = self._load(self.parts.of(*key))
            else:
                self._whole = self._whole or self._load(self._content)
                self._sessions[key] = self._whole
        return self._sessions[key]

    def split(self, inputs: list[str], changing: list[str], outputs: list[str]) -> SplitSessions | None:
        """Return sessions for what depends on `changing` and what does not; None if all depends on it."""
        key = tuple(inputs), tuple(changing), tuple(outputs)
        if key not in self._splits:
            self._splits[key] = self._made(*key)
        return self._splits[key]

    def _made(
        self, inputs: tuple[str, ...], changing: tuple[str, ...], outputs: tuple[str, ...]
    ) -> SplitSessions | None:
        split = self.parts.split(inputs, changing, outputs)
        if split is None:
            return None
        once = self._load(self.parts.fixed(split))
        types = {value.name: value.type for value in once.get_outputs()}
        content = self.parts.changing(split, types)
        if content is None:
            return None
        again = self._load(content)
        once_reads, again_reads = (
            tuple(x.name for x in session.get_inputs() if x.name in inputs) for session in (once, again)
        )
        return SplitSessions(once, again, once_reads, again_reads, split.shared)
