"""The options that several commands have, each defined once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from protemb_sdk._base.errors import ChainError
from protemb_sdk._model.readouts import READOUTS
from protemb_sdk._structure.complexes import ALL

_TOGETHER = ("--complex", "--assembly")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kKMGT])(i?)B?|B)?")


def size(text: str | int) -> int:
    """Return the bytes of a size such as 500MB, 2GiB or 1048576."""
    found = _SIZE.fullmatch(str(text).strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a size; write it as 500MB, 2GiB or a number of bytes")
    number, unit, binary = found.groups()
    step = 1024 if binary else 1000
    power = "kMGT".index(unit.replace("K", "k")) + 1 if unit else 0
    return round(float(number) * float(step**power))


class OfSingleChains(TyperCommand):
    """Command of a predictor, which tells why it has no options of complexes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises
        ------
        ChainError
            If an option of complexes is among them.
        """
        for option in _TOGETHER:
            if any(arg.partition("=")[0] == option for arg in args):
                raise ChainError(
                    f"there is no {option}, because predictors are trained on single chains; "
                    "without it each chain is predicted alone"
                )
        return super().parse_args(ctx, args)


Files = Annotated[
    list[Path],
    typer.Argument(
        help="Structure files (PDB, mmCIF, mmJSON, BinaryCIF, foldcomp, .gz), folders, archives and foldcomp "
        "databases."
    ),
]
File = Annotated[Path, typer.Argument(help="Structure file (PDB, mmCIF, mmJSON, BinaryCIF, foldcomp, .gz).")]
ChainId = Annotated[
    str | None, typer.Option("--chain", help="Only this chain (author or label name); one input file.")
]
Chains = Annotated[
    list[str] | None,
    typer.Option(
        "--chain", help="Only this chain (author or label name); one input file. Repeat it with --complex."
    ),
]
Complex = Annotated[
    bool,
    typer.Option("--complex", help="Embed the protein chains of a file together, or those of --chain."),
]
Assembly = Annotated[str | None, typer.Option(help="Embed the chains of this assembly, such as 1, together.")]
Model = Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")]
Head = Annotated[str, typer.Option(help="Bundled head, or path of an .onnx file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads in all.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]
Altloc = Annotated[str, typer.Option(help="Alternative locations: highest (occupancy), first, or a letter.")]
MinPlddt = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=100,
        help="Leave out residues of predicted models with a lower pLDDT (0-100). Experimental structures are "
        "used whole, other files are skipped.",
    ),
]
Readouts = Annotated[
    list[str] | None,
    typer.Option(help=f"Further readout of the residues, may be repeated: {', '.join(READOUTS)}."),
]
Fetch = Annotated[
    bool,
    typer.Option("--fetch", help="Download inputs that are PDB or AlphaFold DB identifiers, not files."),
]
Timeout = Annotated[
    float,
    typer.Option(
        help="Downloads: seconds to wait for a server, and for each part of its answer. A request takes "
        "no more than ten times as long."
    ),
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Also print settings and full hashes.")]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="Print errors and what was skipped, nothing else.")
]


def chosen(
    chain: list[str] | None, together: bool, assembly: str | None
) -> tuple[str | None, dict[str, Any]]:
    """Return the one chain that `--chain` names, and the options of `Embedder` for chains taken together.

    Raises
    ------
    ChainError
        If several chains are named without `--complex`.
    """
    if together or assembly is not None:
        return None, {"chains": chain or ALL, "assembly": assembly}
    if chain and len(chain) > 1:
        raise ChainError("--chain is given several times; add --complex to embed these chains together")
    return (chain[0] if chain else None), {}
