"""The cache folder, for data that are prepared once."""

import os
from pathlib import Path

from simulator.host.errors import SettingError


def cache_folder() -> Path:
    """Returns the folder of prepared data: $TARDIGRAD_CACHE, or `tardigrad` in the user's cache folder.

    Raises:
        SettingError: The user has no home folder, and none is chosen.
    """
    chosen = os.environ.get("TARDIGRAD_CACHE")
    users = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "tardigrad")
    found = os.path.expanduser(chosen or users)
    if found.startswith("~"):
        message = "there is no such home folder: set it to a folder of your own"
        raise SettingError("TARDIGRAD_CACHE", chosen or "", message)
    return Path(found).absolute()
