"""Keys of experiment files: `explain`."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.cli.plugins import use_plugins
from simulator.experiment.explain import Explanation, Keys, Meaning, Row
from simulator.experiment.key_tree import ANY
from simulator.host.terminal_table import TerminalTable
from simulator.host.text import visible

_OF_ANY = f"{ANY} stands for a name of your own"
_MORE = "`tardigrad explain KEY` says more of a key, and what is below it"


def explain(key: str | None, plugin: list[str] | None) -> None:
    """Prints the explanation of a key, or a table of all keys."""
    use_plugins(plugin)
    keys = Keys()
    Console().print(_explained(keys.explain(key)) if key else _all_keys(keys.rows()))


def _all_keys(rows: Sequence[Row]) -> Group:
    sections = {row.key: row for row in rows if "." not in row.key}
    below = {key: [row for row in rows if row.key.startswith(f"{key}.")] for key in sections}
    plain = _keys("keys without a section", (row for key, row in sections.items() if not below[key]))
    parts: list[RenderableType] = [plain, ""]
    for key, row in sections.items():
        if below[key]:
            parts += [_keys(f"{key}: {row.meaning}", below[key], within=key), ""]
    return Group(*parts, Text(f"{_OF_ANY}; {_MORE}"))


def _explained(explanation: Explanation) -> Group:
    parts: list[RenderableType] = []
    for meaning in explanation.meanings:
        parts += [*_meaning(explanation.key, meaning), ""]
    if explanation.kinds:
        kinds = _table("kinds", "kind")
        for name, description in explanation.kinds:
            kinds.add_row(Text(name), Text(visible(description)))
        parts += [kinds, ""]
    if explanation.keys:
        parts += [_keys("keys", explanation.keys, within=explanation.key), ""]
    return Group(*parts[:-1])


def _meaning(key: str, meaning: Meaning) -> Iterator[RenderableType]:
    yield Text(f"{key}  ({meaning.under})" if meaning.under else key, style="bold", overflow="fold")
    facts = Table.grid(padding=(0, 2))
    for label, text in meaning.facts.items():
        facts.add_row(Text(label, no_wrap=True), Text(visible(text), overflow="fold"))
    yield facts


def _keys(title: str, rows: Iterable[Row], within: str = "") -> TerminalTable:
    table = _table(title, "key")
    for row in rows:
        under = f" ({row.under.replace(f'{within}.', '')})" if row.under else ""
        table.add_row(Text(row.key.removeprefix(f"{within}.")), Text(visible(f"{row.meaning}{under}")))
    return table


def _table(title: str, first: str) -> TerminalTable:
    table = TerminalTable(title, words=[first, "meaning"])
    table.title_justify = "left"
    return table
