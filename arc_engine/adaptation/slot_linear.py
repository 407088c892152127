"""A linear layer of the frozen base, with the LoRA matrices of every slot."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from arc_engine.adaptation.products import product, slot_products
from arc_engine.adaptation.sites import SiteMatrices


def slot_linear(
    inputs: Tensor,
    weights: tuple[Tensor, ...],
    matrices: SiteMatrices,
    *,
    scales: Tensor,
    kept: Tensor | None = None,
    added_to: tuple[Tensor | None, ...] = (),
) -> tuple[Tensor, ...]:
    """W x + s B A x for every layer of a site, with its own B, A and s for every slot.

    `inputs` is `[slots, tokens, in_features]`, the results are `[slots, tokens, out_features]` each. `weights` are
    those of the base, `[out_features, in_features]`; without them W x is left out. `scales`, `[slots, 1, 1]`, are s.
    `kept` is what dropout multiplies the input of A with, of the shape of `inputs`. What `added_to` holds for a layer,
    biases or a residual stream, is added to its result. No gradients are computed for `weights`, nor for an input that
    needs none.
    """
    added_to = added_to or (None,) * len(matrices.lora_b)
    found: tuple[Tensor, ...] = _SlotLinear.apply(  # type: ignore[no-untyped-call]
        inputs, (weights, scales, kept), *added_to, matrices.lora_a, *matrices.lora_b
    )
    return found


class _SlotLinear(torch.autograd.Function):
    """By hand, because autograd would keep more, pass over everything more often, and differentiate the base too."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's
        inputs: Tensor,
        constants: tuple[tuple[Tensor, ...], Tensor, Tensor | None],
        *others: Any,  # noqa: ANN401 - what is added per layer, A, B per layer
    ) -> tuple[Tensor, ...]:
        weights, scales, kept = constants
        num_layers = (len(others) - 1) // 2
        added_to, lora_a, lora_b = others[:num_layers], others[num_layers], others[num_layers + 1 :]
        seen = inputs if kept is None else inputs * kept
        inner = slot_products(seen, lora_a).mul_(scales)  # [slots, tokens, layers * rank]
        results = []
        for index, (added, inner_of, lora_b_of) in enumerate(
            zip(added_to, inner.chunk(num_layers, dim=-1), lora_b, strict=True)
        ):
            if weights:
                results.append(_base(inputs, weights[index], added).baddbmm_(inner_of, lora_b_of.mT))
            elif added is not None:
                results.append(torch.baddbmm(added, inner_of, lora_b_of.mT))
            else:
                results.append(torch.bmm(inner_of, lora_b_of.mT))
        ctx.save_for_backward(seen, inner, scales, kept, lora_a, *lora_b)
        ctx.weights = weights
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - autograd's
        seen, inner, scales, kept, lora_a, *lora_b = ctx.saved_tensors
        num_layers = len(lora_b)
        inner_gradient = torch.cat(
            [slot_products(gradient, lora_b_of.mT) for gradient, lora_b_of in zip(gradients, lora_b, strict=True)],
            dim=-1,
        ).mul_(scales)
        # Each with what all layers of the site have within, of which it needs its own part: a part is slow to multiply.
        lora_b_gradients = [
            slot_products(gradient.mT, inner.mT).chunk(num_layers, dim=-1)[index]
            for index, gradient in enumerate(gradients)
        ]
        lora_a_gradient = slot_products(inner_gradient.mT, seen.mT)
        input_gradient = None
        if ctx.needs_input_grad[0]:
            input_gradient = _input_gradient(gradients, ctx.weights, inner_gradient, lora_a, kept)
        needed = ctx.needs_input_grad[2 : 2 + num_layers]
        added_gradients = [gradient if needs else None for gradient, needs in zip(gradients, needed, strict=True)]
        return input_gradient, None, *added_gradients, lora_a_gradient, *lora_b_gradients


def _base(inputs: Tensor, weight: Tensor, added: Tensor | None) -> Tensor:
    """W x, and what is to be added to it."""
    stream = added if added is None or added.ndim == 1 else added.flatten(0, 1)
    return product(inputs.flatten(0, 1), weight, stream).view(*inputs.shape[:2], -1)


def _input_gradient(
    gradients: tuple[Tensor, ...],
    weights: tuple[Tensor, ...],
    inner_gradient: Tensor,
    lora_a: Tensor,
    kept: Tensor | None,
) -> Tensor:
    if kept is None and weights:
        return slot_products(inner_gradient, lora_a.mT, _through_base(gradients, weights))
    through_lora = slot_products(inner_gradient, lora_a.mT)
    if kept is not None:
        through_lora.mul_(kept)
    return through_lora.add_(_through_base(gradients, weights)) if weights else through_lora


def _through_base(gradients: tuple[Tensor, ...], weights: tuple[Tensor, ...]) -> Tensor:
    found = product(gradients[0].flatten(0, 1), weights[0].t())
    for gradient, weight in zip(gradients[1:], weights[1:], strict=True):
        found = product(gradient.flatten(0, 1), weight.t(), found)
    return found.view(*gradients[0].shape[:2], -1)
