"""Train the bundled checkpoint, on a CPU or a GPU.

    make train DATA=data HOURS=2          the network that keeps to the source
    make train-texture DATA=data HOURS=2  the network that draws texture, against critics
    make train-deblock DATA=data HOURS=2  the network for sources that JPEG damaged

Each writes its own network and leaves the others in the file as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from models.held_out import read_held_out, read_trained_on, refuse_held_out, training_files
from models.training.critics import efficientnet_lite0
from models.training.degradations import CLEAN, DAMAGED, QUALITY
from models.training.fidelity import EPSILON, FidelityTrainer
from models.training.files import (
    Part,
    read_critics,
    read_parts,
    write_critics,
    write_parts,
)
from models.training.levels import ARCHITECTURE
from models.training.loop import Length, Places, Trainer, run
from models.training.losses import TEXTURE
from models.training.optimisers import Rate
from models.training.samples import Batches, Recipe, read_pictures
from models.training.texture import TextureTrainer, Weights
from models.training.validation import validate, validate_texture

MODELS = Path(__file__).resolve().parent.parent
SHIPPED = MODELS / "tileup-small.safetensors"


class Stage(NamedTuple):
    """What one of the trainings writes."""

    part: str
    """Which network of a checkpoint."""
    log: str


STAGES = {
    "fidelity": Stage("base", "log.csv"),
    "deblock": Stage("deblock", "deblock.csv"),
    "texture": Stage("vivid", "texture.csv"),
}


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="models.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stages = parser.add_subparsers(dest="stage", required=True)
    fidelity = stages.add_parser("fidelity", help="the network that keeps to the source")
    _common(fidelity, batch=16, crop=128, rate=4e-4, soft=0.12, letters=0.06, every=500)
    _pixelwise(fidelity, texture=TEXTURE, epsilon=EPSILON)
    deblock = stages.add_parser("deblock", help="the network for sources that JPEG damaged")
    _common(deblock, batch=16, crop=128, rate=3e-4, soft=0.05, letters=0.04, every=500)
    deblock.set_defaults(clean=0.0, quality=DAMAGED, besides=0.3)
    _pixelwise(deblock, texture=0.002, epsilon=0.1)
    texture = stages.add_parser("texture", help="the network that draws texture")
    _common(texture, batch=8, crop=64, rate=2e-4, soft=0.0, letters=0.02, every=400)
    texture.add_argument(
        "--critics",
        type=Path,
        default=MODELS / "training/critics.safetensors",
        help="critics to begin with, if they are there, and where they are kept",
    )
    for each in fields(Weights):
        texture.add_argument(
            f"--{each.name}",
            type=int if each.name == "growing" else float,
            default=each.default,
            help=f"see {Weights.__module__}.Weights; default {each.default}",
        )
    return parser.parse_args(words)


def _common(
    parser: argparse.ArgumentParser,
    *,
    batch: int,
    crop: int,
    rate: float,
    soft: float,
    letters: float,
    every: int,
) -> None:
    cuda = torch.cuda.is_available()
    stage = parser.prog.rsplit(maxsplit=1)[-1]
    add = parser.add_argument
    add("--data", type=Path, default=Path("data"))
    add("--hours", type=float, default=1.0, help="how much longer to train")
    add("--finish", type=int, help="end at this step, whatever the time")
    add("--tail", type=float, default=0.3, help="share of the run in which the rate falls to 0")
    add("--batch", type=int, default=batch)
    add("--crop", type=int, default=crop, help="side of a crop, pixels")
    add("--soft", type=float, default=soft, help="share of truths that are soft themselves")
    add("--letters", type=float, default=letters, help="share of samples that are pages of text")
    add("--clean", type=float, default=CLEAN, help="share of small pictures that are only shrunk")
    add(
        "--quality",
        type=int,
        nargs=2,
        default=QUALITY,
        metavar=("LOWEST", "HIGHEST"),
        help="of JPEG, where small pictures are compressed",
    )
    add("--besides", type=float, default=1.0, help="factor of other degradations beside JPEG")
    add("--rate", type=float, default=rate, help="learning rate")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if cuda else "cpu")
    add("--threads", type=int, default=1, help="threads that make samples")
    add(
        "--workers", type=int, default=torch.get_num_threads(), help="threads of a CPU that compute"
    )
    add("--state", type=Path, default=MODELS / "state" / f"{stage}.pt")
    add("--init", type=Path, default=SHIPPED, help="a checkpoint to start from, without a state")
    add("--scratch", action="store_true", help="start from random weights instead")
    add("--log", type=Path, default=MODELS / STAGES[stage].log)
    add("--out", type=Path, default=SHIPPED)
    add("--every", type=int, default=every, help="steps between validations")


def _pixelwise(parser: argparse.ArgumentParser, *, texture: float, epsilon: float) -> None:
    """What only trainings towards the pixels of the truth weigh."""
    add = parser.add_argument
    add("--texture", type=float, default=texture, help="what contrast counts beside pixels")
    add("--epsilon", type=float, default=epsilon, help="where Charbonnier's error turns, of 2")


def main() -> None:
    """Train for the given hours from where the last run stopped; export after each validation."""
    arguments = parse_arguments()
    train, validation = read_pictures(arguments.data)
    refuse_held_out(training_files(arguments.data), read_held_out(), read_trained_on())
    stage = texture if arguments.stage == "texture" else fidelity
    batches = Batches(
        train,
        Recipe(
            arguments.crop,
            arguments.soft,
            arguments.letters,
            arguments.clean,
            (arguments.quality[0], arguments.quality[1]),
            arguments.besides,
        ),
        arguments.seed,
        arguments.batch,
        arguments.threads,
    )
    stage(arguments, batches, validation)


def fidelity(
    arguments: argparse.Namespace, batches: Batches, validation: list[Image.Image]
) -> None:
    """The network that keeps to the source, or the one for sources that JPEG damaged."""
    trainer = FidelityTrainer(
        ARCHITECTURE,
        seed=arguments.seed,
        rate=Rate(arguments.rate),
        device=arguments.device,
        workers=arguments.workers,
        texture=arguments.texture,
        epsilon=arguments.epsilon,
    )
    name, kept = STAGES[arguments.stage].part, read_parts(arguments.init)
    begin(trainer, arguments, (getattr(kept, name) or kept.base).weights)
    if trainer.workers > 1:
        torch.set_num_threads(1)

    def export(part: Part) -> None:
        write_parts(replace(read_parts(beside(arguments)), **{name: part}), arguments.out)

    run(
        trainer,
        batches,
        *limits(arguments),
        validate=lambda: validate(trainer.average, validation, arguments.device),
        export=export,
    )


def texture(arguments: argparse.Namespace, batches: Batches, validation: list[Image.Image]) -> None:
    """The network that draws texture."""
    features = efficientnet_lite0()
    torch.set_num_threads(arguments.workers)
    trainer = TextureTrainer(
        replace(ARCHITECTURE, conditions=1),
        features,
        seed=arguments.seed,
        rate=Rate(arguments.rate, warm=50, reach=500),
        device=arguments.device,
        weights=Weights(**{each.name: getattr(arguments, each.name) for each in fields(Weights)}),
    )
    parts = read_parts(arguments.init)
    begin(trainer, arguments, (parts.vivid or parts.base).weights)
    if not (trainer.step or arguments.scratch) and arguments.critics.exists():
        trainer.take_critics(read_critics(arguments.critics))

    def export(vivid: Part) -> None:
        write_parts(replace(read_parts(beside(arguments)), vivid=vivid), arguments.out)
        write_critics(trainer.critics.state_dict(), arguments.critics)

    run(
        trainer,
        batches,
        *limits(arguments),
        validate=lambda: validate_texture(trainer.average, features, validation, arguments.device),
        export=export,
    )


def begin(trainer: Trainer, arguments: argparse.Namespace, weights: Mapping[str, Any]) -> None:
    """From the state if there is one, else from weights, or from nothing."""
    if arguments.state.exists():
        trainer.restore(
            torch.load(arguments.state, map_location=arguments.device, weights_only=True)
        )
    elif not arguments.scratch:
        trainer.start_from(dict(weights))


def beside(arguments: argparse.Namespace) -> Path:
    """The checkpoint whose other network goes along."""
    return arguments.out if arguments.out.exists() else arguments.init


def limits(arguments: argparse.Namespace) -> tuple[Length, Places]:
    return (
        Length(arguments.hours, arguments.finish, arguments.tail),
        Places(arguments.state, arguments.log, arguments.every),
    )


if __name__ == "__main__":
    main()
