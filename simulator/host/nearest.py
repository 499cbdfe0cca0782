"""Valid names that are most like a mistyped one."""

import difflib
from collections.abc import Iterable


def alike(name: object, names: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Returns the names that are the same but for case, blanks and punctuation, or those most like it, best first.

    Those of which it is the last part come before others: `text` means `meta.text`.

    Args:
        name: as typed.
        names: the valid ones.
        most: number to return at most.
        cutoff: least similarity, from 0 to 1, of those that are not the same.
    """
    names = sorted(names)
    same = [each for each in names if _letters(each) == _letters(str(name)) != ""]
    folded: dict[str, str] = {}
    for each in names:
        folded.setdefault(each.casefold(), each)
    ends = [each for each in names if each.casefold().endswith(f".{name}".casefold())]
    close = [folded[each] for each in difflib.get_close_matches(str(name).casefold(), folded, n=most, cutoff=cutoff)]
    return (same or list(dict.fromkeys([*ends, *close])))[:most]


def _letters(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())
