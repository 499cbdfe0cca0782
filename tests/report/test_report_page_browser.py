"""A page in a real browser: nothing is asked for, nothing is complained about, and its controls work."""

import base64
import csv
import dataclasses
import io
import time

import numpy as np
import pytest
from PIL import Image

from simulator.report import perplexity_curves, time_to_target
from simulator.report.page import write_report
from tests.record.builders import build_record, fault_log
from tests.report.chromium import chromium, complaints_of, requests_of

CONTROLS = {
    "x-axis": "simulated_s",
    "y-axis": "perplexity",
    "log-y": True,
    "find-result": "",
    "by-run": False,
    "run": "0",
}
HOSTILE = "</script><script>window.taken=1</script><img src='http://127.0.0.1:9/x' onerror='window.taken=2'>"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


def variants(*, seeds=(0, 1)):
    records = []
    for seed in seeds:
        for name, arguments in (("sync DiLoCo", {"barrier": True}), ("async Nesterov", {"perplexities": (9.0, 7.0)})):
            record = build_record(name, seed=seed, overrides={"seed": seed}, **arguments)
            experiment = record.experiment | {
                "synchronization": {"kind": name.split()[0]},
                "description": "Does it pay?",
            }
            records.append(dataclasses.replace(record, experiment=experiment))
    return records


def open_page(driver, folder, records, name="report"):
    """Opens the page of some records and waits until its first view is drawn."""
    file = folder / f"{name}.html"
    write_report(records, file)
    requests_of(driver), complaints_of(driver)
    driver.get(file.as_uri())
    wait(driver, "return document.documentElement.dataset.ready")
    return file


def wait(driver, condition):
    end = time.monotonic() + 30
    while not (found := driver.execute_script(condition)):
        assert time.monotonic() < end, condition
        time.sleep(0.05)
    return found


@pytest.fixture
def page(driver, folder):
    """A page of two variants with two seeds each, everything drawn; opened anew only after another page."""
    if not driver.current_url.endswith("/controls.html"):
        open_page(driver, folder, variants(), "controls")
        driver.execute_script("Report.drawAll()")
    for name, value in CONTROLS.items():
        choose(driver, name, value)
    yield driver
    assert complaints_of(driver) == []


def texts(driver, selector):
    """The texts of the elements that are not hidden."""
    script = """
        const found = [...document.querySelectorAll(arguments[0])].filter((each) => each.checkVisibility());
        return found.map((each) => (each.innerText ?? each.textContent).trim());
    """
    return driver.execute_script(script, selector)


def paper(driver):
    """The colour of a plot's corner as it is on the screen."""
    plot = driver.find_element("id", "curves-plot")
    return Image.open(io.BytesIO(plot.screenshot_as_png)).convert("RGB").getpixel((2, 2))


def choose(driver, name, value):
    script = """
        const box = document.getElementById(arguments[0]);
        if (box.type === "checkbox") { if (box.checked !== arguments[1]) box.click(); return; }
        box.value = arguments[1];
        for (const kind of ["input", "change"]) box.dispatchEvent(new Event(kind, { bubbles: true }));
    """
    driver.execute_script(script, name, value)


def drawn(driver, plot="curves-plot"):
    """The named traces of a plot."""
    return driver.execute_script(
        "return document.getElementById(arguments[0]).data.filter((trace) => trace.name)", plot
    )


def test_nothing_but_the_file_is_asked_for_and_the_console_is_silent(driver, folder):
    file = open_page(driver, folder, variants())
    driver.execute_script("Report.drawAll()")
    driver.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    time.sleep(0.3)
    assert set(requests_of(driver)) == {file.as_uri()}
    assert complaints_of(driver) == []
    assert all(driver.execute_script("return document.getElementById(arguments[0]).data.length > 0", plot) for plot in (
        "curves-plot", "timeline-plot", "shares-plot", "staleness-plot", "by-worker-plot"
    ))  # fmt: skip


def test_its_policy_refuses_requests_and_further_scripts(page):
    script = """
        const done = arguments[0];
        document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective), { once: true });
        new Image().src = "http://127.0.0.1:9/picture.png";
    """
    assert page.execute_async_script(script) == "img-src"
    page.execute_script("""
        const made = document.createElement("script");
        made.textContent = "window.ran = 1";
        document.body.append(made);
    """)
    assert page.execute_script("return window.ran") is None
    assert len(complaints_of(page)) == 2


def test_curves_are_those_of_the_figures_on_every_axis(page):
    records = variants()
    for key in ("simulated_s", "local_steps", "tokens", "bytes_sent"):
        choose(page, "x-axis", key)
        lines = [
            line for line in perplexity_curves(records, against=key).axes[0].get_lines() if len(line.get_xdata()) > 5
        ]
        curves = drawn(page)
        assert [curve["name"] for curve in curves] == ["sync DiLoCo", "async Nesterov"]
        for line, curve in zip(lines, curves, strict=True):
            assert np.allclose(np.interp(line.get_xdata(), curve["x"], curve["y"]), line.get_ydata(), rtol=2e-3)
            assert np.allclose([curve["x"][0], curve["x"][-1]], [line.get_xdata()[0], line.get_xdata()[-1]], rtol=1e-4)


def test_axes_can_be_switched(page):
    title = "return document.querySelector('#curves-plot .xtitle').textContent"
    assert page.execute_script(title) == "simulated time (min)"
    before = drawn(page)[0]
    choose(page, "x-axis", "local_steps")
    assert page.execute_script(title) == "local steps (over all workers)"
    assert drawn(page)[0]["x"][-1] == 4000 != before["x"][-1]
    assert page.execute_script("return document.getElementById('curves-plot').layout.yaxis.type") == "log"
    choose(page, "log-y", False)
    assert page.execute_script("return document.getElementById('curves-plot').layout.yaxis.type") == "linear"
    choose(page, "y-axis", "loss")
    assert np.allclose(np.exp(drawn(page)[0]["y"]), before["y"], rtol=1e-2)


def test_variants_can_be_hidden(page):
    page.execute_script("document.querySelector('#variants input').click()")
    assert [curve["name"] for curve in drawn(page)] == ["async Nesterov"]
    assert [curve["name"] for curve in drawn(page, "staleness-plot")] == ["async Nesterov"]
    page.execute_script("document.querySelector('#variants input').click()")
    assert len(drawn(page)) == 2


def test_results_are_sorted_by_their_headers(page):
    rows = "#results-table tbody th"
    names = [text.split("\n")[0].split("  ")[0] for text in texts(page, rows)]
    assert [name.startswith(start) for name, start in zip(names, ("sync", "async"), strict=True)] == [True, True]
    header = "#results-table th[data-key='simulated_seconds']"
    for direction, first in (("ascending", "async"), ("descending", "sync")):
        page.execute_script("document.querySelector(arguments[0] + ' button').focus()", header)
        page.execute_script("document.activeElement.click()")
        assert page.execute_script("return document.querySelector(arguments[0]).ariaSort", header) == direction
        assert texts(page, rows)[0].startswith(first)
    focused = "return document.activeElement.closest('th').dataset.key"
    assert page.execute_script(focused) == "simulated_seconds"


def test_results_are_filtered_and_by_run(page):
    choose(page, "find-result", "async")
    assert len(texts(page, "#results-table tbody tr")) == 1
    assert texts(page, "#results-count") == ["1 of 2 rows"]
    choose(page, "by-run", True)
    assert len(texts(page, "#results-table tbody tr")) == 2
    choose(page, "find-result", "async seed 1")
    assert texts(page, "#results-count") == ["1 of 4 rows"]


def test_the_targets_column_follows_the_axis(page):
    shown = "#results-table th[data-axis]"
    assert texts(page, shown) == ["simulated time to perplexity 6.08"]
    shapes = page.execute_script("return document.getElementById('curves-plot').layout.shapes")
    assert [(shape["y0"], shape["label"]["text"]) for shape in shapes] == [(6.08, "target 6.08")]
    choose(page, "x-axis", "tokens")
    assert texts(page, shown) == ["tokens to perplexity 6.08"]
    assert texts(page, "#results-table td[data-axis]")[1] == "not reached"
    choose(page, "y-axis", "loss")
    [shape] = page.execute_script("return document.getElementById('curves-plot').layout.shapes")
    assert shape["y0"] == pytest.approx(np.log(6.08))


def test_results_can_be_downloaded(page, tmp_path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.execute_script("document.getElementById('download').click()")
    file, end = tmp_path / "results.csv", time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    with file.open(newline="", encoding="utf-8") as opened:
        rows = sorted(csv.DictReader(opened), key=lambda row: (row["variant"], row["seed"]), reverse=True)
    assert [(row["variant"], row["seed"]) for row in rows] == [
        ("sync DiLoCo", "1"), ("sync DiLoCo", "0"), ("async Nesterov", "1"), ("async Nesterov", "0")
    ]  # fmt: skip
    expected = variants()[2].summary["final_perplexity"]
    assert float(rows[0]["final_perplexity"]) == pytest.approx(expected, rel=1e-5)
    spent = time_to_target(variants(), 6.08, each=True)["tokens"][[1, 0, 3, 2]]
    assert [float(row["tokens_to_6.08"] or "nan") for row in rows] == pytest.approx([*spent], rel=1e-5, nan_ok=True)


def test_another_run_has_another_timeline(page):
    title = "return document.getElementById('timeline-plot').data.find((t) => t.name === 'wait').x.length"
    waits = page.execute_script(title)
    choose(page, "run", "1")
    assert page.execute_script(title) < waits  # nobody waits for the slowest


def test_it_can_be_dark(page):
    background = "return getComputedStyle(document.body).backgroundColor"
    assert page.execute_script(background) == "rgb(255, 255, 255)"
    assert paper(page) == (255, 255, 255)
    page.execute_script("document.getElementById('theme').click()")
    assert page.execute_script(background) == "rgb(20, 20, 20)"
    assert paper(page) == (20, 20, 20)
    page.execute_script("document.getElementById('theme').click()")
    assert paper(page) == (255, 255, 255)


def reload(page):
    """Loads the page again: nothing is chosen then."""
    page.refresh()
    wait(page, "return document.documentElement.dataset.ready")
    page.execute_script("Report.drawAll()")


def test_it_follows_the_systems_colours_until_a_theme_is_chosen(page):
    reload(page)
    for scheme, shade in (("dark", 20), ("light", 255)):
        emulated = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
        wait(page, f"return document.documentElement.dataset.theme === '{scheme}'")
        assert paper(page) == (shade, shade, shade)
    page.execute_script("document.getElementById('theme').click()")
    for scheme in ("dark", "light"):
        emulated = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
        time.sleep(0.1)
        assert page.execute_script("return document.documentElement.dataset.theme") == "dark"
    reload(page)


def test_a_phone_scrolls_tables_and_not_the_page(driver, folder):
    metrics = {"width": 375, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        open_page(driver, folder, [*variants(), build_record("a name that is quite long" * 4, perplexities=(9, 6.5))])
        driver.execute_script("Report.drawAll()")
        time.sleep(0.3)
        width = "return [document.documentElement.scrollWidth, window.innerWidth]"
        assert driver.execute_script(width) == [375, 375]
        table = "return document.querySelector('#results .scroll').scrollWidth"
        assert driver.execute_script(table) > 375
        assert driver.execute_script("return document.querySelector('#curves-plot .main-svg').clientWidth") <= 375
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_is_printed_whole_and_light(page):
    reload(page)
    page.execute_script("document.getElementById('theme').click()")
    document = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    content = base64.b64decode(document["data"])
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") + content.count(b"/Type/Page/") >= 2
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    width = "return document.getElementById('curves-plot').layout.width"
    assert (paper(page), page.execute_script(width)) == ((255, 255, 255), 690)
    assert page.execute_script("return document.querySelectorAll('details:not([open])').length") == 0
    page.execute_script("window.dispatchEvent(new Event('afterprint'))")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert page.execute_script("return document.querySelectorAll('details:not([open])').length") > 0
    assert (paper(page), page.execute_script(width)) == ((20, 20, 20), None)
    page.execute_script("document.getElementById('theme').click()")


def test_names_from_files_do_nothing(driver, folder):
    record = build_record(HOSTILE, overrides={HOSTILE: HOSTILE})
    record = dataclasses.replace(
        record, experiment=record.experiment | {"name": HOSTILE, "description": HOSTILE, HOSTILE: 1}
    )
    file = open_page(driver, folder, [record, *variants(seeds=(0,))], "hostile")
    driver.execute_script("Report.drawAll()")
    assert driver.execute_script("return window.taken") is None
    assert set(requests_of(driver)) == {file.as_uri()}
    assert complaints_of(driver) == []
    assert HOSTILE in texts(driver, "h1")[0]
    assert any("<script>window.taken=1</script>" in text for text in texts(driver, "#staleness-legend span"))


@pytest.mark.parametrize("what", ["timelines", "faults", "diverged", "many"])
def test_other_records_have_a_page_too(driver, folder, what):
    record = build_record()
    table = record.evaluations.copy()
    table.loc[3:, ["loss", "perplexity"]] = float("inf")
    faults = fault_log(
        [(300.0, 0, "crash"), (300.0, 0, "lost"), (400.0, 0, "return"), (500.0, -1, "server down")]
    ).frame()
    lost = {"evaluations": table, "summary": record.summary | {"final_perplexity": None}}
    records = {
        "timelines": [
            dataclasses.replace(record, summary=record.summary | {"variant": v, "trainer": "null"}) for v in "ab"
        ],
        "faults": [dataclasses.replace(record, faults=faults)],
        "diverged": [dataclasses.replace(record, **lost)],
        "many": [dataclasses.replace(record, summary=record.summary | {"variant": f"v{i}"}) for i in range(14)],
    }[what]
    open_page(driver, folder, records, what.replace(" ", "_"))
    driver.execute_script("Report.drawAll()")
    time.sleep(0.2)
    assert complaints_of(driver) == []
    assert len(texts(driver, "#results-table tbody tr")) == len(records)
    if what == "timelines":
        assert texts(driver, "#curves-plot") == [
            "Nothing was trained, so there are no curves. What is chosen here is shown under Staleness."
        ]
    if what == "faults":
        assert texts(driver, "#faults tbody th") == ["async Nesterov"]
        names = [trace["name"] for trace in drawn(driver, "timeline-plot")]
        assert {"absent", "round lost"} <= set(names)
    if what == "diverged":
        assert "diverged" in texts(driver, "#results-table tbody td")
        assert "1 of 1 diverged, and its curve ends before." in texts(driver, "#curves-note")[0]
    if what == "many":
        assert len(drawn(driver)) == 12
        choose(driver, "find-variant", "v13")
        assert "12 of 14 shown" in texts(driver, "#shown-count")[0]
