import pytest
import torch
from torch import nn

from agent_scaling.policies.encoders.lookup import LookupConv
from agent_scaling.policies.encoders.nethack import NetHackEncoder


@pytest.mark.parametrize("colored", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_it_answers_as_the_convolution_of_the_embeddings_does(colored, bias):
    torch.manual_seed(0)
    tables = [nn.Embedding(256, 5), nn.Embedding(128, 3)][: 1 + colored]
    conv = nn.Conv2d(sum(table.embedding_dim for table in tables), 7, 3, padding=1, bias=bias)
    planes = [
        torch.randint(0, 256, (4, 6, 11), dtype=torch.uint8),
        torch.randint(0, 128, (4, 6, 11), dtype=torch.int8),
    ][: 1 + colored]
    cells = torch.cat([t(p.long()) for t, p in zip(tables, planes, strict=True)], dim=-1)
    with torch.no_grad():
        expected = conv(cells.permute(0, 3, 1, 2))
        found = LookupConv(tables, conv)(planes)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_the_weights_are_copied():
    table, conv = nn.Embedding(256, 4), nn.Conv2d(4, 2, 3, padding=1)
    lookup, planes = LookupConv([table], conv), [torch.zeros(1, 3, 3, dtype=torch.uint8)]
    before = lookup(planes)
    with torch.no_grad():
        conv.weight.zero_()
        table.weight.zero_()
        conv.bias.zero_()
    assert torch.equal(lookup(planes), before)


@pytest.mark.parametrize("height", [1, 6])
def test_blanks_are_known_beforehand_and_the_answers_are_the_same(height, monkeypatch):
    torch.manual_seed(0)
    tables = [nn.Embedding(256, 5), nn.Embedding(128, 3)]
    conv = nn.Conv2d(8, 7, 3, padding=1)
    lookup = LookupConv(tables, conv)
    shape = (9, height, 11)
    shown = torch.rand(shape) < torch.linspace(0, 1, 9)[:, None, None]  # none in the first
    chars = torch.where(shown, torch.randint(0, 256, shape), ord(" ")).to(torch.uint8)
    colors = torch.where(shown, torch.randint(0, 16, shape), 0).to(torch.int8)
    found = lookup([chars, colors])
    summed = []
    kept = lookup._sums
    monkeypatch.setattr(lookup, "_sums", lambda pair, at: summed.append(len(at)) or kept(pair, at))
    assert torch.equal(lookup([chars, colors]), found)
    assert 0 < summed[0] < 8 * height * 11  # of 9 frames
    other = LookupConv(tables, conv, blank=(7, 3))  # which is nowhere
    assert torch.equal(other([chars, colors]), found)


@pytest.mark.parametrize(
    ("width", "colors", "looks_up"), [(128, False, False), (128, True, True), (512, False, True)]
)
def test_narrow_encoders_of_one_plane_convolve_because_that_is_faster(width, colors, looks_up):
    shape = NetHackEncoder.sized(width, 300_000)
    encoder = NetHackEncoder(**shape, colors=colors).eval()
    encoder.prepare_inference()
    assert isinstance(encoder.lookup, LookupConv) == looks_up
