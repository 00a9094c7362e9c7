"""Image upscaling with diffusion models and a denoising strength for every tile."""

__version__ = "0.1.0"
