"""Turns are given to all, in order, never too many at once; and so is room."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.sources.web.hosts import MAX_PAUSES, DownloadBudget, HostScheduler


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an async test, which takes a moment and may take a minute."""

    async def bounded() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(bounded())


@given(
    hosts=st.lists(st.sampled_from("abcde"), max_size=60),
    most=st.integers(1, 6),
    per_host=st.integers(1, 4),
    cancelled=st.sets(st.integers(0, 59), max_size=20),
)
def test_law_everybody_gets_a_turn_and_limits_hold(
    hosts: list[str], most: int, per_host: int, cancelled: set[int]
) -> None:
    async def test() -> None:
        turns = HostScheduler(most, per_host)
        active: Counter[str] = Counter()
        served: list[int] = []
        over: list[bool] = []

        async def work(number: int, host: str) -> None:
            async with turns.slot(host):
                active[host] += 1
                try:
                    over.append(active[host] > per_host or active.total() > most)
                    await asyncio.sleep(0)
                finally:
                    active[host] -= 1
            served.append(number)

        tasks = [asyncio.create_task(work(number, host)) for number, host in enumerate(hosts)]
        await asyncio.sleep(0)
        for number in cancelled & set(range(len(tasks))):
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert set(served) | cancelled >= set(range(len(hosts)))
        assert not any(over)
        assert turns._hosts == {}
        assert turns._free == most

    run(test)


def test_hosts_take_turns() -> None:
    async def test() -> None:
        turns, order = HostScheduler(1, 1), list[str]()

        async def work(host: str) -> None:
            async with turns.slot(host):
                order.append(host)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(host) for host in "aaaabbc"))
        assert "".join(order) == "abcabaa"

    run(test)


def test_a_host_that_holds_its_turns_holds_up_nobody_else() -> None:
    async def test() -> None:
        turns, free = HostScheduler(8, 2), asyncio.Event()

        async def hold() -> None:
            async with turns.slot("slow"):
                await free.wait()

        held = [asyncio.create_task(hold()) for _ in range(100)]
        await asyncio.sleep(0)
        for _ in range(10):
            async with turns.slot("quick"):
                pass
        free.set()
        await asyncio.gather(*held)

    run(test)


def test_nobody_gets_a_turn_with_a_paused_host() -> None:
    async def test() -> None:
        turns, order = HostScheduler(8, 8), list[str]()

        async def work(name: str, host: str) -> None:
            async with turns.slot(host):
                order.append(name)

        async with turns.slot("a"):
            turns.pause("a", 0.05, 429)
            turns.pause("a", 60, 429)  # pauses do not add up
        await asyncio.gather(work("later", "a"), work("at once", "b"))
        assert order == ["at once", "later"]

    run(test)


def test_one_pause_too_many_ends_the_waiting() -> None:
    async def test() -> None:
        turns = HostScheduler(8, 1)
        waiting = []
        async with turns.slot("a"):
            waiting += [asyncio.create_task(turns.slot("a").__aenter__()) for _ in range(3)]
            await asyncio.sleep(0)
            for _ in range(MAX_PAUSES):
                turns.pause("a", 0.0, 429)
                await asyncio.sleep(0.01)
            assert not any(task.done() for task in waiting)
            turns.pause("a", 0.0, 503)
            for task in waiting:
                with pytest.raises(FetchError) as caught:
                    await task
                assert caught.value.status == 503
            with pytest.raises(FetchError):
                await turns.slot("a").__aenter__()
        async with turns.slot("a"):  # when all have left, it may be asked once more
            pass

    run(test)


def test_an_answer_makes_pauses_forgotten() -> None:
    async def test() -> None:
        turns = HostScheduler(8, 1)
        for _ in range(3 * MAX_PAUSES):
            with contextlib.suppress(FetchError):
                async with turns.slot("a"):
                    raise FetchError("http_error", "later", status=429, retry_after_s=0.001)
            async with turns.slot("a"):
                pass

    run(test)


def test_no_turn_while_nobody_is_ready() -> None:
    async def test() -> None:
        ready = False
        turns = HostScheduler(8, 8, lambda: ready)
        waiting = asyncio.create_task(turns.slot("a").__aenter__())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        ready = True
        turns.dispatch()
        await waiting

    run(test)


@given(st.lists(st.integers(0, 10), max_size=40), st.sets(st.integers(0, 39), max_size=20))
def test_law_room_is_never_given_twice_and_always_given_back(amounts: list[int], cancelled: set[int]) -> None:
    async def test() -> None:
        budget, held, served, over = DownloadBudget(10), Counter[int](), list[int](), list[bool]()

        async def work(number: int, amount: int) -> None:
            await budget.acquire(amount)
            held[number] = amount
            over.append(held.total() > 10)
            await asyncio.sleep(0)
            del held[number]
            budget.release(amount)
            served.append(number)

        tasks = [asyncio.create_task(work(*one)) for one in enumerate(amounts)]
        await asyncio.sleep(0)
        doomed = {number for number in cancelled if number < len(tasks) and number not in held}
        for number in doomed:
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert set(served) | doomed >= set(range(len(amounts)))
        assert not any(over)
        assert budget._free == 10

    run(test)


def test_more_room_than_there_is_counts_as_all() -> None:
    async def test() -> None:
        budget = DownloadBudget(10)
        await budget.acquire(50)
        assert budget._free == 0
        budget.release(50)
        assert budget._free == 10

    run(test)
