import pytest
import torch

from pixelwise.lowering.graph import StandardPooling
from pixelwise.ops import max_pool_with_switches, max_unpool


@pytest.mark.parametrize("size", [(5, 7), (4, 6), (9, 8), (3, 3)])
@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize("kernel", [2, 3])
def test_standard_operators_give_the_same_values(size, ceil_mode, kernel):
    x = torch.randint(0, 4, (2, 3, *size), generator=torch.Generator().manual_seed(0)).float() - 9
    pooled, switches = max_pool_with_switches(x, kernel, ceil_mode=ceil_mode)
    full = max_unpool(pooled, switches, size, kernel)
    with StandardPooling():
        standard_pooled, standard_switches = max_pool_with_switches(x, kernel, ceil_mode=ceil_mode)
        standard_full = max_unpool(standard_pooled, standard_switches, size, kernel)
    assert torch.equal(standard_pooled, pooled)
    assert torch.equal(standard_switches, switches)
    assert torch.equal(standard_full, full)


class PoolAndUnpool(torch.nn.Module):
    def forward(self, x):
        with StandardPooling():
            pooled, switches = max_pool_with_switches(x, 2, ceil_mode=True)
            return max_unpool(pooled, switches, (x.shape[2], x.shape[3]), 2)


def test_a_captured_graph_has_no_custom_operator():
    program = torch.export.export(PoolAndUnpool(), (torch.rand(2, 3, 5, 7),))
    names = {str(node.target) for node in program.graph.nodes}
    assert any(name.startswith("aten.maximum") for name in names)
    assert not any("pixelwise" in name for name in names)
