"""The two libraries that multiply matrices: the one that this machine would not take is held against the formula too,
where the processor has what it needs."""

import pytest
import torch

from arc_engine.adaptation import products
from arc_engine.adaptation.products import product, slot_products

pytestmark = pytest.mark.fast

VIEWS = {
    "rows": lambda matrix: matrix,
    "columns": lambda matrix: matrix.mT.contiguous().mT,
    "a part": lambda matrix: torch.cat([matrix, matrix], dim=-1)[..., : matrix.shape[-1]],
    "a part, turned over": lambda matrix: torch.cat([matrix, matrix], dim=-2).mT[..., : matrix.shape[-2]].mT,
}


@pytest.fixture(params=[True, False], ids=["oneDNN", "MKL"])
def library(request, monkeypatch):
    monkeypatch.setattr(products, "uses_onednn", lambda: request.param)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("right_view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("left_view", VIEWS.values(), ids=VIEWS)
def test_products_are_those_of_the_formula(left_view, right_view, dtype):
    rng = torch.Generator().manual_seed(0)
    left = torch.randn(3, 7, 5, generator=rng).to(dtype)
    right = torch.randn(3, 4, 5, generator=rng).to(dtype)
    expected = torch.einsum("smi,sni->smn", left, right)
    torch.testing.assert_close(slot_products(left_view(left), right_view(right)), expected)
    torch.testing.assert_close(slot_products(left_view(left[:1]), right_view(right[:1])), expected[:1])
    torch.testing.assert_close(product(left_view(left[0]), right_view(right[0])), expected[0])
    added = torch.randn(3, 7, 4, generator=rng).to(dtype)
    torch.testing.assert_close(slot_products(left_view(left), right_view(right), added), expected + added)
    for one in (added[0], added[0, 0]):
        torch.testing.assert_close(product(left_view(left[0]), right_view(right[0]), one), expected[0] + one)


@pytest.mark.parametrize(
    ("capability", "vendor", "expected"),
    [("AVX512", "AuthenticAMD", True), ("AVX512", "GenuineIntel", False), ("AVX2", "AuthenticAMD", False)],
)
def test_the_processor_decides_and_nothing_else(monkeypatch, capability, vendor, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products, "_vendor", lambda: vendor)
    products.uses_onednn.cache_clear()
    assert products.uses_onednn() is expected
    products.uses_onednn.cache_clear()
