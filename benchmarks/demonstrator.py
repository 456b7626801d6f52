"""The scripted NetHack players against random ones: same seeds, same step cap.

python benchmarks/demonstrator.py [--games 20] [--max-steps 5000] [--seed 0] [--players NAME …]

Score is the last in-game score of a game, which is also the sum of its rewards; the interval of its
mean is a bootstrap over games. Milliseconds are of wall time, game included. Uniform keys mostly
hang in prompts and score next to nothing, so the ratio divides by at least one point, and a random
walker that closes prompts is the harder baseline. The last line is one JSON object: for the first
of the players its mean, interval and milliseconds, and its ratios to the random ones that played.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from agent_scaling.playing.demonstrators.games.nethack import PLAYERS
from agent_scaling.playing.demonstrators.reference import play_reference
from agent_scaling.playing.rollouts.tables import describe

BASELINES = {"random": "", "random walker": "walker_"}
"""Random player → how the keys of its numbers begin."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", type=int, default=20)
    parser.add_argument("--max-steps", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--players", nargs="+", choices=list(PLAYERS), default=list(PLAYERS))
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.games)
    table = Table(title=f"{args.games} games of at most {args.max_steps:,} steps")
    columns = ("player", "mean score", "90 % interval", "median", "max", "depth", "ms/step")
    for name in columns:
        table.add_column(name, justify="left" if name == "player" else "right")
    found: dict[str, dict[str, Any]] = {}
    for player in args.players:
        records = play_reference(player, seeds, max_steps=args.max_steps)
        values = [r.score for r in records]
        took = 1000 * sum(r.seconds for r in records) / sum(r.env_steps for r in records)
        one = {
            "mean_score": statistics.fmean(values),
            "interval": describe(values)["interval"],
            "ms_per_step": took,
        }
        found[player] = one
        table.add_row(
            player,
            f"{one['mean_score']:,.1f}",
            " … ".join(f"{end:,.1f}" for end in one["interval"] or ()),
            f"{statistics.median(values):,.1f}",
            f"{max(values):,}",
            f"{statistics.fmean(r.details['deepest level'] for r in records):.1f}",
            f"{took:.2f}",
        )
    Console().print(table)
    chosen = args.players[0]
    result = {"player": chosen, **found[chosen]}
    for name, prefix in BASELINES.items():
        if name in found:
            mean = found[name]["mean_score"]
            result[f"{prefix or 'random_'}mean_score"] = mean
            result[f"{prefix}ratio"] = result["mean_score"] / max(1.0, mean)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
