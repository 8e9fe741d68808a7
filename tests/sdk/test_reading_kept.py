"""Reading of 1,000 malformed inputs, with all options, gives the recorded results.

    python tests/sdk/test_reading_kept.py     # after an intended change; check the difference

Another release of gemmi may read some inputs differently; then the test is skipped.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest

from protemb_sdk import ProtembError
from protemb_sdk._structure.protein import StructureRead
from protemb_sdk._structure.reader import read_chains

TESTS = Path(__file__).resolve().parents[1]
KEPT = TESTS / "sdk" / "reading.json"
INPUTS, SEED = 1000, 3

sys.path.insert(0, str(TESTS / "fuzz"))
from malformed import malformed_input  # noqa: E402


def about(read: StructureRead) -> str:
    """Return the chains with a hash of their content, and the skipped chains with their reasons."""
    found = []
    for chain in read.chains:
        digest = hashlib.sha256()
        for name in ("residue_index", "auth_seq", "label_seq"):
            digest.update(getattr(chain, name).tobytes())
        digest.update(np.round(chain.ca_coords, 3).tobytes())
        words = [*chain.insertion_code.tolist(), *chain.residue_name.tolist(), *chain.notes, chain.sequence]
        digest.update("|".join(words).encode("utf-8", "surrogateescape"))
        found.append(f"{chain.id}/{chain.label_chain} {len(chain)} {digest.hexdigest()[:8]}")
    found += [f"-{skipped.chain_id}: {skipped.reason}" for skipped in read.skipped]
    return "; ".join(found)


def outcome(x: Any, **options: Any) -> str:
    try:
        return about(read_chains(x, **options))
    except ProtembError as error:
        output = re.sub(r"\(.*\)", "()", str(error))  # messages of other libraries
        return f"{type(error).__name__}: {output}"


def options_of(number: int) -> dict[str, Any]:
    """Return options that vary between inputs."""
    return {
        "altloc": ("highest", "first", "A", "B")[number % 4],
        "model_number": 1 + (number % 11 == 0),
        "min_residues": (3, 1, 20)[number % 3],
    }


def all_outcomes() -> list[str]:
    found = []
    for number in range(INPUTS):
        kind, content = malformed_input(SEED, number)
        if kind not in ("archive", "zip"):
            with np.errstate(all="ignore"):
                found.append(f"{number} {outcome(content, **options_of(number))}")
    return found


def test_reading_gives_the_recorded_results() -> None:
    kept = json.loads(KEPT.read_text())
    if kept["gemmi"] != gemmi.__version__:
        pytest.skip(f"kept with gemmi {kept['gemmi']}, and this is {gemmi.__version__}")
    found = all_outcomes()
    different = [(was, now) for was, now in zip(kept["outcomes"], found, strict=True) if was != now]
    assert not different, f"{len(different)} read otherwise, {different[:5]}"


@pytest.mark.parametrize("library", ["biotite", "biopython"])
def test_structures_of_other_libraries_give_the_chains_of_the_file(structures: Path, library: str) -> None:
    """Files with conformers, models, insertion codes or several chains, each with every option."""
    for name in ("1a8o.cif", "3jqh.cif", "4zhl.cif.gz", "1lcd.cif.gz"):
        document = gemmi.cif.read(str(structures / name))
        for altloc in ("highest", "first", "B"):
            for model in (1, 2) if name.startswith("1lcd") else (1,):
                expected = read_chains(structures / name, altloc=altloc, model_number=model)
                x = taken_by(library, document.as_string(), model)
                read = read_chains(
                    x, altloc=altloc, model_number=1 if library == "biotite" else model, name=name
                )
                assert [c.chain_id for c in read.chains] == [c.chain_id for c in expected.chains], name
                for mine, theirs in zip(read.chains, expected.chains, strict=True):
                    assert mine.sequence == theirs.sequence
                    np.testing.assert_allclose(mine.ca_coords, theirs.ca_coords, atol=1e-4)
                    np.testing.assert_array_equal(mine.residue_index, theirs.residue_index)
                    np.testing.assert_array_equal(mine.insertion_code, theirs.insertion_code)


def taken_by(library: str, text: str, model: int) -> Any:
    if library == "biopython":
        reading = pytest.importorskip("Bio.PDB", reason="Biopython is not installed")
        return reading.MMCIFParser(QUIET=True).get_structure("x", io.StringIO(text))
    pdbx = pytest.importorskip("biotite.structure.io.pdbx", reason="Biotite is not installed")
    return pdbx.get_structure(
        pdbx.CIFFile.read(io.StringIO(text)), model=model, altloc="all", use_author_fields=True,
        extra_fields=["occupancy", "label_asym_id"],
    )  # fmt: skip


if __name__ == "__main__":
    kept = {"gemmi": gemmi.__version__, "seed": SEED, "outcomes": all_outcomes()}
    KEPT.write_text(json.dumps(kept, indent=0, ensure_ascii=True) + "\n")
    print(KEPT, KEPT.stat().st_size)
