"""Whether graphs and steps fit together."""

import dataclasses

import pytest

from mlic.runtime.manifest import Padding, StepSpec, TensorSpec, Tiling
from mlic.runtime.manifest_json import manifest_from_json
from mlic.runtime.wiring import wiring_problems


@pytest.fixture(scope="module")
def manifest(bundle_folder):
    return manifest_from_json((bundle_folder / "manifest.json").read_text())


def change_graph(manifest, name, **changes):
    graph = manifest.graphs[name]
    spec = dataclasses.replace(graph.spec, **changes)
    return dataclasses.replace(manifest, graphs=manifest.graphs | {name: dataclasses.replace(graph, spec=spec)})


def test_a_good_manifest_has_no_problems(manifest):
    assert wiring_problems(manifest) == []


def test_missing_graphs_are_listed(manifest):
    graphs = {name: graph for name, graph in manifest.graphs.items() if name not in ("step_02", "finish")}
    assert wiring_problems(dataclasses.replace(manifest, graphs=graphs)) == ["graphs are missing: step_02, finish"]


def test_an_input_that_nothing_gives_is_named(manifest):
    inputs = manifest.graphs["step_01"].spec.inputs | {"ghost": TensorSpec("float32", (1,))}
    assert wiring_problems(change_graph(manifest, "step_01", inputs=inputs)) == [
        "graph step_01 takes ghost, which nothing gives before"
    ]


def test_an_input_of_a_later_step_is_too_early(manifest):
    spec = manifest.graphs["step_02"].spec.outputs["means_02"]
    inputs = manifest.graphs["step_02"].spec.inputs | {"symbols_02": spec}
    assert wiring_problems(change_graph(manifest, "step_02", inputs=inputs)) == [
        "graph step_02 takes symbols_02, which nothing gives before"
    ]


def test_an_encoder_side_array_cannot_be_taken(manifest):
    y = manifest.graphs["g_a"].spec.outputs["y"]
    inputs = manifest.graphs["step_00"].spec.inputs | {"y": y}
    assert wiring_problems(change_graph(manifest, "step_00", inputs=inputs)) == [
        "graph step_00 takes y, which nothing gives before"
    ]


def test_another_shape_is_shown_beside_the_given_one(manifest):
    inputs = manifest.graphs["step_00"].spec.inputs | {"hyper": TensorSpec("float16", (1, 8, "height/16", "width/16"))}
    assert wiring_problems(change_graph(manifest, "step_00", inputs=inputs)) == [
        "graph step_00 takes hyper as float16 [1, 8, height/16, width/16]; it is float32 [1, 8, height/16, width/16]"
    ]


def test_a_name_is_given_once(manifest):
    outputs = manifest.graphs["step_01"].spec.outputs | {"hyper": TensorSpec("float32", (1,))}
    assert "graph step_01 gives hyper a second time" in wiring_problems(
        change_graph(manifest, "step_01", outputs=outputs)
    )


def test_scales_have_the_shape_of_their_part(manifest):
    outputs = manifest.graphs["step_00"].spec.outputs | {
        "scales_00": TensorSpec("float32", (1, 2, "height/16", "width/16"))
    }
    assert wiring_problems(change_graph(manifest, "step_00", outputs=outputs)) == [
        "graph step_00 gives scales_00 as float32 [1, 2, height/16, width/16]; "
        "expected float32 [1, 2, height/16, width/32]"
    ]


@pytest.mark.parametrize("name", ["g_a", "h_a", "g_s"])
def test_the_transforms_have_fixed_names_and_shapes(manifest, name):
    problems = wiring_problems(change_graph(manifest, name, inputs={}, outputs={}))
    assert any(f"graph {name} takes nothing; expected" in problem for problem in problems)
    assert any(f"graph {name} gives" in problem and "as nothing; expected" in problem for problem in problems)


def test_finish_gives_y_hat(manifest):
    assert "graph finish gives y_hat as nothing" in wiring_problems(change_graph(manifest, "finish", outputs={}))[0]


def test_channels_of_the_manifest_and_of_the_graphs_agree(manifest):
    problems = wiring_problems(dataclasses.replace(manifest, z_channels=5))
    assert any("gives z_symbols as float32 [1, 4," in problem for problem in problems)


@pytest.mark.parametrize(
    ("number", "step", "message"),
    [
        (
            4,
            StepSpec("step_04", (4, 5), "all"),
            "1 channels of y are not filled exactly once at anchors, the first is 5",
        ),
        (4, StepSpec("step_04", (3, 6), "all"), "at nonanchors, the first is 3"),
        (
            1,
            StepSpec("step_01", (0, 2), "anchor"),
            "2 channels of y are not filled exactly once at anchors, the first is 0",
        ),
        (4, StepSpec("step_04", (4, 7), "all"), "step step_04 fills channels 4 to 6 of 6"),
        (0, StepSpec("step_03", (0, 2), "anchor"), "step 0 has graph step_03; expected step_00"),
    ],
)
def test_every_value_of_y_is_coded_once(manifest, number, step, message):
    steps = list(manifest.steps)
    steps[number] = step
    problems = wiring_problems(dataclasses.replace(manifest, steps=tuple(steps)))
    assert any(message in problem for problem in problems), problems


def test_the_entropy_path_is_exact(manifest):
    assert wiring_problems(change_graph(manifest, "step_01", exact=False)) == [
        "graph step_01 is not exact; the entropy path has to be"
    ]


def test_padding_gives_whole_latents(manifest):
    padding = Padding(32, "top-left", "zeros")
    assert "expected a multiple of 64" in wiring_problems(dataclasses.replace(manifest, padding=padding))[0]


@pytest.mark.parametrize(("graph", "multiple", "problem"), [
    ("g_a", 16, None),
    ("g_s", 64, None),
    ("h_a", 16, "graph h_a has a tiling; only g_a and g_s run over tiles"),
    ("g_a", 8, "graph g_a has tiles of a multiple of 8; expected a multiple of 16 that divides the padding's, 64"),
    ("g_s", 48, "graph g_s has tiles of a multiple of 48; expected a multiple of 16 that divides the padding's, 64"),
])  # fmt: skip
def test_tiles_hold_whole_latents_and_end_with_pictures(manifest, graph, multiple, problem):
    file = dataclasses.replace(manifest.graphs[graph], tiling=Tiling(multiple, multiple))
    changed = dataclasses.replace(manifest, graphs=manifest.graphs | {graph: file})
    assert wiring_problems(changed) == ([problem] if problem else [])
