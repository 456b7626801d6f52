"""Opens shards' storage: a folder, or a URL with its cache and its retries."""

from __future__ import annotations

from pathlib import Path

from agent_scaling.data.shards.storage import CACHE_DIR, CACHE_GB, PATIENCE_MINUTES, Folder, Storage
from agent_scaling.runtime.files import is_url, local_path


def open_storage(
    location: str | Path,
    cache_dir: str | Path = CACHE_DIR,
    cache_gb: float = CACHE_GB,
    patience_minutes: float = PATIENCE_MINUTES,
) -> Storage:
    """The shards at a path or URL; raises :class:`InputError` for a URL that nothing can read.

    Args:
        location: A folder, or a URL of any kind that fsspec has a file system for.
        cache_dir: Folder for what was read from URLs; processes and sets of shards can share it.
        cache_gb: Bound of its size, 10^9 bytes.
        patience_minutes: How long a URL that does not answer is asked again.
    """
    if not is_url(location):
        return Folder(local_path(location))
    # Not needed for folders, and it takes a third of a second to import.
    from agent_scaling.data.shards.cache import Cache
    from agent_scaling.data.shards.remote import Remote

    cache = Cache(Path(cache_dir).expanduser(), int(cache_gb * 1e9))
    return Remote(str(location), cache, patience=60 * patience_minutes)
