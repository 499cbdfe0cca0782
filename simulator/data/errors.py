"""The one error of this package."""

from simulator.host.errors import SettingError


class DataError(SettingError):
    """The experiment's data cannot be built as written."""
