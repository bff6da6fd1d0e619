"""Consistency of a result with the image that it was made of: measuring it, enforcing it, and what goes beyond it."""

from fastsr.consistency.prior import prior_map
from fastsr.consistency.report import Report, Residual, join_reports

__all__ = ["Report", "Residual", "join_reports", "prior_map"]
