import pytest
import torch

from pixelwise.lowering.pooling_rewrite import StandardPooling
from pixelwise.ops import max_pool_with_switches, max_unpool


@pytest.mark.parametrize("size", [(5, 7), (4, 6), (9, 8), (3, 3)])
@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize("kernel", [2, 3])
def test_the_standard_form_gives_what_the_operators_give(size, ceil_mode, kernel):
    x = torch.randint(0, 4, (2, 3, *size), generator=torch.Generator().manual_seed(0)).float() - 9
    pooled, switches = max_pool_with_switches(x, kernel, ceil_mode)
    full = max_unpool(pooled, switches, size, kernel)
    with StandardPooling():
        again, places = max_pool_with_switches(x, kernel, ceil_mode)
        standard = max_unpool(again, places, size, kernel)
    assert torch.equal(again, pooled)
    assert torch.equal(places, switches)
    assert torch.equal(standard, full)


class Pair(torch.nn.Module):
    def forward(self, x):
        with StandardPooling():
            pooled, switches = max_pool_with_switches(x, 2, True)
            return max_unpool(pooled, switches, (x.shape[2], x.shape[3]), 2)


def test_a_recorded_graph_holds_no_operator_of_this_package():
    program = torch.export.export(Pair(), (torch.rand(2, 3, 5, 7),))
    names = {str(node.target) for node in program.graph.nodes}
    assert any(name.startswith("aten.maximum") for name in names)
    assert not any("pixelwise" in name for name in names)
