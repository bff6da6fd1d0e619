"""The networks, each in training form and, by `to_inference()`, in its equal inference form."""

from training.nets.fmen import FMEN, FMENInference
from training.nets.srgan import (
    SRGANDiscriminator,
    SRGANDiscriminatorInference,
    SRGANGenerator,
    SRGANGeneratorInference,
)
from training.nets.vdsr import VDSR, VDSRInference, bicubic_upscale

__all__ = [
    "FMEN",
    "VDSR",
    "FMENInference",
    "SRGANDiscriminator",
    "SRGANDiscriminatorInference",
    "SRGANGenerator",
    "SRGANGeneratorInference",
    "VDSRInference",
    "bicubic_upscale",
]
