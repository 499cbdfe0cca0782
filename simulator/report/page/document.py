"""The page as one file: everything that it needs is inside, and its policy forbids it to load anything else."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from simulator.host.files import atomic_path
from simulator.host.text import one_line
from simulator.report.arguments import Records
from simulator.report.group_keys import ReportError
from simulator.report.grouping import group_records
from simulator.report.page import figures, sections
from simulator.report.page.curves import axes, curves, curves_of_runs, note_on_curves
from simulator.report.page.limits import VARIANTS_AT_FIRST
from simulator.report.page.markup import escaped
from simulator.report.page.results import detailed, note_on_results, ranked, results, usual_targets
from simulator.report.perplexity import refuse_impossible

GENERATOR = '<meta name="generator" content="tardigrad">'


def write_report(
    records: Records, file: str | Path, *, targets: Sequence[float] = (), unfinished: Sequence[str] = ()
) -> bool:
    """Writes the page of some runs, in place of an earlier one.

    Args:
        records: The runs, one or several.
        file: To write.
        targets: See `report_page`.
        unfinished: Points of the sweep that are not finished, and what is known of them, to be named in the page.

    Returns:
        Whether an earlier report was replaced.

    Raises:
        ReportError: As `report_page`, or the file is there and is no such page.
        OSError: If it cannot be written.
    """
    file = Path(file)
    there = file.exists()
    if there and not _is_report(file):
        raise ReportError(f"{file}: is there, and is no report of tardigrad's: name another file, or remove it first")
    page = report_page(records, targets=targets, unfinished=unfinished)
    with atomic_path(file) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return there


def _is_report(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return GENERATOR.encode() in opened.read(2000)


def report_page(records: Records, *, targets: Sequence[float] = (), unfinished: Sequence[str] = ()) -> str:
    """Returns the page of some runs as HTML, the same for the same records.

    Args:
        records: The runs, one or several.
        targets: Perplexities, of which the page says where runs reached them; the one that all runs of a baseline
            reach in the end when there are none.
        unfinished: Points of the sweep that are not finished, and what is known of them, to be named in the page.

    Raises:
        ReportError: If there is no record, a target is not above 0, or there are targets and nothing was trained.
    """
    groups = group_records(records)
    found = axes(groups)
    refuse_impossible(targets)
    if targets and not found:
        raise ReportError("a target is given, but nothing was trained: leave it out")
    wanted = targets or usual_targets(groups)
    held, drawn = detailed(groups), sorted(ranked(groups)[:VARIANTS_AT_FIRST])
    looks = figures.looks(groups, drawn)
    data = {
        "template": figures.TEMPLATE,
        "looks": looks,
        "axes": {one_line(axis.key): {"title": escaped(axis.title), "curves": curves(groups, axis)} for axis in found},
        "runs": curves_of_runs(groups, found),
        "note": note_on_curves(groups),
        "levels": figures.levels(groups, wanted),
        "offers": {index: offers for index in held if (offers := figures.offers(groups[index]))},
        "staleness": [figures.staleness(group) for group in groups],
        "details": {index: figures.details(groups[index]) for index in held},
    }
    tables, plots = _asset("tables.js"), _asset("plots.js")
    scripts = [tables, _plotly(), plots]  # first those of tables, so that there is something to read while plotly loads
    return Template(_asset("page.html")).substitute(
        generator=GENERATOR,
        policy=_policy(scripts),
        style=_asset("page.css"),
        data=_json(data),
        configuration=sections.configuration(groups),
        results=results(groups, found, wanted),
        results_note=escaped(note_on_results(groups)),
        faults=(faults := sections.faults(groups)),
        faults_hidden="" if faults else "hidden",
        environment=sections.environment(groups),
        scripts="".join(f"<script>{script}</script>\n" for script in scripts),
        **sections.head(groups, unfinished),
        **sections.choices(groups, found, looks, drawn, held),
    )


def _json(data: Mapping[str, Any]) -> str:
    """Returns data as JSON that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _asset(name: str) -> str:
    return _embedded(files("simulator.report.page").joinpath("assets", name).read_text(encoding="utf-8"))


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # plotly takes long to load, and only a page needs it

    return _embedded(get_plotlyjs()).replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _embedded(text: str) -> str:
    """Returns a text with the line ends that a browser gives it, on which its hash depends."""
    return re.sub(r"\r\n?", "\n", text)


def _policy(scripts: Sequence[str]) -> str:
    """Returns a content security policy: these scripts run, images are made in the page, nothing is loaded or sent."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {allowed}",
            "style-src 'unsafe-inline'",  # plotly writes styles while it draws
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
