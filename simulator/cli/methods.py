"""Methods that a file can name: `methods`."""

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from simulator.cli.plugins import use_plugins
from simulator.experiment.method_texts import MethodText, method_texts, methods_page
from simulator.experiment.methods import without_markup
from simulator.experiment.problems import OF_PLUGINS, nearest
from simulator.host.errors import SettingError
from simulator.host.files import write_file
from simulator.host.terminal_table import TerminalTable
from simulator.host.text import visible


def methods(name: str | None, page: Path | None, plugin: list[str] | None) -> None:
    """Prints a table of all methods, or what one does, or writes a page of all."""
    use_plugins(plugin)
    if page is not None:
        write_file(page, methods_page())
        return
    texts = {text.name: text for text in method_texts()}
    if name is not None and name not in texts:
        raise SettingError("NAME", name, f"no such method; {nearest(name, texts)} {OF_PLUGINS}")
    Console().print(_all(list(texts.values())) if name is None else _one(texts[name]))


def _all(texts: list[MethodText]) -> Group:
    table = TerminalTable("method: NAME, or {kind: NAME, ...}", words=["method", "paper", "fills"])
    table.title_justify = "left"
    for text in texts:
        table.add_row(Text(text.name), Text(visible(text.paper)), Text(", ".join(text.slots)))
    return Group(table, Text("`tardigrad methods NAME` shows the rule of one, and its settings"))


def _one(text: MethodText) -> Group:
    parts: list[RenderableType] = [Text(text.name, style="bold")]
    parts += [Text(visible(without_markup(line))) for line in (text.paper, text.summary) if line]
    for part, is_formula in text.rule:
        shown = Text(visible(without_markup(part)))
        parts += ["", Padding(shown, (0, 0, 0, 4)) if is_formula else shown]
    parts += ["", Text(f"fills {', '.join(text.slots)}")]
    if text.settings:
        table = TerminalTable("settings", words=["setting", "default", "meaning"])
        table.title_justify = "left"
        for each in text.settings:
            table.add_row(Text(each.name), Text(each.default), Text(visible(without_markup(each.meaning))))
        parts += ["", table]
    return Group(*parts)
