"""Checkpoints of full size with random weights: `make bench-checkpoints`.

No weights can be shipped or downloaded here, so the files are written by this script: the original
single-file layouts of SD 1.5 and SDXL in float16, with all parts. Each is loaded in a process of
its own, and then one evaluation of the network (one window, both rows of guidance) is timed in
turns with diffusers' pipeline of the same network. Times are CPU seconds of one process, whatever
else the machine does. Writes the tables of docs/checkpoints.md.

    python -m bench.full_size --write FILE --family sd1    # just the file, for trying things out
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.tables import table, write
from tests.checkpoints.layouts.text import clip_l, open_clip
from tests.checkpoints.layouts.unet import LdmUNet, sd1, sdxl
from tests.checkpoints.layouts.vae import vae_state_dict

FAMILIES = ("sd1", "sdxl")
WINDOW = {"sd1": 512, "sdxl": 1024}
TITLES = {"sd1": "SD 1.5", "sdxl": "SDXL base"}


def network_tensors(family: str) -> Iterator[tuple[str, Tensor]]:
    """A UNet of full size, tensor by tensor in float16, so that it is never there in float32."""
    shape = sd1(320) if family == "sd1" else sdxl(320, (0, 2, 10))
    with torch.device("meta"):
        named = LdmUNet(shape).state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, meta in named.items():
        noise = torch.randn(meta.shape, generator=generator)
        if meta.ndim > 1:
            noise /= math.sqrt(meta[0].numel())
        else:
            noise = 0.1 * noise + name.endswith("weight")
        yield name, noise.half()


def checkpoint_tensors(family: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a checkpoint in the original layout, float16."""
    for name, tensor in network_tensors(family):
        yield f"model.diffusion_model.{name}", tensor
    texts = (
        {"cond_stage_model.transformer.": clip_l(768, 12)}
        if family == "sd1"
        else {
            "conditioner.embedders.0.transformer.": clip_l(768, 12),
            "conditioner.embedders.1.model.": open_clip(1280, 32),
        }
    )
    for prefix, tensors in ({"first_stage_model.": vae_state_dict(128)} | texts).items():
        for name, tensor in tensors.items():
            yield prefix + name, tensor.half()


def write_checkpoint(family: str, path: Path) -> None:
    save_file(dict(checkpoint_tensors(family)), path)
    gc.collect()


def child(path: Path, family: str, dtype: str, rounds: int) -> dict[str, float]:
    """Load, then time the network in turns with diffusers' pipeline; runs in a process."""
    from tileup.checkpoints.load import load_model
    from tileup.contracts import Box, Scene, Wish
    from tileup.settings.values import Settings

    before = peak()
    start = time.process_time()
    model = load_model(path, Settings(device="cpu", dtype=dtype))
    loaded, network_peak = time.process_time() - start, peak() - before
    if rounds == 0:
        return {"load": loaded, "memory": network_peak}
    side = WINDOW[family] // model.spec.stride
    source = torch.randn(1, model.spec.channels, side, side)
    grey = torch.full((1, 3, WINDOW[family], WINDOW[family]), 0.5)
    wish = Wish("a photograph", "blurry", 5.0)
    start = time.process_time()
    denoiser = model.denoiser(Scene(source, grey, (WINDOW[family], WINDOW[family]), wish))
    text = time.process_time() - start
    x, sigma = source + torch.randn_like(source), torch.tensor([1.0])
    theirs = pipeline_step(model.network.module, family, side)  # type: ignore[attr-defined]
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        start = time.process_time()
        denoiser(x, sigma, [Box(0, 0, side, side)])
        times["ours"].append(time.process_time() - start)
        start = time.process_time()
        theirs()
        times["theirs"].append(time.process_time() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"load": loaded, "memory": network_peak, "text": text, "peak": peak() - before} | medians


def pipeline_step(unet: torch.nn.Module, family: str, side: int):  # noqa: ANN201
    """One step of diffusers' img2img pipeline with this network: latents in, latents out."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionImg2ImgPipeline,
        StableDiffusionXLImg2ImgPipeline,
    )

    dtype = next(unet.parameters()).dtype
    unet.register_to_config(sample_size=side)  # type: ignore[operator]
    vae = AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    width = 768 if family == "sd1" else 2048
    text = {
        "prompt_embeds": torch.randn(1, 77, width, dtype=dtype),
        "negative_prompt_embeds": torch.randn(1, 77, width, dtype=dtype),
    }
    parts = {"vae": vae, "text_encoder": None, "tokenizer": None, "unet": unet}
    if family == "sd1":
        pipeline = StableDiffusionImg2ImgPipeline(
            **parts,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    else:
        pipeline = StableDiffusionXLImg2ImgPipeline(
            **parts, text_encoder_2=None, tokenizer_2=None, scheduler=scheduler
        )
        text |= {
            "pooled_prompt_embeds": torch.randn(1, 1280, dtype=dtype),
            "negative_pooled_prompt_embeds": torch.randn(1, 1280, dtype=dtype),
        }
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.randn(1, 4, side, side, dtype=dtype)
    return lambda: pipeline(
        **text,
        image=latents,
        strength=1.0,
        num_inference_steps=1,
        guidance_scale=5.0,
        output_type="latent",
    )


def peak() -> float:
    """Most memory this process has had, GB; mapped parts of the file count.

    Not `ru_maxrss`, which a process takes over from the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1e6


def measured(path: Path, family: str, dtype: str, rounds: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.full_size", "--child", str(path)]
    command += ["--family", family, "--dtype", dtype, "--rounds", str(rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--write", type=Path, help="only write this file")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    arguments = parser.parse_args()
    if arguments.write:
        write_checkpoint(arguments.family, arguments.write)
        return
    if arguments.child:
        found = child(arguments.child, arguments.family, arguments.dtype, arguments.rounds)
        print(json.dumps(found))
        return
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for family in [arguments.family] if arguments.family else FAMILIES:
            path = Path(folder) / f"{family}-random.safetensors"
            write_checkpoint(family, path)
            size = path.stat().st_size / 1e9
            stored = measured(path, family, "float16", 0)
            found = measured(path, family, arguments.dtype, arguments.rounds)
            path.unlink()
            rows.append(
                [
                    TITLES[family],
                    f"{size:.2f} GB",
                    f"{stored['load']:.1f}",
                    f"{stored['memory'] / size:.2f}x",
                    f"{found['load']:.1f}",
                    f"{found['peak']:.1f} GB",
                    f"{found['ours']:.1f}",
                    f"{found['theirs']:.1f}",
                    f"{found['ours'] / found['theirs']:.2f}",
                ]
            )
    text = table(
        [
            "random weights, float16 file",
            "file",
            "load as stored, CPU-s",
            "peak memory / file",
            f"load in {arguments.dtype}, CPU-s",
            "peak",
            "window-step, CPU-s",
            "diffusers' pipeline, CPU-s",
            "ratio",
        ],
        rows,
    )
    print(text)
    if not arguments.dry and not arguments.family:
        write("docs/checkpoints.md", "full-size", text)


if __name__ == "__main__":
    main()
