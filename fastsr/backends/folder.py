"""Where FastSR keeps what it need not find out twice: engines, block sizes, trials."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return FASTSR_CACHE, or "fastsr" in the user's folder for caches. It may not exist yet."""
    if os.environ.get("FASTSR_CACHE"):
        return Path(os.environ["FASTSR_CACHE"]).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser()
    return base / "fastsr"
