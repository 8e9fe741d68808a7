"""What `protemb sites` does: predictions of files into one table, and into a copy of the structure."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.output import check_apart, writable_target, writing_csv
from protemb_sdk._cli.summary import SiteTally, nothing_done, report_skipped
from protemb_sdk._embed.many import inputs_of
from protemb_sdk._model.heads import find_head
from protemb_sdk._predict.b_factors import check_structure_target, write_b_factors
from protemb_sdk._predict.sites import SITE_COLUMNS, SitePrediction, SitePredictor

if TYPE_CHECKING:
    from protemb_sdk._predict.predictor import PredictionRun


def predict_files(
    files: list[Path],
    out: Path,
    *,
    chain: str | None,
    structure: Path | None,
    head: str,
    device: str,
    threads: int | None,
    workers: int,
    quiet: bool,
) -> None:
    """Predict the sites of every protein chain, or of one, and say what was skipped.

    Parameters
    ----------
    files : list of Path
        Structure files and folders.
    out : Path
        CSV to write.
    chain : str or None
        Only this chain, of exactly one file.
    structure : Path or None
        Copy of exactly one input, with predictions as B-factors.
    head, device, threads, workers
        As in `SitePredictor` and `SitePredictor.predict_many`.
    quiet : bool
        Say only what was skipped.

    Raises
    ------
    ProtembError
        If nothing could be predicted or written; no file is left then.
    """
    inputs = inputs_of(files)
    alone = isinstance(inputs, list) and len(inputs) == 1
    if chain is not None and (len(files) != 1 or os.path.isdir(files[0])):
        raise StructureError("--chain goes with exactly one file")
    source = inputs[0] if isinstance(inputs, list) and alone else None
    targets = [writable_target(out)]
    if structure is not None:
        if not isinstance(source, Path):
            raise StructureError("--structure goes with exactly one file")
        targets.append(check_structure_target(structure))
    check_apart(targets, [*files, find_head(head).path])
    tally, kept = SiteTally(), list[SitePrediction]()
    with writing_csv(out, SITE_COLUMNS) as table:
        predictor = SitePredictor(head, device, threads=threads)
        run: Generator[SitePrediction, None, None] | PredictionRun[SitePrediction]
        if chain is not None:
            predicted = predictor.predict(files[0], chain)
            run, skipped = (each for each in (predicted,)), []
        else:
            run = predictor.predict_many(
                inputs,
                workers=workers,
                progress=not quiet and not alone,
                on_error="skip",
            )
            skipped = run.skipped
        with closing(run):
            for prediction in run:
                table.writerows(prediction.rows())
                tally.add(prediction)
                if structure is not None:
                    kept.append(prediction)
        if not tally.chains:
            raise nothing_done(skipped, "embedded", out)
        if structure is not None and isinstance(source, Path):
            write_b_factors(source, structure, kept)  # last: if it fails, no table is left either
    if not quiet:
        tally.report(predictor.provenance, out)
    report_skipped(skipped, kept=False)
