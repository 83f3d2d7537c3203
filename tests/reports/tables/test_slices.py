"""Which of a method's cells a table or figure by an axis shows, and what is held there."""

import itertools
from collections.abc import Mapping, Sequence

from twinbench.reports.tables.cells import SELECTED_BY, Cell, Measured, Section, Value
from twinbench.reports.tables.slices import Slice, shown_slices, slices, slices_text
from twinbench.sweeps.own_values import OwnValues

AXES = ("off_diagonal_weight", "projector_width", "batch_size")
METHOD = "barlow_twins"
OWN = {"projector_width": 256, "batch_size": 128}


def section_of(cells: Mapping[tuple[float, ...], float | None], axes: Sequence[str] = AXES) -> Section:
    """A section of one method: validation accuracy by the values of the axes; None of a cell whose trial failed."""
    made = []
    for number, (values, accuracy) in enumerate(cells.items()):
        trial = {"seed": 0, "status": "failed" if accuracy is None else "done"}
        measured = {} if accuracy is None else {SELECTED_BY: (Measured(0, accuracy, "one@1"),)}
        settings = {axis: Value(f"{value:g}", value) for axis, value in zip(axes, values, strict=True)}
        text = {axis: value.text for axis, value in settings.items()}
        changed = OwnValues({"training": OWN}).changed(METHOD, 0, text)
        made.append(Cell(f"cell{number}", METHOD, METHOD, settings, (trial,), measured, changed))
    return Section("synthetic", 1, "5" * 64, "sha256:1", {}, tuple(axes), tuple(made))


def shown(section: Section, *axes: str) -> Slice:
    return slices(section, METHOD, *axes)[0]


def numbers(one: Slice) -> list[tuple[float | None, ...]]:
    return [tuple(value.number for value in values) for values in one.cells]


ONE_AT_A_TIME = {
    **{(weight, 256, 128): 0.8 for weight in (0.001, 0.005, 0.05)},
    **{(0.005, width, 128): 0.8 for width in (64, 512)},
    **{(0.005, 256, batch): 0.9 for batch in (64, 256)},
}


def test_axes_swept_one_at_a_time_have_a_slice_each_though_the_chosen_cell_is_on_one_of_them():
    section = section_of(ONE_AT_A_TIME)
    assert section.chosen[METHOD].values["batch_size"].number != 128
    found = {axis: shown(section, axis) for axis in AXES}
    assert numbers(found["off_diagonal_weight"]) == [(0.001,), (0.005,), (0.05,)]
    assert numbers(found["projector_width"]) == [(64,), (256,), (512,)]
    assert numbers(found["batch_size"]) == [(64,), (128,), (256,)]
    assert [one.words for one in found.values()] == [
        "projector_width = 256, batch_size = 128",
        "off_diagonal_weight = 0.005, batch_size = 128",
        "off_diagonal_weight = 0.005, projector_width = 256",
    ]


def test_of_a_whole_grid_the_slice_through_the_chosen_cell_is_shown_and_others_are_mentioned():
    grid = {point: 0.8 for point in itertools.product((0.001, 0.005), (64, 128, 256))} | {(0.005, 128): 0.9}
    section = section_of(grid, AXES[:2])
    assert slices_text(shown_slices(section, "off_diagonal_weight")) == (
        "Other settings of barlow_twins: projector_width = 128 (protocol: 256). "
        "Of barlow_twins, the slice through the chosen cell is shown; others have as many cells."
    )
    assert slices_text({METHOD: shown(section, *AXES[:2])}) == ""


def test_methods_with_the_same_other_settings_are_named_together():
    one = shown(section_of(ONE_AT_A_TIME), "projector_width")
    assert slices_text({"a": one, "b": one}) == "Other settings of a, b: off_diagonal_weight = 0.005, batch_size = 128."


def test_a_pair_of_axes_is_shown_where_it_was_crossed_not_where_the_chosen_cell_is():
    crossed = {(*point, 128): 0.8 for point in itertools.product((0.001, 0.005), (64, 256))}
    section = section_of(crossed | {(0.005, 256, 64): 0.9})
    assert len(shown(section, *AXES[:2]).cells) == 4
    assert shown(section, *AXES[:2]).words == "batch_size = 128"


def test_a_cell_without_a_completed_trial_does_not_count():
    section = section_of({(0.1, 1): None, (0.2, 1): None, (0.3, 1): 0.7, (0.1, 2): 0.8, (0.2, 2): 0.7}, AXES[:2])
    assert shown(section, "off_diagonal_weight").held["projector_width"].number == 2


def test_zipped_axes_are_shown_together_and_the_words_say_so():
    section = section_of({(0.001, 64): 0.7, (0.005, 128): 0.8, (0.05, 256): 0.9}, AXES[:2])
    assert numbers(shown(section, "off_diagonal_weight")) == [(0.001,), (0.005,), (0.05,)]
    assert slices_text(shown_slices(section, "off_diagonal_weight")) == (
        "Other settings of barlow_twins: projector_width changes with off_diagonal_weight."
    )


def test_axes_zipped_and_crossed_with_a_third_hold_the_third():
    zipped = {(weight, width, batch): 0.8 for weight, width in ((0.1, 1), (0.2, 2)) for batch in (64, 128)}
    section = section_of(zipped | {(0.2, 2, 128): 0.9})
    assert (
        shown(section, "projector_width").words == "batch_size = 128, off_diagonal_weight changes with projector_width"
    )


def test_of_equal_slices_without_the_chosen_cell_the_one_of_the_protocol_is_shown_and_what_differs_is_named():
    lambdas = {(weight, width, 128): 0.8 for weight in (0.001, 0.005) for width in (64, 256)}
    section = section_of(lambdas | {(0.1, 512, 64): 0.9})
    shown, other, _ = slices(section, METHOD, "off_diagonal_weight")
    assert shown.words == "projector_width = 256, batch_size = 128"
    assert slices_text({METHOD: shown}).endswith(
        "nearest to the protocol's values is shown; others have as many cells."
    )
    assert other.held_text == "projector_width = 64 (protocol: 256), batch_size = 128"


def test_an_axis_with_nothing_else_varied_needs_no_words():
    section = section_of({(0.1,): 0.7, (0.2,): 0.8}, AXES[:1])
    assert slices_text(shown_slices(section, AXES[0])) == ""
