"""Importing this module does what :func:`tests.helpers.forked.import_all` does."""

from __future__ import annotations

from tests.helpers.forked import import_all

import_all()
