"""Verdicts against slow arithmetic with tabulated quantiles of Student's t."""

import math
from dataclasses import replace

import pytest
from test_render import fake

from lt_repro.papers.claim import Claim, Comparison, Place
from lt_repro.papers.dbn_mix.tables import FIG3B, TABLE4, TABLE5, TABLE6A
from lt_repro.papers.table import ratios
from lt_repro.render.cells import measure
from lt_repro.render.intervals import interval, quantile, values_needed
from lt_repro.render.verdicts import (
    check,
    check_cell,
    check_once,
    checked_line,
    checked_text,
    claim_lines,
    judge,
    on,
    places,
)

T = {2: 12.7062, 3: 4.3027, 4: 3.1824, 5: 2.7764, 6: 2.5706, 7: 2.4469, 100: 1.9842}  # t(.975, n-1), as tables print it
TABLE = replace(TABLE4, rows=TABLE4.rows[:4], columns=ratios(100, 50), seeds=tuple(range(5)))
A, B, C, D = (Place("table4", row.label, "100") for row in TABLE.rows)
A50, B50 = A._replace(column="50"), B._replace(column="50")
BELOW, TEXT = Comparison((B,), (A,)), "B is better than A."


def measured(values, table=TABLE):
    """The cells of a table; values[place] is an accuracy a seed, None a diverged run, ... a seed that was not run."""
    recipes = {Place("table4", cell.row.label, cell.column.label): cell.recipe for cell in table.cells()}
    runs = [
        fake(recipes[place].replace(seed=seed), value)
        for place, each in values.items()
        for seed, value in enumerate(each)
        if value is not ...
    ]
    return measure(table, runs)


def claim(*comparisons, equivalence_margin=None):
    return Claim("id", TEXT, "Sec. 4.4", comparisons, equivalence_margin)


def judged(values, *comparisons, equivalence_margin=None):
    return judge(
        claim(*(comparisons or [BELOW]), equivalence_margin=equivalence_margin), places([(TABLE, measured(values))])
    )


def checked(*values, printed=0.3846):
    cells = measured({A: values})
    published = cells[0].cell.published._replace(value=printed)
    return check([replace(cells[0], cell=replace(cells[0].cell, published=published))])[0]


def slow(values):
    """Mean, standard deviation and tabulated quantile, term by term."""
    n = len(values)
    mean = sum(values) / n
    square = 0.0
    for value in values:
        square += (value - mean) * (value - mean)
    return mean, math.sqrt(square / (n - 1)), T[n]


@pytest.mark.parametrize("n", T)
def test_quantile_is_the_tabulated_one(n):
    assert quantile(n) == pytest.approx(T[n], abs=5e-5)


@pytest.mark.parametrize(
    "values", [(0.1, 0.4), (0.38, 0.39, 0.41), (-0.2, 0.0, 0.1, 0.3), (0.5, 0.52, 0.51, 0.47, 0.6)]
)
def test_interval_by_hand(values):
    mean, sd, t = slow(values)
    assert interval(values) == pytest.approx((mean, t * sd / math.sqrt(len(values))), rel=2e-5)


def test_interval_of_equal_values_and_of_too_few():
    assert interval([0.1, 0.1, 0.1]) == (0.1, 0.0)
    for values in ([], [0.5]):
        with pytest.raises(ValueError, match=f"at least 2 values, not {len(values)}"):
            interval(values)
        with pytest.raises(ValueError, match="at least 2"):
            quantile(len(values))


@pytest.mark.parametrize("values", [(0.38, 0.39, 0.41), (0.38, 0.39, 0.41, 0.4), (0.5, 0.52, 0.51, 0.47, 0.6)])
def test_check_turns_at_the_interval_of_the_mean_and_at_that_of_one_more_run(values):
    mean, sd, t = slow(values)
    of_mean, of_run = t * sd / math.sqrt(len(values)), t * sd * math.sqrt(1 + 1 / len(values))
    turns = [
        *((share * of_mean, "reproduced") for share in (0, 0.999)),
        *((distance, "within one more run") for distance in (1.001 * of_mean, 0.999 * of_run)),
        *((share * of_run, "outside") for share in (1.001, 3)),
    ]
    for side in (-1, 1):
        for distance, status in turns:
            result = checked(*values, printed=mean + side * distance)
            assert result.status == status
            assert (result.mean_half, result.run_half) == pytest.approx((of_mean, of_run), rel=2e-5)


def test_check_without_spread():
    for value in (0.1, 0.3846, 0.7):
        assert checked(value, value, value, printed=value)[1:] == ("reproduced", 0.0, 0.0)
        assert checked(value, value, value, printed=value + 1e-6)[1:] == ("outside", 0.0, 0.0)


def test_check_with_few_seeds_is_never_outside():
    assert checked()[1:] == ("not run", None, None)
    assert checked(None, None, None)[1:] == ("not run", None, None)
    assert checked({"many": 0.9}, {"many": 0.9}, {"many": 0.9})[1:] == ("not run", None, None)  # no such class group
    assert checked(0.9)[1:] == ("too few seeds", None, None)
    assert checked(0.9, 0.9)[1:] == ("too few seeds", None, None)
    assert checked(0.9, None, 0.9)[1:] == ("too few seeds", None, None)
    assert checked(0.9, 0.9, 0.9).status == "outside"


def test_one_number_against_one_recipe_counts_once_with_all_its_exhibits():
    tables = [TABLE4, TABLE5, FIG3B]
    runs = [fake(recipe, 0.4) for recipe in TABLE5.recipes()]
    once = check_once((table, measure(table, runs)) for table in tables)
    every = [result for table in tables for result in check(measure(table, runs))]
    assert len(once) < len(every) == sum(len(names) for _, names in once)
    ((whole, names),) = [
        (result, names)
        for result, names in once
        if result.measured.cell.published.value == 0.5104 and result.measured.n
    ]
    assert names == ["table4", "table5", "fig3b"]
    assert whole.measured.n == len(TABLE5.seeds) > len(FIG3B.seeds)


def test_line_and_text_of_a_checked_cell():
    values = (0.48, 0.49, 0.5)
    _, sd, t = slow(values)
    of_mean, of_run = 100 * t * sd / math.sqrt(3), 100 * t * sd * math.sqrt(4 / 3)
    result = checked(*values, printed=0.52)
    place = "Single branch, vanilla, ratio 100 (table4, rivals): "
    assert checked_line(result, ["table4", "rivals"]) == (
        f"within one more run: {place}49.00 ± 1.00 (3), published 52.00; "
        f"95 % interval of our mean ± {of_mean:.2f}, of one more run ± {of_run:.2f}, n = 3"
    )
    assert checked_text(result) == f"within one more run: −3.00 (± {of_mean:.2f}, ± {of_run:.2f}), n = 3"
    few = checked(0.53, printed=0.52)
    assert checked_line(few, ["table4", "rivals"]) == f"too few seeds: {place}53.00 (1), published 52.00"
    assert checked_text(few) == "too few seeds: +1.00, n = 1"
    assert checked_text(checked()) == "not run"


def test_check_leaves_out_what_is_not_printed():
    cells = measured({B50: (0.5, 0.6, 0.7)})
    checked = check(cells)
    assert [result.measured for result in checked] == cells
    assert [result.status for result in checked] == ["not run"] * 3 + ["reproduced"] + ["not run"] * 4
    table = replace(TABLE, published={(B.row, "50"): TABLE.published[B.row, "50"]})
    assert [(result.measured.cell.row.label, result.status) for result in check(measured({}, table))] == [
        (B.row, "not run")
    ]
    assert check(measured({}, replace(TABLE, published={}))) == []
    assert check_cell(cells[0].unprinted()) is None


# differences of B - A; the first two have the same mean and another spread
HOLDS, OPEN, NOT = (0.05, 0.06, 0.07), (0.0, 0.06, 0.12), (-0.04, -0.05, -0.06)


def pair(differences, base=0.4):
    return {A: (base,) * len(differences), B: tuple(base + difference for difference in differences)}


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        (HOLDS, "holds"),
        (OPEN, "inconclusive"),
        (NOT, "does not hold"),
        ((-0.02, 0.0, 0.02), "inconclusive"),
        ((0.02, -0.05), "inconclusive"),  # a mean below 0 does not decide
        ((0.0, -0.06, -0.12), "inconclusive"),
        ((0.01, 0.01, 0.01), "holds"),
        ((0.0, 0.0), "does not hold"),  # equal is not above
        ((0.1, 0.12), "inconclusive"),
        ((0.1, 0.101), "holds"),
    ],
)
def test_judge_by_hand(differences, verdict):
    result = judged(pair(differences))
    mean, sd, t = slow(differences)
    assert result[1:4] == (verdict, 1, 1)
    assert result.details[0] == pytest.approx(
        (mean, t * sd / math.sqrt(len(differences)), len(differences)), rel=2e-5, abs=1e-12
    )


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((0.0, 0.0, 0.0), "holds"),
        ((0.02, 0.02), "holds"),  # the limit itself
        ((-0.02, -0.02), "holds"),
        ((0.021, 0.021), "does not hold"),
        ((-0.05, -0.051, -0.052), "does not hold"),
        ((0.05, 0.051, 0.052), "does not hold"),
        ((0.0, 0.01, 0.02), "inconclusive"),  # the mean within, the interval across
        ((0.01, 0.03, 0.05), "inconclusive"),
        ((-0.2, 0.0, 0.2), "inconclusive"),
    ],
)
def test_judge_of_what_is_said_to_be_alike(differences, verdict):
    assert judged(pair(differences), equivalence_margin=0.02).verdict == verdict


def test_equal_sums_in_another_order_do_not_hold():
    values = {A: (0.1,) * 3, B: (0.2,) * 3, C: (0.3,) * 3, D: (0.0,) * 3}
    assert 0.1 + 0.2 > 0.3  # which is what must not decide
    assert judged(values, Comparison((A, B), (C, D)))[1:] == ("does not hold", 1, 1, [(0.0, 0.0, 3)])


def test_only_seeds_that_every_place_has():
    values = {A: (0.1, 0.2, 0.4, ..., 0.9), B: (0.3, ..., 0.5, 0.9, 0.92)}
    differences = (0.3 - 0.1, 0.5 - 0.4, 0.92 - 0.9)
    mean, sd, t = slow(differences)
    assert judged(values).details == [pytest.approx((mean, t * sd / math.sqrt(3), 3), rel=2e-5)]
    assert judged({A: (0.1, ..., ...), B: (..., 0.2, 0.3)})[1:] == ("not yet measured", 0, 1, [(None, None, 0)])
    assert judged({A: (0.1, 0.1), B: (..., 0.2, 0.3)})[1:] == ("not yet measured", 0, 1, [(0.1, None, 1)])
    assert judged({})[1:] == ("not yet measured", 0, 1, [(None, None, 0)])
    assert judge(claim(BELOW), {})[1:] == ("not yet measured", 0, 1, [(None, None, 0)])


def test_diverged_runs_are_never_used():
    values = pair((0.05, 0.06, 0.07))
    assert judged(values | {A: (0.4, None, 0.4)}).details[0].n == 2
    assert judged(values | {A: (0.4, None, 0.4)}).details[0].mean == pytest.approx(0.06)
    assert judged(values | {B: (0.45, None, None)})[1:4] == ("not yet measured", 0, 1)
    assert judged(values | {B: (None, None, None)}).details == [(None, None, 0)]


def test_two_cells_a_side():
    values = {A: (0.1, 0.2, 0.3), B: (0.2, 0.31, 0.42), A50: (0.4, 0.5, 0.6), B50: (0.45, 0.56, 0.66)}
    gains = [(b - a) - (b50 - a50) for a, b, a50, b50 in zip(*(values[p] for p in (A, B, A50, B50)), strict=True)]
    mean, sd, t = slow(gains)
    result = judged(values, Comparison((B, A50), (A, B50)))
    assert result.details == [pytest.approx((mean, t * sd / math.sqrt(3), 3), rel=2e-5)]
    assert result.verdict == "holds"  # gains of 5, 5 and 6 points
    assert judged(values | {B50: (0.45, ..., 0.66)}, Comparison((B, A50), (A, B50))).details[0].n == 2


@pytest.mark.parametrize(
    ("b", "c", "verdict", "count"),
    [
        (HOLDS, HOLDS, "holds", 2),
        (HOLDS, OPEN, "inconclusive", 2),
        (HOLDS, NOT, "holds in part", 2),
        (OPEN, OPEN, "inconclusive", 2),
        (OPEN, NOT, "does not hold", 2),
        (NOT, NOT, "does not hold", 2),
        (HOLDS, (), "inconclusive", 1),
        (HOLDS, (0.3,), "inconclusive", 1),
        (OPEN, (), "inconclusive", 1),
        (NOT, (), "does not hold", 1),
        (NOT, (0.3,), "does not hold", 1),
        ((), (), "not yet measured", 0),
        ((0.3,), (), "not yet measured", 0),
    ],
)
def test_judge_of_two_comparisons(b, c, verdict, count):
    values = {
        A: (0.4,) * 3,
        B: tuple(0.4 + difference for difference in b),
        C: tuple(0.4 + difference for difference in c),
    }
    for comparisons in ((BELOW, Comparison((C,), (A,))), (Comparison((C,), (A,)), BELOW)):
        assert judged(values, *comparisons)[1:4] == (verdict, count, 2)


def test_places_are_those_of_the_paper():
    small = TABLE.with_settings(ratios(60), dataset="digits")
    assert small.id == "table4-digits-r60"
    digits_cells, paper_cells = measure(small, []), measured({A: (0.5,)})
    result = places([(TABLE, paper_cells), (small, digits_cells), (TABLE6A, measure(TABLE6A, []))])
    assert len(result) == len(paper_cells) + len(digits_cells) + len(TABLE6A.rows)
    assert result[A] is paper_cells[0]
    assert result[A._replace(column="60")] is digits_cells[0]
    assert result["table6a", "dbn", "accuracy"].cell.row.label == "dbn"
    with pytest.raises(ValueError, match="table4: table4 sbn 100 appears twice"):
        places(
            [(TABLE.with_settings(dataset="digits"), digits_cells[:0]), (TABLE, paper_cells), (TABLE, paper_cells[:1])]
        )


def test_claim_moves_to_a_single_column():
    small = TABLE.with_settings(ratios(60), dataset="digits")
    a, b, c = (place._replace(column="60") for place in (A, B, C))
    asked = claim(BELOW, Comparison((B, C), (A, A)), equivalence_margin=0.02)
    moved = on(asked, small)
    assert moved == replace(asked, comparisons=(Comparison((b,), (a,)), Comparison((b, c), (a, a))))
    cell = {small_cell.row.label: small_cell.recipe for small_cell in small.cells()}
    runs = [
        fake(cell[p.row].replace(seed=seed), 0.4 + 0.06 * (p is B) + 0.001 * seed) for p in (A, B) for seed in (0, 1)
    ]
    result = places([(small, measure(small, runs))])
    assert judge(on(claim(BELOW), small), result).verdict == "holds"
    assert judge(claim(BELOW), result).verdict == "not yet measured"


def test_claim_that_can_be_asked_as_it_is_or_not_at_all():
    small = TABLE.with_settings(ratios(60), dataset="digits")
    both = claim(BELOW, Comparison((B50,), (A50,)))
    grows = claim(Comparison((B, A50), (A, B50)))
    for candidate in (both, grows, claim(BELOW)):
        assert on(candidate, TABLE) is candidate
    for candidate in (both, grows):
        assert on(candidate, small) is None
    assert on(both, replace(TABLE, columns=ratios(100))) is None
    assert on(claim(BELOW), replace(TABLE, columns=ratios(60, 30))) is None
    assert on(claim(BELOW), replace(TABLE, rows=TABLE.rows[1:])) is None
    assert on(claim(BELOW), replace(small, rows=TABLE.rows[1:])) is None
    assert on(claim(BELOW), replace(small, exhibit="table5")) is None
    assert on(claim(BELOW, Comparison((B._replace(exhibit="table5"),), (A,))), small) is None
    few = replace(TABLE5, exhibit="table4", rows=TABLE.rows, columns=TABLE5.columns[-1:])
    assert on(claim(BELOW), few) is None  # the few-shot classes are not another imbalance


def lines(*arguments, **named):
    (line,) = claim_lines([judged(*arguments, **named)])
    return line


def test_line_of_a_claim():
    half = 100 * 4.3027 * 0.01 / math.sqrt(3)
    assert lines(pair(HOLDS)) == f"holds: B is better than A (Sec. 4.4). Here +6.00 ± {half:.2f} points, n = 3"
    assert (
        lines(pair((-0.01, -0.01))) == "does not hold: B is better than A (Sec. 4.4). Here −1.00 ± 0.00 points, n = 2"
    )
    assert lines(pair((0.01, 0.01)), equivalence_margin=0.02) == (
        "holds: B is better than A (Sec. 4.4). Here +1.00 ± 0.00 points, alike within 2.00, n = 2"
    )
    assert lines(pair((0.3,))) == "not yet measured: B is better than A (Sec. 4.4)"
    assert claim_lines([]) == []
    assert claim_lines([judged({}), judged(pair((0.01, 0.01)))])[1].startswith("holds: ")


def test_line_of_several_comparisons():
    values = {A: (0.4, 0.4), B: (0.41, 0.41), C: (0.35, 0.35)}
    three = (BELOW, Comparison((C,), (A,)), Comparison((D,), (A,)))
    assert lines(values | {D: (0.5, 0.5)}, *three) == (
        "holds in part: B is better than A (Sec. 4.4). "
        "Here 2 of 3 comparisons hold, 1 does not, the smallest −5.00 ± 0.00 points, n = 2"
    )
    assert lines(values | {D: (0.9,)}, *three) == (
        "holds in part: B is better than A (Sec. 4.4). "
        "Here 1 of 3 comparisons hold, 1 does not, 1 not yet measured, the smallest −5.00 ± 0.00 points, n = 2"
    )
    assert lines(values | {D: (0.46, 0.46)}, *three, equivalence_margin=0.02) == (
        "holds in part: B is better than A (Sec. 4.4). "
        "Here 1 of 3 comparisons hold, 2 do not, the largest +6.00 ± 0.00 points, alike within 2.00, n = 2"
    )
    assert lines({}, *three) == "not yet measured: B is better than A (Sec. 4.4)"


@pytest.mark.parametrize("differences", [(0.1, 0.12), (0.1, 0.13), OPEN, (-0.06, 0.0, -0.12)])
def test_as_many_seeds_are_needed_as_narrow_the_interval(differences):
    mean, sd, t = slow(differences)
    n = len(differences)
    enough = next(count for count in (3, 4, 5, 6, 7) if count > n and T[count] * sd / math.sqrt(count) < abs(mean))
    assert values_needed(abs(mean), t * sd / math.sqrt(n), n) == enough
    assert lines(pair(differences)).startswith(f"inconclusive (needs about {enough} seeds): B is better than A (Sec")


def test_seeds_needed_have_a_limit():
    half = T[2] / math.sqrt(2)  # of two values with a standard deviation of 1
    at_limit = T[100] / 10  # of a hundred
    assert values_needed(at_limit * 1.001, half, 2) == 100
    assert values_needed(at_limit * 0.999, half, 2) is None
    assert values_needed(0.0, half, 2) is None
    assert lines(pair((-0.02, 0.0, 0.02))).startswith("inconclusive (needs more than 100 seeds): B is")


def test_seeds_needed_to_say_that_two_are_alike():
    for differences in ((0.0, 0.01, 0.02), (0.03, 0.04, 0.05)):  # one mean within the margin of 2 points, one outside
        mean, sd, _ = slow(differences)
        enough = next(n for n in (4, 5, 6, 7) if T[n] * sd / math.sqrt(n) < abs(mean - 0.02))
        line = lines(pair(differences), equivalence_margin=0.02)
        assert line.startswith(f"inconclusive (needs about {enough} seeds): ")


def test_line_of_several_comparisons_that_are_open():
    three = (BELOW, Comparison((C,), (A,)), Comparison((D,), (A,)))
    values = {A: (0.4,) * 3, B: tuple(0.4 + d for d in OPEN), C: (0.41, 0.41, 0.41)}
    number = f"{100 * 4.3027 * 0.06 / math.sqrt(3):.2f} points, n = 3"
    assert lines(values | {C: ()}, *three) == (
        "inconclusive (needs about 7 seeds): B is better than A (Sec. 4.4). "
        f"Here 0 of 3 comparisons hold, 1 inconclusive, 2 not yet measured, the smallest +6.00 ± {number}"
    )
    assert lines(values | {B: ()}, *three) == (
        "inconclusive: B is better than A (Sec. 4.4). "
        "Here 1 of 3 comparisons hold, 2 not yet measured, the smallest +1.00 ± 0.00 points, n = 3"
    )
    assert lines(values | {D: (0.4, 0.39, 0.42)}, *three).startswith(
        "inconclusive (needs about 84 seeds): "
    )  # the most
    assert lines(values | {D: (0.3, 0.3, 0.3)}, *three).startswith("holds in part: ")
    assert lines(values | {D: (0.4, 0.39, 0.41)}, *three).startswith("inconclusive (needs more than 100 seeds): ")
