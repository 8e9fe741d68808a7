"""Choice of the noise level of a model: linear probes at each level, and sensitivity to rounding.

    python train/results/noise_level.py CHECKPOINT deepppisp.npz -o train/results/noise_level.md

Needs scikit-learn. Uses DeepPPISP's training chains only (40 to 220 residues), three folds of whole chains.
Probes are linear, on single residues: logistic regression for interface sites (AUPRC), ridge regression for
the number of C-alphas within 10 angstrom (R2). Readouts: the mean over partners, a contact-weighted mean
exp(-(d/8)^2), and both. Rounding: mean change of the mean readout, in standard deviations, when coordinates
are changed by up to 0.05 angstrom.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, r2_score
from sklearn.preprocessing import StandardScaler

from protemb_sdk._structure.chain import encode_sequence
from protemb_train.base.arrays import read_arrays
from protemb_train.network.checkpoint import load_network
from protemb_train.network.network import ScoreNetwork

FOLDS, CHAINS = 3, 120
Features = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Example:
    """One chain with its labels."""

    ca: NDArray[np.float64]
    types: NDArray[np.int64]
    index: NDArray[np.int64]
    site: NDArray[np.uint8]

    @property
    def neighbours(self) -> NDArray[np.float64]:
        """Number of C-alphas within 10 angstrom of each."""
        distance = np.linalg.norm(self.ca[:, None] - self.ca[None], axis=-1)
        return np.asarray(np.sum(distance < 10, axis=1), dtype=np.float64)


def read_examples(path: Path) -> list[Example]:
    """Read training chains that have coordinates."""
    found = []
    names = ("offset", "seq", "label", "ca", "split")
    offset, seq, label, ca, split = read_arrays(path, names, "DeepPPISP's chains").values()
    for i in np.flatnonzero(split == "train"):
        span = slice(offset[i], offset[i + 1])
        seen = np.all(ca[span] != -32768, axis=1)
        if seen.mean() < 0.95 or not 40 <= seen.sum() <= 220:
            continue
        index = np.flatnonzero(seen)
        letters = seq[span][seen].tobytes().decode("ascii")
        found.append(
            Example(ca[span][seen] * 0.01, encode_sequence(letters), index - index[0], label[span][seen])
        )
    return found[:CHAINS]


@torch.inference_mode()
def readouts(network: ScoreNetwork, sigma: float, ca: NDArray[np.float64], example: Example) -> Features:
    """Return the mean and the contact-weighted mean of each row of the pair map, each (L, C)."""
    coords = torch.from_numpy((ca - ca.mean(axis=0)).astype(np.float32))[None]
    types, index = torch.from_numpy(example.types)[None], torch.from_numpy(example.index)[None]
    pair = network.embed(coords, types, index, torch.tensor([sigma]))[0]
    weight = torch.exp(-(torch.cdist(coords, coords)[0] / 8).square())
    weight = weight / weight.sum(dim=1, keepdim=True)
    return [pair.mean(dim=2).T.numpy(), (pair * weight).sum(dim=2).T.numpy()]


def probe(examples: list[Example], features: Features) -> tuple[float, float]:
    """Return AUPRC of interface sites and R2 of the neighbour count, over held-out chains."""
    fold = np.random.default_rng(0).permutation(len(examples)) % FOLDS
    site = [e.site for e in examples]
    count = [e.neighbours for e in examples]

    def joined(values: list[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        return np.concatenate([values[i] for i in np.flatnonzero(mask)])

    truth, guess, r2 = [], [], []
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        scale = StandardScaler().fit(joined(features, train))
        x, y = scale.transform(joined(features, train)), scale.transform(joined(features, test))
        sites = LogisticRegression(C=0.05, max_iter=300).fit(x, joined(site, train))
        guess.append(sites.decision_function(y))
        truth.append(joined(site, test))
        r2.append(r2_score(joined(count, test), Ridge(1.0).fit(x, joined(count, train)).predict(y)))
    return float(average_precision_score(np.concatenate(truth), np.concatenate(guess))), float(np.mean(r2))


def row(name: str, network: ScoreNetwork, sigma: float, examples: list[Example]) -> str:
    """Return one line of the table."""
    each = [readouts(network, sigma, e.ca, e) for e in examples]
    mean, contact = [m for m, _ in each], [c for _, c in each]
    both = [np.concatenate(pair, axis=1) for pair in each]
    spread = np.concatenate(mean).std(axis=0) + 1e-6
    rng = np.random.default_rng(1)
    moved = [
        np.mean(
            np.abs(readouts(network, sigma, e.ca + rng.uniform(-0.05, 0.05, e.ca.shape), e)[0] - m) / spread
        )
        for e, m in zip(examples[:20], mean, strict=False)
    ]
    scores = [probe(examples, features) for features in (mean, contact, both)]
    sites = " | ".join(f"{a:.3f}" for a, _ in scores)
    counts = " | ".join(f"{r:.3f}" for _, r in scores)
    return f"| {name} | {sigma:g} | {sites} | {counts} | {np.mean(moved):.4f} |"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    network, record = load_network(options.checkpoint)
    torch.manual_seed(1)
    untrained = ScoreNetwork(network.config).eval()
    examples = read_examples(options.data)
    prevalence = np.concatenate([e.site for e in examples]).mean()
    lines = [
        f"Network after {record['steps']} steps; {len(examples)} chains, {prevalence:.3f} of them sites",
        "",
        "| network | sigma | sites, mean | contact | both | neighbours, mean | contact | both | rounding |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [row("trained", network, sigma, examples) for sigma in (0.01, 0.1, 1.0, 3.0, 10.0)]
    lines += [row("untrained", untrained, sigma, examples) for sigma in (0.01, 1.0)]
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
