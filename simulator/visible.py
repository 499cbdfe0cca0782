"""Names come from files of others: before they are shown, what could steer a terminal or hide text is written out."""


def visible(text: str) -> str:
    r"""Returns the text with every character that is not printable as an escape such as \x1b; line breaks stay.

    That is control characters, with which a terminal can be steered, and invisible ones, such as those that turn the
    direction of writing.
    """
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
