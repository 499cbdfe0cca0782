"""The one error of this package."""


class DataError(ValueError):
    """The experiment's data cannot be built as written.

    Attributes:
        key: dotted key of the experiment file, such as `data.files`.
        value: what is written there, or what it stands for.
        message: what is wrong, and what would be right.
    """

    def __init__(self, key: str, value: object, message: str) -> None:
        super().__init__(key, value, message)
        self.key = key
        self.value = value
        self.message = message

    def __str__(self) -> str:
        return f"{self.key} = {self.value!r}: {self.message}"
