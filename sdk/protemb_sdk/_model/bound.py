"""Runs with inputs and outputs bound to the device, and CUDA graphs: copies of a graph for one shape each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import DeviceError
from protemb_sdk._model.subgraph import Parts

Feeds = Mapping[str, NDArray[Any]]

MOST_SHAPES = 32
"""Shapes that are kept at once; each has its own memory."""
ONE_CHAIN = ("ca_coords", "residue_type", "residue_index")
"""Inputs of a graph that have no default."""
CHAIN_INPUTS = (*ONE_CHAIN, "lengths")
"""Inputs of padded chains; all others have defaults."""


def run_bound(
    values: Any, session: Any, outputs: Sequence[str], feeds: Feeds, options: Any, device: tuple[str, int]
) -> list[NDArray[np.float32]]:
    """Run a session with its outputs bound to the device, and copy them to the host together.

    Parameters
    ----------
    values : type
        `onnxruntime.OrtValue`.
    session : onnxruntime.InferenceSession
        Session of a graph.
    outputs : sequence of str
        Names of the outputs to return.
    feeds : mapping of str to ndarray
        Inputs by name.
    options : onnxruntime.RunOptions
        Options of the run.
    device : tuple
        Type and number, ("cuda", 0) or ("cpu", 0).
    """
    binding = session.io_binding()
    for name, array in feeds.items():  # bind_cpu_input knows no inputs with a default
        value = values.ortvalue_from_numpy(np.asarray(array, order="C"), *device)
        binding.bind_ortvalue_input(name, value)
    for name in outputs:
        binding.bind_output(name, *device)
    session.run_with_iobinding(binding, options)
    found: list[NDArray[np.float32]] = binding.copy_outputs_to_cpu()
    return found


def power_of_two(count: int) -> int:
    """Return the largest power of two that is at most `count`, which is 1 or more."""
    return int(2 ** (count.bit_length() - 1))


class FixedShapes:
    """Runs of padded batches, each shape by its own copy of the graph, whose arrays stay in place.

    With its shape known, ONNX Runtime computes everything that depends only on the shape when it loads the
    copy; the rest can be captured as a CUDA graph. The number of chains is rounded up to a power of two by
    repeating the last one. Shapes that were not used for the longest time are dropped.

    Parameters
    ----------
    runtime : module
        `onnxruntime`.
    content : bytes
        The graph.
    outputs : mapping of str to sequence
        Axes of each output: names ("batch", "length", "rows") or widths.
    providers : sequence
        Execution providers.
    threads : int
        CPU threads.
    device : tuple
        As in `run_bound`.
    most : int, optional
        Number of shapes that are kept.
    """

    def __init__(
        self,
        runtime: Any,
        content: bytes,
        outputs: Mapping[str, Sequence[int | str]],
        providers: Sequence[Any],
        threads: int,
        device: tuple[str, int],
        most: int = MOST_SHAPES,
    ) -> None:
        self._runtime, self._content, self._axes = runtime, content, dict(outputs)
        self._providers, self._threads, self._device = list(providers), threads, device
        self._most, self._lock = most, Lock()
        self._shapes: OrderedDict[tuple[int, int, tuple[str, ...]], _Fixed] = OrderedDict()

    def run(self, outputs: Sequence[str], feeds: Feeds, options: Any) -> list[NDArray[np.float32]]:
        """Return the outputs of a padded batch; for parameters see `run_bound`.

        Raises
        ------
        DeviceError
            If the copy of the graph cannot be loaded.
        """
        with self._lock:  # a shape has one set of arrays
            return self._run(outputs, feeds, options)

    def _run(self, outputs: Sequence[str], feeds: Feeds, options: Any) -> list[NDArray[np.float32]]:
        chains, length = feeds["residue_type"].shape
        count = power_of_two(2 * chains - 1)
        if count > chains:
            feeds = {
                name: np.concatenate([array, np.repeat(array[-1:], count - chains, axis=0)])
                for name, array in feeds.items()
            }
        key = (count, length, tuple(outputs))
        if key not in self._shapes:
            while len(self._shapes) >= self._most:
                self._shapes.popitem(last=False)
            sizes = {"batch": count, "chains": count, "length": length, "rows": length}
            shapes = {
                name: tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self._axes[name])
                for name in outputs
            }
            session = self._session(outputs, sizes)
            self._shapes[key] = _Fixed(self._runtime.OrtValue, session, feeds, shapes, self._device)
        self._shapes.move_to_end(key)
        return [array[:chains] for array in self._shapes[key].run(feeds, options)]

    def _session(self, outputs: Sequence[str], sizes: Mapping[str, int]) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = 3
        for axis, size in sizes.items():
            options.add_free_dimension_override_by_name(axis, size)
        content = Parts(self._content).of(CHAIN_INPUTS, outputs)
        try:
            return self._runtime.InferenceSession(content, options, providers=self._providers)
        except Exception as error:  # ONNX Runtime raises bare exceptions of its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DeviceError(f"CUDA graphs cannot be used ({reason}); leave out cuda_graphs") from error


class _Fixed:
    """A session of one shape, with arrays on the device for its inputs and outputs."""

    def __init__(
        self,
        values: Any,
        session: Any,
        feeds: Feeds,
        outputs: Mapping[str, tuple[int, ...]],
        device: tuple[str, int],
    ) -> None:
        self._session, self._binding = session, session.io_binding()
        self._inputs = {
            name: values.ortvalue_from_numpy(np.asarray(array, order="C"), *device)
            for name, array in feeds.items()
        }
        self._outputs = {
            name: values.ortvalue_from_shape_and_type(list(shape), np.float32, *device)
            for name, shape in outputs.items()
        }
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, feeds: Feeds, options: Any) -> list[NDArray[np.float32]]:
        for name, value in self._inputs.items():
            value.update_inplace(np.asarray(feeds[name], order="C"))
        self._session.run_with_iobinding(self._binding, options)
        # Copies: the arrays are written again by the next run.
        return [np.array(value.numpy()) for value in self._outputs.values()]
