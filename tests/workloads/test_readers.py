import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegaeon.core import Arrival, Request
from aegaeon.errors import UserError
from tests.support.workload_rows import rows
from workloads import Reading, cache, read_trace, write_artifact_csv
from workloads.readers import estimate_tokens

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
    assert list(trace.labels) == ["m_1", "synth_model_08"]


@pytest.mark.parametrize("zone", ["", "+00:00"])
def test_azure_counts_from_the_earliest_request(tmp_path, zone):
    path = tmp_path / "t.csv"
    rows = f"2023-11-16 23:59:59.5000000{zone},4,5\n2023-11-17 00:00:01.7500000{zone},6,7\n"
    path.write_text(AZURE + rows)
    assert columns(read_trace(path, "azure")) == ([0.0, 2.25], [4, 6], [5, 7])


def test_mooncake_reads_milliseconds_from_the_earliest_request(tmp_path):
    path = tmp_path / "t.jsonl"
    later = [MOONCAKE.replace('"timestamp": 0', f'"timestamp": {t}') for t in (2500, 4000)]
    path.write_text("\n".join(later))
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
    assert list(trace.labels) == ["GPT-4", "ChatGPT"]
    assert trace.skipped == 1


BODIES = {
    "azure": AZURE + "2023-11-16 18:15:46.5,5,6\n",
    "burstgpt": BURST + "1,GPT-4,5,6,11,x\n",
    "mooncake": MOONCAKE,
    "sharegpt": '[{"messages": [{"role": "user", "content": "12345678901234567890"}, '
    '{"role": "assistant", "content": "123456789012345678901234"}]}]',
    "vllm": '{"prompt": "12345678901234567890", "output_tokens": 6}\n',
}
PACKERS = {
    "plain": bytes,
    "bom": lambda raw: b"\xef\xbb\xbf" + raw,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zstd": lambda raw: pa.compress(raw, "zstd", asbytes=True),
    "bom in gzip": lambda raw: gzip.compress(b"\xef\xbb\xbf" + raw),
}


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("format", BODIES)
def test_every_text_format_is_read_packed_whatever_its_name(tmp_path, format, packed):
    path = tmp_path / "trace"
    path.write_bytes(PACKERS[packed](BODIES[format].encode()))
    trace = read_trace(path, format, {"sharegpt": 1.0, "vllm": 1.0}.get(format, 0.0))
    assert (trace.inputs.tolist(), trace.outputs.tolist()) == ([5], [6])
    if packed not in ("plain", "bom"):
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(UserError, match="cannot be read"):
            read_trace(path, format, {"sharegpt": 1.0, "vllm": 1.0}.get(format, 0.0))


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("azure", "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
         "2024-10-15 00:00:01.25+00:00,2,5,6\n2024-10-15 00:00:02.5+00:00,0,7,8\n"),
        ("bailian", '{"chat_id": 1, "timestamp": 61.25, "input_length": 5, "output_length": 6}\n'
         '{"chat_id": 2, "timestamp": 62.5, "input_length": 7, "output_length": 8}\n'),
        ("servegen", "request_id,timestamp,input_tokens,output_tokens\n0,1.25,5,6\n1,2.5,7,8\n"),
        ("splitwise", "request_id,request_type,application_id,arrival_timestamp,batch_size,"
         "prompt_size,token_size\n0,2,0,1.25,1,5,6\n1,2,0,2.5,1,7,8\n"),
        ("vidur", "arrived_at,num_prefill_tokens,num_decode_tokens\n1.25,5,6\n2.5,7,8\n"),
    ],
)  # fmt: skip
def test_formats_name_their_columns_and_unit(tmp_path, format, text):
    path = tmp_path / "trace"
    path.write_text(text)
    assert columns(read_trace(path, format)) == ([0.0, 1.25], [5, 7], [6, 8])


def test_a_file_of_vidur_without_times_takes_a_rate(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("num_prefill_tokens,num_decode_tokens,num_total_tokens\n5,6,11\n")
    assert columns(read_trace(path, "vidur", 2.0))[1:] == ([5], [6])
    with pytest.raises(UserError, match=r"^workload\.rate_rps: .* no arrival times"):
        read_trace(path, "vidur")


@pytest.mark.parametrize(
    ("format", "stamp", "unit"),
    [
        ("mooncake", 1_700_000_000.5, "s"),
        ("burstgpt", 1_700_000_000_500, "ms"),
        ("azure", 1_700_000_000_500_000, "us"),
    ],
)
def test_an_epoch_stamp_in_another_unit_is_recognised_and_the_key_settles_it(
    tmp_path, format, stamp, unit
):
    path = tmp_path / "t"
    later = stamp + {"s": 2, "ms": 2000, "us": 2_000_000}[unit]
    text = {
        "mooncake": MOONCAKE.replace("0,", f"{stamp},", 1) + MOONCAKE.replace("0,", f"{later},", 1),
        "burstgpt": f"{BURST}{stamp},GPT-4,5,6,11,x\n{later},GPT-4,5,6,11,x\n",
        "azure": f"{AZURE}{stamp},5,6\n{later},5,6\n",
    }
    path.write_text(text[format])
    with pytest.raises(UserError, match=f"epoch stamp in {unit}.*workload.time_unit={unit}$"):
        read_trace(path, format)
    trace = read_trace(path, format, reading=Reading(time_unit=unit))
    assert trace.arrivals.tolist() == [0.0, 2.0]
    with pytest.raises(UserError, match=r"^workload\.time_unit: expected one of '', s"):
        read_trace(path, format, reading=Reading(time_unit="minutes"))


@pytest.mark.parametrize("format", ["azure", "burstgpt", "mooncake"])
def test_rows_without_tokens_are_refused_or_skipped_on_request(tmp_path, format):
    path = tmp_path / "t"
    good = BODIES[format]
    if format == "mooncake":
        empty = MOONCAKE.replace("5", "0") + MOONCAKE.replace("6", "null")
    else:
        row = good.splitlines()[1]
        empty = row.replace(",5,", ",0,") + "\n" + row.replace(",5,", ",,") + "\n"
    path.write_text(good + empty)
    with pytest.raises(UserError, match="line"):
        read_trace(path, format)
    trace = read_trace(path, format, reading=Reading(skip_empty=True))
    assert (len(trace), trace.skipped) == (1, 2)


def test_a_large_file_is_parsed_once_and_read_by_windows(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "FROM_BYTES", 0)
    monkeypatch.setattr(cache, "_ROWS_PER_GROUP", 3)
    path = tmp_path / "t.csv"
    lines = [f"{i},GPT-{i % 3},{i + 1},{i % 4},0,x" for i in range(40)]
    path.write_text(BURST + "\n".join(lines))
    whole = read_trace(path, "burstgpt")
    monkeypatch.setattr("workloads.traces._parsed", None)
    for window in ((0.0, 99.0), (0.0, 3.0), (7.5, 19.0), (38.0, 99.0), (50.0, 60.0)):
        part = read_trace(path, "burstgpt", window=window)
        inside = (whole.arrivals >= window[0]) & (whole.arrivals < window[1])
        assert part.arrivals.tolist() == whole.arrivals[inside].tolist()
        assert part.inputs.tolist() == whole.inputs[inside].tolist()
        assert list(part.labels) == list(whole.labels[inside])
        assert (part.first, part.total) == ((whole.arrivals < window[0]).sum(), len(whole))
        assert (part.skipped, part.end_s) == (10, whole.arrivals[-1])
    path.write_text(BURST + "1,GPT-4,5,6,11,x\n")
    with pytest.raises(TypeError):
        read_trace(path, "burstgpt")


def turn(speaker, text):
    return {"from": speaker, "value": text}


def test_sharegpt_inputs_are_the_conversation_so_far(tmp_path):
    path = tmp_path / "t.json"
    talk = [turn("human", "aa"), turn("gpt", "bbb"), turn("human", "c"), turn("gpt", "dddd")]
    empty = [turn("gpt", "opens"), turn("human", "x"), turn("gpt", "")]
    path.write_text(json.dumps([{"conversations": talk}, {"conversations": empty}]))
    trace = read_trace(path, "sharegpt", 2.0, seed=3, reading=Reading(count_tokens=len))
    pairs = zip(trace.inputs.tolist(), trace.outputs.tolist(), strict=True)
    assert sorted(pairs) == [(2, 3), (6, 4)]
    assert trace.skipped == 2
    assert 0 < trace.arrivals[0] < trace.arrivals[1]


def test_sharegpt_arrivals_have_the_rate_and_repeat_by_seed(tmp_path):
    path = tmp_path / "t.json"
    talk = [turn("human", "hello there"), turn("gpt", "hi")] * 2000
    path.write_text(json.dumps([{"conversations": talk}]))
    first, again, other = (read_trace(path, "sharegpt", 4.0, seed) for seed in (0, 0, 1))
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
    read = zip(list(trace.labels), trace.inputs.tolist(), trace.outputs.tolist(), strict=True)
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
        ("{}", "line 1: expected 'conversations'"),
        ("7", "expected a list"),
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
