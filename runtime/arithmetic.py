"""The arithmetics of an entropy path: what a step hands to the coder, and what a file carries for its decoder.

In ``float32-syndrome`` a step gives scales. Engines round differently, so a file carries checksums by which a decoder
corrects its table indexes. In ``integer`` a step gives the indexes themselves, computed in whole numbers: every engine
that passes the bundle's certificate has the same, and one checksum at the end is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlic.runtime.manifest import StepSpec


@dataclass(frozen=True)
class Arithmetic:
    """How both ends come to the same table indexes.

    Attributes:
        name: as manifests have it.
        code: as byte 5 of a file has it.
        chunk: critical chunk of a file that is about its indexes.
        given: what a step gives to the coder beside means: ``scales`` or ``indexes``.
        dtype: of that, numpy name.
    """

    name: str
    code: int
    chunk: bytes
    given: str
    dtype: str

    def output(self, step: StepSpec) -> str:
        """Return the name of what a step gives to the coder: ``scales_NN`` or ``indexes_NN``."""
        return step.graph.replace("step", self.given)


FLOAT32_SYNDROME = Arithmetic("float32-syndrome", 1, b"SYND", "scales", "float32")
INTEGER = Arithmetic("integer", 2, b"CHCK", "indexes", "uint8")
ARITHMETICS = {one.name: one for one in (FLOAT32_SYNDROME, INTEGER)}
