"""Every room of the package stays small enough to be seen at a glance."""

from __future__ import annotations

from pathlib import Path

import agent_scaling

MOST = 12
UNCOUNTED = ("__init__.py", "__pycache__", "py.typed")


def test_no_room_has_more_than_a_dozen_entries() -> None:
    top = Path(agent_scaling.__file__).parent
    rooms = [top, *(path for path in top.iterdir() if (path / "__init__.py").exists())]
    entries = {
        room.name: sorted(path.name for path in room.iterdir() if path.name not in UNCOUNTED)
        for room in rooms
    }
    assert len(rooms) > MOST // 2
    assert {name: found for name, found in entries.items() if len(found) > MOST} == {}
