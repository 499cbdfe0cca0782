"""The page as one file: everything that it needs is inside, and its policy forbids it to load anything else."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template

from simulator.host.files import atomic_path
from simulator.report.given import Records
from simulator.report.group_keys import ReportError
from simulator.report.grouping import Group, group_records
from simulator.report.page import sections
from simulator.report.page.limits import TIMELINES
from simulator.report.page.payload import detailed, payload

GENERATOR = '<meta name="generator" content="tardigrad">'
_SCRIPTS = ("base.js", "results.js")  # before plotly, so that there is something to read while it loads
_PLOTS = ("curves.js", "runs.js", "page.js")


def write_report(records: Records, file: str | Path, *, unfinished: Sequence[str] = ()) -> bool:
    """Writes the page of some runs, in place of an earlier one.

    Args:
        records: The runs, one or several.
        file: To write.
        unfinished: Points of the sweep that are not finished, and what is known of them, to be named in the page.

    Returns:
        Whether an earlier report was replaced.

    Raises:
        ReportError: If there is no record, or the file is there and is no such page.
        OSError: If it cannot be written.
    """
    file = Path(file)
    there = file.exists()
    if there and not _is_report(file):
        raise ReportError(f"{file}: is there, and is no report of tardigrad's: name another file, or remove it first")
    page = report_page(records, unfinished=unfinished)
    with atomic_path(file) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return there


def _is_report(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return GENERATOR.encode() in opened.read(2000)


def report_page(records: Records, *, unfinished: Sequence[str] = ()) -> str:
    """Returns the page of some runs as HTML, the same for the same records.

    Args:
        records: The runs, one or several.
        unfinished: Points of the sweep that are not finished, and what is known of them, to be named in the page.

    Raises:
        ReportError: If there is no record.
    """
    groups = group_records(records)
    runs = [record for group in groups for record in group.records]
    scripts = [*map(_asset, _SCRIPTS), _plotly(), *map(_asset, _PLOTS)]
    first, second = scripts[: len(_SCRIPTS)], scripts[len(_SCRIPTS) :]
    faults = sections.faults(groups)
    return Template(_asset("page.html")).substitute(
        generator=GENERATOR,
        policy=_policy(scripts),
        style=_asset("page.css"),
        data=_data(groups),
        configuration=sections.configuration(groups),
        faults=faults,
        faults_hidden="" if faults else "hidden",
        environment=sections.environment(runs),
        left_out=_left_out(groups),
        first_scripts=_elements(first),
        second_scripts=_elements(second),
        **sections.head(groups, unfinished),
    )


def _data(groups: Sequence[Group]) -> str:
    """Returns the script's data as JSON that cannot end the element it stands in."""
    text = json.dumps(payload(groups), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _left_out(groups: Sequence[Group]) -> str:
    held, arrived = len(detailed(groups)), sum(any(len(r.rounds) for r in group.records) for group in groups)
    if held == arrived:
        return ""
    return (
        f'<p class="note">To stay small, this page holds the timelines of {held:,} of {arrived:,} variants and '
        "sweep points: those that others are compared with, and those with the lowest final perplexity, at most "
        f"{TIMELINES}. "
        "The figures of <code>tardigrad plot</code> show all.</p>"
    )


@cache
def _asset(name: str) -> str:
    return _embedded(files("simulator.report.page").joinpath("assets", name).read_text(encoding="utf-8"))


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return _embedded(get_plotlyjs()).replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _embedded(text: str) -> str:
    """Returns a text with the line ends that a browser gives it, on which its hash depends."""
    return re.sub(r"\r\n?", "\n", text)


def _elements(scripts: Sequence[str]) -> str:
    return "".join(f"<script>{script}</script>\n" for script in scripts)


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
