"""Text as it is shown: what could steer a terminal or hide text, in names from files of others, is written out."""


def visible(text: str) -> str:
    r"""Returns the text with every character that is not printable as an escape such as \x1b; line breaks stay.

    That is control characters, with which a terminal can be steered, and invisible ones, such as those that turn the
    direction of writing.
    """
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def plural(number: int, noun: str) -> str:
    """Returns a number with its noun: "1 run", "2,000 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
