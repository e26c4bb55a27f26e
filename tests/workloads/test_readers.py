import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegaeon.core import Arrival, Request
from aegaeon.errors import UserError
from tests.support.workload_rows import rows
from workloads import read_trace, write_artifact_csv
from workloads.readers import estimate_tokens, read_sharegpt

ARTIFACT = "Request Time,Model Name,Input Length,Output Length\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
BURST_LONG = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
)
MOONCAKE = '{"timestamp": 0, "input_length": 5, "output_length": 6, "hash_ids": [1]}\n'
RATE = {"sharegpt": 1.0}
PER_FILE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def columns(trace):
    return trace.arrivals.tolist(), trace.inputs.tolist(), trace.outputs.tolist()


def test_artifact_keeps_times_and_sorts(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(ARTIFACT + "01:00:02.500,synth_model_08,7,8\n\n00:01:00.250,m_1,5,6\n")
    trace = read_trace(path, "artifact")
    assert columns(trace) == ([60.25, 3602.5], [5, 7], [6, 8])
    assert trace.labels.tolist() == ["m_1", "synth_model_08"]


@pytest.mark.parametrize("zone", ["", "+00:00"])
def test_azure_counts_from_the_earliest_request(tmp_path, zone):
    path = tmp_path / "t.csv"
    rows = f"2023-11-16 23:59:59.5000000{zone},4,5\n2023-11-17 00:00:01.7500000{zone},6,7\n"
    path.write_text(AZURE + rows)
    assert columns(read_trace(path, "azure")) == ([0.0, 2.25], [4, 6], [5, 7])


def test_mooncake_reads_milliseconds(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(MOONCAKE + "\n" + MOONCAKE.replace('"timestamp": 0', '"timestamp": 1500'))
    assert columns(read_trace(path, "mooncake")) == ([0.0, 1.5], [5, 5], [6, 6])


@pytest.mark.parametrize(
    "text",
    [
        BURST + "3,ChatGPT,9,0,9,x\n5,GPT-4,10,20,30,x\n7.5,ChatGPT,1,2,3,x\n",
        BURST_LONG + "3,1,2,ChatGPT,9,0,9,x\n5,1,2,GPT-4,10,20,30,x\n7.5,,,ChatGPT,1,2,3,x\n",
    ],
)
def test_burstgpt_skips_failed_requests_under_both_headers(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    trace = read_trace(path, "burstgpt")
    assert columns(trace) == ([0.0, 2.5], [10, 1], [20, 2])
    assert trace.labels.tolist() == ["GPT-4", "ChatGPT"]
    assert trace.skipped == 1


def turn(speaker, text):
    return {"from": speaker, "value": text}


def test_sharegpt_inputs_are_the_conversation_so_far(tmp_path):
    path = tmp_path / "t.json"
    talk = [turn("human", "aa"), turn("gpt", "bbb"), turn("human", "c"), turn("gpt", "dddd")]
    empty = [turn("gpt", "opens"), turn("human", "x"), turn("gpt", "")]
    path.write_text(json.dumps([{"conversations": talk}, {"conversations": empty}]))
    trace = read_sharegpt(path, total_rps=2.0, seed=3, count_tokens=len)
    pairs = zip(trace.inputs.tolist(), trace.outputs.tolist(), strict=True)
    assert sorted(pairs) == [(2, 3), (6, 4)]
    assert trace.skipped == 2
    assert 0 < trace.arrivals[0] < trace.arrivals[1]


def test_sharegpt_arrivals_have_the_rate_and_repeat_by_seed(tmp_path):
    path = tmp_path / "t.json"
    talk = [turn("human", "hello there"), turn("gpt", "hi")] * 2000
    path.write_text(json.dumps([{"conversations": talk}]))
    first, again, other = (read_sharegpt(path, 4.0, seed) for seed in (0, 0, 1))
    assert first.arrivals[-1] == pytest.approx(500.0, rel=0.1)
    assert columns(first) == columns(again)
    assert columns(first) != columns(other)
    with pytest.raises(UserError, match=r"^workload\.rate_rps: .* no arrival times"):
        read_trace(path, "sharegpt")


@given(st.text())
def test_token_estimate_is_zero_for_empty_text_only(text):
    assert (estimate_tokens(text) > 0) == bool(text)
    assert estimate_tokens(text) <= max(len(text.encode()), 1)


workloads = st.lists(
    st.builds(
        Arrival,
        request=st.builds(
            Request,
            id=st.just(0),
            model=st.integers(0, 120).map("model_{:03d}".format),
            arrival=st.floats(0, 1e6),
            input_tokens=st.integers(1, 2**31 - 1),
        ),
        output_tokens=st.integers(1, 2**31 - 1),
    ),
    min_size=1,
    max_size=20,
)


@PER_FILE
@given(workloads)
def test_artifact_round_trip(tmp_path, arrivals):
    path = tmp_path / "t.csv"
    write_artifact_csv(arrivals, path)
    requests = rows(arrivals)
    trace = read_trace(path, "artifact")
    requests.sort(key=lambda request: round(request.arrival * 1000))
    assert trace.arrivals.tolist() == pytest.approx([r.arrival for r in requests], abs=5.001e-4)
    read = zip(trace.labels.tolist(), trace.inputs.tolist(), trace.outputs.tolist(), strict=True)
    expected = [
        (f"synth_model_{int(r.model[-3:]):02d}", r.input_tokens, r.output_tokens) for r in requests
    ]
    assert sorted(read) == sorted(expected)


@pytest.mark.parametrize("names", [["llama"], ["a_1", "b_1"]])
def test_models_that_the_artifact_cannot_name_are_refused(tmp_path, names):
    arrivals = [Arrival(Request(i, name, 0.0, 1), 1) for i, name in enumerate(names)]
    with pytest.raises(UserError, match="number"):
        write_artifact_csv(arrivals, tmp_path / "t.csv")
    assert list(tmp_path.iterdir()) == []


GOOD = {
    "artifact": (ARTIFACT, ["00:00:01.000", "synth_model_01", "5", "6"]),
    "azure": (AZURE, ["2023-11-16 18:15:46.6805900", "5", "6"]),
    "burstgpt": (BURST, ["1", "GPT-4", "5", "6", "11", "x"]),
}
BAD_TOKENS = ["-1", "0", "1.5", "nan", "inf", "", "many", "1e300", "9" * 400]
BAD_TIMES = ["-1", "now", "nan", "inf", "", "noon", "1e400"]


@pytest.mark.parametrize("format", GOOD)
@pytest.mark.parametrize("value", BAD_TOKENS)
@pytest.mark.parametrize("column", [-2, -1])
def test_bad_token_count_names_file_line_and_value(tmp_path, format, value, column):
    header, row = GOOD[format]
    where = {"burstgpt": column - 2}.get(format, column)
    if format == "burstgpt" and column == -1 and value == "0":
        value = "-0.5"
    bad = list(row)
    bad[where] = value
    path = tmp_path / "trace.csv"
    path.write_text(header + ",".join(row) + "\n" + ",".join(bad) + "\n")
    with pytest.raises(UserError, match=rf"trace\.csv, line 3: .*tokens.*{value!r}"):
        read_trace(path, format)


@pytest.mark.parametrize("format", GOOD)
@pytest.mark.parametrize("value", BAD_TIMES)
def test_bad_time_names_file_and_line(tmp_path, format, value):
    header, row = GOOD[format]
    path = tmp_path / "trace.csv"
    path.write_text(f"{header}{value},{','.join(row[1:])}\n")
    with pytest.raises(UserError, match=r"trace\.csv, line 2: (T|Request T)"):
        read_trace(path, format)


@pytest.mark.parametrize("format", GOOD)
def test_broken_csv_files(tmp_path, format):
    header, row = GOOD[format]
    path = tmp_path / "trace.csv"
    line = ",".join(row) + "\n"
    broken = {
        "is empty": b"",
        "no usable request": header.encode(),
        "line 1: no column": line.encode() * 2,
        "in line 3, saw": (header + line + line[:-1] + ",7,8\n").encode(),
        "cannot be read": b"\xff\xfe\x00bad" + header.encode(),
        "Length of header": (header + line[:-1] + ",7,8\n").encode(),
        "EOF inside string": (header + '"' + line).encode(),
    }
    for message, content in broken.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_trace(path, format)


@pytest.mark.parametrize("format", [*GOOD, "mooncake", "sharegpt"])
def test_absent_file_and_folder(tmp_path, format):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_trace(path, format, RATE.get(format, 0.0))


@pytest.mark.parametrize(
    "line",
    [
        '{"timestamp": 0, "input_len',
        "[1, 2]",
        "7",
        '{"timestamp": 0, "input_length": 5}',
        MOONCAKE.replace("5", "true"),
        MOONCAKE.replace("5", "null"),
        MOONCAKE.replace("6", "0"),
        MOONCAKE.replace("6", "1" * 400),
        MOONCAKE.replace('"timestamp": 0', '"timestamp": NaN'),
        MOONCAKE.replace('"timestamp": 0', '"timestamp": -1'),
    ],
)
def test_bad_json_line_is_named(tmp_path, line):
    path = tmp_path / "trace.jsonl"
    path.write_text(MOONCAKE + line)
    with pytest.raises(UserError, match=r"trace\.jsonl, line 2: "):
        read_trace(path, "mooncake")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n{"conversations": [', "line 2: not valid JSON"),
        ("{}", "expected a list"),
        ("[]", "no usable request"),
        ("[1]", "conversation 0"),
        ('[{"id": 1}]', "conversation 0"),
        ('[{"conversations": [{"from": "gpt", "value": null}]}]', "conversation 0"),
    ],
)
def test_bad_sharegpt_is_a_users_error(tmp_path, text, message):
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_trace(path, "sharegpt", total_rps=1.0)


@PER_FILE
@given(st.sampled_from([*GOOD, "mooncake", "sharegpt"]), st.text(max_size=60), st.booleans())
def test_any_text_reads_or_is_a_users_error(tmp_path, format, text, with_header):
    path = tmp_path / "t"
    header = GOOD.get(format, (MOONCAKE, []))[0] if with_header else ""
    path.write_text(header + text, encoding="utf-8", errors="replace")
    try:
        size = len(read_trace(path, format, RATE.get(format, 0.0)))
    except UserError:
        return
    assert size > 0
