"""Extensions' configs on Hydra's search path, behind this package's own."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from agent_scaling.config.extensions import config_packages


class ExtensionsSearchPath(SearchPathPlugin):
    """Appends ``pkg://package.conf`` of each installed extension."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the extensions' configs; Hydra calls this hook."""
        for package in config_packages():
            search_path.append(package, f"pkg://{package}")


def register() -> None:
    """Register the plugin with Hydra in this process."""
    Plugins.instance().register(ExtensionsSearchPath)
