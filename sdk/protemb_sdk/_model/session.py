"""Sessions of ONNX Runtime: devices, threads and options."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import DeviceError, EmbeddingError, ModelError
from protemb_sdk._base.limits import Budget
from protemb_sdk._base.threads import usable_threads
from protemb_sdk._model.bound import ONE_CHAIN, FixedShapes, run_bound
from protemb_sdk._model.models import Model, read_graph
from protemb_sdk._model.parts import PartSessions
from protemb_sdk._model.runtime import (
    CPU,
    CUDA,
    Provider,
    choose_providers,
    first_line,
    import_runtime,
    name_of,
    options_of,
)
from protemb_sdk._model.subgraph import Parts

if TYPE_CHECKING:
    import onnxruntime

    # Device, providers, threads, session options
    SessionArguments = tuple[str, Sequence["Provider"] | None, int | None, onnxruntime.SessionOptions | None]

log = logging.getLogger("protemb")

Info = TypeVar("Info")

# What ONNX Runtime raises where the file is at fault, whatever the device.
_NOT_A_GRAPH = ("InvalidProtobuf", "InvalidGraph", "NoModel")

# Runs of one session on a device other than the CPU.
MOST_AT_ONCE = 4


class Session(Generic[Info]):
    """One loaded graph on one device. May be shared by threads, not inherited through a fork.

    Parameters
    ----------
    model : Model
        What to load.
    path : Path
        Which of its graphs.
    read : callable
        Turns the graph's metadata, the file's SHA-256 and its path into `info`, or raises ModelError.
    device, providers, threads, session_options
        As in `Embedder`.
    gpu_path : Path, optional
        An equal graph, loaded instead where CUDA is what runs it.
    cuda_graphs : bool, default False
        As in `Embedder`.
    usual : sequence of str
        Outputs that most runs need. On a CPU the rest of the graph is loaded when it is needed.
    """

    def __init__(
        self,
        model: Model,
        path: Path,
        read: Callable[[Mapping[str, str], str, Path], Info],
        device: str,
        providers: Sequence[Provider] | None,
        threads: int | None,
        session_options: onnxruntime.SessionOptions | None,
        gpu_path: Path | None = None,
        cuda_graphs: bool = False,
        usual: Sequence[str] = (),
    ) -> None:
        runtime = import_runtime()
        chosen = choose_providers(device, providers)
        options = session_options or runtime.SessionOptions()
        if session_options is None:
            options.intra_op_num_threads = threads or usable_threads()
            options.inter_op_num_threads = 1
            options.log_severity_level = 3  # warns of our optional input otherwise
            if chosen == [CPU]:
                # Planning memory for a shape costs as much again as the maps, and chains seldom share one.
                options.enable_mem_pattern = False
        self._parts: PartSessions | None = None
        automatic = device == "auto" and providers is None
        graph = Graph.of(model, gpu_path if gpu_path and name_of(chosen[0]) == CUDA else path)
        if automatic and chosen != [CPU]:
            self._session, graph = self._auto(runtime, graph, options, chosen, model, path)
        else:
            # Options of the caller may be for one session, and other providers may not know constants.
            if usual and chosen == [CPU] and session_options is None:
                self._parts = graph.parts(usual, lambda part: _load(runtime, part, options, [CPU]))
            if self._parts is None:
                self._session = _load(runtime, graph, options, chosen)
            else:
                self._session = self._parts.of(ONE_CHAIN, usual)[0]
        self.provider: str = self._session.get_providers()[0]
        wanted = list(map(name_of, chosen))
        if not automatic and self.provider != wanted[0]:
            if self.provider not in wanted:
                raise DeviceError(
                    f"{wanted[0]} was asked for and ONNX Runtime fell back to {self.provider}; "
                    "run protemb doctor"
                )
            log.warning("%s cannot be used; running on %s, the next of providers=", wanted[0], self.provider)
        self.threads: int = options.intra_op_num_threads or usable_threads()
        self.info = read(self._session.get_modelmeta().custom_metadata_map, graph.sha256, graph.path)
        self.inputs: dict[str, tuple[int | str, ...]] = {
            value.name: tuple(value.shape) for value in self._session.get_inputs()
        }
        self.outputs: list[str] = [value.name for value in self._session.get_outputs()]
        self.takes_lengths = any(x.name == "lengths" for x in self._session.get_overridable_initializers())
        self.binds = self.provider == CUDA
        self.fixed: FixedShapes | None = None
        if cuda_graphs:
            if self.provider != CUDA:
                raise DeviceError(f"cuda_graphs=True needs CUDA, and this is {self.device}; leave it out")
            self.fixed = self.with_fixed_shapes(graph, chosen)
        self._pid = os.getpid()
        # On a CPU a run has all threads. Two at once leave memory in pieces, which grows beyond any limit.
        self._room = threading.BoundedSemaphore(1 if self.provider == CPU else MOST_AT_ONCE)
        self._run_options, self._last_run_options = map(self._options_of_run, (False, True))
        self._limited: set[Any] = set()  # options of runs with a budget

    @staticmethod
    def _auto(
        runtime: Any, graph: Graph, options: Any, chosen: list[Provider], model: Model, path: Path
    ) -> tuple[Any, Graph]:
        try:
            session = _load(runtime, graph, options, chosen)
            if session.get_providers()[0] == CUDA:
                return session, graph
            reason = "its libraries do not load"
        except (ModelError, DeviceError) as error:
            reason = str(error)
        log.warning("device 'auto': CUDA is offered but cannot be used (%s); running on the CPU", reason)
        graph = Graph.of(model, path)
        return _load(runtime, graph, options, [CPU]), graph

    @property
    def device(self) -> str:
        """Short name of the device in use: "cpu", "cuda:0", or a provider's name."""
        if self.provider == CPU:
            return "cpu"
        if self.provider == CUDA:
            options = self._session.get_provider_options()[self.provider]
            return f"cuda:{options.get('device_id', '0')}"
        return self.provider

    def with_fixed_shapes(self, graph: Graph, providers: Sequence[Provider]) -> FixedShapes:
        """Return runs of padded batches by copies of the graph, each for one shape; on CUDA as CUDA graphs.

        Raises
        ------
        ModelError
            If the graph does not take padded chains.
        """
        if not self.takes_lengths:
            raise ModelError(
                "has no input `lengths`, which cuda_graphs=True needs; make it again with protemb-export gpu "
                "--checkpoint, or leave cuda_graphs out",
                graph.path,
            )
        axes = {value.name: tuple(value.shape) for value in self._session.get_outputs()}
        captured = [
            (CUDA, {**options_of(x), "enable_cuda_graph": "1"}) if name_of(x) == CUDA else x
            for x in providers
        ]
        return FixedShapes(import_runtime(), graph.content, axes, captured, self.threads, self._place)

    @property
    def _place(self) -> tuple[str, int]:
        kind, _, number = self.device.partition(":")
        return (kind, int(number)) if kind == "cuda" else ("cpu", 0)

    def run(
        self,
        outputs: list[str],
        feeds: Mapping[str, NDArray[Any]],
        keep_memory: bool = False,
        budget: Budget | None = None,
    ) -> list[NDArray[np.float32]]:
        """Run the graph and return float32 arrays.

        Parameters
        ----------
        outputs : list of str
            Names of what to return.
        feeds : mapping of str to ndarray
            Inputs by name.
        keep_memory : bool, default False
            Whether a CPU session keeps the memory of its maps for the next run. Pages that are given back
            have to be had anew, which takes a third of the time of a run.
        budget : Budget, optional
            What the run may take; it ends between two operators, and less is left for the next.

        Raises
        ------
        EmbeddingError
            If the run fails or is out of time, or the session came through a fork.
        """
        self._check_process()
        if self._parts is None:
            return self._guarded(lambda options: self._results(outputs, feeds, options), keep_memory, budget)
        session, keeps = self._parts.of(feeds, outputs)
        return self._guarded(
            lambda options: session.run(outputs, dict(feeds), options), keep_memory and keeps, budget
        )

    def prepared(
        self,
        outputs: list[str],
        feeds: Mapping[str, NDArray[Any]],
        changing: list[str],
        budget: Budget | None = None,
    ) -> Callable[[Mapping[str, NDArray[Any]], bool], list[NDArray[np.float32]]]:
        """Return a function that runs the graph with further inputs, such as those of one strip.

        On a CPU, what does not depend on the further inputs is computed once, here.

        Parameters
        ----------
        outputs, feeds, budget
            As in `run`.
        changing : list of str
            Names of the further inputs.

        Returns
        -------
        callable
            Takes the further inputs and `keep_memory`; returns as `run`, and raises the same errors.
        """
        self._check_process()
        parts = self._parts
        split = parts.split([*feeds, *changing], changing, outputs) if parts is not None else None
        if split is None:
            return lambda more, keep: self.run(outputs, {**feeds, **more}, keep, budget)
        fixed = {name: feeds[name] for name in split.reads_once}
        shared = self._guarded(
            lambda options: split.once.run(list(split.shared), fixed, options), False, budget
        )
        given = {name: feeds[name] for name in split.reads_again if name in feeds}
        given |= dict(zip(split.shared, shared, strict=True))
        return lambda more, keep: self._guarded(
            lambda options: split.again.run(outputs, {**given, **more}, options), keep, budget
        )

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise EmbeddingError(
                "this Embedder or predictor was made before a fork, which ONNX Runtime does not survive; "
                "make it in the child process, or start children with 'spawn'"
            )

    def _guarded(
        self,
        run: Callable[[Any], list[NDArray[np.float32]]],
        keep_memory: bool,
        budget: Budget | None,
    ) -> list[NDArray[np.float32]]:
        """Call `run` with options of a run, within the budget."""
        options = self._run_options if keep_memory else self._last_run_options
        if budget is not None:
            options = self._options_of_run(shrinks=not keep_memory)  # of this run alone: it may be ended
            self._limited.add(options)
        try:
            with self._room, budget.spent_on(options) if budget else nullcontext():
                return run(options)
        except DeviceError:
            raise
        except Exception as error:  # ONNX Runtime raises bare RuntimeError subclasses of its own
            if budget is not None and options.terminate:
                raise EmbeddingError(
                    "was not done within time_limit; set it higher if that is intended", retryable=True
                ) from error
            # For want of memory, as a rule.
            raise EmbeddingError(f"ONNX Runtime failed: {first_line(error)}", retryable=True) from error
        finally:
            self._limited.discard(options)

    def _results(
        self, outputs: list[str], feeds: Mapping[str, NDArray[Any]], options: Any
    ) -> list[NDArray[np.float32]]:
        if self.fixed is not None and "lengths" in feeds:
            return self.fixed.run(outputs, feeds, options)
        if self.binds:
            return run_bound(import_runtime().OrtValue, self._session, outputs, feeds, options, self._place)
        results: list[NDArray[np.float32]] = self._session.run(outputs, dict(feeds), options)
        return results

    def stop(self) -> None:
        """End the run at hand, between two operators, and refuse all others; from any thread."""
        for options in (self._run_options, self._last_run_options, *self._limited):
            options.terminate = True

    def _options_of_run(self, shrinks: bool) -> Any:
        options = import_runtime().RunOptions()
        if shrinks and self.provider == CPU:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options


class Graph(NamedTuple):
    """A graph's file, read and checked."""

    path: Path
    content: bytes
    sha256: str

    @classmethod
    def of(cls, model: Model, path: Path) -> Graph:
        return cls(path, *read_graph(model, path))

    def parts(self, usual: Sequence[str], load: Callable[[Graph], Any]) -> PartSessions | None:
        """Return sessions of parts; None if the usual outputs need all of it, or for padded chains."""
        try:
            parts = Parts(self.content)
        except ValueError:  # refused by ONNX Runtime, which says why
            return None
        alone = "lengths" not in parts.inputs and set(usual) <= set(parts.outputs) and parts.spares(usual)
        return PartSessions(parts, lambda content: load(self._replace(content=content))) if alone else None


def _load(runtime: Any, graph: Graph, options: Any, providers: Sequence[Provider]) -> Any:
    try:
        return runtime.InferenceSession(graph.content, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime raises bare exceptions of its own
        reason = first_line(error)
        if providers[0] != CPU and type(error).__name__ not in _NOT_A_GRAPH:
            name = name_of(providers[0])
            raise DeviceError(f"{name} cannot be started ({reason}); run protemb doctor") from error
        path = graph.path
        raise ModelError(f"ONNX Runtime cannot load it ({reason}); is it an ONNX file?", path) from error
