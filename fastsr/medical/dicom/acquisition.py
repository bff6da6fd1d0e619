"""Attributes that only an acquired object has to have: a derived one is valid without them.

PS3.3 requires each where the first value of Image Type is ORIGINAL (most: or MIXED) and lets it be present otherwise;
dciodvfy takes its presence in a DERIVED object for an error. The source, which the derived object names, has them.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

_MR_PULSE_SEQUENCE = (  # C.8.13.4
    "PulseSequenceName",
    "MRAcquisitionType",
    "EchoPulseSequence",
    "MultipleSpinEcho",
    "MultiPlanarExcitation",
    "PhaseContrast",
    "TimeOfFlightContrast",
    "SteadyStatePulseSequence",
    "EchoPlanarPulseSequence",
    "SaturationRecovery",
    "SpectrallySelectedSuppression",
    "OversamplingPhase",
    "GeometryOfKSpaceTraversal",
    "RectilinearPhaseEncodeReordering",
    "SegmentedKSpaceTraversal",
    "CoverageOfKSpace",
    "NumberOfKSpaceTrajectories",
)
_SYNCHRONIZATION = (  # C.7.6.18.1, C.7.6.18.3
    "CardiacRRIntervalSpecified",
    "IntervalsAcquired",
    "IntervalsRejected",
    "BulkMotionCompensationTechnique",
    "BulkMotionSignalSource",
)
_CALIBRATION = ("TableHeight", "BeamAngle")  # C.8.19.6.9, in Projection Pixel Calibration Sequence


def drop_acquisition(image: Dataset) -> None:
    """Drop them from an enhanced object; others (MR Image, say) need some of the same attributes."""
    for keyword in (*_MR_PULSE_SEQUENCE, *_SYNCHRONIZATION):
        if keyword in image:
            del image[keyword]
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in image.get(groups) or ():
            for item in group.get("ProjectionPixelCalibrationSequence") or ():
                for keyword in _CALIBRATION:
                    if keyword in item:
                        del item[keyword]
