"""Stacked adapters: each is updated as `torch.optim.AdamW` would, wherever it lies and whoever else there is."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from arc_engine.adaptation.initialisation import LoraMatrices
from arc_engine.adaptation.sites import Site
from arc_engine.adaptation.slots import Slot, Slots, SlotStart

SITES = (Site(("0.q", "0.k", "0.v"), 5, (4, 2, 3)), Site(("0.down",), 7, (5,)), Site(("1.up", "1.gate"), 5, (6, 6)))
WIDTHS = {
    name: (site.in_features, out) for site in SITES for name, out in zip(site.layers, site.out_features, strict=True)
}
EVERYWHERE = tuple(WIDTHS)
IN_FLOAT64 = 1e-12


@dataclass(frozen=True)
class Kind:
    """What a slot can be like."""

    rank: int
    layers: tuple[str, ...] = EVERYWHERE
    is_frozen: bool = False
    weight_decay: float = 0.0
    max_norm: float = 1e9
    learning_rate: float = 0.01


KINDS = (
    Kind(2),
    Kind(5, weight_decay=0.3, max_norm=0.1),
    Kind(1, layers=("0.k", "1.gate"), learning_rate=0.2),
    Kind(3, layers=("0.down",), weight_decay=0.1),
    Kind(2, is_frozen=True, weight_decay=0.5, max_norm=0.5),
    Kind(4, layers=("0.q", "0.v"), is_frozen=True),
)


class Twin:
    """A slot, and the same adapter in plain matrices with an optimizer of their own."""

    def __init__(self, slots: Slots, kind: Kind, *, seed: int) -> None:
        self.kind = kind
        rng = torch.Generator().manual_seed(seed)
        self._rng = rng
        self.scale = 0.5 + seed
        trained, self.frozen = ({name: drawn(name, kind.rank, rng) for name in kind.layers} for _ in range(2))
        self.slot = slots.add(SlotStart(trained, self.frozen if kind.is_frozen else {}, self.scale))
        self.plain = {
            name: LoraMatrices(*(torch.nn.Parameter(matrix.clone()) for matrix in (pair.lora_a, pair.lora_b)))
            for name, pair in trained.items()
        }
        self._parameters = [matrix for pair in self.plain.values() for matrix in (pair.lora_a, pair.lora_b)]
        self._optimizer = torch.optim.AdamW(self._parameters, weight_decay=kind.weight_decay)
        self.goals: dict[str, tuple[Tensor, Tensor]] = {}

    def draw_goals(self) -> None:
        """Inputs and what the layers' change is to make of them, for the loss of the next step."""
        self.goals = {
            name: tuple(torch.randn(size, generator=self._rng, dtype=torch.float64) for size in WIDTHS[name])
            for name in self.kind.layers
        }

    def update_plain(self) -> tuple[float, float]:
        """The gradient's norm, and what it is multiplied by to clip it."""
        self._optimizer.zero_grad()
        losses = []
        for name, (given_input, goal) in self.goals.items():
            pair, frozen = self.plain[name], self.frozen[name]
            change = pair.lora_b @ (pair.lora_a @ given_input)
            if self.kind.is_frozen:
                change = change + frozen.lora_b @ (frozen.lora_a @ given_input)
            losses.append((self.scale * change - goal).square().sum())
        torch.stack(losses).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.kind.max_norm).item()
        for group in self._optimizer.param_groups:
            group["lr"] = self.kind.learning_rate
        self._optimizer.step()
        return norm, min(1.0, self.kind.max_norm / (norm + 1e-6))


def drawn(name: str, rank: int, rng: torch.Generator) -> LoraMatrices:
    in_features, out_features = WIDTHS[name]
    return LoraMatrices(
        torch.randn(rank, in_features, generator=rng, dtype=torch.float64),
        torch.randn(out_features, rank, generator=rng, dtype=torch.float64),
    )


def add_gradients(slots: Slots, twins: list[Twin]) -> None:
    """Those of the twins' losses, through the matrices of all of them at every site."""
    seats = [twin.slot for twin in twins]
    weights, scales = slots.weights(seats), slots.scales(seats)
    losses = []
    for site, matrices in zip(SITES, slots.by_site(weights), strict=True):
        if matrices is None:
            assert not any(set(site.layers) & set(twin.kind.layers) for twin in twins)
            continue
        inner = matrices.lora_a.unflatten(1, (len(site.layers), -1))
        for index, name in enumerate(site.layers):
            for row, twin in enumerate(twins):
                given_input, goal = twin.goals.get(name, (torch.ones(WIDTHS[name][0]).double(), None))
                change = scales[row] * (matrices.lora_b[index][row] @ (inner[row, index] @ given_input))
                losses.append((change.squeeze() - (0 if goal is None else goal)).square().sum())
    (gradients,) = torch.autograd.grad(torch.stack(losses).sum(), weights)
    slots.add_gradients(seats, gradients)


def update(slots: Slots, twins: list[Twin]) -> None:
    """A step of the slots and of their twins."""
    for twin in twins:
        twin.draw_goals()
    add_gradients(slots, twins)
    norms = slots.gradient_norms([twin.slot for twin in twins])
    plain = [twin.update_plain() for twin in twins]
    assert norms == pytest.approx([norm for norm, _ in plain], rel=IN_FLOAT64)
    slots.update(
        [twin.slot for twin in twins],
        learning_rates=[twin.kind.learning_rate for twin in twins],
        weight_decays=[twin.kind.weight_decay for twin in twins],
        clips=[clip for _, clip in plain],
    )


def assert_equal(slots: Slots, twin: Twin) -> None:
    found = slots.matrices(twin.slot)
    assert found.keys() == twin.plain.keys()
    num_numbers = 0
    for name, pair in twin.plain.items():
        for side in ("lora_a", "lora_b"):
            matrix, expected = getattr(found[name], side), getattr(pair, side).detach()
            torch.testing.assert_close(matrix, expected, rtol=IN_FLOAT64, atol=IN_FLOAT64)
            num_numbers += matrix.numel() * (2 if twin.kind.is_frozen else 1)
    (row,) = slots.weights([twin.slot]).detach()
    assert row.count_nonzero() == num_numbers, "what is padded is 0"
    if twin.kind.is_frozen:
        frozen = torch.cat([matrix.flatten() for pair in twin.frozen.values() for matrix in (pair.lora_a, pair.lora_b)])
        assert set(frozen.tolist()) <= set(row.tolist()), "the frozen matrices are bit for bit what they were"


ACTIONS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(KINDS)),
    st.tuples(st.just("remove"), st.integers(0, 5)),
    st.tuples(st.just("update"), st.lists(st.integers(0, 5), min_size=1, max_size=6)),
    st.tuples(st.just("update"), st.just(list(range(6)))),
)


@settings(max_examples=40)
@given(st.lists(ACTIONS, min_size=5, max_size=25))
def test_updates_are_those_of_adamw_for_every_slot_whatever_comes_and_goes(actions):
    slots, twins = new_slots(), []
    for number, (action, given_value) in enumerate([("add", KINDS[1]), ("add", KINDS[4]), *actions]):
        if action == "add" and len(twins) < 6:
            twins.append(Twin(slots, given_value, seed=number))
        elif action == "remove" and given_value < len(twins):
            slots.remove(twins.pop(given_value).slot)
        elif action == "update" and (chosen := [twins[place] for place in set(given_value) if place < len(twins)]):
            update(slots, chosen)
        assert len(slots) == len(twins)
    for twin in twins:
        assert_equal(slots, twin)


def new_slots() -> Slots:
    return Slots(SITES, device="cpu", dtype=torch.float64)


def test_every_kind_of_slot_through_a_life_of_its_own():
    slots = new_slots()
    first, second, third = (Twin(slots, kind, seed=seed) for seed, kind in enumerate(KINDS[:3]))
    for _ in range(3):
        update(slots, [first, second, third])
    update(slots, [third, first])
    slots.remove(second.slot)  # whose rank was the largest
    update(slots, [first, third])
    frozen, large = Twin(slots, KINDS[4], seed=4), Twin(slots, KINDS[1], seed=5)
    for chosen in ([first, frozen], [large], [third, frozen, large], [first, third, frozen, large]):
        update(slots, chosen)
    for twin in (first, third, frozen, large):
        assert_equal(slots, twin)
        assert twin.slot.num_updates == {first: 7, third: 7, frozen: 3, large: 3}[twin]


def test_slots_take_no_more_room_than_their_largest_rank_and_their_layers():
    slots = new_slots()
    small = Twin(slots, KINDS[2], seed=1)
    alone = slots.weights([small.slot]).numel()
    assert alone == 5 * 3 + (4 + 2 + 3) + 5 * 2 + (6 + 6), "of two sites, rank 1"
    large = Twin(slots, KINDS[1], seed=2)
    assert slots.weights([small.slot]).numel() == 5 * (alone + 7 + 5)
    slots.remove(large.slot)
    assert slots.weights([small.slot]).numel() == alone
    slots.remove(small.slot)
    assert len(slots) == 0


def test_one_who_is_not_updated_keeps_weights_and_gathers_gradients():
    slots = new_slots()
    waiting, updated = Twin(slots, KINDS[1], seed=1), Twin(slots, KINDS[0], seed=2)
    before = slots.weights([waiting.slot]).detach().clone()
    for twin in (waiting, updated):
        twin.draw_goals()
    add_gradients(slots, [waiting])
    (once,) = slots.gradient_norms([waiting.slot])
    update(slots, [updated])
    assert torch.equal(slots.weights([waiting.slot]), before)
    add_gradients(slots, [waiting])
    assert slots.gradient_norms([waiting.slot, updated.slot]) == pytest.approx([2 * once, 0])
    slots.divide_gradients(waiting.slot, 4.0)
    assert slots.gradient_norms([waiting.slot]) == pytest.approx([once / 2])
    slots.forget_gradients(waiting.slot)
    assert slots.gradient_norms([waiting.slot]) == [0]


def test_gradients_of_one_that_are_not_finite_do_not_reach_the_others():
    slots = new_slots()
    twins = [Twin(slots, kind, seed=seed) for seed, kind in enumerate(KINDS[:4])]
    for twin in twins:
        twin.draw_goals()
    twins[1].goals["0.q"][0][0] = torch.nan
    add_gradients(slots, twins)
    norms = slots.gradient_norms([twin.slot for twin in twins])
    assert [torch.tensor(norm).isfinite().item() for norm in norms] == [True, False, True, True]
    sound = [twins[place] for place in (0, 2, 3)]
    clips = [twin.update_plain()[1] for twin in sound]
    slots.update(
        [twin.slot for twin in sound],
        learning_rates=[twin.kind.learning_rate for twin in sound],
        weight_decays=[twin.kind.weight_decay for twin in sound],
        clips=clips,
    )
    slots.remove(twins[1].slot)
    for twin in sound:
        assert_equal(slots, twin)


def test_matrices_are_copies():
    slots = new_slots()
    twin = Twin(slots, KINDS[0], seed=1)
    slots.matrices(twin.slot)["0.q"].lora_a.zero_()
    assert_equal(slots, twin)


def test_a_slot_knows_its_ranks():
    slots = new_slots()
    twins = [Twin(slots, kind, seed=1) for kind in (KINDS[1], KINDS[5])]
    assert all(isinstance(twin.slot, Slot) for twin in twins)
    assert [(twin.slot.start.rank, twin.slot.start.whole_rank) for twin in twins] == [(5, 5), (4, 8)]
