"""Every pair of data and module, with the default callbacks, trains or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_scaling.config.call import call_verb
from agent_scaling.runtime.errors import InputError
from tests.helpers.inverse_runs import INVERSE
from tests.helpers.runs import composed
from tests.helpers.stores import new_store

GAME = "agent_scaling.envs.nethack:NetHack"
STEPS = 20
SMALL = [
    "threads=1",
    "policy.encoder.width=8",
    "policy.encoder.message_width=0",
    "policy.encoder.status_width=8",
    "policy.encoder.map_width=8",
    "policy.encoder.blocks=1",
    "policy.encoder.residual_blocks=0",
    "callbacks.rollouts.episodes=2",
    "callbacks.rollouts.max_episode_steps=10",
    "callbacks.rollouts.workers=1",
    "callbacks.reference_players.players=[random]",
    "trainer.max_steps=1",
    "flops_budget=1e18",
]
PLAYED = ["lanes=2", "unroll_length=4", "workers=1", "asynchronous=false", "groups=1"]
DATA = {
    "shards": ["data=shards", "data.lanes=2", "data.unroll_length=8", "data.val_frames=100"],
    "actors": [
        "data=actors",
        f"data.game={GAME}",
        f"+data.options.max_episode_steps={STEPS}",
        *(f"data.{text}" for text in PLAYED),
    ],
    "mixed": [
        "data=mixed",
        f"data.unrolls.game={GAME}",
        f"+data.unrolls.options.max_episode_steps={STEPS}",
        *(f"data.unrolls.{text}" for text in PLAYED),
        "data.demonstrations.lanes=2",
        "data.demonstrations.unroll_length=8",
        "data.demonstrations.val_frames=100",
    ],
}
MODULES = {
    "bc": ["module=bc"],
    "inverse": [*INVERSE[:5], "callbacks.rollouts=null", "callbacks.reference_players=null"],
    "impala": ["module=impala"],
}
TRAINS = {("shards", "bc"), ("shards", "inverse"), ("actors", "impala"), ("mixed", "impala")}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("module", MODULES)
def test_a_pair_trains_or_is_refused_before_anything_starts(
    data: str, module: str, tiny_shards: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    overrides = [*SMALL, *DATA[data], *MODULES[module], f"output={output}"]
    overrides += [
        f"logger.tracking_uri={new_store(tmp_path / 'mlflow.db')}",
        f"logger.artifact_location={tmp_path}/artifacts",
    ]
    if data == "shards":
        overrides.append(f"data.shards={tiny_shards}")
    if data == "mixed":
        overrides.append(f"data.demonstrations.shards={tiny_shards}")
    if module == "inverse":
        if data == "shards":
            overrides.append("data.lookahead=2")
        overrides = [text for text in overrides if not text.startswith("callbacks.rollouts.")]
        overrides = [text for text in overrides if "reference_players.players" not in text]
    if (data, module) in TRAINS:
        call_verb(composed("train", overrides))
        assert (output / "checkpoints" / "last.ckpt").exists()
        assert (output / "milestones.json").exists()
        return
    with pytest.raises(InputError) as refused:
        call_verb(composed("train", overrides))
    assert "\n" not in str(refused.value)
    assert not (output / "checkpoints").exists()
    assert not (output / "mlflow_run_id").exists()
