"""The choice of layers: within the budget as measured, the cheapest for what they save first."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.calibration.judge import Effect
from mlic.calibration.layers import Layer, layers_of
from mlic.calibration.observe import observe
from mlic.calibration.ranges import min_max
from mlic.calibration.sensitivity import Budget, Sensitivity, Transform, choose, measure_layers, num_choices
from tests.calibration.graphs import body_graph, normal, operators

BUDGET = Budget(1.0, 1.0)


class FakeTransform:
    """Says which layers are quantised instead of quantising them."""

    def __init__(self, name):
        self.name = name

    def quantized(self, layers, form):
        assert {layer.graph for layer in layers} <= {self.name}
        return form, frozenset(layer.node for layer in layers)


class FakeJudge:
    """Knows what every set of layers costs, and remembers which it was asked for."""

    def __init__(self, cost):
        self.cost, self.asked = cost, []

    def measure(self, **models):
        ((form,), chosen) = {form for form, _ in models.values()}, frozenset().union(*(n for _, n in models.values()))
        self.asked.append((form, chosen))
        found = self.cost(chosen, form)
        return found if isinstance(found, Effect) else Effect(found, 0.0)


def layer(node, graph="g_a"):
    return Layer(graph, node, node, ("x",), "y", 100, "")


def sensitivities(costs, products=None, graphs=None):
    """Return one for each layer, named by letters, from what it costs alone in dB or as an effect."""
    return [
        Sensitivity(
            layer(node, (graphs or {}).get(node, "g_a")),
            (products or {}).get(node, 1.0),
            cost if isinstance(cost, Effect) else Effect(cost, 0.0),
        )
        for node, cost in costs.items()
    ]


def chosen_of(found, judge, form="unsigned", **options):
    transforms = [FakeTransform(name) for name in sorted({one.layer.graph for one in found})]
    return {one.layer.node for one in choose(transforms, form, found, judge, BUDGET, **options) if one.chosen}


def additive(costs):
    return FakeJudge(lambda chosen, _: sum(costs[node] for node in chosen))


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (Effect(0.05, 0.1), 0.5),
        (Effect(0.02, 0.4), 0.8),
        (Effect(0.2, -3.0), 2.0),
        (Effect(-0.1, -0.1), -0.2),
    ],
)
def test_share_is_that_of_the_limit_that_is_nearer(effect, expected):
    assert Budget(0.1, 0.5).share(effect) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (Effect(0.0, 0.0), 0),
        (Effect(-0.1, -0.1), 0),
        (Effect(0.1, 0.0), math.inf),
        (Effect(0.0, 0.1), math.inf),
    ],
)
def test_budget_of_nothing_is_kept_by_what_costs_nothing_alone(effect, expected):
    assert Budget(0.0, 0.0).share(effect) == expected


def test_layer_that_was_not_measured_takes_no_share():
    assert Sensitivity(layer("a"), 1.0, None).share(BUDGET) == 0


def test_all_layers_are_chosen_where_they_fit_together():
    costs = {"a": 0.3, "b": 0.3, "c": 0.4}
    assert chosen_of(sensitivities(costs), additive(costs)) == {"a", "b", "c"}


def test_no_layer_is_chosen_where_none_fits():
    costs = {"a": 1.1, "b": 2}
    assert chosen_of(sensitivities(costs), additive(costs)) == set()


def test_no_layers_make_no_choice():
    judge = additive({})
    assert chosen_of([], judge) == set()
    assert judge.asked == []


def test_layer_beyond_the_budget_is_left_out_whatever_it_saves():
    costs = {"a": 0.2, "b": 1.5, "c": 0.2}
    assert chosen_of(sensitivities(costs, {"b": 1000}), additive(costs)) == {"a", "c"}


def test_layer_beyond_the_budget_alone_is_not_tried_in_addition_to_others():
    costs = {"a": 0.5, "b": 0.9, "c": 1.5}
    sets = {frozenset("a"): 0.5, frozenset("ab"): 1.4, frozenset("abc"): 2.9, frozenset("ac"): 0.5}
    judge = FakeJudge(lambda chosen, _: sets[chosen])
    assert chosen_of(sensitivities(costs, {"a": 10, "b": 5}), judge) == {"a"}


def test_layer_beyond_the_budget_of_bits_alone_is_left_out():
    costs = {"a": Effect(0.1, 0.1), "b": Effect(0.1, 1.2)}

    def cost(chosen, _):
        return Effect(sum(costs[n].psnr_loss_db for n in chosen), sum(costs[n].rate_percent for n in chosen))

    assert chosen_of(sensitivities(costs), FakeJudge(cost)) == {"a"}


def test_layers_that_save_more_for_what_they_cost_come_first():
    costs = {"a": 0.5, "b": 0.6, "c": 0.5}
    assert chosen_of(sensitivities(costs, {"a": 1, "b": 10, "c": 1}), additive(costs)) == {"b"}
    assert chosen_of(sensitivities(costs, {"a": 10, "b": 1, "c": 10}), additive(costs)) == {"a", "c"}


def test_smaller_layer_behind_one_that_does_not_fit_is_added():
    costs = {"a": 0.5, "b": 0.9, "c": 0.3}
    assert chosen_of(sensitivities(costs, {"a": 50, "b": 45, "c": 3}), additive(costs)) == {"a", "c"}


@pytest.mark.parametrize("costs", list(itertools.permutations([0.7, 0.4, 0.2, 0.1])))
def test_of_layers_that_save_alike_as_many_as_possible_are_chosen(costs):
    by_name = dict(zip("abcd", costs, strict=True))
    chosen = chosen_of(sensitivities(by_name), additive(by_name))
    assert sorted(by_name[node] for node in chosen) == [0.1, 0.2, 0.4]


def test_layer_that_gains_does_not_pay_for_others_before_it_is_measured_with_them():
    costs = {"a": -0.5, "b": 1.2, "c": 0.9}
    assert chosen_of(sensitivities(costs), additive(costs)) == {"a", "c"}


def test_set_that_costs_more_than_its_parts_is_not_chosen():
    costs = dict.fromkeys("abcd", 0.2)
    judge = FakeJudge(lambda chosen, _: 0.2 * len(chosen) ** 2)
    assert len(chosen_of(sensitivities(costs), judge)) == 2


def test_set_that_costs_less_than_its_parts_is_chosen():
    costs = dict.fromkeys("abcd", 0.4)
    judge = FakeJudge(lambda chosen, _: 0.2 * len(chosen))
    assert chosen_of(sensitivities(costs), judge) == set("abcd")


@pytest.mark.parametrize(("form", "expected"), [("unsigned", {"a", "b", "c"}), ("symmetric", {"a"})])
def test_sets_are_measured_in_the_form_that_they_are_chosen_for(form, expected):
    costs = {"a": 0.2, "b": 0.3, "c": 0.4}
    judge = FakeJudge(lambda chosen, form: sum(costs[node] for node in chosen) * (3 if form == "symmetric" else 1))
    assert chosen_of(sensitivities(costs), judge, form) == expected
    assert {asked for asked, _ in judge.asked} == {form}


def test_transforms_share_the_budget():
    costs, graphs = {"a": 0.6, "b": 0.3, "c": 0.5}, {"b": "g_s", "c": "g_s"}
    assert chosen_of(sensitivities(costs, None, graphs), additive(costs)) == {"b", "c"}


def test_layers_of_one_name_in_two_transforms_are_told_apart():
    found = [Sensitivity(layer("a", "g_a"), 1.0, Effect(0.1, 0)), Sensitivity(layer("a", "g_s"), 1.0, Effect(2.0, 0))]

    class Judge:
        def measure(self, g_a, g_s):
            return Effect(0.1 * len(g_a[1]) + 2.0 * len(g_s[1]), 0.0)

    result = choose([FakeTransform("g_a"), FakeTransform("g_s")], "unsigned", found, Judge(), BUDGET)
    assert [(one.layer.graph, one.chosen) for one in result] == [("g_a", True), ("g_s", False)]


def test_list_keeps_its_order_and_all_but_the_choice():
    costs = {"a": 0.9, "b": 0.1, "c": 0.5}
    before = sensitivities(costs)
    after = choose([FakeTransform("g_a")], "unsigned", before, additive(costs), BUDGET)
    assert [(one.layer, one.products, one.effect) for one in after] == [
        (one.layer, one.products, one.effect) for one in before
    ]
    assert [one.chosen for one in after] == [False, True, True]
    assert not any(one.chosen for one in before)


COSTS = st.dictionaries(st.sampled_from("abcdefghij"), st.floats(-0.5, 1.5), max_size=10)


@given(costs=COSTS, bend=st.floats(0.5, 2))
def test_chosen_set_was_measured_to_keep_the_budget(costs, bend):
    def cost(chosen, _):
        total = sum(costs[node] for node in sorted(chosen))
        return math.copysign(abs(total) ** bend, total)

    judge = FakeJudge(cost)
    chosen = frozenset(chosen_of(sensitivities(costs), judge))
    if chosen:
        assert ("unsigned", chosen) in judge.asked
        assert cost(chosen, "unsigned") <= 1


@given(costs=st.dictionaries(st.sampled_from("abcdefghij"), st.floats(0, 1.5), max_size=10))
def test_no_layer_could_be_added_where_costs_add_up(costs):
    chosen = chosen_of(sensitivities(costs), additive(costs))
    total = sum(costs[node] for node in chosen)
    assert all(total + cost > 1 - 1e-9 for node, cost in costs.items() if node not in chosen)


@given(costs=COSTS, outcomes=st.randoms(use_true_random=False))
def test_num_choices_is_never_exceeded(costs, outcomes):
    judge, steps = FakeJudge(lambda chosen, form: outcomes.choice([0.0, 2.0])), []
    chosen_of(sensitivities(costs), judge, progress=steps.append)
    assert len(judge.asked) == len(steps) <= num_choices(len(costs))


@pytest.fixture
def transform(rng):
    model = body_graph(rng)
    x = normal(rng, (1, 6, 8, 8))
    layers = layers_of("g_s", model)
    tensors = sorted({name for one in layers for name in (*one.inputs, one.output)})
    observations = observe(model, tensors, [x], [64], 1)
    return Transform("g_s", model, layers, observations, {name: min_max(o) for name, o in observations.items()})


@pytest.mark.parametrize(("form", "roundings"), [("unsigned", 2), ("symmetric", 1)])
def test_each_layer_is_measured_alone_in_its_own_transform_and_form(form, roundings, transform):
    measured, titles = [], []

    class Judge:
        def measure(self, g_s):
            measured.append(operators(g_s).count("QuantizeLinear"))
            return Effect(len(measured), 0.5)

    found = measure_layers(transform, form, Judge(), titles.append)
    assert titles == [one.title for one in transform.layers] == ["first", "inner", "outer", "last"]
    assert measured == [roundings] * 4
    assert [one.layer for one in found] == list(transform.layers)
    assert [one.effect for one in found] == [Effect(count, 0.5) for count in (1, 2, 3, 4)]
    assert [one.products for one in found] == [6 * 6 * 9, 6 * 16, 6 * 16, 6 * 6 * 9]
    assert not any(one.chosen for one in found)
