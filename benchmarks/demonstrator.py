"""The scripted demonstrator against a uniformly random policy: same seeds, same step cap.

python benchmarks/demonstrator.py [--games 20] [--max-steps 5000] [--seed 0]

Score is the last in-game score of a game, which is also the sum of its rewards; the interval of its
mean is a bootstrap over games. Milliseconds are of wall time, game included. Uniform keys mostly
hang in prompts and score next to nothing, so the ratio divides by at least one point, and a random
walker that closes prompts is the harder baseline. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics

from rich.console import Console
from rich.table import Table

from agent_scaling.playing.demonstrators.games.nethack import PLAYERS
from agent_scaling.playing.demonstrators.reference import play_reference
from agent_scaling.playing.rollouts.tables import describe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", type=int, default=20)
    parser.add_argument("--max-steps", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.games)
    table = Table(title=f"{args.games} games of at most {args.max_steps:,} steps")
    columns = ("player", "mean score", "90 % interval", "median", "max", "depth", "ms/step")
    for name in columns:
        table.add_column(name, justify="left" if name == "player" else "right")
    means, intervals = {}, {}
    for player in PLAYERS:
        records = play_reference(player, seeds, max_steps=args.max_steps)
        values = [r.score for r in records]
        means[player] = statistics.fmean(values)
        intervals[player] = describe(values)["interval"]
        took = 1000 * sum(r.seconds for r in records) / sum(r.env_steps for r in records)
        table.add_row(
            player,
            f"{means[player]:,.1f}",
            " … ".join(f"{end:,.1f}" for end in intervals[player] or ()),
            f"{statistics.median(values):,.1f}",
            f"{max(values):,}",
            f"{statistics.fmean(r.details['deepest level'] for r in records):.1f}",
            f"{took:.2f}",
        )
    Console().print(table)
    result = {
        "mean_score": means["demonstrator"],
        "interval": intervals["demonstrator"],
        "random_mean_score": means["random"],
        "ratio": means["demonstrator"] / max(1.0, means["random"]),
        "walker_mean_score": means["random walker"],
        "walker_ratio": means["demonstrator"] / max(1.0, means["random walker"]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
