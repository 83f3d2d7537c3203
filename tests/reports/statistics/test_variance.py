import math

import numpy as np
import pytest

from twinbench.reports.statistics.variance import variance_by_source


def table(values, names=("seed", "probe")):
    """Rows of an array whose axes are the factors, with further axes as repeats."""
    return [{**dict(zip(names, index, strict=False)), "value": float(value)} for index, value in np.ndenumerate(values)]


def drawn(shape, sds, rng):
    """Crossed effects: one per axis with its sd, and a remainder with the last sd."""
    values = rng.normal(0.9, sds[-1], shape)
    for axis, sd in enumerate(sds[:-1]):
        values += rng.normal(0, sd, [size if i == axis else 1 for i, size in enumerate(shape)])
    return values


def estimates(sources):
    return {source.name: None if source.sd is None else source.sd**2 for source in sources}


@pytest.mark.parametrize("shape", [(3, 4), (6, 5), (10, 2)])
def test_two_crossed_factors_equal_the_analysis_of_variance(shape):
    values = drawn(shape, (0.05, 0.03, 0.01), np.random.default_rng(shape))
    rows, columns = shape
    grand, of_row, of_column = values.mean(), values.mean(axis=1), values.mean(axis=0)
    ms_row = columns * np.sum((of_row - grand) ** 2) / (rows - 1)
    ms_column = rows * np.sum((of_column - grand) ** 2) / (columns - 1)
    ms_error = np.sum((values - of_row[:, None] - of_column + grand) ** 2) / ((rows - 1) * (columns - 1))
    found = estimates(variance_by_source(table(values), ["seed", "probe"]))
    assert found["seed"] == pytest.approx((ms_row - ms_error) / columns, rel=1e-9)
    assert found["probe"] == pytest.approx((ms_column - ms_error) / rows, rel=1e-9)
    assert found["remainder"] == pytest.approx(ms_error, rel=1e-9)


def test_one_factor_with_repeats_equals_the_one_way_analysis_of_variance():
    values = drawn((6, 4), (0.05, 0.0, 0.01), np.random.default_rng(1))
    between, within = 4 * values.mean(axis=1).var(ddof=1), values.var(axis=1, ddof=1).mean()
    found = estimates(variance_by_source(table(values), ["seed"]))
    assert found == pytest.approx({"seed": (between - within) / 4, "remainder": within}, rel=1e-9)


@pytest.mark.filterwarnings("ignore")  # of statsmodels' optimiser
def test_balanced_data_give_what_statsmodels_reml_gives():
    import pandas as pd
    from statsmodels.formula.api import mixedlm

    rows = table(drawn((12, 8), (0.05, 0.03, 0.02), np.random.default_rng(0)))
    components = {"seed": "0 + C(seed)", "probe": "0 + C(probe)"}
    frame = pd.DataFrame(rows).assign(value=lambda x: 100 * x["value"], group=0)
    fit = mixedlm("value ~ 1", frame, groups="group", re_formula="0", vc_formula=components).fit(reml=True)
    theirs = dict(zip(fit.model.exog_vc.names, fit.vcomp / 1e4, strict=True))
    ours = estimates(variance_by_source(rows, ["seed", "probe"]))
    assert ours == pytest.approx({**theirs, "remainder": fit.scale / 1e4}, rel=1e-3)


def test_three_sources_are_found_without_bias_where_a_fifth_of_the_rows_is_missing():
    rng, sums = np.random.default_rng(0), []
    sds = (0.5, 0.3, 0.2, 0.1)  # so far from 0 that none is ever estimated below
    for _ in range(200):
        rows = table(drawn((8, 6, 5), sds, rng), ("seed", "split", "probe"))
        kept = [rows[i] for i in rng.permutation(len(rows))[: len(rows) * 4 // 5]]
        sums.append(list(estimates(variance_by_source(kept, ["seed", "split", "probe"])).values()))
    means, errors = np.mean(sums, axis=0), np.std(sums, axis=0) / math.sqrt(len(sums))
    assert np.all(np.abs(means - np.square(sds)) < 3 * errors)
    assert np.all(errors < 0.08 * np.square(sds))  # sharp enough to see a bias
    assert errors[-1] < 0.01 * sds[-1] ** 2  # the large effects do not blur the small remainder


def test_shares_add_up_to_one_and_rows_may_come_in_any_order():
    rows = table(drawn((5, 4), (0.05, 0.03, 0.01), np.random.default_rng(2)))
    sources = variance_by_source(rows, ["seed", "probe"])
    assert sum(source.share for source in sources) == pytest.approx(1.0)
    assert [source.name for source in sources] == ["seed", "probe", "remainder"]
    assert variance_by_source(rows[::-1], ["seed", "probe"]) == sources


def test_a_factor_with_one_level_is_not_varied():
    rows = [{**row, "split": 0} for row in table(drawn((4, 3), (0.05, 0.03, 0.01), np.random.default_rng(3)))]
    seed, split, _, _ = variance_by_source(rows, ["seed", "split", "probe"])
    assert (split.levels, split.sd, split.share, split.note) == (1, None, None, "not varied")
    assert seed == variance_by_source(rows, ["seed", "probe"])[0]


def test_an_estimate_below_zero_is_set_to_zero_and_says_so():
    # Seeds with equal means whose values differ: between seeds there is less than chance would give.
    seed, remainder = variance_by_source(table(np.array([[1.0, 3.0], [3.0, 1.0], [1.0, 3.0]])), ["seed"])
    assert (seed.sd, seed.share, seed.note) == (0.0, 0.0, "estimated below 0, set to 0")
    assert remainder.share == 1.0


def test_one_value_per_seed_has_the_variance_of_the_seeds_and_no_remainder_of_its_own():
    (seed,) = variance_by_source(table(np.array([0.1, 0.2, 0.4])), ["seed"])
    assert seed.sd == pytest.approx(np.std([0.1, 0.2, 0.4], ddof=1))
    assert (seed.share, seed.note) == (1.0, "with the remainder: one value per level")


def test_equal_values_have_no_variance_and_no_shares():
    for source in variance_by_source(table(np.full((3, 3), 0.1)), ["seed", "probe"]):
        assert (source.sd, source.share, source.note) == (0.0, None, "")


def test_confounded_factors_are_named():
    rows = [{"seed": i, "split": i % 9, "probe": j, "value": i + 0.1 * j} for i in range(3) for j in range(3)]
    with pytest.raises(ValueError, match=r"confounded with others: seed, split$"):
        variance_by_source(rows, ["seed", "split", "probe"])
    nested = [
        {"seed": i, "probe": 2 * i + j, "value": float(i * j + k)} for i in range(3) for j in (0, 1) for k in (0, 1)
    ]
    with pytest.raises(ValueError, match=r"confounded with others: seed$"):
        variance_by_source(nested, ["seed", "probe"])
    with pytest.raises(ValueError, match=r"confounded variances: seed, probe$"):
        variance_by_source([{"seed": i, "probe": i, "value": float(i)} for i in range(4)], ["seed", "probe"])
    third = [{"a": i, "b": j, "c": i ^ j, "value": i + 0.5 * j} for i in (0, 1) for j in (0, 1)]
    with pytest.raises(ValueError, match="4 rows are too few for a remainder beside a, b, c"):
        variance_by_source(third, ["a", "b", "c"])


def test_one_value_per_seed_beside_a_split_leaves_the_seed_as_the_remainder_within_splits():
    rows = [{"seed": i, "split": i % 2, "value": v} for i, v in enumerate([0.1, 0.5, 0.2, 0.7, 0.4, 0.6])]
    seed, split = variance_by_source(rows, ["seed", "split"])
    within = (np.var([0.1, 0.2, 0.4], ddof=1) + np.var([0.5, 0.7, 0.6], ddof=1)) / 2
    between = 3 * np.var([np.mean([0.1, 0.2, 0.4]), 0.6], ddof=1)
    assert seed.sd**2 == pytest.approx(within)
    assert split.sd**2 == pytest.approx((between - within) / 3)


def test_rows_that_lack_a_factor_or_a_number_are_an_error():
    with pytest.raises(ValueError, match="a row lacks probe"):
        variance_by_source([{"seed": 0, "value": 1.0}, {"seed": 1, "probe": 0, "value": 1.0}], ["seed", "probe"])
    with pytest.raises(ValueError, match="not finite"):
        variance_by_source([{"seed": 0, "value": math.nan}, {"seed": 1, "value": 1.0}], ["seed"])
    with pytest.raises(ValueError, match="1 rows"):
        variance_by_source([{"seed": 0, "value": 1.0}], ["seed"])
