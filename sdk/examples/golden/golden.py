"""Write the golden vectors: what every program must get from the same chain and the same graph.

    python sdk/examples/golden/golden.py

A JSON file a chain: file, chain, model and its SHA-256; what the graph takes (`ca_coords` centred, (L, 3);
`residue_type` and `residue_index`, (L,)) and gives (`residue`, (L, C); `protein`, (C,)).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from protemb_sdk import Embedder

HERE = Path(__file__).parent
STRUCTURES = HERE.parents[2] / "tests" / "structures"
CHAINS = (("1a8o.cif", "A"), ("1a8o.pdb", "A"), ("1orc.pdb", "A"), ("pdb1gdr.ent", ""), ("3jqh.cif", "A"))


def rounded(array: np.ndarray, digits: int) -> list[object]:
    """Return nested lists with so many decimals."""
    found: list[object] = np.round(array.astype(np.float64), digits).tolist()
    return found


def main() -> None:
    """Write every file."""
    embedder = Embedder(device="cpu")
    for name, chain in CHAINS:
        embedding = embedder.embed(STRUCTURES / name, chain or None)
        golden = {
            "file": name,
            "chain": embedding.chain_id,
            "model": "base",
            "model_sha256": embedder.provenance["model_sha256"],
            "ca_coords": rounded(embedding.chain.centred_coords, 4),
            "residue_type": embedding.chain.residue_type.tolist(),
            "residue_index": embedding.residue_index.tolist(),
            "protein": rounded(embedding.protein, 6),
            "residue": rounded(embedding.residue, 6),
        }
        path = HERE / f"{name}.json"
        path.write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="utf-8")
        print(path.name, embedding)


if __name__ == "__main__":
    main()
