"""A scripted NetHack player that reads NLE observations and presses NetHackChallenge's keys."""

from agent_scaling.playing.demonstrators.nethack.player import NetHackDemonstrator
from agent_scaling.playing.demonstrators.nethack.view import KEYS, Observation

__all__ = ["KEYS", "NetHackDemonstrator", "Observation"]
