"""What calibration raises."""

from mlic.runtime.errors import MlicError


class CalibrationError(MlicError):
    """A bundle cannot be calibrated; the text says which file, graph or option is to blame."""
