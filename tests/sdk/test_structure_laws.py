"""Properties of reading structures, and every file of the shared data."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk._base.errors import ProtembError, StructureError
from protemb_sdk._structure.chain import ALPHABET, BREAK_DISTANCE, index_with_gaps
from protemb_sdk._structure.reader import read_chains

from .structure_text import HERE, assert_same, trace

# --- properties-----------------------------------------------------------------------------------

SEEDS = [
    (HERE / "1a8o.pdb").read_bytes()[-60_000:-40_000],
    (HERE / "1a8o.pdb").read_bytes()[:9_000] + trace(9).encode(),
]
CIF_SEED = (HERE / "3jqh.cif").read_bytes()
ATOMS = CIF_SEED.index(b"_atom_site.group_PDB") - 12
CIF_SEED = b"data_x\n#\n" + CIF_SEED[ATOMS : ATOMS + 9_000].rsplit(b"\n", 1)[0] + b"\n#\n"


@settings(max_examples=150, deadline=None)
@given(
    seed=st.sampled_from([*SEEDS, CIF_SEED]),
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=12
    ),
    cut=st.floats(0.2, 1),
    zipped=st.booleans(),
)
def test_damaged_bytes_give_chains_or_a_protemb_error(
    seed: bytes, edits: list[tuple[float, bytes]], cut: float, zipped: bool
) -> None:
    data = bytearray(seed)
    for where, what in edits:
        at = int(where * len(data))
        data[at : at + len(what)] = what
    content = bytes(data[: int(cut * len(data))])
    if zipped:
        content = gzip.compress(content, mtime=0)
        content = content[: max(3, int(cut * len(content)))]
    try:
        read = read_chains(content)
    except ProtembError as error:
        assert "\n" not in str(error)
        return
    for chain in read.chains:
        assert np.isfinite(chain.ca_coords).all()
        assert chain.residue_index[0] == 0 and (np.diff(chain.residue_index) > 0).all()
        assert set(chain.sequence) <= set(ALPHABET)


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0, 50), st.integers(-30, 2000)), min_size=1, max_size=60),
)
def test_the_index_starts_at_zero_and_increases(steps: list[tuple[float, int]]) -> None:
    coords = np.zeros((len(steps), 3))
    coords[:, 0] = np.cumsum([s[0] for s in steps])
    numbers = np.cumsum([s[1] for s in steps]).astype(np.int32)
    index = index_with_gaps(coords, numbers)
    assert index.dtype == np.int64 and index[0] == 0 and (np.diff(index) >= 1).all()
    unbroken = np.diff(coords[:, 0]) <= BREAK_DISTANCE
    assert (np.diff(index)[unbroken] == 1).all()


def test_importing_does_not_load_gemmi_and_reading_not_biotite() -> None:
    code = (
        "import sys, protemb_sdk._structure.reader as s; assert 'gemmi' not in sys.modules;"
        "s.read_chains(sys.argv[1]); assert 'biotite' not in sys.modules"
    )
    paths = [p for p in sys.path if p]
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{code}", str(HERE / "1a8o.pdb")],
        check=True,
    )


def test_reading_takes_little_longer_than_parsing(structures: Path) -> None:
    data = gzip.decompress((structures / "4zhl.cif.gz").read_bytes())  # 257 residues, 2080 atoms

    def best(run: object) -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            run()  # type: ignore[operator]
            times.append(time.perf_counter() - start)
        return min(times)

    extra = best(lambda: read_chains(data)) - best(lambda: gemmi.read_structure_string(data))
    assert extra < 0.02, f"{extra * 1000:.1f} ms"  # 3 ms on an idle core


# --- every file of the shared data ----------------------------------------------------------------


def test_every_shared_structure_gives_chains_or_a_reason(shared_data: Path) -> None:
    files = sorted(p for p in (shared_data / "structures").rglob("*.gz")) + sorted(
        p for p in (shared_data / "structures").rglob("*") if p.is_file() and p.suffix != ".gz"
    )
    failures: Counter[str] = Counter()
    files_with_chains = chains = 0
    for path in files:
        try:
            read = read_chains(path)
        except StructureError as error:
            message = str(error)
            assert message.startswith(str(path)) and "\n" not in message
            failures[re.sub(r"\(.*", "", message.removeprefix(f"{path}: ")).strip()] += 1
            continue
        assert read.chains or read.skipped
        files_with_chains += bool(read.chains)
        chains += len(read.chains)
    assert len(files) == 1097
    assert files_with_chains >= 918 and chains >= 1414  # one holds two molecules of two residues
    assert sum(failures.values()) <= 151
    reasons = (
        "this is an HTML or XML document", "this is what macOS keeps", "describes a chemical component",
        "holds no _atom_site table", "a PDB file without ATOM records",
    )  # fmt: skip
    assert all(message.startswith(reasons) for message in failures), failures


@pytest.mark.parametrize(
    "entry",
    ["1a4w", "1fdo", "1j59", "4hhb", "5pti", "2XHE", "1LVZ", "1M4X", "1U19", "3PQR", "4opj", "1CRN"],
)
def test_every_shared_pair_of_formats_agrees(shared_data: Path, entry: str) -> None:
    folder = shared_data / "structures" / "mixed"
    found = [p for p in folder.iterdir() if re.sub(r"^\w+?_|\..*", "", p.name).lower() == entry.lower()]
    reads = [read_chains(p, name=entry) for p in found]
    assert len({p.name.split(".")[1] for p in found}) == 2
    for read in reads[1:]:
        assert [c.id for c in read.chains] == [c.id for c in reads[0].chains]
        reasons, others = ({(s.chain_id, s.reason) for s in r.skipped} for r in (read, reads[0]))
        assert reasons == others
        for a, b in zip(read.chains, reads[0].chains, strict=True):
            assert_same(a, b)
