"""The target ``csv``: a table of somebody's runs, as ``fit`` reads it."""

from __future__ import annotations

import zlib
from pathlib import Path

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.runs.table import as_rows, read_csv, tidy
from tests.fuzz.mutations import mutate_csv
from tests.fuzz.target import Target

TABLES = [
    b"run,params,flops,samples,loss\na,1e3,1e12,9,1.5\nb,2e3,1e12,9,1.4\nc,1e3,1e13,9,1.3\n",
    b"game,params,budget,return_mean,return_se,rollouts,seed,status\n"
    b"x,1e3,1e12,5,1,30,0,FINISHED\nx,2e3,1e12,7,1,30,1,FINISHED\nx,1e3,1e13,9,,30,0,FAILED\n",
    b"experiment,params,flops,tokens,value\na,1,2,3,4\nb,1,2,3,4\n",
]

TIDIED = 64
"""One input of so many is also averaged into cells, which takes ten times as long as to read it."""


def csv_target(scratch: Path) -> Target:
    """Any CSV, read as ``fit`` reads it: its rows, and of some its cells with their flags."""
    path = scratch / "any.csv"

    def read_table(data: bytes) -> None:
        path.write_bytes(data)
        table, origin = read_csv(str(path)), f"path={path}"
        if zlib.crc32(data) % TIDIED:
            as_rows(table, origin)
        else:
            tidy(table, origin)

    return Target(TABLES[:2], read_table, (InputError,), mutate_csv)
