"""Reason why pre-training does not help a frozen readout: number of effective dimensions, and whitening.

    python train/results/sites_spread.py deepppisp.npz --encoder base --encoder runs/untrained.onnx \
        --cache runs/cache -o train/results/sites_spread.md

DeepPPISP's training chains only, three folds without relatives across them. Dimensions: participation ratio
of the variances along principal components of the standardised embedding. AUPRC: our head trained from
scratch with PSSM and DSSP, on embeddings standardised by channel and on whitened ones (principal components
with 99.9% of the variance, each scaled to standard deviation 1; fitted on the training chains).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from protemb_sdk._base.output import write_text_whole
from protemb_train.commands.sites import READOUTS
from protemb_train.downstream.common.embeddings import embed_all, find_encoder
from protemb_train.downstream.common.overlap import families
from protemb_train.downstream.sites.batches import ChainTensors, as_tensors
from protemb_train.downstream.sites.data import read_sites
from protemb_train.downstream.sites.networks import find_network
from protemb_train.downstream.sites.training import train

FOLDS, KEPT = 3, 0.999


def standardised(residue: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return non-constant channels with mean 0 and standard deviation 1, without missing residues."""
    seen = residue[(residue != 0).any(axis=1)]
    return np.asarray(StandardScaler().fit_transform(seen[:, seen.std(axis=0) > 1e-6]))


def dimensions(residue: NDArray[np.float32]) -> float:
    """Return the participation ratio: squared sum over sum of squares of variances along components."""
    variance = PCA().fit(standardised(residue)).explained_variance_
    return float(variance.sum() ** 2 / np.square(variance).sum())


def whitened(learning: list[ChainTensors], others: list[ChainTensors]) -> list[list[ChainTensors]]:
    """Return both sets with embeddings of uncorrelated channels."""
    seen = np.concatenate([c.extra_LE.numpy() for c in learning])
    there = (seen != 0).any(axis=1)
    scaler = StandardScaler().fit(seen[there])
    pca = PCA(KEPT, whiten=True, svd_solver="full").fit(scaler.transform(seen[there]))

    def of(chain: ChainTensors) -> ChainTensors:
        residue = chain.extra_LE.numpy()
        found = pca.transform(scaler.transform(residue)) * (residue != 0).any(axis=1)[:, None]
        return replace(chain, extra_LE=torch.from_numpy(found.astype(np.float32)))

    return [[of(chain) for chain in side] for side in (learning, others)]


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="deepppisp.npz")
    parser.add_argument("--encoder", action="append", required=True, help="as for protemb-train sites row")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    make, recipe = find_network("graph")
    recipe = replace(recipe, epochs=given.epochs or recipe.epochs)
    chains = [chain for chain in read_sites(given.data).of("train") if chain.has_coordinates]
    folds = list(GroupKFold(FOLDS).split(chains, groups=families(chains)))
    lines = [
        f"| encoder | dimensions of the mean readout | of {len(READOUTS)} readouts | AUPRC, standardised | "
        "whitened |",
        "|---|---|---|---|---|",
    ]
    for name in given.encoder:
        vectors = embed_all(find_encoder(name, READOUTS, 1), chains, given.cache)
        residue = np.concatenate([v.residue for v in vectors])
        channels = residue.shape[1] // len(READOUTS)
        tensors = as_tensors(chains, vectors, graph=True)
        scores: dict[str, list[float]] = {"standardised": [], "whitened": []}
        for seed, (learn, hold) in enumerate(folds):
            sides = [[tensors[i] for i in side] for side in (learn, hold)]
            label = np.concatenate([c.label_L.numpy() for c in sides[1]])
            for way, (learning, held_out) in {"standardised": sides, "whitened": whitened(*sides)}.items():
                predicted = train(make, learning, held_out, [], recipe, seed=seed).validation
                scores[way].append(float(average_precision_score(label, np.concatenate(predicted))))
        cells = " | ".join(f"{np.mean(s):.3f} ({', '.join(f'{x:.3f}' for x in s)})" for s in scores.values())
        mean = dimensions(residue[:, :channels])
        lines.append(f"| {Path(name).stem} | {mean:.1f} | {dimensions(residue):.1f} | {cells} |")
        print(lines[-1], flush=True)
    write_text_whole(given.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
