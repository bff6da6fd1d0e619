"""Image quality against a reference: PSNR and SSIM, as super-resolution papers report them."""

from fastsr.metrics.psnr import luma_bt601, psnr
from fastsr.metrics.ssim import ssim

__all__ = ["luma_bt601", "psnr", "ssim"]
