"""Embedding on a Ray cluster, with the same rows as the local engine.

`embed` turns a Ray Dataset of structure files into one of rows, from and to wherever Ray Data reads and
writes. `embed_into_store` fills a store of the local engine, in a folder that all nodes see. Needs
``pip install 'protemb-sdk[ray]'``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError, ProtembError
from protemb_sdk._base.extras import how_to_install
from protemb_sdk._embed.outcome import embed_one
from protemb_sdk._embed.rows import table_of
from protemb_sdk._model.readouts import check_readouts
from protemb_sdk._store.fill import StoreSummary, missing
from protemb_sdk._store.parts import Before
from protemb_sdk._store.writer import DEFAULT_LEVELS, Store, open_store
from protemb_sdk._structure.inputs import Input, Kind, inputs_of

if TYPE_CHECKING:
    import pyarrow

    from protemb_sdk._embed.embedder import Embedder

__all__ = ["embed", "embed_into_store"]

# Inputs of a task, which is repeated if its node is lost.
INPUTS = 64

Batch = dict[str, NDArray[Any]]


def _ray() -> Any:
    try:
        import ray.data
    except ImportError:
        raise EmbeddingError(f"Ray is not installed; {how_to_install('ray')}") from None
    return ray


class _Embeds:
    """An actor's session."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        from protemb_sdk._embed.embedder import Embedder

        self.embedder = Embedder(**arguments)


class _Rows(_Embeds):
    def __init__(
        self, arguments: dict[str, Any], levels: Sequence[str], readouts: Sequence[str], dtype: str
    ) -> None:
        super().__init__(arguments)
        self.levels, self.readouts, self.dtype = levels, tuple(readouts), dtype

    def __call__(self, batch: Batch) -> pyarrow.Table:
        import pyarrow as pa

        rows, failures = [], []
        contents = batch.get("bytes")
        for number, path in enumerate(map(str, batch["path"])):
            x = Input.of(path)
            if contents is not None:
                x = Input(path, bytes(contents[number]), Kind.MEMBER)
            outcome = embed_one(self.embedder, x, {"pair": False, "readouts": self.readouts}, path)
            rows += outcome.embeddings
            failures += [skipped for skipped in outcome.skipped if skipped.error is not None]
        table = table_of(rows, self.levels, self.readouts, self.dtype, self.embedder.widths)
        nulls = {field.name: pa.nulls(len(failures), field.type) for field in table.schema}
        nulls |= {"source": pa.array([f.source for f in failures], pa.string())}
        nulls |= {"chain": pa.array([f.chain_id for f in failures], pa.string())}
        errors = pa.array([None] * len(rows) + [f.reason for f in failures], pa.string())
        return pa.concat_tables([table, pa.table(nulls, schema=table.schema)]).append_column("error", errors)


class _Parts(_Embeds):
    """Writes a part of the store for each batch."""

    def __init__(self, arguments: dict[str, Any], store: str, header: dict[str, Any], before: Before) -> None:
        super().__init__(arguments)
        self.store = Store(Path(store), header, before)

    def __call__(self, batch: Batch) -> Batch:
        counts = []
        for path in map(str, batch["path"]):
            outcome = embed_one(self.embedder, Input.of(path), self.store.wanted, path)
            counts.append((self.store.add(outcome), sum(s.error is not None for s in outcome.skipped)))
        self.store.flush()
        chains, failed = np.array(counts).T
        return {"chains": chains, "failed": failed}


def _arguments(embedder: Embedder, actors: int) -> dict[str, Any]:
    if isinstance(actors, bool) or not isinstance(actors, int) or actors < 1:
        raise EmbeddingError(f"actors must be a whole number, at least 1, not {actors!r}")
    made = embedder.worker_arguments(1)
    _, _, threads, _ = embedder.session_arguments
    # The hardware of this machine may differ from that of the others.
    return made | {"threads": 1 if threads is None else threads}


def _resources(arguments: dict[str, Any], actors: int, gpus: float) -> dict[str, Any]:
    return {
        "batch_size": INPUTS,
        # All at once could leave no core for reading.
        "compute": _ray().data.ActorPoolStrategy(min_size=1, max_size=actors),
        "num_cpus": arguments["threads"],
        "num_gpus": gpus,
    }


def embed(
    dataset: Any,
    embedder: Embedder,
    *,
    actors: int = 1,
    gpus: float = 0,
    levels: Sequence[str] = DEFAULT_LEVELS,
    readouts: Sequence[str] = (),
    dtype: str = "float32",
) -> Any:
    """Return a Ray Dataset of embeddings.

    Parameters
    ----------
    dataset : ray.data.Dataset
        With a column `path`, and `bytes` where the files are not to be opened by their paths: what
        ``ray.data.read_binary_files(..., include_paths=True)`` gives.
    embedder : Embedder
        Says with which model and options; each actor makes its own, with the threads that were asked for, or
        one.
    actors : int, default 1
        Sessions in the cluster.
    gpus : float, default 0
        GPUs of each.
    levels, readouts, dtype
        As in `embed_into_store`, but for pair embeddings, which go into stores alone.

    Returns
    -------
    ray.data.Dataset
        The rows of a store; what failed has a row with its `source` and `error`, and nothing else.

    Raises
    ------
    EmbeddingError
        If an argument is off, or Ray is not installed.

    Examples
    --------
    >>> import ray
    >>> from protemb_sdk import Embedder
    >>> from protemb_sdk.ray import embed
    >>> files = ray.data.from_items([{"path": "1a8o.cif", "bytes": open("1a8o.cif", "rb").read()}])
    >>> embed(files, Embedder(device="cpu")).take_all()[0]["id"]
    '1a8o_A'
    """
    arguments = _arguments(embedder, actors)
    if "pair" in levels:
        raise EmbeddingError("pair embeddings go into a store, not into rows: use embed_into_store")
    if not isinstance(dataset, _ray().data.Dataset):
        raise EmbeddingError(
            f"takes a Ray Dataset, not {type(dataset).__name__}; make one with ray.data.read_binary_files("
            "FOLDER, include_paths=True), or fill a store with embed_into_store"
        )
    return dataset.map_batches(
        _Rows,
        fn_constructor_args=(arguments, list(levels), check_readouts(readouts), dtype),
        **_resources(arguments, actors, gpus),
    )


def embed_into_store(
    embedder: Embedder,
    structures: object,
    path: str | PathLike[str],
    *,
    actors: int = 1,
    gpus: float = 0,
    levels: Sequence[str] = DEFAULT_LEVELS,
    readouts: Sequence[str] = (),
    dtype: str = "float32",
) -> StoreSummary:
    """Embed files and folders into a store, continuing an earlier run of either engine.

    Parameters
    ----------
    embedder, structures, path, levels, readouts, dtype
        As in the local engine's; inputs are paths, which all nodes must see.
    actors : int, default 1
        Sessions in the cluster.
    gpus : float, default 0
        GPUs of each.

    Returns
    -------
    StoreSummary

    Raises
    ------
    EmbeddingError
        If an input is no path, or Ray is not installed.
    OutputError
        As of the local engine.

    Examples
    --------
    >>> from protemb_sdk import Embedder
    >>> from protemb_sdk.ray import embed_into_store
    >>> embed_into_store(Embedder(device="cpu"), ["1a8o.cif"], "store").chains
    1
    """
    ray, names, filled = _ray(), check_readouts(readouts), StoreSummary()
    arguments = _arguments(embedder, actors)
    with open_store(
        Path(path),
        embedder.provenance,
        widths=embedder.widths,
        levels=levels,
        readouts=names,
        dtype=dtype,
    ) as store:
        paths = []
        for x in missing(inputs_of(structures), store.before.done, filled):
            if x.kind is Kind.FAILED:
                outcome = embed_one(embedder, x, {}, x.name)
                store.add(outcome)
                filled.inputs += 1
                filled.note(outcome.skipped)
            elif x.kind is Kind.FILE:
                paths.append({"path": x.name})
            else:
                kind = type(x.content).__name__
                raise EmbeddingError(
                    f"on Ray inputs are files and folders, not {kind}; unpack archives first"
                )
        if paths:
            # Parts of one task's inputs: a task that is done again writes the same part. So what was there
            # is what the run began with, not what an actor finds.
            left = store.before._replace(done=set())
            run = ray.data.from_items(paths, override_num_blocks=-(-len(paths) // INPUTS)).map_batches(
                _Parts,
                fn_constructor_args=(arguments, os.path.abspath(path), dict(store.header), left),
                **_resources(arguments, actors, gpus),
            )
            try:
                for batch in run.iter_batches(batch_format="numpy"):
                    filled.inputs += len(batch["chains"])
                    filled.chains += int(batch["chains"].sum())
                    filled.failed += int(batch["failed"].sum())
            except ray.exceptions.RayError as error:
                raise ProtembError(
                    f"the Ray job failed ({str(error).splitlines()[-1]}); written rows are kept, "
                    "and the next run continues",
                    path,
                ) from error
    return filled
