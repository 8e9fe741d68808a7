"""What `protemb sites` does: predictions of files into one table, and into a copy of the structure."""

from __future__ import annotations

from pathlib import Path

from protemb_sdk._base.console import note_replaced
from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.output import check_apart, check_ending, files_in, writable_target, writing_csv
from protemb_sdk._cli.runs import check_chain, results_of
from protemb_sdk._cli.summary import SiteTally, nothing_done, report_skipped
from protemb_sdk._model.heads import find_head
from protemb_sdk._predict.b_factors import check_structure_target, write_b_factors
from protemb_sdk._predict.sites import SITE_COLUMNS, SitePrediction, SitePredictor
from protemb_sdk._structure.archives import is_archive


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
    verbose: bool = False,
    altloc: str = "highest",
    min_plddt: float | None = None,
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
    verbose : bool
        Also print the settings.
    altloc, min_plddt
        As in `Embedder`.

    Raises
    ------
    ProtembError
        If nothing could be predicted or written; no file is left then.
    """
    check_chain(files, chain)
    targets = [writable_target(out)]
    source: Path | None = None
    if structure is not None:
        found = list(files_in(files))
        if len(found) != 1 or is_archive(str(found[0])):
            raise StructureError("--structure goes with exactly one file")
        (source,) = found
        targets.append(check_structure_target(structure))
    check_apart(targets, [*files, find_head(head).path])
    check_ending(out, ".csv")
    note_replaced(targets, quiet=quiet)
    tally, kept = SiteTally(), list[SitePrediction]()
    with writing_csv(out, SITE_COLUMNS) as table:
        predictor = SitePredictor(head, device, threads=threads, altloc=altloc, min_plddt=min_plddt)
        with results_of(
            files, chain, predictor.predict, predictor.predict_many, workers=workers, quiet=quiet
        ) as (run, skipped):
            for prediction in run:
                table.writerows(prediction.rows())
                tally.add(prediction)
                if source is not None:
                    kept.append(prediction)
        if not tally.chains:
            raise nothing_done(skipped, "embedded", out)
        if source is not None and structure is not None:
            write_b_factors(source, structure, kept)  # last: if it fails, no table is left either
    if not quiet:
        tally.report(predictor.provenance if verbose else None, out)
    report_skipped(skipped)
