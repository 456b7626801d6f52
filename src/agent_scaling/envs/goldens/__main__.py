"""Plays the golden games: ``python -m agent_scaling.envs.goldens``."""

import sys

from agent_scaling.envs.goldens import main

sys.exit(main(sys.argv[1:]))
