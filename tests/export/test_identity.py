"""The identity of integer bundles; that of float bundles is tried in ``test_bundle_writer.py``."""

import subprocess
import sys

import numpy as np

from mlic.export.identity import integer_model_id
from mlic.runtime.manifest import StepSpec

GRAPHS = {"h_s": "0" * 64, "step_00": "1" * 64, "finish": "2" * 64}
TABLES = {"y_lengths": np.array([3, 4], np.int32), "medians": np.zeros(2, np.float32)}
STEPS = (StepSpec("step_00", (0, 2), "all"),)


def test_the_identity_is_frozen():
    assert integer_model_id(GRAPHS, TABLES, STEPS).hex() == "ea40055bfd0cf166"


def test_the_identity_follows_graphs_tables_and_steps_and_not_their_order():
    found = {
        integer_model_id(GRAPHS, TABLES, STEPS),
        integer_model_id(GRAPHS | {"finish": "3" * 64}, TABLES, STEPS),
        integer_model_id(GRAPHS, TABLES | {"y_lengths": np.array([4, 3], np.int32)}, STEPS),
        integer_model_id(GRAPHS, TABLES | {"y_lengths": np.array([3, 4], np.int64)}, STEPS),
        integer_model_id(GRAPHS, TABLES, (StepSpec("step_00", (0, 2), "anchor"),)),
    }
    assert len(found) == 5
    assert integer_model_id(dict(reversed(GRAPHS.items())), dict(reversed(TABLES.items())), STEPS) in found


def test_identities_need_no_torch():
    code = "import sys; import mlic.export.identity; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
