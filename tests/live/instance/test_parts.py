"""What a live instance is made of, without a device: what comes in, what goes out, its times."""

import threading
import time

import pytest

pytest.importorskip("torch")

from aegaeon.live.events import Finished, Ran
from aegaeon.live.instance.inbox import Inbox
from aegaeon.live.instance.kv_store import KvMove
from aegaeon.live.instance.meter import WorkMeter
from aegaeon.live.instance.outbox import Outbox


def test_an_inbox_keeps_order_and_times() -> None:
    times = iter([1.0, 2.0, 3.0])
    inbox = Inbox(lambda: next(times))
    for item in (7, 8, 9):
        inbox.put(item)
    assert list(inbox.take()) == [(1.0, 7), (2.0, 8), (3.0, 9)]
    assert list(inbox.take()) == []


@pytest.mark.parametrize("wake", [lambda inbox: inbox.put(1), lambda inbox: inbox.stop()])
def test_a_wait_ends_with_an_item_or_a_stop(wake) -> None:
    inbox = Inbox(time.perf_counter)
    threading.Timer(0.05, wake, [inbox]).start()
    inbox.wait(float("inf"))
    assert inbox.stopped or list(inbox.take())
    inbox.stop()
    inbox.wait(float("inf"))


def test_a_wait_ends_at_its_time() -> None:
    inbox = Inbox(time.perf_counter)
    inbox.wait(time.perf_counter() + 0.01)
    inbox.wait(time.perf_counter() - 1.0)
    assert not inbox.stopped


def test_an_outbox_sends_batches_that_are_due() -> None:
    now, sent = [0.0], []
    outbox = Outbox(lambda events: sent.append(list(events)), lambda: now[0], 0.02)
    first, second, third = (Finished(0.0, i, "stop") for i in range(3))
    outbox.flush()
    outbox.add(first)
    outbox.flush_if_due(0.01)
    assert sent == []
    outbox.add(second)
    now[0] = 0.02
    outbox.flush_if_due(0.02)
    assert sent == [[first, second]]
    outbox.add(third)
    outbox.hurry()
    outbox.flush_if_due(0.021)
    assert sent == [[first, second], [third]]


def test_a_meter_tells_steps_from_copies() -> None:
    meter = WorkMeter()
    assert meter.end("decode", "m", 0.0) is None
    meter.begin_step()
    meter.note_move(KvMove("m", 0, 8, 0.5))
    assert meter.end_step(began=1.0, seconds=2.0, ran=["3"]) == 1.5
    meter.begin_step()
    meter.note_move(KvMove("m", 8, 0, 0.25, exported=True))
    assert meter.end_step(began=3.0, seconds=1.0, ran=["3", "2"]) == 3.0
    meter.add_data(0.125)
    # From the first step's begin, its KV there: 1.5 s and 0.75 s of steps, 0.875 s of KV.
    expected = Ran(1.5, 4.25, "decode", "m", (2, 3), 2, 2.25, 0.875, 0.5)
    assert meter.end("decode", "m", 4.25) == expected
    assert meter.end("decode", "m", 5.0) is None
