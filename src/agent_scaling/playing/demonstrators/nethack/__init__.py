"""Scripted NetHack players that read NLE observations and press NetHackChallenge's keys."""

from agent_scaling.playing.demonstrators.nethack.expert import NetHackExpert
from agent_scaling.playing.demonstrators.nethack.player import NetHackDemonstrator
from agent_scaling.playing.demonstrators.nethack.view import KEYS, Observation

__all__ = ["KEYS", "NetHackDemonstrator", "NetHackExpert", "Observation"]
