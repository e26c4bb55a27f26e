from collections import Counter

import pytest

from aegaeon.errors import UserError
from tests.support.workload_rows import rows
from workloads import market, read_trace, replay, write_artifact_csv

ROWS = {
    "16-0.1": 156,
    "32-0.1": 323,
    "48-0.1": 504,
    "64-0.1": 670,
    "80-0.1": 839,
    "40-0.05": 87,
    "40-0.2": 417,
    "40-0.25": 526,
    "40-0.4": 866,
    "40-0.45": 974,
    "40-0.7": 1556,
}
OTHERS = {
    ("azure", "azure_llm_2023_conv.csv"): 19_366,
    ("azure", "azure_llm_2023_code.csv"): 8_819,
    ("mooncake", "mooncake_conversation.jsonl"): 12_031,
}


@pytest.fixture
def azure(tmp_path):
    path = tmp_path / "azure.csv"
    rows = [f"2023-11-16 00:{i // 60:02d}:{i % 60:02d}.0,{i + 1},{i + 2}" for i in range(1000)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    return path


@pytest.mark.parametrize(("name", "count"), ROWS.items())
def test_every_artifact_file_replays_whole(shared_data, make_market, name, count):
    models = make_market(int(name.split("-")[0]), max_len=10**6)
    path = shared_data / "sharegpt_synth" / f"synth-{name}-1.0-1.0.csv"
    requests = rows(replay(path, "artifact", models))
    trace = read_trace(path, "artifact")
    assert len(requests) == count
    assert [r.input_tokens for r in requests] == trace.inputs.tolist()
    assert [r.output_tokens for r in requests] == trace.outputs.tolist()
    assert {r.model for r in requests} <= {model.name for model in models}


@pytest.mark.parametrize(("source", "count"), OTHERS.items())
def test_azure_and_mooncake_replay_whole(shared_data, make_market, source, count):
    models = make_market(40, max_len=10**6)
    requests = rows(replay(shared_data / source[1], source[0], models))
    assert len(requests) == count
    assert requests[0].arrival == 0.0
    assert 3400 < requests[-1].arrival < 3700
    assert len({r.model for r in requests}) == 40


def test_own_market_replays_as_the_same_requests(tmp_path, make_market):
    models = make_market(30)
    arrivals = market(models, 0.2, 60.0)
    path = tmp_path / "t.csv"
    write_artifact_csv(arrivals, path)
    requests, replayed = rows(arrivals), replay(path, "artifact", models)
    again = rows(replayed)
    assert [(r.model, r.input_tokens, r.output_tokens) for r in again] == [
        (r.model, r.input_tokens, r.output_tokens) for r in requests
    ]
    times = [r.arrival for r in requests]
    assert [r.arrival for r in again] == pytest.approx(times, abs=5.001e-4)
    copy = tmp_path / "copy.csv"
    write_artifact_csv(replayed, copy)
    assert copy.read_bytes() == path.read_bytes()


def test_market_too_small_for_the_file_is_a_users_error(tmp_path, make_market):
    path = tmp_path / "t.csv"
    write_artifact_csv(market(make_market(12), 1.0, 20.0), path)
    with pytest.raises(UserError, match=r"t\.csv: model 'synth_model_11' .* at least 12 models"):
        replay(path, "artifact", make_market(11))


def test_time_is_scaled_then_cut_and_lengths_stay_with_their_request(azure, make_market):
    models = make_market(3, max_len=10**6)
    requests = rows(
        replay(
            azure,
            "azure",
            models,
            duration_s=50.0,
            rate_scale=4.0,
            input_scale=2.0,
            output_scale=3.0,
        )
    )
    assert len(requests) == 200
    for i, request in enumerate(requests):
        assert request.id == i
        assert request.arrival == i / 4
        assert (request.input_tokens, request.output_tokens) == (2 * (i + 1), 3 * (i + 2))


def test_a_window_starts_in_the_traces_time_and_keeps_each_requests_model(azure, make_market):
    models = make_market(7)
    whole = rows(replay(azure, "azure", models, seed=2, assign="zipf"))
    window = {"start_s": 100.0, "duration_s": 25.0, "rate_scale": 2.0}
    part = rows(replay(azure, "azure", models, seed=2, assign="zipf", **window))
    assert [(r.model, r.input_tokens) for r in part] == [
        (r.model, r.input_tokens) for r in whole[100:150]
    ]
    assert [r.arrival for r in part[:3]] == [0.0, 0.5, 1.0]
    with pytest.raises(UserError, match=r"^workload\.start_s: expected at most 999, the last"):
        replay(azure, "azure", models, start_s=1000.0)


def test_lengths_are_clipped_at_the_models_limit_and_counted(azure, make_market):
    replayed = replay(azure, "azure", make_market(1, max_len=600))
    requests = rows(replayed)
    # Request i has 2i + 3 tokens: those from i = 299 do not fit.
    assert (replayed.clipped, replayed.skipped) == (701, 0)
    assert all(r.input_tokens + r.output_tokens <= 600 for r in requests)
    assert requests[400].output_tokens == 402
    assert (requests[999].input_tokens, requests[999].output_tokens) == (1, 599)


def test_assignment_follows_popularity_and_seed(azure, make_market):
    models = make_market(20)

    def dealt(skew, seed):
        return [r.model for r in rows(replay(azure, "azure", models, assign=skew, seed=seed))]

    deals = {skew: dealt(skew, 5) for skew in ("uniform", "zipf", "market")}
    top = {skew: Counter(names).most_common(1)[0][1] for skew, names in deals.items()}
    assert 50 <= top["uniform"] < 90
    assert top["zipf"] == pytest.approx(1000 / 3.598, rel=0.15)
    assert top["market"] == pytest.approx(986.5, abs=12)
    assert deals["zipf"] == [
        r.model for r in rows(replay(azure, "azure", models, assign="zipf", seed=5))
    ]
    assert deals["zipf"] != [
        r.model for r in rows(replay(azure, "azure", models, assign="zipf", seed=6))
    ]
    start = rows(replay(azure, "azure", models, assign="zipf", seed=5, duration_s=100.0))
    assert [r.model for r in start] == deals["zipf"][:100]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "parquet"),
        ("duration_s", 0.0),
        ("rate_scale", -1.0),
        ("input_scale", 0.0),
        ("output_scale", float("nan")),
        ("assign", "hash"),
        ("seed", -1),
        ("start_s", -1.0),
        ("start_s", float("nan")),
    ],
)
def test_value_out_of_range_names_its_key(azure, make_market, key, value):
    named = "seeds" if key == "seed" else f"workload.{key}"
    with pytest.raises(UserError, match=f"^{named}: expected"):
        replay(azure, **({"format": "azure", "models": make_market(2)} | {key: value}))
