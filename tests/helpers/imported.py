"""Importing this module does what :func:`tests.helpers.forked.import_all` does, unless this process
was forked from one that has."""

from __future__ import annotations

import os

from tests.helpers.forked import FOLDER, import_all

if FOLDER not in os.environ:
    import_all()
