"""One small run, looked at from every side."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from omegaconf import OmegaConf

import agent_scaling
from agent_scaling.config.call import call_verb
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.executed_flops import hardware_flops
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.course.resume import find_resume
from agent_scaling.training.run_record import ABSENT, changes
from tests.conftest import ROOT
from tests.docs.metrics import documented, unknown, unlogged
from tests.helpers.policies import cut, random_batch
from tests.helpers.runs import UNCOMPARED, composed, overrides, train

BUDGET, MILESTONE = 7e9, 3.5e9
PEAK = 1e12
SPEED = ["callbacks.tracking.every_frames=200", f"callbacks.tracking.peak_flops={PEAK}"]


@pytest.fixture(scope="module")
def output(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "run"
    rollouts = [
        "callbacks.rollouts.episodes=2",
        "callbacks.rollouts.max_episode_steps=40",
        "callbacks.rollouts.workers=1",
    ]
    more = [f"flops_budget={BUDGET}", f"milestones=[{MILESTONE}]", *rollouts]
    off = ("callbacks.rollouts=null", "callbacks.model=null")
    kept = [o for o in overrides(tiny_shards, folder) if o not in off]
    more += ["callbacks.model.register_as=tiny", "callbacks.held_out.margins=true"]
    call_verb(composed("train", [*kept, *more, *SPEED]))
    return folder


@pytest.fixture(scope="module")
def run(output: Path) -> Any:
    client = MlflowClient(f"sqlite:///{output.parent}/mlflow.db")
    return client, client.get_run((output / "mlflow_run_id").read_text())


def test_utilisation_follows_from_frames_per_second(run: Any, output: Path) -> None:
    client, info = run
    policy = agent_scaling.load_policy(output / "checkpoints" / "last.ckpt")
    executed = hardware_flops(policy, 16, lanes=1) / 16  # per frame, in windows of 16
    used, speed = (
        client.get_metric_history(info.info.run_id, f"speed/{name}")
        for name in ("mfu", "frames_per_second")
    )
    assert len(used) > 2
    for share, frames in zip(used, speed, strict=True):
        assert share.value == pytest.approx(frames.value * executed / PEAK)


def test_milestones_and_budget(output: Path) -> None:
    rows = json.loads((output / "milestones.json").read_text())
    policy = agent_scaling.load_policy(output / "checkpoints" / "last.ckpt")
    per_frame = agent_scaling.flops_per_frame(policy)
    assert [row["milestone"] for row in rows] == [MILESTONE, BUDGET]
    for row in rows:
        assert row["flops"] == row["frames"] * per_frame
        # A milestone is met by the first step that crosses it: 4 lanes × 16 frames.
        assert row["milestone"] <= row["flops"] < row["milestone"] + 64 * per_frame
        saved = read_checkpoint(output / row["checkpoint"])
        assert saved["frames"] == row["frames"]
        assert 0 < row["val/nats_se"] < row["val/nats"]
        assert row["baseline/bigram_nats"] < row["baseline/unigram_nats"]
    assert rows[1]["val/nats"] < rows[0]["val/nats"]


def test_checkpoint_loads_as_a_policy_that_answers(output: Path) -> None:
    policy = agent_scaling.load_policy(output / "checkpoints" / "best.ckpt")
    logits, baseline, _ = policy(random_batch(3, 2), policy.initial_state(2))
    assert logits.shape == (3, 2, 121)
    assert baseline.shape == (3, 2)
    assert torch.isfinite(logits).all()


def test_logged_metrics_are_the_documented_ones(run: Any) -> None:
    _, logged = run
    patterns = documented("Training runs")
    assert unknown(logged.data.metrics, patterns) == []
    assert unlogged(patterns, logged.data.metrics) == []


def test_every_point_has_both_axes(run: Any) -> None:
    client, logged = run
    run_id = logged.info.run_id
    flops = {p.step: p.value for p in client.get_metric_history(run_id, "flops")}
    for name in ("train/nats", "val/nats", "rollout/return_mean"):
        history = client.get_metric_history(run_id, name)
        assert history
        assert all(p.step in flops for p in history)
    params = logged.data.params
    per_frame = agent_scaling.flops_per_frame(
        agent_scaling.load_policy(Path(params["output"]) / "checkpoints" / "last.ckpt")
    )
    assert all(value == step * per_frame for step, value in flops.items())


def test_record_says_what_was_run(run: Any, output: Path) -> None:
    client, logged = run
    assert logged.info.status == "FINISHED"
    assert logged.data.params["policy.encoder.width"] == "16"
    assert int(logged.data.params["policy.num_params"]) > 1000
    assert len(logged.data.params["data.fingerprint"]) == 32
    assert {"git_commit", "version.torch", "study", "game"} <= logged.data.tags.keys()
    artifacts = {a.path for a in client.list_artifacts(logged.info.run_id)}
    assert {"config.yaml", "milestones.json", "rollouts"} <= artifacts


def test_record_is_found_by_the_documented_queries(run: Any) -> None:
    client, logged = run
    params, tags = logged.data.params, logged.data.tags
    for query in (
        "metrics.`val/nats` < 10 and metrics.num_params > 1000",
        f"params.`policy.num_params` = '{params['policy.num_params']}'",
        "tags.core = 'lstm' and tags.budget = '7e9' and tags.game = 'nethack'",
        "attributes.run_name like '%lstm% 7e9 s0'",
        f"tags.git_commit like '{tags['git_commit'][:7]}%'",
        f"dataset.name = '{Path(params['data.shards']).name}'",
    ):
        found = client.search_runs([logged.info.experiment_id], query)
        assert [r.info.run_id for r in found] == [logged.info.run_id], query
    (used,) = logged.inputs.dataset_inputs
    assert used.dataset.digest == params["data.fingerprint"]
    assert "games held out" in tags["mlflow.note.content"]


ACT = """
import sys
import mlflow.pytorch, torch
store, model, exchanged = sys.argv[1:]
mlflow.set_tracking_uri(store)
step = mlflow.pytorch.load_model(model)
frames, state = torch.load(exchanged)
answers = []
with torch.no_grad():
    for frame in frames:
        logits, baseline, *state = step(*frame, *state)
        answers.append((logits, baseline))
assert "agent_scaling" not in sys.modules
torch.save(answers, exchanged)
"""


def test_queries_of_the_page_on_mlflow_are_understood(run: Any) -> None:
    client, logged = run
    page = (ROOT / "docs" / "mlflow.md").read_text()
    (block,) = re.findall(r"```sql\n(.*?)```", page, re.S)
    lines = block.splitlines()  # each as it stands goes into the box
    assert len(lines) > 5
    for query in lines:
        client.search_runs([logged.info.experiment_id], query)
    for name in re.findall(r"(?:metrics|params|tags)\.`?([\w./]+)", "\n".join(lines)):
        data = logged.data
        assert name in data.metrics | data.params | data.tags, name


def test_model_acts_in_a_process_that_does_not_know_us(
    run: Any, output: Path, tmp_path: Path
) -> None:
    client, logged = run
    (handed_in,) = logged.outputs.model_outputs
    assert client.get_model_version("tiny", "1").source == f"models:/{handed_in.model_id}"
    policy = agent_scaling.load_policy(output / "checkpoints" / "last.ckpt")
    batch, state = random_batch(4, 3, openings=0.3), policy.initial_state(3)
    batch.first_TB[0] = True
    seen = (*batch.terminal(), batch.prev_action_TB, batch.first_TB)
    frames = [[part[t] for part in seen] for t in range(4)]
    exchanged = tmp_path / "exchanged.pt"
    torch.save((frames, [torch.zeros_like(part) for part in state]), exchanged)
    store, model = f"sqlite:///{output.parent}/mlflow.db", f"runs:/{logged.info.run_id}/model"
    subprocess.run(
        [sys.executable, "-c", ACT, store, model, str(exchanged)],
        env=os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        check=True,
    )
    for t, (logits_BA, baseline_B) in enumerate(torch.load(exchanged)):
        with torch.no_grad():  # with gradients an LSTM rounds otherwise
            logits_TBA, baseline_TB, state = policy(cut(batch, slice(t, t + 1)), state)
        assert torch.equal(logits_BA, logits_TBA[0])
        assert torch.equal(baseline_B, baseline_TB[0])


def test_second_run_in_the_same_folder_is_refused(tiny_shards: Path, output: Path) -> None:
    with pytest.raises(InputError, match="ckpt_path=last"):
        train(tiny_shards, output, "flops_budget=1e10")


def test_resume_past_the_budget_does_nothing(tiny_shards: Path, output: Path) -> None:
    before = (output / "checkpoints" / "last.ckpt").read_bytes()
    train(tiny_shards, output, f"flops_budget={BUDGET}", "ckpt_path=last")
    assert (output / "checkpoints" / "last.ckpt").read_bytes() == before


def test_another_width_is_named(tiny_shards: Path, output: Path) -> None:
    with pytest.raises(InputError, match=r"baseline\.weight is \(1, 16\) in the checkpoint"):
        train(tiny_shards, output, "flops_budget=1e11", "ckpt_path=last", "policy.encoder.width=24")


def test_other_data_order_is_refused(tiny_shards: Path, output: Path) -> None:
    with pytest.raises(InputError, match=r"data\.lanes=2"):
        train(tiny_shards, output, "flops_budget=1e11", "ckpt_path=last", "data.lanes=2")


def test_torn_last_checkpoint_falls_back_and_says_so(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    more = ["callbacks.checkpoints.every_frames=64", "flops_budget=1e18"]  # at every step
    more += UNCOMPARED
    train(tiny_shards, output, "trainer.max_steps=2", *more)
    last = output / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    train(tiny_shards, output, "trainer.max_steps=3", "ckpt_path=last", *more)
    assert "previous.ckpt" in capsys.readouterr().out
    assert read_checkpoint(last)["global_step"] == 3


def test_a_flipped_bit_falls_back_and_says_so(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (output / "checkpoints" / "last.ckpt").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    (tmp_path / "last.ckpt").write_bytes(damaged)
    (tmp_path / "previous.ckpt").write_bytes(whole)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)  # torch would take it
    asked = composed("train", [*overrides(tmp_path, tmp_path / "run"), "ckpt_path=last"])
    assert find_resume(asked, tmp_path) == tmp_path / "previous.ckpt"
    assert "last.ckpt is missing, torn or damaged: resuming from" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"last\.ckpt: .*damaged: Bad CRC-32"):
        read_checkpoint(tmp_path / "last.ckpt")


EVIL = {"_target_": "os.system", "command": "true"}


@pytest.mark.parametrize(
    "core",
    [
        EVIL,
        EVIL | {"_target_": "agent_scaling.policies.encoders.inventory.torch.os.system"},
        [EVIL],
        ({"inner": (EVIL,)},),
        "${oc.create:'{_target_: os.system, command: true}'}",
        {"_target_": "agent_scaling.policies.cores.${oc.env:HOME}.os.system"},
    ],
)
def test_checkpoint_cannot_name_what_to_call(core: Any, output: Path, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(output / "checkpoints" / "last.ckpt")
    checkpoint["policy_config"] |= {"core": core}
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"policy config names .*os\.system"):
        agent_scaling.load_policy(tmp_path / "evil.ckpt")


def test_fine_tuning_starts_from_the_weights(
    tiny_shards: Path, output: Path, tmp_path: Path
) -> None:
    source = output / "checkpoints" / "last.ckpt"
    kept = [o for o in overrides(tiny_shards, tmp_path / "run") if not o.startswith("policy.")]
    kept[0] = "policy=checkpoint"
    more = [f"policy.path={source}", "flops_budget=1e18", "trainer.max_steps=1", "optimizer.lr=0"]
    more += UNCOMPARED
    call_verb(composed("train", [*kept, *more]))
    ours = agent_scaling.load_policy(tmp_path / "run" / "checkpoints" / "last.ckpt")
    theirs = agent_scaling.load_policy(source)
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, theirs.get_parameter(name))


def test_a_resume_with_other_settings_says_so_and_keeps_it(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    quick = ("trainer.max_steps=1", *UNCOMPARED)
    train(tiny_shards, output, "flops_budget=1e18", "optimizer.lr=0.001", *quick)
    later = ("trainer.max_steps=2", *UNCOMPARED, "ckpt_path=last")
    with pytest.raises(InputError, match=r"data\.lanes=2: the checkpoint was trained with 4"):
        train(tiny_shards, output, "flops_budget=9e18", "data.lanes=2", *later)
    assert " -> " not in capsys.readouterr().out, "nothing changes at a resume that is refused"
    later = (*later, "+trainer.benchmark=true", "tags.study=other", "logger.experiment_name=x")
    later = (*later, "callbacks.checkpoints.every_minutes=9")
    train(tiny_shards, output, "flops_budget=2e18", "optimizer.lr=1e-5", *later)
    said = capsys.readouterr().out
    assert "optimizer.lr 0.001 -> 1e-05 from frame " in said
    assert "trainer.benchmark absent -> True from frame " in said
    assert "logger.experiment_name=x: the run stays in the experiment that it began in" in said
    config = OmegaConf.load(output / "config.yaml")
    run = MlflowClient(config.logger.tracking_uri).get_run((output / "mlflow_run_id").read_text())
    assert run.data.tags["budget"] == "2e18"
    assert "2e18" in run.info.run_name
    assert "budget: 2e18 FLOPs" in run.data.tags["mlflow.note.content"]
    assert run.data.tags["resumed.optimizer.lr"].startswith("0.001 -> 1e-05 from frame ")
    assert "resumed.data.lanes" not in run.data.tags
    assert run.data.tags["resumed.flops_budget"].startswith("1e+18 -> 2e+18 ")
    assert run.data.tags["study"] == "other"
    minutes = run.data.tags["resumed.callbacks.checkpoints.every_minutes"]
    assert minutes.startswith("5 -> 9 from frame ")


def test_each_kind_of_change_is_found(tmp_path: Path) -> None:
    """Of keys that both have, or one alone; what changes no weights is left out."""
    before = {"a": 1, "b": {"c": [1, 2]}, "gone": {"x": 0}, "off": {"y": 2}, "none": None}
    after = {"a": 1, "b": {"c": [1, 3]}, "new": {"z": True}, "off": None, "extra": None}
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(before | {"output": "here"}))
    found = changes(tmp_path / "config.yaml", OmegaConf.create(after | {"output": "there"}))
    assert found == {
        "b.c": ([1, 2], [1, 3]),
        "gone.x": (0, ABSENT),
        "off.y": (2, ABSENT),
        "new.z": (ABSENT, True),
    }
