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


@pytest.mark.parametrize(("width", "params", "looks_up"), [(128, 300_000, False), (512, 1e6, True)])
def test_narrow_encoders_convolve_because_that_is_faster(width, params, looks_up):
    encoder = NetHackEncoder(**NetHackEncoder.sized(width, params)).eval()
    encoder.prepare_inference()
    assert isinstance(encoder.lookup, LookupConv) == looks_up
