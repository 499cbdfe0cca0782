"""Where prepared data are kept."""

import os
from pathlib import Path

from simulator.data.errors import DataError


def cache_folder() -> Path:
    """Returns where prepared data are kept: $TARDIGRAD_CACHE, or `tardigrad` in the user's cache folder.

    Raises:
        DataError: The user has no home folder, and none is chosen.
    """
    chosen = os.environ.get("TARDIGRAD_CACHE")
    users = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "tardigrad")
    found = os.path.expanduser(chosen or users)
    if found.startswith("~"):
        raise DataError("TARDIGRAD_CACHE", chosen or "", "there is no such home folder: set it to a folder of your own")
    return Path(found).absolute()
