"""Where prepared data are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Returns where prepared data are kept: $TARDIGRAD_CACHE, or `tardigrad` in the user's cache folder."""
    chosen = os.environ.get("TARDIGRAD_CACHE")
    users = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "tardigrad")
    return Path(os.path.expanduser(chosen or users)).absolute()
