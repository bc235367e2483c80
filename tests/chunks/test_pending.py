"""Results that are under way: what a device has begun, and what is left for the thread that asks."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from caecodec.chunks.pending import Pending


def noting(value, threads):
    """Work that notes which thread does it."""

    def work():
        threads.append(threading.current_thread())
        return value

    return work


def test_who_asks_does_the_work_once():
    threads = []
    pending = Pending(noting(7, threads))
    assert threads == []
    assert pending.result() == pending.result() == 7
    assert threads == [threading.current_thread()]


def test_what_follows():
    threads = []
    pending = Pending(noting(7, threads)).then(lambda value: value + 1)
    assert threads == []
    assert (pending.result(), pending.begun) == (8, None)


def test_errors_are_those_of_the_work():
    def fail():
        raise ValueError("broken")

    pending = Pending(fail).then(str)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            pending.result()
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(pending.wait())


@pytest.mark.parametrize("found", ["chunk", None])
def test_an_event_loop_waits_for_a_device_and_leaves_work_to_a_thread(found):
    begun, threads = Future(), []
    pending = Pending(noting("chunk", threads), begun).then(str.upper)
    assert pending.begun is begun

    async def wait():
        waiting = asyncio.create_task(pending.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        begun.set_result(found)
        await waiting
        assert len(threads) == (found is None)  # where the device gave up, a thread has worked
        assert threading.current_thread() not in threads
        return pending.result()

    assert asyncio.run(wait()) == "CHUNK"
    assert len(threads) == 1


def test_errors_of_a_device_reach_the_event_loop():
    begun = Future()
    begun.set_exception(MemoryError("no memory"))
    with pytest.raises(MemoryError, match="no memory"):
        asyncio.run(Pending(begun.result, begun).wait())
