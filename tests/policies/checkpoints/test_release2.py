"""Parity with the second release of the paper's authors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from agent_scaling import load_policy
from agent_scaling.data.batch import Batch
from agent_scaling.policies.checkpoints.published import import_checkpoint, import_policy
from agent_scaling.policies.checkpoints.release2 import JOINED, LAYER, RENAMED, new_name
from agent_scaling.policies.cores.mamba1 import Mamba1Core
from agent_scaling.policies.policy import Policy
from agent_scaling.policies.sizes import make_policy, num_params
from agent_scaling.runtime.errors import InputError
from tests.helpers.policies import cut, random_batch
from tests.helpers.runs import composed
from tests.policies.checkpoints.test_published import batch_of

FIXTURES = {"mamba": "v2_mamba_a", "llama": "v2_llama_c"}
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module", params=FIXTURES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(kind: str, reference: Path) -> Path:
    return reference / "reference" / "release2" / f"{FIXTURES[kind]}.tar"


@pytest.fixture(scope="module")
def io(checkpoint: Path) -> Arrays:
    with np.load(checkpoint.with_name(f"{checkpoint.stem}_io.npz")) as file:
        return dict(file)


@pytest.fixture(scope="module")
def batch(io: Arrays) -> Batch:
    found = batch_of(io)
    found.inv_glyphs_TBI = torch.from_numpy(io["inv_glyphs"])
    return found


def window(policy: Policy, batch: Batch) -> tuple[Tensor, Any]:
    with torch.no_grad():
        logits, baseline, state = policy(batch, policy.initial_state(batch.lanes))
    assert not baseline.any()
    return logits, state


def steps(policy: Policy, batch: Batch) -> tuple[Tensor, Any]:
    """Frame by frame, as in a rollout."""
    state, found = policy.initial_state(batch.lanes), []
    with torch.no_grad():
        for t in range(batch.steps):
            logits, _, state = policy(cut(batch, slice(t, t + 1)), state)
            found.append(logits)
    return torch.cat(found), state


def test_a_window_as_the_release_computes_it(checkpoint: Path, io: Arrays, batch: Batch) -> None:
    policy = import_policy(checkpoint, as_released=True)
    assert_close(window(policy, batch)[0], tensor(io, "logits_parallel"), atol=1e-3, rtol=0)
    if "logits_parallel_f64" in io:
        expected = tensor(io, "logits_parallel_f64")
        assert_close(window(policy.double(), batch)[0], expected, atol=1e-9, rtol=0)


def test_a_window_that_resets_where_games_open(checkpoint: Path, io: Arrays, batch: Batch) -> None:
    logits, _ = window(import_policy(checkpoint), batch)
    assert_close(logits, tensor(io, "logits_parallel_reset"), atol=1e-3, rtol=0)


def test_steps_as_the_release_takes_them(
    kind: str, checkpoint: Path, io: Arrays, batch: Batch
) -> None:
    """The fixture has one cache for the whole window; the transformer's rollout has none."""
    policy = import_policy(checkpoint, as_released=True)
    whole = Batch(**{f: getattr(batch, f) for f in batch.__slots__})
    whole.first_TB = torch.zeros_like(batch.first_TB)
    logits, state = steps(policy, whole)
    assert_close(logits, tensor(io, "logits_step"), atol=1e-3, rtol=0)
    if kind == "mamba":
        compare_state(state, io, "final_state")


def test_steps_that_reset_where_games_open(
    kind: str, checkpoint: Path, io: Arrays, batch: Batch
) -> None:
    """Our transformer has a cache: its steps equal the window."""
    logits, state = steps(import_policy(checkpoint), batch)
    name = "logits_step_reset" if kind == "mamba" else "logits_parallel_reset"
    assert_close(logits, tensor(io, name), atol=1e-3, rtol=0)
    if kind == "mamba":
        compare_state(state, io, "final_state_reset")


def compare_state(state: Any, io: Arrays, name: str) -> None:
    """The release keeps one convolution input more than is read again."""
    tails, scans = state
    assert_close(tails, tensor(io, f"{name}/conv")[..., 1:], atol=1e-3, rtol=0)
    assert_close(scans, tensor(io, f"{name}/ssm"), atol=1e-3, rtol=0)


def tensor(io: Arrays, name: str) -> Tensor:
    return torch.from_numpy(io[name])


def test_parts_of_the_encoder(checkpoint: Path, io: Arrays, batch: Batch) -> None:
    policy, seen = import_policy(checkpoint), {}

    def remember(name: str) -> Any:
        return lambda _module, _inputs, output: seen.__setitem__(name, output)

    names = {"topline": "message", "bottomline": "status", "inventory": "inventory"}
    names |= {"screen": "map", "crop": "crop", "mixer": "fc"}
    for theirs, ours in names.items():
        policy.encoder.get_submodule(ours).register_forward_hook(remember(theirs))
    window(policy, batch)
    for theirs in names:
        expected = tensor(io, f"eval_act/{theirs}").flatten(0, 1)
        assert_close(seen[theirs].flatten(1), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("double", [False, True])
def test_training_loss_and_gradients(
    double: bool, checkpoint: Path, io: Arrays, batch: Batch
) -> None:
    if double and "train_loss_f64" not in io:
        double = False  # that fixture has float32 alone
    policy = import_policy(checkpoint, as_released=True).train()
    policy = policy.double() if double else policy
    logits, _, _ = policy(batch, policy.initial_state(batch.lanes))
    loss = F.cross_entropy(logits.flatten(0, 1), batch.action_TB.flatten())
    loss.backward()
    suffix, close = ("_f64", 1e-9) if double else ("", 1e-5)
    assert loss.item() == pytest.approx(float(io[f"train_loss{suffix}"]), abs=close)
    if not double:
        assert_close(logits, tensor(io, "train_logits"), atol=1e-3, rtol=0)
    expected = dict(zip(io["grad_norm_names"].tolist(), io[f"grad_norm{suffix}"], strict=True))
    compared = 0
    for name, norm in norms_by_their_names(policy, expected).items():
        relative = 1e-9 if double else 1e-4
        # A bias before BatchNorm has no gradient: both sides are rounding noise.
        assert norm == pytest.approx(expected[name], rel=relative, abs=relative / 10), name
        compared += expected[name] > 1e-5
    assert compared > 50


def norms_by_their_names(policy: Policy, theirs: dict[str, float]) -> dict[str, float]:
    gradients = {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}
    norms = any(name.startswith("topline_encoder.msg_fwd.1.") for name in theirs)
    found = {}
    for name, norm in theirs.items():
        if np.isnan(norm):  # it takes no part
            continue
        joined = [(j, ps.index(p)) for j, ps in JOINED.items() for p in ps if f"{p}." in name]
        if joined:
            (part, index), layer = joined[0], name.split(".")[2]
            whole = gradients[f"core.blocks.{layer}.{part}.weight"]
            found[name] = float(whole.chunk(len(JOINED[part]))[index].norm())
        else:
            found[name] = float(gradients[new_name(name, norms)].norm())
    return found


def test_batch_statistics_after_a_training_window(
    checkpoint: Path, io: Arrays, batch: Batch
) -> None:
    policy = import_policy(checkpoint, as_released=True).train()
    policy(batch, policy.initial_state(batch.lanes))
    state, names = policy.state_dict(), [name for name in io if name.startswith("bn_after_train/")]
    assert len(names) > 10
    for name in names:
        ours = state[new_name(name.partition("/")[2], norms=False)]
        assert_close(ours, tensor(io, name), atol=1e-5, rtol=1e-5)


def test_import_writes_a_checkpoint_of_ours(
    checkpoint: Path, io: Arrays, batch: Batch, tmp_path: Path
) -> None:
    made = tmp_path / "ours.ckpt"
    import_checkpoint(ckpt=str(checkpoint), output=str(made), as_released=True)
    logits, _ = window(load_policy(made), batch)
    assert_close(logits, tensor(io, "logits_parallel"), atol=1e-3, rtol=0)


def changed(checkpoint: Path, target: Path, flags: dict[str, Any], **weights: Any) -> Path:
    loaded = torch.load(checkpoint, weights_only=True)
    network = loaded["flags"]["network"] | flags
    flat = {key: value for key, value in network.items() if value is not None}
    changed_flags = loaded["flags"] | {"network": flat}
    tensors = {k: v for k, v in (loaded["model_state_dict"] | weights).items() if v is not None}
    torch.save({"model_state_dict": tensors, "flags": changed_flags}, target)
    return target


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"core_mode": "gpt2"}, {}, r"core_mode='gpt2'"),
    ({"crop_dim": 7}, {}, r"crop_dim=7"),
    ({"crop_stride": 2}, {}, r"crop_stride=2"),
    ({}, {"extract_crop_representation.12.weight": None}, r"a crop with layers of \[16"),
    ({}, {"policy_head.policy.weight": torch.zeros(98, 64)}, r"98 actions, not 121"),
    ({}, {"obs_encoder.fc_head.0.weight": torch.zeros(40, 99)}, r"reads 99 features"),
    ({}, {"modality_mixer.fc.0.weight": torch.zeros(64, 9)}, r"modality_mixer\.fc\.0\.weight has"),
    ({}, {"another.part": torch.zeros(3)}, r"another\.part belongs to a part"),
    ({}, {"obs_encoder.char_embeddings.weight": None}, r"no 'obs_encoder\.char_emb"),
]


@pytest.mark.parametrize(("flags", "weights", "line"), REFUSED)
def test_what_is_not_supported_is_named(
    flags: dict[str, Any], weights: dict[str, Any], line: str, reference: Path, tmp_path: Path
) -> None:
    source = reference / "reference" / "release2" / "v2_mamba_a.tar"
    made = changed(source, tmp_path / "changed.tar", flags, **weights)
    with pytest.raises(InputError, match=line) as caught:
        import_policy(made)
    assert str(made) in str(caught.value)


def test_a_transformer_needs_the_flag_that_tensors_do_not_tell(
    reference: Path, tmp_path: Path
) -> None:
    source = reference / "reference" / "release2" / "v2_llama_c.tar"
    with pytest.raises(InputError, match="flag tf_num_heads is missing"):
        import_policy(changed(source, tmp_path / "a.tar", {"tf_num_heads": None}))


def test_the_first_release_has_one_way_to_reset(reference: Path) -> None:
    with pytest.raises(InputError, match="as_released=true is for"):
        import_policy(reference / "reference" / "official_lstm_small.tar", as_released=True)


def test_the_named_network_has_the_published_size() -> None:
    parts: Any = OmegaConf.to_container(composed("flops", ["policy=release2_167m"]).policy)
    assert num_params(resolved(parts)) == 166_889_793


def resolved(policy: dict[str, Any]) -> dict[str, Any]:
    kept = {name: policy[name] for name in ("encoder", "core", "baseline")}
    kept["core"] = {**kept["core"], "width": kept["encoder"]["width"]}
    return {"_target_": "agent_scaling.policies.policy.Policy", **kept}


SHAPES: dict[str, dict[str, Any]] = {
    "joined colours": {"summed": False, "embedding": 5, "color_embedding": 3},
    "as wide, joined": {"summed": False},
    "stacked frames": {"frames": 3, "summed": False},
    "all rows": {"whole": True, "norms": False},
    "one block": {"channels": [8], "kernel": 5, "map_fc_layers": 1},
    "three blocks": {"channels": [8, 16, 16], "residual_blocks": 3, "residual_layers": 1},
    "no residual blocks": {"residual_blocks": 0, "residual_layers": 0},
    "no inventory": {"inventory": False, "fc_layers": 3},
    "wide": {"inventory_embedding": 3, "inventory_width": 9, "message_width": 7, "map_width": 33},
}
CORES: dict[str, dict[str, Any]] = {
    "mamba1.Mamba1Core": {"layers": 3, "state_size": 8, "expand": 3.0},
    "transformer.TransformerCore": {"layers": 3, "context": 48, "head_dim": 4, "mlp_ratio": 3.0}
    | {"embed": False, "norm_eps": 1e-6},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("core", CORES)
def test_any_shape_is_read_from_its_tensors(shape: str, core: str, tmp_path: Path) -> None:
    encoder = {"width": 16, "message_width": 4, "status_width": 12, "map_width": 8}
    encoder |= {"inventory_width": 4, "inventory_embedding": 2, "embedding": 4, **SHAPES[shape]}
    made = make_policy(
        encoder={"_target_": f"{ENCODERS}.release2.Release2Encoder", **encoder},
        core={"_target_": f"{CORE}.{core}", "_partial_": True, "width": 16, **CORES[core]},
        baseline=False,
    ).eval()
    flags = {"network": {"tf_num_heads": 4}, "data": {"unroll_length": 48}}
    path = tmp_path / "theirs.tar"
    torch.save({"model_state_dict": as_theirs(made), "flags": flags}, path)
    found, batch = import_policy(path), random_batch(5, 2, openings=0.3)
    assert_close(window(found, batch)[0], window(made, batch)[0])


ENCODERS, CORE = "agent_scaling.policies.encoders", "agent_scaling.policies.cores"


def as_theirs(policy: Policy) -> dict[str, Tensor]:
    """Weights under the release's names, by trying each name that it could have."""
    ours, norms = policy.state_dict(), any(".out_norm." in name for name in policy.state_dict())
    mamba = isinstance(policy.core, Mamba1Core)
    found: dict[str, Tensor] = {}
    for name, value in ours.items():
        joined = next((part for part in JOINED if f".{part}." in name), None)
        if joined is not None:
            layer = name.split(".")[2]
            for piece, rows in zip(JOINED[joined], value.chunk(len(JOINED[joined])), strict=True):
                found[f"core.layers.{layer}.{piece}.weight"] = rows
            continue
        theirs = [old for old in candidates(name, mamba) if new_name_or_none(old, norms) == name]
        assert len(theirs) == 1, (name, theirs)
        found[theirs[0]] = value.T if name == "encoder.message.table" else value
    return found


def candidates(name: str, mamba: bool) -> set[str]:
    for theirs, ours in RENAMED.items():
        other = "core.norm." if mamba else "core.backbone.norm_f."
        if name.startswith(ours) and theirs != other:
            return {theirs + name[len(ours) :]}
    if name.startswith("encoder.message."):
        rest = name.rpartition(".")[2]
        return {f"topline_encoder.msg_fwd.{index}.{rest}" for index in range(1, 5)}
    layer, part = name.removeprefix("core.blocks.").split(".", 1)
    stem, _, kind = part.partition(".")
    prefix = "core.backbone.layers" if mamba else "core.layers"
    suffix = f".{kind}" if kind else ""
    return {
        f"{prefix}.{layer}.{theirs}{suffix}"
        for theirs, new in LAYER.items()
        if new == stem and theirs.startswith(("norm", "mixer")) == mamba
    }


def new_name_or_none(name: str, norms: bool) -> str | None:
    try:
        return new_name(name, norms)
    except InputError:
        return None


def test_unit_initial_values_are_those_of_the_description() -> None:
    """Norms as ``fix_initialization`` is described; crop, inventory, tables, core as without it."""
    options = ["policy=release2", "policy.encoder.width=24", "policy.encoder.map_width=12"]
    options += ["policy.core.layers=1", "policy.encoder.residual_blocks=3"]
    options += ["policy.encoder.inventory_width=8", "policy.encoder.message_width=8"]

    def made(on: bool) -> Policy:
        torch.manual_seed(0)
        cfg = composed("flops", [*options, f"policy.encoder.unit_init={on}"]).policy
        policy: Policy = instantiate(cfg)
        return policy

    with_, without = made(True), made(False)
    ours = dict(with_.named_parameters())
    touched = ("encoder.message.", "encoder.status.", "encoder.map.", "encoder.fc.", "policy.")
    for name, other in without.named_parameters():
        if not name.startswith(touched) or "norm" in name:
            assert torch.equal(ours[name], other), name
    close = {"atol": 1e-5, "rtol": 0.0}
    ones = torch.ones(())
    for name, layer in with_.named_modules():
        if not f"{name}.".startswith(touched):
            continue
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv1d):
            norms = layer.weight.norm(dim=1)
            assert_close(norms, ones.expand_as(norms), **close)
        elif isinstance(layer, torch.nn.Conv2d):
            norms = layer.weight.flatten(1).norm(dim=1)
            expected = (2 / 3) ** 0.5 if ".net." in name else 1.0  # 2 blocks of 3 residual blocks
            assert_close(norms, torch.full_like(norms, expected), **close)
        else:
            continue
        assert layer.bias is not None
        assert not layer.bias.any()
    table = with_.encoder.message.table
    assert_close(table.norm(dim=0), torch.ones(table.shape[1]), **close)
    assert not with_.encoder.message.bias.any()
