"""Coverage-guided fuzz test of all readers of files (Atheris, libFuzzer).

    python tests/fuzz/guided.py --minutes 5 -o tests/fuzz/guided.md     # five minutes for each reader
    python tests/fuzz/guided.py --one structure crash-0123...           # run one input again

`run.py` draws inputs at random and runs the network too. This script runs readers only, and keeps each input
that reaches a new branch. Exit status 1 if a reader ended with anything but a result or a `ProtembError`.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Numba cannot compile instrumented code.
NOT_INSTRUMENTED = ["protemb_sdk._model.pooling", "protemb_sdk._model.readouts"]
FOUND = HERE.parents[1] / "build" / "fuzz"
SEPARATOR = b"\0--\0"
Reader = Callable[[bytes], object]


# --- readers: bytes to a result or a ProtembError ---------------------------------------------------


def structure(folder: Path) -> tuple[Reader, list[bytes]]:
    import gzip

    from malformed import seeds

    from protemb_sdk import read_chains

    def read(data: bytes) -> None:
        for chain in read_chains(data, byte_limit=2**24).chains:
            assert len(chain.ca_coords) == len(chain.sequence) == len(chain.residue_index)

    return read, [*seeds(), gzip.compress(seeds()[0])]


def archive(folder: Path) -> tuple[Reader, list[bytes]]:
    import tarfile

    from malformed import seeds

    from protemb_sdk._structure.archives import members

    path, whole = folder / "x.tar", io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name in ("d/a.pdb", "b.cif"):
            info = tarfile.TarInfo(name)
            info.size = 2000
            tar.addfile(info, io.BytesIO(seeds()[0][:2000]))

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for _, content in members(str(path), 2**22):
            assert len(content) <= 2**22

    return read, [whole.getvalue()]


def embedding(folder: Path) -> tuple[Reader, list[bytes]]:
    """The input is the content of a saved embedding without the zip container and its checksums."""
    import numpy as np

    from protemb_sdk import Embedder, Embedding

    whole, path = folder / "whole.npz", folder / "x.npz"
    made = Embedder("small-1", "cpu", threads=1).embed(HERE.parent / "structures" / "1orc.pdb", chain_id="A")
    made.save(whole)
    with zipfile.ZipFile(whole) as file, np.load(whole) as arrays:
        names = [name for name in file.namelist() if name != "header.npy"]
        parts = [str(arrays["header"]).encode(), *map(file.read, names)]

    def read(data: bytes) -> None:
        header, *members = data.split(SEPARATOR)
        np.savez(path, header=np.array(header.decode(errors="replace")))
        with zipfile.ZipFile(path, "a") as file:
            for name, content in zip(names, members, strict=False):
                file.writestr(name, content)
        found = Embedding.load(path)
        assert found.residue.shape == (len(found), len(found.protein)), found
        assert isinstance(found.id, str) and len(found.sequence) == len(found.residue_index), found
        assert found.protein.dtype == found.residue.dtype == np.float32, found
        repr(found)

    return read, [SEPARATOR.join(parts)]


def model(folder: Path) -> tuple[Reader, list[bytes]]:
    """The input is an ONNX file. The graph itself is not loaded."""
    import onnx
    from onnx import TensorProto, helper

    from protemb_sdk._model.onnx_file import has_external_data

    tensor = helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0])
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph([node], "g", [], [output], [tensor])

    def read(data: bytes) -> None:
        try:
            found = has_external_data(data)
        except ValueError:
            return
        assert isinstance(found, bool)

    return read, [onnx.ModelProto(graph=graph, ir_version=9).SerializeToString()]


def card(folder: Path) -> tuple[Reader, list[bytes]]:
    """The input is the metadata of an ONNX file, of a network or of a head."""
    import onnx

    from protemb_sdk import ProtembError
    from protemb_sdk._model.heads import HEAD_CONTRACT, read_head_info
    from protemb_sdk._model.models import BUNDLED, CONTRACT, read_graph_info

    names = ("small-1.onnx", "sites.onnx", "quality.onnx")
    metadata = [onnx.load(BUNDLED / name).metadata_props for name in names]
    seeds = [field.value.encode() for fields in metadata for field in fields if field.key == "protemb.card"]
    path = Path("x.onnx")

    def read(data: bytes) -> None:
        text = data.decode(errors="replace")
        both = {"protemb.contract": CONTRACT, "protemb.head": HEAD_CONTRACT, "protemb.card": text}
        for reader, kind in ((read_graph_info, "embedding"), (read_head_info, ("sites", "quality"))):
            with suppress(ProtembError):
                reader(kind, both, "0" * 64, path)

    return read, seeds


def store(folder: Path) -> tuple[Reader, list[bytes]]:
    from protemb_sdk import Embedder, embed_into_store
    from protemb_sdk._store.writer import HEADER, read_header

    embed_into_store(
        Embedder("small-1", "cpu", threads=1), [HERE.parent / "structures" / "1orc.pdb"], folder / "s"
    )
    path = folder / "s" / HEADER
    seed = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_header(folder / "s")

    return read, [seed]


READERS = {
    "structure": structure, "archive": archive, "embedding": embedding, "model": model, "card": card,
    "store": store,
}  # fmt: skip


# --- mutations -----------------------------------------------------------------------------------

VALUES = [
    None, True, 0, -1, 2**31, 10**30, 1.5, float("nan"), float("inf"), "", "x", "é\n", "A" * 2000, [], ["x"],
    {}, {"x": 1}, [[]],
]  # fmt: skip


def json_changed(data: bytes, rng: Any) -> bytes:
    """Change or remove one value of the JSON text at the start of the input."""
    text, *others = data.split(SEPARATOR)
    whole = [json.loads(text)]
    place, key = whole, 0
    while isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
        place = place[key]
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = keys[rng.integers(len(keys))]
    if place is not whole and rng.random() < 0.2:
        del place[key]
    else:
        place[key] = VALUES[rng.integers(len(VALUES))]
    return SEPARATOR.join([json.dumps(whole[0]).encode(), *others])


# --- the child: one reader -------------------------------------------------------------------------


def fuzz(name: str, options: list[str]) -> None:
    import atheris
    import numpy as np
    from malformed import MUTATIONS

    folder = Path(tempfile.mkdtemp())
    with atheris.instrument_imports(include=["protemb_sdk"], exclude=NOT_INSTRUMENTED):
        from protemb_sdk import ProtembError

        read, seeds = READERS[name](folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)

    def once(data: bytes) -> None:
        with suppress(ProtembError):
            read(data)

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        with suppress(ValueError, RecursionError):
            if rng.random() < 0.5:
                return json_changed(data, rng)[:most]
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return MUTATIONS[rng.integers(len(MUTATIONS))](data, rng)[:most]

    # Inputs are not replaced by smaller ones with the same coverage: the removed parts help other mutations.
    always = ["-timeout=10", "-rss_limit_mb=4096", "-reduce_inputs=0", "-max_len=200000"]
    again = [option for option in options if not option.startswith("-")]
    inputs = [] if again else [str(corpus)]
    atheris.Setup([sys.argv[0], *always, *options, *inputs], once, custom_mutator=mutated)
    atheris.Fuzz()


# --- the parent: all readers ------------------------------------------------------------------------


def fuzzed(name: str, options: list[str]) -> tuple[int, str, str]:
    """Return the number of inputs of a reader, its row, and the output of libFuzzer if it stopped early."""
    FOUND.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--one", name, f"-artifact_prefix={FOUND}/{name}-", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    printed = "\n".join(line for line in lines if not line.startswith(("INFO: Instr", "WARNING: Failed")))
    runs = re.search(r"Done (\d+) runs", printed)
    state = re.findall(r"cov: (\d+) .*?corp: (\d+)/", printed)
    if done.returncode or not runs or not state:
        printed = "\n".join(line for line in printed.splitlines() if not line.startswith("#"))  # progress
        return 0, f"| {name} | | | | ended early |", printed
    branches, kept = state[-1]
    return int(runs[1]), f"| {name} | {int(runs[1]):,} | {branches} | {kept} | 0 |", ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5, help="for each reader")
    parser.add_argument("--runs", type=int, help="inputs of each reader, instead of minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    much = f"-runs={options.runs}" if options.runs else f"-max_total_time={options.minutes * 60:.0f}"
    found = [fuzzed(name, [much, f"-seed={options.seed}"]) for name in READERS]
    text = [
        "# Coverage-guided fuzz test",
        "",
        f"Written by `python tests/fuzz/guided.py` on {date.today()}: protemb {version('protemb-sdk')}, "
        f"Atheris {version('atheris')}, Python {platform.python_version()}; seed {options.seed}, for each "
        f"reader {much.lstrip('-')}.",
        "",
        f"{sum(runs for runs, _, _ in found):,} inputs. Each gave a result or a `ProtembError`; anything "
        "else would have stopped the run.",
        "",
        "| reader | inputs | branches of the SDK reached | inputs with new branches | other outcomes |",
        "|---|---|---|---|---|",
        *(row for _, row, _ in found),
    ]
    print("\n".join(text), *(printed[-4000:] for _, _, printed in found if printed), sep="\n")
    if any(printed for _, _, printed in found):
        raise SystemExit(
            f"the inputs are in {FOUND}; run one again with: python tests/fuzz/guided.py --one READER FILE"
        )
    if options.out:
        options.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], sys.argv[3:])
    main()
