"""Which runs take a forward pass together."""

from collections.abc import Sequence

from arc_engine.adaptation.packed_batch import Portion


def joined(lead: Portion, others: Sequence[Portion], *, max_tokens: int, max_padding: float) -> list[int]:
    """Indices of the portions that go with `lead`: those nearest to it in size, as many as keep the rectangle within
    `max_tokens` and what is padded for each other's sake within the share `max_padding` of it."""
    nearest = sorted(range(len(others)), key=lambda index: abs(others[index].num_padded - lead.num_padded))
    chosen, members = list[int](), [lead]
    for index in nearest:
        grown = [*members, others[index]]
        size = len(grown) * max(len(one.rows) for one in grown) * max(one.length for one in grown)
        filled = sum(one.num_padded for one in grown)
        if size <= max_tokens and size - filled <= max_padding * size:
            chosen.append(index)
            members = grown
    return chosen
