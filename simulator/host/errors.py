"""Error of a setting that cannot be had, whatever part of the program finds that out."""


class SettingError(ValueError):
    """A setting that cannot be had.

    Attributes:
      key: its dotted path in the experiment file, such as `data.files`, or the name of a variable of the environment.
      value: as it is written there, or its meaning.
      message: the mistake and the remedy.
    """

    def __init__(self, key: str, value: object, message: str):
        super().__init__(key, value, message)
        self.key, self.value, self.message = key, value, message

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {self.value!r}"
        return f"{self.key}{shown}: {self.message}" if self.key else self.message
