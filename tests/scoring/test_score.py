from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegaeon import runlog
from aegaeon.core import Request, Slo
from aegaeon.runlog import KvMoves, RequestLog, RunLog, Switches, Timelines
from aegaeon.scoring.score import mean_active, score, score_run
from aegaeon.scoring.tables import PARTS


def timelines(*requests: list[float]) -> Timelines:
    """One entry per token, as a live run measures them."""
    rows = [(i, at) for i, times in enumerate(requests) for at in times]
    request, start = np.array([i for i, _ in rows], dtype=np.int64), np.array([t for _, t in rows])
    zero = np.zeros(len(rows))
    return Timelines(request, np.ones(len(rows), dtype=np.int64), start, zero, zero)


def one(ages: list[float], slo: Slo, arrival: float = 0.0):
    return score(timelines([arrival + age for age in ages]), np.array([arrival]), slo)


# Times in 64ths of a second are exact in binary: a token at its deadline is on time for everyone.
TICK = 64
GAPS = st.lists(st.lists(st.integers(0, 300), max_size=30), min_size=1, max_size=8)
TARGETS = st.tuples(st.integers(1, 300), st.integers(1, 60))


def published_qos(per_token, ttft, tpot):
    """The loop of the public artifact's plot_e2e.py, in exact fractions."""
    qos, start, accum, target, t = 0, 0, 0, ttft, 0
    for gap in per_token:
        t += gap
        if t - start <= target:
            accum = target
        else:
            qos += accum
            start, accum = t, 0
        target += tpot
    total = sum(per_token)
    qos += min(target, total - start)
    return qos / total


@pytest.mark.parametrize(
    ("ages", "on_time"),
    [
        ([2.0, 2.1, 2.2], 3),
        ([10.0, 10.1, 10.2], 3),
        ([10.0001, 10.1, 10.2], 2),
        ([11.0, 11.1, 11.15, 11.2, 11.25], 0),
        # Late at first, then faster than the deadlines move.
        ([10.15, 10.16, 10.17, 10.18], 2),
        # A gap of 9 s after fast tokens: the client still has some to read.
        ([1.0, 1.02, 1.04, 10.2], 4),
        ([1.0, 1.02, 1.04, 10.31], 3),
    ],
)
def test_token_k_is_due_at_arrival_plus_ttft_plus_k_tbt(ages, on_time):
    for arrival in (0.0, 1234.5):
        assert one(ages, Slo(10.0, 0.1), arrival).on_time.tolist() == [on_time]


@given(gaps=GAPS, targets=TARGETS)
def test_on_time_tokens_are_counted_as_by_hand(gaps, targets):
    slo = Slo(targets[0] / TICK, targets[1] / TICK)
    ages = [np.cumsum(row) for row in gaps]
    scores = score(timelines(*(a / TICK for a in ages)), np.zeros(len(gaps)), slo)
    expected = [
        sum(int(at) <= targets[0] + k * targets[1] for k, at in enumerate(row)) for row in ages
    ]
    assert scores.on_time.tolist() == expected


@pytest.mark.parametrize(
    ("ages", "slo", "qos"),
    [
        # The artifact's own example: everything up to 5 counts, of 8.
        ([3, 6, 7, 8], (3, 2), 5 / 8),
        ([1, 2, 3], (3, 2), 1.0),
        # Late at once, and never again: the whole time after the first token counts.
        ([4, 5, 6], (3, 2), 2 / 6),
        ([10], (3, 2), 0.0),
    ],
)
def test_artifact_qos_known_answers(ages, slo, qos):
    assert float(published_qos(np.diff(ages, prepend=0).tolist(), *slo)) == pytest.approx(qos)
    assert one(ages, Slo(*map(float, slo))).artifact_qos == pytest.approx([qos])


@given(gaps=GAPS, targets=TARGETS)
def test_artifact_qos_is_the_published_loop(gaps, targets):
    slo = Slo(targets[0] / TICK, targets[1] / TICK)
    lists = [row for row in gaps if sum(row)]
    if not lists:
        return
    scores = score(timelines(*(np.cumsum(row) / TICK for row in lists)), np.zeros(len(lists)), slo)
    exact = [published_qos([Fraction(g) for g in row], *targets) for row in lists]
    assert scores.artifact_qos == pytest.approx([float(q) for q in exact])


def test_a_request_without_tokens_is_late_throughout():
    lines = timelines([], [0.5, 0.6], [])
    scores = score(lines, np.zeros(3), Slo(1.0, 0.1))
    assert scores.on_time.tolist() == [0, 2, 0]
    assert scores.artifact_qos.tolist() == [0.0, 1.0, 0.0]
    assert scores.joint.tolist() == [False, True, False]
    assert np.isnan(scores.ttft_s).tolist() == [True, False, True]
    assert np.isnan(scores.mean_tbt_s).tolist() == [True, False, True]


def test_nobody_served():
    scores = score(timelines([], []), np.zeros(2), Slo(1.0, 0.1))
    assert scores.on_time.tolist() == [0, 0]
    assert np.isnan([scores.tbt_p50_s, scores.tbt_p99_s]).all()


@pytest.mark.parametrize(
    ("ages", "met"),
    [
        ([1.0, 1.125, 1.25], True),
        # One slow gap, but 0.125 s on average.
        ([1.0, 1.03125, 1.25], True),
        ([1.0, 1.125, 1.375], False),
        ([1.0625, 1.125], False),
        ([1.0], True),
    ],
)
def test_joint_needs_the_first_token_and_the_mean_gap(ages, met):
    assert one(ages, Slo(1.0, 0.125)).joint.tolist() == [met]


def test_ttft_and_mean_tbt_are_measured_from_the_arrival():
    scores = score(timelines([5.5, 5.7, 6.1], [9.0]), np.array([5.0, 8.0]), Slo(1.0, 0.1))
    assert scores.ttft_s == pytest.approx([0.5, 1.0])
    assert scores.mean_tbt_s == pytest.approx([0.3, 0.0])


def test_gap_quantiles_are_over_all_gaps_inside_requests():
    scores = score(timelines([1.0, 1.1, 1.4], [100.0], [7.0, 7.2]), np.zeros(3), Slo(1.0, 0.1))
    assert scores.tbt_p50_s == pytest.approx(0.2, rel=1e-5)
    expected = np.quantile([0.1, 0.3, 0.2], 0.99)
    assert scores.tbt_p99_s == pytest.approx(float(expected), rel=1e-5)


SEGMENT = st.tuples(
    st.integers(1, 12), st.floats(0.0, 5.0), st.floats(1e-3, 0.3), st.floats(0.0, 1e-2)
)
SEGMENTS = st.lists(st.lists(SEGMENT, max_size=4), min_size=1, max_size=6)


def both_encodings(segments):
    """The same tokens as segments and one by one."""
    coded, tokens, clock = [], [], 0.0
    for ident, rows in enumerate(segments):
        tokens.append([])
        for count, pause, step, slope in rows:
            start = clock = clock + pause
            coded.append((ident, count, start, step, slope))
            for j in range(count):
                clock += step + slope * j
                tokens[ident].append(clock)
        clock = 0.0
    columns = list(zip(*coded, strict=True)) or [[]] * 5
    ints = [np.array(c, dtype=np.int64) for c in columns[:2]]
    floats = [np.array(c, dtype=np.float64) for c in columns[2:]]
    return Timelines(*ints, *floats), timelines(*tokens)


@given(segments=SEGMENTS)
def test_a_segment_stands_for_its_tokens(segments):
    coded, single = both_encodings(segments)
    count = len(segments)
    flat = [
        np.concatenate([times for *_, times in lines.chunks(count)]) for lines in (coded, single)
    ]
    assert flat[0] == pytest.approx(flat[1])


@settings(deadline=None)
@given(segments=SEGMENTS, chunk=st.integers(1, 40))
def test_chunks_do_not_change_any_score(segments, chunk):
    coded, _ = both_encodings(segments)
    arrival, slo = np.zeros(len(segments)), Slo(1.0, 0.05)
    whole = score(coded, arrival, slo)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runlog, "_CHUNK_TOKENS", chunk)
        ranges = [(first, last) for first, last, *_ in coded.chunks(len(segments))]
        parts = score(coded, arrival, slo)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(segments)
    assert [first for first, _ in ranges[1:]] == [last for _, last in ranges[:-1]]
    for name in ("on_time", "artifact_qos", "ttft_s", "mean_tbt_s", "joint"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name), equal_nan=True)
    assert (whole.tbt_p50_s, whole.tbt_p99_s) == pytest.approx(
        (parts.tbt_p50_s, parts.tbt_p99_s), nan_ok=True
    )


SPAN = st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 30))


@given(spans=st.lists(SPAN, max_size=20), begin=st.integers(0, 30), length=st.integers(1, 30))
def test_mean_active_counts_models_second_by_second(spans, begin, length):
    until = begin + length
    model = np.array([m for m, _, _ in spans], dtype=np.int64)
    start = np.array([float(s) for _, s, _ in spans])
    end = start + np.array([float(d) for _, _, d in spans])
    busy = sum(
        len({m for m, s, d in spans if s <= second < s + d}) for second in range(begin, until)
    )
    mean = mean_active(model, start, end, float(begin), float(until))
    assert mean == pytest.approx(busy / length, abs=1e-9)


def test_a_failed_request_has_no_token_on_time():
    lines = timelines([1.0, 1.05], [2.0, 2.05])
    scores = score(lines, np.zeros(2), Slo(10.0, 0.1), failed=np.array([False, True]))
    assert scores.on_time.tolist() == [2, 0]
    assert scores.artifact_qos.tolist() == [1.0, 0.0]
    assert scores.joint.tolist() == [True, False]


@given(GAPS, TARGETS)
def test_a_requests_own_slo_is_the_one_that_counts(requests, target):
    slo = Slo(target[0] / TICK, target[1] / TICK)
    ages = [np.cumsum(gaps) / TICK for gaps in requests]
    lines, arrival = timelines(*[list(each) for each in ages]), np.zeros(len(ages))
    for own in ([slo] * len(ages), [None, slo] * len(ages)):
        told = score(lines, arrival, Slo(1e-3, 1e-3), own=[o or slo for o in own[: len(ages)]])
        same = score(lines, arrival, slo, own=own[: len(ages)])
        plain = score(lines, arrival, slo)
        for one in (told, same):
            for name in ("on_time", "artifact_qos", "ttft_s", "mean_tbt_s", "joint"):
                assert np.array_equal(getattr(one, name), getattr(plain, name), equal_nan=True)


def test_requests_of_several_classes_are_scored_by_their_own_targets():
    ages = [[0.5, 0.6, 1.9], [0.5, 0.6, 1.9], [0.5, 0.6, 1.9]]
    own = [Slo(0.4, 1.0), None, Slo(0.5, 0.1)]
    found = score(timelines(*ages), np.zeros(3), Slo(0.5, 1.0), own=own)
    assert found.on_time.tolist() == [2, 3, 2]
    assert found.joint.tolist() == [False, True, False]
    for i, slo in enumerate([Slo(0.4, 1.0), Slo(0.5, 1.0), Slo(0.5, 0.1)]):
        assert found.artifact_qos[i] == one(ages[i], slo).artifact_qos[0]


def test_a_run_is_scored_by_the_slo_of_each_request():
    quick = Slo(0.2, 0.1)
    made = [Request(0, "m", 1.0, 4), Request(1, "m", 1.0, 4, slo=quick)]
    parts = dict.fromkeys(PARTS, 0.0)
    logs = [RequestLog(r, 1, 1.0, 1.5, 1.5, **parts, failure=None) for r in made]
    none = np.zeros(0)
    switches = Switches(none, none.astype(int), none, none.astype(bool), [], none)
    moves = KvMoves(none, none.astype(int), none, none, none.astype(int), none.astype(bool), [])
    log = RunLog(logs, timelines([1.5], [1.5]), switches, moves, (), {})
    assert score_run(log, Slo(1.0, 1.0)).on_time.tolist() == [1, 0]
