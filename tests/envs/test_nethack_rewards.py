"""NetHack's rewards: what the in-game score has gained, and nothing for its fall at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent_scaling.envs.nethack import NetHack

PRESSED = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 19, 75]  # walk, descend, search


@pytest.mark.parametrize("options", [{"max_episode_steps": 300}, {"idle_steps": 30}], ids=str)
def test_rewards_add_up_to_the_return(options: dict[str, Any]) -> None:
    views = {n: np.zeros(shape, dtype) for n, (shape, dtype) in NetHack.observations.items()}
    game, rng, earned = NetHack(views, **options), np.random.default_rng(0), 0
    for seed in range(4):
        game.reset(seed)
        assert views["reward"][0] == 0
        total, record = 0.0, None
        while record is None:
            record = game.step(int(rng.choice(PRESSED)))
            total += float(views["reward"][0])
        assert total == record["return"]
        earned += total > 0
    game.close()
    assert earned > 0
