"""`Embedder`: reader, session and pooling put in line. No mathematics here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError
from protemb_sdk._base.limits import DEFAULT_BYTES, DEFAULT_RESIDUES, Limits, seconds, whole_number
from protemb_sdk._base.version import __version__
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._model.batches import length_in_batch, pool_alike
from protemb_sdk._model.models import GraphInfo, check_equal, find_model, read_graph_info
from protemb_sdk._model.readouts import check_readouts
from protemb_sdk._model.runtime import Provider
from protemb_sdk._model.score import ScoreGraph
from protemb_sdk._model.session import Session
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.complexes import checked_chains
from protemb_sdk._structure.inputs import check_altloc, checked_plddt
from protemb_sdk._structure.reader import StructureRead, read_chain, read_chains

if TYPE_CHECKING:
    import onnxruntime

    from protemb_sdk._embed.many import EmbeddingRun
    from protemb_sdk._model.session import SessionArguments
    from protemb_sdk._model.strips import Pooled

DEFAULT_MEMORY_LIMIT = 2 * 2**30


class Embedder:
    """Protein structure embeddings from one model on one device.

    Threads may share an `Embedder`, which on a CPU embeds one chain at a time with all its threads. It is
    pickled and copied as its arguments, so that each process makes a session of its own (joblib,
    ``ProcessPoolExecutor``, ``sklearn.clone``); for many structures use `workers`.

    Parameters
    ----------
    model : str or path, default "base"
        Name of a bundled model (`list_models`) or path of an exported `.onnx` file.
    device : str, default "auto"
        "cpu", "cuda", "cuda:N", or "auto": CUDA where ONNX Runtime offers it, else the CPU. A device
        asked for by name that is not available is an error; there is no fallback.
    providers : sequence, optional
        ONNX Runtime execution providers, instead of `device`.
    threads : int, optional
        CPU threads; by default as many as the process may use (affinity and cgroup quota).
    session_options : onnxruntime.SessionOptions, optional
        Replaces ours; `threads` then has no effect on the network.
    model_number : int, default 1
        Which model of a structure with several (NMR), counted from 1.
    altloc : str, default "highest"
        Alternative locations: "highest" occupancy, "first", or a letter.
    min_residues : int, default 3
        Chains read from structures with fewer residues are skipped, with that reason.
    min_plddt : float, optional
        Residues of predicted models with a lower pLDDT (0 to 100) are left out, as residues without a C-alpha
        are; see `read_chains`.
    memory_limit : int, default 2 GiB
        Bytes after which a chain's map is computed in strips, with equal results. On a CPU up to a quarter
        of them stay with the `Embedder` between chains.
    residue_limit : int, default 10,000
        Longer chains are refused.
    byte_limit : int, default 2 GiB
        Files larger than that, or larger unzipped, are refused.
    time_limit : float, optional
        Seconds that a chain may spend in the network; no limit by default.
    chains : "all" or sequence of str, optional
        Protein chains of a structure that are embedded together; see `embed`. By default each is on its own.
    assembly : str, optional
        Assembly whose chains are read; see `read_chains`.
    cuda_graphs : bool, default False
        Run chains as CUDA graphs, one for each shape of a batch, which saves the time of launching kernels.
        Up to 32 shapes are kept, each with a 32nd of `memory_limit`; chains that need more run without.

    Raises
    ------
    ModelError
        If there is no such model, its file is not a protemb model, or `cuda_graphs` needs another file.
    DeviceError
        If ONNX Runtime, the device, or with `cuda_graphs` CUDA is not available.

    Examples
    --------
    >>> from protemb_sdk import Embedder
    >>> embedder = Embedder("base", device="cpu", threads=1)
    >>> embedder.device, embedder.channels, embedder.widths, embedder.noise_level
    ('cpu', 64, {'pair': 64, 'residue': 395, 'protein': 128}, 0.3)
    >>> embedder.embed("1a8o.cif").protein.shape
    (128,)
    """

    def __init__(
        self,
        model: str | PathLike[str] = "base",
        device: str = "auto",
        providers: Sequence[Provider] | None = None,
        threads: int | None = None,
        session_options: onnxruntime.SessionOptions | None = None,
        *,
        model_number: int = 1,
        altloc: str = "highest",
        min_residues: int = 3,
        min_plddt: float | None = None,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        residue_limit: int = DEFAULT_RESIDUES,
        byte_limit: int = DEFAULT_BYTES,
        time_limit: float | None = None,
        chains: str | Sequence[str] | None = None,
        assembly: str | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        threads = None if threads is None else whole_number(threads, "threads")
        check_altloc(altloc)
        self.model = find_model(model)
        self._session_arguments = (device, providers, threads, session_options)
        self._reading: dict[str, Any] = {
            "model_number": whole_number(model_number, "model_number"),
            "altloc": altloc,
            "min_residues": whole_number(min_residues, "min_residues"),
        }
        if (limit := checked_plddt(min_plddt)) is not None:  # stores of older versions do not have it
            self._reading["min_plddt"] = limit
        if (together := checked_chains(chains)) is not None:  # as above
            self._reading["chains"] = together
        if assembly is not None:
            self._reading["assembly"] = assembly
        self._memory_limit = whole_number(memory_limit, "memory_limit")
        self.limits = Limits(
            whole_number(residue_limit, "residue_limit"),
            whole_number(byte_limit, "byte_limit"),
            None if time_limit is None else seconds(time_limit, "time_limit"),
        )
        self._session: Session[GraphInfo] = Session(
            self.model, self.model.path, partial(read_graph_info, "embedding"), *self._session_arguments,
            gpu_path=self.model.gpu_path, cuda_graphs=cuda_graphs, usual=("residue", "protein"),
        )  # fmt: skip
        self._cuda_graphs = bool(cuda_graphs)
        check_equal(self.model, self._session.info)
        self._score = ScoreGraph(self.model, self.card.get("weights_sha256"), self._session_arguments)

    def __repr__(self) -> str:
        return f"Embedder({self.model.name!r}, device={self.device!r}, channels={self.channels})"

    @property
    def device(self) -> str:
        """The device in use, "cpu" or "cuda:0"."""
        return self._session.device

    @property
    def channels(self) -> int:
        """C, the width of the pair embedding and of readouts."""
        return self._session.info.channels

    @property
    def widths(self) -> dict[str, int]:
        """Widths of the embeddings "pair", "residue" and "protein"; all are C in models of contract 1."""
        return dict(self._session.info.widths)

    @property
    def has_profile(self) -> bool:
        """Whether the model gives a profile of residue types (contract 2)."""
        return self._session.info.has_states

    @property
    def noise_level(self) -> float:
        """Noise level folded into the embedding graph, in angstrom."""
        return float(self.card["sigma"])

    @property
    def card(self) -> dict[str, Any]:
        """The model's metadata: training corpus, recipe, parity error, licence, and so on."""
        return dict(self._session.info.card)

    @property
    def provenance(self) -> dict[str, Any]:
        """Metadata that is written into every result: model, SHA-256, noise level, device, versions."""
        return {
            "model": self.model.name,
            "model_sha256": self._session.info.sha256,
            "contract": self._session.info.contract,
            "noise_level": self.noise_level,
            "device": self.device,
            "sdk_version": __version__,
            # Files of version 0.1 call the number "model".
            "options": {"model" if k == "model_number" else k: v for k, v in self._reading.items()},
        }

    def embed(
        self,
        structure: object,
        chain_id: str | None = None,
        *,
        chains: str | Sequence[str] | None = None,
        pair: bool = False,
        readouts: Sequence[str] = (),
        profile: bool = False,
        residue: bool = True,
    ) -> Embedding:
        """Embed one protein chain, or several together.

        Parameters
        ----------
        structure : path, bytes, open file, gemmi.Structure, Biotite or Biopython structure, tuple or Chain
            A tuple holds C-alpha coordinates (L, 3) in angstrom, the one-letter sequence, and
            optionally residue indices, whose steps above 1 are missing residues; without them none is
            missing, which gives a chain with gaps other vectors than its file has.
        chain_id : str, optional
            Author or label chain name; needed where the structure holds several protein chains.
        chains : "all" or sequence of str, optional
            Protein chains that make one complex: all, or those with these names, in this order. Vectors then
            depend on all of these chains, and the pair embedding has blocks between chains.
        pair : bool, default False
            Keep the pair embedding: 4 * C * L * L bytes.
        readouts : sequence of str
            Further ways to read the residues out of the pair map, any of `list_readouts`; they come in
            `Embedding.readouts`.
        profile : bool, default False
            Keep the profile of residue types; see `profile`.
        residue : bool, default True
            Keep the residue embedding. Without it `Embedding.residue` has width 0, and models of contract 2
            on a CPU compute half of the pair map: protein vectors in about .6 of the time.

        Returns
        -------
        Embedding

        Raises
        ------
        StructureError
            If `structure` cannot be read or holds no protein chain.
        ChainError
            If a chain is not there or is named twice, or several are there and none is named.
        EmbeddingError
            If there is no such readout, the model gives no profile, or it cannot embed complexes.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> embedding = Embedder(device="cpu").embed("1a8o.cif", pair=True, readouts=["max"])
        >>> embedding.protein.shape, embedding.residue.shape, embedding.pair.shape
        ((128,), (70, 395), (70, 70, 64))
        >>> embedding.chain_id, embedding.readouts["max"].shape
        ('A', (70, 64))
        """
        names = check_readouts(readouts)
        self._check_profile(profile)
        embedder = self._taking(chains)
        chain = embedder._read_one(structure, chain_id)
        return embedder.embed_chain(chain, pair=pair, readouts=names, profile=profile, residue=residue)

    def _taking(self, chains: str | Sequence[str] | None) -> Embedder:
        """Return this, or one with the same session that takes these chains together."""
        if chains is None:
            return self
        other = object.__new__(type(self))
        vars(other).update(vars(self), _reading={**self._reading, "chains": checked_chains(chains)})
        return other

    def embed_chain(
        self,
        chain: Chain,
        *,
        pair: bool = False,
        readouts: Sequence[str] = (),
        profile: bool = False,
        residue: bool = True,
    ) -> Embedding:
        """Embed a chain that was read before.

        Parameters
        ----------
        chain : Chain
            From `read_chain`, `read_chains`, or `Chain.from_arrays`.
        pair, readouts, profile, residue
            As in `embed`.

        Returns
        -------
        Embedding

        Raises
        ------
        StructureError
            If the chain is longer than `residue_limit`.
        EmbeddingError
            If there is no such readout, the model gives no profile or cannot embed complexes, or its result
            is not finite.

        Examples
        --------
        >>> from protemb_sdk import Embedder, read_chain
        >>> Embedder(device="cpu").embed_chain(read_chain("1a8o.cif")).residue.shape
        (70, 395)
        """
        self._check_profile(profile)
        return self._embed_alike([chain], pair, check_readouts(readouts), profile, residue)[0]

    def embed_batch(
        self,
        structures: Sequence[object],
        *,
        pair: bool = False,
        readouts: Sequence[str] = (),
        profile: bool = False,
        residue: bool = True,
    ) -> list[Embedding]:
        """Embed structures with one protein chain each; chains of similar length share a run of the network.

        It is faster than `embed` on a GPU, and gives the same embeddings. As many chains as `memory_limit`
        allows run together: chains of one length, and on CUDA those that are padded to the same one.

        Parameters
        ----------
        structures : sequence
            Anything that `embed` takes; of a structure with several chains pass a `Chain`.
        pair, readouts, profile, residue
            As in `embed`.

        Returns
        -------
        list of Embedding
            In the order of `structures`.

        Raises
        ------
        StructureError
            If one cannot be read, holds no protein chain, or is longer than `residue_limit`.
        ChainError
            If one holds several protein chains.
        EmbeddingError
            If there is no such readout, the model gives no profile, or the network's result for a chain is
            not finite.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> embeddings = Embedder(device="cpu").embed_batch(["1a8o.cif", "1a8o.cif"])
        >>> [embedding.residue.shape for embedding in embeddings]
        [(70, 395), (70, 395)]
        """
        names = check_readouts(readouts)
        self._check_profile(profile)
        chains = [self._read_one(structure, None) for structure in structures]
        alike: dict[int, list[int]] = {}
        for place, chain in enumerate(chains):
            alike.setdefault(self.length_in_batch(len(chain)), []).append(place)
        found: dict[int, Embedding] = {}
        for places in alike.values():
            embeddings = self._embed_alike([chains[n] for n in places], pair, names, profile, residue)
            found.update(zip(places, embeddings, strict=True))
        return [found[place] for place in range(len(chains))]

    def length_in_batch(self, residues: int) -> int:
        """Return the length that a chain has in a batch; chains for which it is equal can share one.

        Parameters
        ----------
        residues : int
            Length of the chain.

        Returns
        -------
        int
            `residues`, or more for graphs that take padded chains, as those for CUDA.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> Embedder(device="cpu").length_in_batch(70)
        70
        """
        return length_in_batch(self._session, residues)

    def _embed_alike(
        self,
        chains: Sequence[Chain],
        pair: bool,
        readouts: tuple[str, ...],
        profile: bool,
        residue: bool,
    ) -> list[Embedding]:
        for chain in chains:
            self.limits.check_residues(len(chain), chain.id)
            if chain.is_complex and self.card["network"]["family"] == "paper":
                raise EmbeddingError(
                    f"the model {self.model.name!r} encodes positions along one chain and cannot embed "
                    "several together; use base",
                    chain.id,
                )
        pooled = pool_alike(
            self._session, chains, self._memory_limit, pair, readouts, self.limits.seconds, profile, residue
        )
        return [self._embedding(chain, one) for chain, one in zip(chains, pooled, strict=True)]

    def _embedding(self, chain: Chain, pooled: Pooled) -> Embedding:
        return Embedding(
            chain=chain,
            protein=pooled.protein,
            residue=pooled.residue,
            pair=None if pooled.pair is None else np.moveaxis(pooled.pair, 0, 2),
            provenance=self.provenance,
            readouts=pooled.readouts,
            profile=pooled.profile,
        )

    def profile(self, structure: object, chain_id: str | None = None) -> NDArray[np.float32]:
        """Return log probabilities of residue types at each position, from the structure alone.

        The residue types of the chain are not used, so the profile may be compared with its sequence: it says
        which residues the network expects, and which surprise it.

        Parameters
        ----------
        structure, chain_id
            As in `embed`.

        Returns
        -------
        ndarray, float32, shape (L, 20)
            Log probabilities (natural logarithm) of the types ``ACDEFGHIKLMNPQRSTVWY``.

        Raises
        ------
        EmbeddingError
            If the model gives no profile.
        StructureError, ChainError
            As of `embed`.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> embedder = Embedder(device="cpu")
        >>> embedder.has_profile, embedder.profile("1a8o.cif").shape
        (True, (70, 20))
        """
        found = self.embed(structure, chain_id, profile=True, residue=False).profile
        assert found is not None  # asked for
        return found

    def _check_profile(self, profile: bool) -> None:
        if profile and not self.has_profile:
            raise EmbeddingError(
                f"the model {self.model.name!r} gives no profile of residue types; use a model of contract 2 "
                "(see protemb models)"
            )

    def embed_many(
        self,
        structures: object,
        *,
        workers: int = 1,
        batch: int = 1,
        chains: str | Sequence[str] | None = None,
        pair: bool = False,
        readouts: Sequence[str] = (),
        profile: bool = False,
        residue: bool = True,
        progress: bool | Callable[[int, int | None], None] = False,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> EmbeddingRun:
        """Embed every protein chain of many structures, in input order and bounded memory.

        Parameters
        ----------
        structures : path or iterable
            A folder (its structure files, recursively, sorted), one structure, or an iterable of anything
            that `embed` takes and of folders.
        workers : int, default 1
            Processes; each holds its own session with its share of the threads, and with `batch` they only
            read the inputs.
        batch : int, default 1
            Chains that go through the network at once, as far as `memory_limit` allows: of equal length, or
            on CUDA padded to one. Results are those of one at a time. It is faster on a GPU but not on a CPU.
            32 times as many inputs are in memory, half of which are being read meanwhile.
        chains : "all" or sequence of str, optional
            As in `embed`: one embedding of each structure, not one of each chain.
        pair : bool, default False
            Keep pair embeddings.
        readouts : sequence of str
            As in `embed`.
        profile : bool, default False
            Keep profiles of residue types.
        residue : bool, default True
            As in `embed`.
        progress : bool or callable, default False
            True draws a bar on stderr; a callable gets (inputs done, inputs in all or None).
        on_error : {"raise", "skip"}
            What to do with an input that cannot be read or embedded. Every one is kept in `skipped`, as
            are chains that were skipped, with the reason.

        Returns
        -------
        EmbeddingRun
            An iterator of `Embedding` with the list `skipped`.

        Raises
        ------
        StructureError
            If there is no such folder; with `on_error="raise"` also if a structure cannot be read.
        EmbeddingError
            If there is no such readout, or the model gives no profile; with `on_error="raise"` also if a
            chain cannot be embedded.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> run = Embedder(device="cpu").embed_many(["1a8o.cif", "missing.pdb"], on_error="skip")
        >>> [embedding.id for embedding in run]
        ['1a8o_A']
        >>> [skipped.source for skipped in run.skipped]
        ['missing.pdb']
        """
        from protemb_sdk._embed.many import EmbeddingRun

        self._check_profile(profile)
        return EmbeddingRun(
            self._taking(chains), structures, workers=workers, batch=batch, pair=pair, readouts=readouts,
            profile=profile, residue=residue, progress=progress, on_error=on_error,
        )  # fmt: skip

    def denoising_gradient(
        self, structure: object, chain_id: str | None = None, *, sigma: float
    ) -> NDArray[np.float32]:
        """Return the gradient of log p on the C-alpha coordinates (eq. 3-4 of the paper).

        A step along it moves a noisy structure towards a native one. The map is not computed in strips
        here: memory grows with the square of the length.

        Parameters
        ----------
        structure, chain_id
            As in `embed`.
        sigma : float
            Noise level in angstrom, within the trained range. Models of the family `paper` know a set
            of levels and use the nearest one.

        Returns
        -------
        ndarray, float32, shape (L, 3)
            In 1/angstrom.

        Raises
        ------
        EmbeddingError
            If the noise level lies outside the trained range.
        ModelError
            If the model has no score graph, or another network's.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> Embedder(device="cpu").denoising_gradient("1a8o.cif", sigma=0.5).shape
        (70, 3)
        """
        read = self._read_one(structure, chain_id)
        self.limits.check_residues(len(read), read.id)
        return self._score.gradient(read, sigma, self.limits.seconds)

    def stop(self) -> None:
        """Stop the current embedding and refuse further ones; may be called from any thread.

        Examples
        --------
        >>> from protemb_sdk import Embedder, EmbeddingError
        >>> embedder = Embedder(device="cpu")
        >>> embedder.stop()
        >>> try:
        ...     embedder.embed("1a8o.cif")
        ... except EmbeddingError:
        ...     print("stopped")
        stopped
        """
        self._session.stop()

    def read(self, structure: object) -> StructureRead:
        """Return the protein chains of a structure and what was skipped, by this `Embedder`'s options.

        Parameters
        ----------
        structure
            As in `embed`.

        Returns
        -------
        StructureRead

        Raises
        ------
        StructureError
            If `structure` cannot be read.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> len(Embedder(device="cpu", min_residues=100).read("1a8o.cif").skipped)
        1
        """
        return self.reader(structure)

    @property
    def reader(self) -> Callable[[object], StructureRead]:
        """The function of `read`, without the network: it can be pickled and called in other processes."""
        return partial(read_chains, byte_limit=self.limits.bytes, **self._reading)

    def _read_one(self, structure: object, chain_id: str | None) -> Chain:
        return read_chain(structure, chain_id, byte_limit=self.limits.bytes, **self._reading)

    @property
    def session_arguments(self) -> SessionArguments:
        """Arguments for another session on the same device: device, providers, threads, session options."""
        device, providers, threads, session_options = self._session_arguments
        # What "auto" found here, so that no other session decides otherwise.
        return device if providers is not None else self.device, providers, threads, session_options

    def worker_arguments(self, workers: int) -> dict[str, Any]:
        """Return arguments for an equal `Embedder` in a worker process, with its share of the threads.

        Parameters
        ----------
        workers : int
            Number of worker processes, 1 or more.

        Returns
        -------
        dict
            Arguments of `Embedder`.

        Raises
        ------
        EmbeddingError
            If `workers` is not 1 or more, or the `Embedder` has `session_options`.

        Examples
        --------
        >>> from protemb_sdk import Embedder
        >>> embedder = Embedder(device="cpu", threads=4)
        >>> embedder.worker_arguments(2)["threads"]
        2
        """
        device, providers, _, session_options = self.session_arguments
        if session_options is not None:
            raise EmbeddingError("session_options cannot be sent to workers; use threads=, or workers=1")
        threads = max(1, self._session.threads // whole_number(workers, "workers"))
        return {**self._arguments(), "device": device, "providers": providers, "threads": threads}

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments of the constructor, but for `session_options`."""
        device, providers, threads, _ = self._session_arguments
        return {
            "model": os.path.abspath(self.model.path) if not self.model.sha256 else self.model.name,
            "device": device,
            "providers": providers,
            "threads": threads,
            "model_number": self._reading["model_number"],
            "altloc": self._reading["altloc"],
            "min_residues": self._reading["min_residues"],
            "min_plddt": self._reading.get("min_plddt"),
            "chains": self._reading.get("chains"),
            "assembly": self._reading.get("assembly"),
            "memory_limit": self._memory_limit,
            "residue_limit": self.limits.residues,
            "byte_limit": self.limits.bytes,
            "time_limit": self.limits.seconds,
            "cuda_graphs": self._cuda_graphs,
        }

    def __reduce__(self) -> tuple[Callable[..., Embedder], tuple[type[Embedder], dict[str, Any]]]:
        """Pickle the arguments; a copy, or another process, makes a session of its own."""
        if self._session_arguments[3] is not None:
            raise EmbeddingError(
                "an Embedder with session_options cannot be pickled; use threads=, or make one in each "
                "process"
            )
        return _made_again, (type(self), self._arguments())


def _made_again(kind: type[Embedder], arguments: dict[str, Any]) -> Embedder:
    return kind(**arguments)
