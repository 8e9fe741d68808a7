"""Prediction of masked residue types from C-alphas: how well a sequence fits a fold, without labels.

The network is trained on thousands of natives to predict residue types from the positions and some of the
types of their neighbours. For a model it gives the likelihood of each residue type at its position: an
unlikely type indicates an error.

Shapes: L residues, T residue types, H hidden channels, F features.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from protemb_sdk import ModelError
from protemb_sdk._base.output import written_whole
from protemb_sdk._structure.chain import encode_sequence
from protemb_train.base.origin import origin
from protemb_train.corpus.corpus import Corpus
from protemb_train.downstream.common.messages import BURIAL_SPREAD, LARGEST, TYPES
from protemb_train.downstream.common.neighbour_graph import EDGE, Graph, end_to_end, joined, neighbour_graph
from protemb_train.downstream.quality.cache import cached, digest_of, weights_of
from protemb_train.downstream.quality.decoys import Decoy
from protemb_train.network.checkpoint import read_tensors
from protemb_train.network.messages import Messages
from protemb_train.network.neighbours import BURIAL
from protemb_train.pretrain.pretrain import quiet_lightning

FORMAT = "protemb-quality-names-1"
HIDDEN, LAYERS, DROPOUT = 96, 4, 0.1
FOLDS = 4
"""Residues are masked a quarter at a time, and predicted from the others."""
FEATURES = 4 + TYPES
KNOWN = 2  # index of a feature: log-odds of the residue's own type, given the other types
ORDINARY = 2.7  # nats, entropy of an uninformative distribution over types
JITTER = 0.5  # angstrom, largest noise, since models are not exact
LONGEST = 300  # residues of a crop
CHAINS_PER_BATCH = 8
VALIDATIONS = 20  # largest number in a run


class Namer(nn.Module):
    """Log-odds of every residue type at every residue, relative to their frequencies.

    Parameters
    ----------
    hidden, layers : int
        Width, and number of message-passing rounds.
    """

    background: Tensor

    def __init__(self, hidden: int = HIDDEN, layers: int = LAYERS) -> None:
        super().__init__()
        self.input = nn.Linear(TYPES + 1 + len(BURIAL), hidden)
        self.layers = nn.ModuleList(Messages(hidden, EDGE, DROPOUT) for _ in range(layers))
        self.output = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, TYPES))
        self.register_buffer("background", torch.zeros(TYPES))

    @classmethod
    def like(cls, state: Mapping[str, Tensor]) -> Namer:
        """Return a namer of the shape of a saved one, or of the one inside another network's state."""
        first = next((name for name in state if name.endswith("namer.input.weight")), "input.weight")
        prefix = first.removesuffix("input.weight")
        start = f"{prefix}layers."
        layers = {name[len(start) :].split(".")[0] for name in state if name.startswith(start)}
        return cls(state[f"{prefix}input.weight"].shape[0], len(layers))

    def forward(self, types_L: Tensor, hidden_L: Tensor, graph: Graph) -> Tensor:
        """Return log p of types, shape (L, T).

        Parameters
        ----------
        types_L : Tensor, int64, shape (L,)
            Positions in `ALPHABET`.
        hidden_L : Tensor, bool, shape (L,)
            Masked residues.
        graph : Graph
            In single precision.
        """
        every_T = torch.arange(TYPES, device=types_L.device)
        seen_LT = (types_L[:, None] == every_T).to(torch.float32) * (~hidden_L)[:, None]
        none_L1 = 1 - seen_LT.sum(dim=1, keepdim=True)
        burial = ((graph.burial_LB - 1) / BURIAL_SPREAD).clamp(-LARGEST, LARGEST)
        y_LH = self.input(torch.cat([seen_LT * 4, none_L1, burial], dim=1))
        for layer in self.layers:
            y_LH = layer(y_LH, graph)
        return F.log_softmax(self.output(y_LH), dim=1)

    def features(self, types_L: Tensor, graph: Graph) -> Tensor:
        """Return features for quality networks, shape (L, F), on a scale of about one.

        Log-odds of each residue's own type, from the fold alone and given the types of the others; the
        entropies of both; and log-odds of all types from the fold alone. For unknown types the first two are
        0.
        """
        everything = torch.ones_like(types_L, dtype=torch.bool)
        alone_LT = self(types_L, everything, graph)
        place_L = torch.arange(types_L.shape[0])
        known_LT = torch.zeros_like(alone_LT)
        for fold in range(FOLDS):
            hidden_L = place_L % FOLDS == fold
            known_LT = torch.where(hidden_L[:, None], self(types_L, hidden_L, graph), known_LT)
        own_LT = (types_L[:, None] == torch.arange(TYPES)).to(torch.float32)
        parts = []
        for log_LT in (alone_LT, known_LT):
            parts.append(((log_LT - self.background) * own_LT).sum(dim=1, keepdim=True))
            parts.append((-(log_LT.exp() * log_LT).sum(dim=1, keepdim=True) - ORDINARY) * 3)
        return torch.cat([*parts, alone_LT - self.background], dim=1)


def tensors_of(decoy: Decoy) -> tuple[Tensor, Tensor]:
    """Return residue types (L,) and centred coordinates (L, 3) of a model."""
    coords = (decoy.ca_coords - decoy.ca_coords.mean(axis=0)).astype(np.float32)
    return torch.from_numpy(encode_sequence(decoy.sequence)), torch.from_numpy(coords)


@torch.no_grad()
def names_of(namer: Namer, decoy: Decoy) -> Tensor:
    """Return the features that a namer computes for a model, shape (L, F)."""
    types, coords = tensors_of(decoy)
    return namer.eval().features(types, single(neighbour_graph(coords)))


def names_of_all(namer: Namer | None, decoys: Sequence[Decoy], cache: Path) -> list[Tensor] | None:
    """Return `names_of` for each model, with a cache in a folder; None without a namer."""
    if namer is None:
        return None
    path = cache / f"names-{digest_of(decoys, weights_of(namer))}.npz"
    every = cached(path, lambda: {"names": torch.cat([names_of(namer, d) for d in decoys]).numpy()})["names"]
    return list(torch.split(torch.from_numpy(every), [len(d) for d in decoys]))


def single(graph: Graph) -> Graph:
    """Return a graph in single precision."""
    return graph._replace(edge_LKE=graph.edge_LKE.float(), present_LK=graph.present_LK.float())


class Natives(IterableDataset[tuple[Tensor, Tensor, Graph]]):
    """Batches of natives with noise and masked residues, one per cluster and epoch, determined by the seed.

    Each worker counts its epochs: workers must be persistent.
    """

    def __init__(self, corpus: Corpus, seed: int, batch: int = CHAINS_PER_BATCH) -> None:
        self.corpus, self.seed, self.batch, self.epoch = corpus, seed, batch, 0
        self.count = len(np.unique(corpus.clusters[corpus.lengths >= 40]))

    def __len__(self) -> int:
        return -(-self.count // self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Graph]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = self.corpus.one_per_cluster(self.count, (40, 10_000), seed=int(rng.integers(2**31)))
        worker = get_worker_info()
        turn, turns = (worker.id, worker.num_workers) if worker else (0, 1)
        starts = range(0, len(drawn), self.batch)[turn::turns]
        epoch, self.epoch = self.epoch, self.epoch + 1
        for first in starts:
            rng = np.random.default_rng((self.seed, epoch, first))
            parts = [self._one(position, rng) for position in drawn[first : first + self.batch]]
            types, hidden, graphs = zip(*parts, strict=True)
            lengths = [len(t) for t in types]
            yield end_to_end(types, lengths), end_to_end(hidden, lengths), joined(graphs, lengths)

    def _one(self, position: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Graph]:
        trace = self.corpus[position]
        first = int(rng.integers(0, max(len(trace.ca_coords) - LONGEST, 0) + 1))
        coords = trace.ca_coords[first : first + LONGEST].astype(np.float64)
        coords = coords - coords.mean(axis=0)
        coords = coords + rng.uniform(0, JITTER) * rng.normal(size=coords.shape)
        types = torch.from_numpy(trace.residue_type[first : first + LONGEST])
        share = 1.0 if rng.random() < 0.4 else rng.uniform(0.15, 0.6)
        hidden = torch.from_numpy(rng.random(len(types)) < share)
        return types, hidden, neighbour_graph(torch.from_numpy(coords.astype(np.float32)))


class Naming(pl.LightningModule):
    """Cross entropy of masked residues, AdamW, one cycle."""

    def __init__(self, namer: Namer, rate: float = 2e-3) -> None:
        super().__init__()
        self.namer, self.rate = namer, rate
        self.curve: list[dict[str, float]] = []
        self.seen: dict[str, list[tuple[float, float, int]]] = {"loss": [], "val": []}

    def _step(self, batch: tuple[Tensor, Tensor, Graph], name: str) -> Tensor:
        types_L, hidden_L, graph = batch
        log_LT = self.namer(types_L, hidden_L, single(graph))
        asked = hidden_L & (types_L < TYPES)
        loss = F.nll_loss(log_LT[asked], types_L[asked])
        right = float((log_LT[asked].argmax(dim=1) == types_L[asked]).float().mean())
        self.seen[name].append((float(loss.detach()), right, int(asked.sum())))
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor, Graph], batch_idx: int) -> Tensor:
        return self._step(batch, "loss")

    def validation_step(self, batch: tuple[Tensor, Tensor, Graph], batch_idx: int) -> None:
        self._step(batch, "val")

    def on_train_epoch_end(self) -> None:
        entry: dict[str, float] = {}
        for name, values in self.seen.items():
            if not values:
                continue
            loss, right, count = np.array(values).T
            entry |= {name: float(np.average(loss, weights=count))}
            entry |= {f"{name}_accuracy": float(np.average(right, weights=count))}
            values.clear()
        self.curve.append(entry)

    def configure_optimizers(self) -> Any:
        adam = torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=1e-2)
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = torch.optim.lr_scheduler.OneCycleLR(adam, self.rate, total_steps=max(steps, 2), pct_start=0.2)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def train_namer(
    corpus: Path,
    epochs: int = 10,
    seed: int = 0,
    *,
    hidden: int = HIDDEN,
    layers: int = LAYERS,
    batch: int = CHAINS_PER_BATCH,
    workers: int = 0,
) -> tuple[Namer, dict[str, Any]]:
    """Train a network that predicts residue types on a corpus; return it and its record.

    Parameters
    ----------
    corpus : Path
        Corpus without relatives of test targets.
    epochs : int
        Number of epochs; an epoch has one chain per cluster.
    seed : int
        Seed of weights, chains and noise.
    hidden, layers : int
        Size of the namer.
    batch : int
        Chains per step.
    workers : int
        Number of processes that create batches; 0 uses this process. The batches are the same.
    """
    pl.seed_everything(seed, verbose=False)
    learning, validation = Corpus(corpus, ["train"]), Corpus(corpus, ["val"])
    namer = Namer(hidden, layers)
    types = np.concatenate([learning[k].residue_type for k in range(min(len(learning), 2000))])
    counts = np.bincount(types[types < TYPES], minlength=TYPES) + 1
    namer.background.copy_(torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32)))
    module = Naming(namer)
    with quiet_lightning(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(__len__|`IterableDataset`)")
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="auto",
            check_val_every_n_epoch=max(1, epochs // VALIDATIONS),
            gradient_clip_val=1.0,
            enable_checkpointing=False,
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loaders: Any = (
            DataLoader(
                Natives(learning, seed, batch),
                batch_size=None,
                num_workers=workers,
                persistent_workers=workers > 0,
            ),
            DataLoader(Natives(validation, seed), batch_size=None),
        )
        trainer.fit(module, *loaders)
    record = {
        "corpus_sha256": learning.sha256,
        "epochs": epochs,
        "batch": batch,
        "seed": seed,
        "curve": module.curve,
        "origin": origin(),
    }
    return namer.cpu().eval(), record


def save_names(namer: Namer, record: dict[str, Any], out: Path) -> None:
    """Write a namer atomically."""
    with written_whole(out) as part:
        torch.save({"format": FORMAT, "record": record, "state": namer.state_dict()}, part)


def load_names(path: Path) -> tuple[Namer, dict[str, Any]]:
    """Read a file of `save_names`.

    Raises
    ------
    ModelError
        If the file is missing or is not such a file.
    """
    loaded = read_tensors(path)
    try:
        if loaded["format"] != FORMAT:
            raise ModelError(f"has the format {loaded['format']!r}; only {FORMAT!r} can be read", path)
        namer = Namer.like(loaded["state"])
        namer.load_state_dict(loaded["state"])
        return namer.eval(), dict(loaded["record"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"not a file of protemb-train quality names ({error})", path) from error
