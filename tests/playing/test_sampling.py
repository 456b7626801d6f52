import numpy as np
import pytest

from agent_scaling.playing.sampling import Noise, Sampling, uniforms
from agent_scaling.runtime.errors import InputError

LOGITS = np.random.default_rng(0).normal(0, 2, (50, 121)).astype(np.float32)


def by_the_book(logits, sampling):
    """One row at a time, in plain Python."""
    rows = []
    for row in logits.astype(float):
        weights = np.exp(row / sampling.temperature)
        ranked = sorted(range(len(row)), key=lambda a: (-weights[a], a))
        kept = ranked
        if sampling.method == "argmax":
            kept = ranked[:1]
        if sampling.method == "top_k":
            kept = ranked[: sampling.top_k]
        if sampling.method == "top_p":
            kept, mass = [], 0.0
            for action in ranked:
                if mass >= sampling.top_p:
                    break
                kept.append(action)
                mass += weights[action] / weights.sum()
        total = sum(weights[action] for action in kept)
        rows.append([weights[a] / total if a in kept else 0.0 for a in range(len(row))])
    return np.array(rows)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.3),
        Sampling("argmax"),
        Sampling("top_k", top_k=1),
        Sampling("top_k", temperature=2.0, top_k=7),
        Sampling("top_k", top_k=500),
        Sampling("top_p", top_p=0.6),
        Sampling("top_p", top_p=1.0),
        Sampling("top_p", top_p=1e-9),
    ],
)
def test_probabilities_equal_the_obvious_version(sampling):
    probs = sampling.probabilities(LOGITS)
    np.testing.assert_allclose(probs, by_the_book(LOGITS, sampling), atol=1e-12)


def test_draws_follow_the_probabilities():
    probs = Sampling("top_k", top_k=4).probabilities(LOGITS[:1])
    drawn = Sampling().draw(probs.repeat(20_000, axis=0), uniforms(0, 1, 0, 20_000))
    shares = np.bincount(drawn, minlength=121) / 20_000
    np.testing.assert_allclose(shares, probs[0], atol=0.02)
    assert set(np.flatnonzero(shares)) <= set(np.flatnonzero(probs[0]))


def test_the_ends_of_the_unit_interval_draw_possible_actions():
    probs = np.array([[0.0, 0.5, 0.5, 0.0]] * 3)
    drawn = Sampling().draw(probs, np.array([0.0, 0.5, np.nextafter(1.0, 0.0)]))
    assert drawn.tolist() == [1, 2, 2]


def test_noise_is_a_function_of_seeds_and_step():
    expected = {seed: uniforms(7, seed, 0, 700) for seed in (3, 4)}
    noise = Noise(lanes=5, sampling_seed=7)
    lanes, episodes = np.array([4, 1]), np.array([3, 4])
    for step in range(700):
        here = np.array([step, step])
        if step >= 100:  # lane 1 begins its episode again
            here[1] = step - 100
        taken = noise.take(lanes, episodes, here)
        assert taken.tolist() == [expected[3][here[0]], expected[4][here[1]]]
    assert (uniforms(7, 3, 256, 10) == expected[3][256:266]).all()
    assert (uniforms(8, 3, 0, 10) != expected[3][:10]).all()


@pytest.mark.parametrize(
    "values",
    [
        {"method": "greedy"},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"method": "top_k", "top_k": 0},
        {"method": "top_p", "top_p": 0.0},
        {"top_p": 1.5},
    ],
)
def test_values_out_of_range_are_refused(values):
    with pytest.raises(InputError):
        Sampling(**values)
