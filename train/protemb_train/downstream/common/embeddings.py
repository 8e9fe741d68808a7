"""Inputs of the rows: residue and protein embeddings, from the SDK or from a sequence model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import Embedder, Embedding, EmbeddingError, OutputError
from protemb_sdk._base.output import written_whole
from protemb_sdk._model.readouts import asked_for
from protemb_sdk._predict.predictor import features_of
from protemb_sdk._structure.chain import encode_sequence
from protemb_train.base.arrays import read_arrays
from protemb_train.encoders.vectors import (
    VectorEncoder,
    check_names,
    find_vector_encoder,
    is_vector_encoder,
    side_by_side,
)


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Embeddings of one chain; zeros at residues without coordinates.

    Parameters
    ----------
    residue : ndarray, float32, shape (L, E)
        Concatenated readouts.
    protein : ndarray, float32, shape (P,)
        Their mean over the chain.
    """

    residue: NDArray[np.float32]
    protein: NDArray[np.float32]


class LabelledChain(Protocol):
    """Properties of a chain of L residues that an encoder needs, for any task."""

    @property
    def id(self) -> str:
        """Entry and chain name."""
        ...

    @property
    def sequence(self) -> str:
        """One-letter codes."""
        ...

    @property
    def ca_coords(self) -> NDArray[np.float64]:
        """C-alpha coordinates in angstrom, NaN where missing, shape (L, 3)."""
        ...

    @property
    def seen(self) -> NDArray[np.bool_]:
        """True where a residue has coordinates, shape (L,)."""
        ...

    @property
    def has_coordinates(self) -> bool:
        """Whether enough residues have coordinates."""
        ...

    def __len__(self) -> int: ...


class Encoder(Protocol):
    """Computes embeddings of a labelled chain."""

    @property
    def about(self) -> dict[str, object]:
        """Names, hashes, noise level and readouts that identify the encoder."""
        ...

    def embed(self, chain: LabelledChain) -> Embedded:
        """Embed one chain."""
        ...


class NoEncoder:
    """No embeddings: row 1 of the table."""

    about: dict[str, object] = {"encoder": "none"}  # noqa: RUF012 (never modified)

    def embed(self, chain: LabelledChain) -> Embedded:
        return Embedded(np.zeros((len(chain), 0), dtype=np.float32), np.zeros(0, dtype=np.float32))


class StructureEncoder:
    """An exported model, used through the SDK.

    Parameters
    ----------
    model : str
        Name of a bundled model, or path of an `.onnx` file.
    readouts : sequence of str
        Names of `protemb_sdk.list_readouts` ("mean" is the paper's), "residue" for `Embedding.residue`, or
        "profile" for the log probabilities of residue types from structure alone and of the residue's own.
    threads : int, optional
        Number of CPU threads.
    """

    def __init__(self, model: str, readouts: Sequence[str] = ("mean",), threads: int | None = None) -> None:
        self.embedder = Embedder(model, "cpu", threads=threads)
        self.readouts = tuple(readouts)

    @property
    def about(self) -> dict[str, object]:
        card = self.embedder.card
        contents = {"contents": card["residue"]} if "residue" in self.readouts and "residue" in card else {}
        return {
            "encoder": self.embedder.model.name,
            "weights_sha256": card.get("weights_sha256"),
            "sigma": self.embedder.noise_level,
            "readouts": list(self.readouts),
            **contents,
            "training_steps": card.get("training", {}).get("steps"),
        }

    def embedding(self, structure: object, *, pair: bool = False) -> Embedding:
        """Embed a structure with all that `vectors` needs."""
        return self.embedder.embed(structure, pair=pair, **asked_for(self.readouts))

    def vectors(self, embedding: Embedding) -> NDArray[np.float32]:
        """Return the concatenated vectors of residues, shape (L, E)."""
        return features_of(embedding, self.readouts).reshape(len(embedding.chain), -1)

    def embed(self, chain: LabelledChain) -> Embedded:
        if not chain.has_coordinates:
            raise EmbeddingError("has no coordinates; remove it from rows with a structure", chain.id)
        seen = np.flatnonzero(chain.seen)
        letters = "".join(chain.sequence[i] for i in seen)
        found = self.embedding((chain.ca_coords[seen], letters, seen))
        together = self.vectors(found)
        residue = np.zeros((len(chain), together.shape[1]), dtype=np.float32)
        residue[seen] = together
        return Embedded(residue, found.protein)


class LanguageEncoder:
    """A sequence model in a Hugging Face folder; see `protemb_train.downstream.common.sequence`."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        from protemb_train.downstream.common.sequence import SequenceEncoder

        self.model = SequenceEncoder(folder, threads=threads)

    @property
    def about(self) -> dict[str, object]:
        return {"encoder": self.model.name, "weights_sha256": self.model.sha256}

    def embed(self, chain: LabelledChain) -> Embedded:
        residue = self.model.embed(chain.sequence)
        return Embedded(residue, residue.mean(axis=0))


class ResidueEncoder:
    """A frozen encoder of `protemb_train.encoders`: a checkpoint, or a published encoder.

    Parameters
    ----------
    encoder : VectorEncoder
        Returns named vectors of residues.
    names : sequence of str, optional
        Vectors to concatenate; by default those that the encoder specifies.

    Raises
    ------
    ModelError
        If it has no vectors with these names.
    """

    def __init__(self, encoder: VectorEncoder, names: Sequence[str] | None = None) -> None:
        self.encoder = encoder
        self.names = check_names(encoder, names or encoder.usual)

    @property
    def about(self) -> dict[str, object]:
        return {**self.encoder.about, "vectors": list(self.names)}

    def embed(self, chain: LabelledChain) -> Embedded:
        if not chain.has_coordinates:
            raise EmbeddingError(f"{chain.id}: has no coordinates; remove it from rows with a structure")
        seen = np.flatnonzero(chain.seen)
        types = encode_sequence("".join(chain.sequence[i] for i in seen))
        found = side_by_side(self.encoder.encode(chain.ca_coords[seen], types, seen, self.names), self.names)
        residue = np.zeros((len(chain), found.shape[1]), dtype=np.float32)
        residue[seen] = found
        return Embedded(residue, found.mean(axis=0))


def find_encoder(name: str, readouts: Sequence[str] = ("mean",), threads: int | None = None) -> Encoder:
    """Return the encoder with a given name.

    Parameters
    ----------
    name : str
        "none", a folder of a sequence model, a bundled model, an `.onnx` file, a checkpoint (`.ckpt`), or a
        published encoder ("proteinmpnn" or "3di").
    readouts : sequence of str
        For a bundled model or an `.onnx` file: readouts of the pair map. For a checkpoint or a published
        encoder: names of its residue vectors; its defaults if none of the readouts is one of them.
    threads : int, optional
        Number of CPU threads.
    """
    if name == "none":
        return NoEncoder()
    if is_vector_encoder(name):
        found = find_vector_encoder(name)
        own = set(readouts) & set(found.vectors)
        return ResidueEncoder(found, readouts if own else None)
    if Path(name).is_dir():
        return LanguageEncoder(Path(name), threads)
    return StructureEncoder(name, readouts, threads)


def embed_all(encoder: Encoder, chains: Sequence[LabelledChain], cache: Path | None = None) -> list[Embedded]:
    """Embed chains, with an optional cache.

    Parameters
    ----------
    encoder : Encoder
        Model to use.
    chains : sequence of LabelledChain
        Chains, in the order of the result.
    cache : Path, optional
        Cache folder, with one file per set of chains and encoder, identified by a hash of both.

    Raises
    ------
    EmbeddingError
        If a chain has no coordinates and the encoder needs them.
    OutputError
        If the folder cannot be written.
    """
    if cache is None:
        return [encoder.embed(chain) for chain in chains]
    key = json.dumps([encoder.about, [chain.id for chain in chains]], sort_keys=True)
    digest = hashlib.sha256(key.encode())
    for chain in chains:
        digest.update(chain.sequence.encode() + np.nan_to_num(chain.ca_coords).tobytes())
    path = cache / f"{encoder.about['encoder']}-{digest.hexdigest()[:16]}.npz"
    ends = np.cumsum([len(chain) for chain in chains])[:-1]
    if path.exists():
        z = read_arrays(path, ("residue", "protein"), "a cache of embeddings of protemb-train sites")
        parts = np.split(z["residue"], ends)
        return [Embedded(residue, protein) for residue, protein in zip(parts, z["protein"], strict=True)]
    found = [encoder.embed(chain) for chain in chains]
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder cannot be created ({error.strerror})", cache) from error
    with written_whole(path) as part, part.open("wb") as file:
        np.savez(
            file,
            residue=np.concatenate([e.residue for e in found]),
            protein=np.stack([e.protein for e in found]),
        )
    return found
