"""Names that the usual font cannot write."""

import warnings
from dataclasses import replace

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from simulator.report import fonts as fonts_module
from simulator.report import heat_map, perplexity_curves, save, staleness, timeline, utilization, value_curves
from simulator.report.fonts import FAMILY, drawable, families
from tests.record.builders import build_record

WORDS = "同步训练"


def _record(variant, **overrides):
    record = build_record(variant, local_steps=200, overrides=overrides)
    prices = {"cluster": {"devices": {"price_per_hour": 1.0}, "currency": "元"}}
    return replace(record, experiment=record.experiment | prices)


RECORDS = [_record(WORDS, **{"大小": size}) for size in ("小", "中")]
MANY = [_record(WORDS, **{"大小": size}) for size in range(8)]
FIGURES = {
    "curves": lambda: perplexity_curves(RECORDS, against="money"),
    "scale": lambda: perplexity_curves(MANY),
    "staleness": lambda: staleness(RECORDS),
    "utilization": lambda: utilization(RECORDS),
    "rows": lambda: utilization([_record(f"{WORDS} {number}") for number in range(13)]),
    "timeline": lambda: timeline(RECORDS[0]),
    "heat map": lambda: heat_map(RECORDS, "大小", "seed", value="money"),
    "value curves": lambda: value_curves(MANY, "大小", value="money", by=["大小", "variant"]),
}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(fonts_module, "_said", [])
    fonts_module._installed.cache_clear()
    yield
    fonts_module._installed.cache_clear()


@pytest.fixture
def without_others(monkeypatch):
    """No font is installed besides those of matplotlib."""
    own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)


@pytest.fixture
def with_another(tmp_path, monkeypatch, without_others):
    """A font is installed that has the characters of the records, as boxes of their own."""
    characters = sorted({ord(char) for char in WORDS + "大小中元"})
    names = [".notdef", *(f"u{code:x}" for code in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({code: f"u{code:x}" for code in characters})
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Another Sans", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200, usWeightClass=400)
    builder.setupPost()
    builder.save(tmp_path / "another.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(tmp_path / "another.ttf")


@pytest.mark.parametrize("name", FIGURES)
def test_an_installed_font_is_used(tmp_path, with_another, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(FIGURES[name](), tmp_path / "figure")
    assert (tmp_path / "figure.svg").stat().st_size > 1000
    assert drawable(WORDS) == WORDS
    assert families([WORDS]) == [FAMILY, "Another Sans"]


@pytest.mark.parametrize("name", FIGURES)
def test_where_there_is_none_escapes_are_written_and_it_is_said_once(tmp_path, without_others, name):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for number in range(2):
            save(FIGURES[name](), tmp_path / f"figure {number}")
    assert [str(warning.message)[:22] for warning in said] == ["no installed font has "]
    assert "Install a font that has them" in str(said[0].message)
    assert (tmp_path / "figure 1.png").stat().st_size > 1000


def test_names_stay_apart_without_a_font(without_others):
    assert drawable("同步 A") == r"\u540c\u6b65 A"
    assert drawable("Ünïcode × µ → ∞") == "Ünïcode × µ → ∞"  # noqa: RUF001 - which the usual font has
    assert families(["plain", "Ünïcode"]) == [FAMILY]
    with pytest.warns(UserWarning, match="no installed font has 同 步"):
        figure = perplexity_curves([build_record("同步", local_steps=200)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"\u540c\u6b65"]
