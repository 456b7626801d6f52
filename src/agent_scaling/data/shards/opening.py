"""Opens the storage of shards: a folder, or a URL with a cache and retries."""

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
    """Open the shards at a path or URL; raises :class:`InputError` for an unsupported URL.

    Args:
        location: A folder, or a URL of any scheme that fsspec supports.
        cache_dir: Cache folder of downloads; processes and sets of shards can share it.
        cache_gb: Bound of the cache's size, in 10^9 bytes.
        patience_minutes: Minutes for which an unreachable URL is retried.
    """
    if not is_url(location):
        return Folder(local_path(location))
    # Imported here, because it takes a third of a second and folders do not need it.
    from agent_scaling.data.shards.cache import Cache
    from agent_scaling.data.shards.remote import Remote

    cache = Cache(Path(cache_dir).expanduser(), int(cache_gb * 1e9))
    return Remote(str(location), cache, patience=60 * patience_minutes)
