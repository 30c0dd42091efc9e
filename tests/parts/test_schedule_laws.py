"""Laws of the schedule: each part once, whatever dies; it always ends; no worker waits while a part does."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.parts.schedule import (
    IN_FLIGHT,
    MAX_FAILED_STARTS,
    MAX_IN_A_ROW,
    MAX_LOSSES,
    EndWorker,
    JudgePart,
    PartSchedule,
    StartWorker,
)
from tests.parts.cluster import Cluster

LAST_STEP = 20_000
"""Far beyond what any drawn cluster needs."""

sizes = st.lists(st.integers(1, 6), max_size=8).map(lambda given: dict(enumerate(given)))
actors = st.tuples(st.integers(1, 4), st.integers(0, 4)).map(lambda pair: (pair[0], sum(pair)))
events = st.lists(
    st.tuples(st.sampled_from(["step", "kill", "kill all", "refuse", "resize"]), st.integers(0, 7)),
    max_size=60,
)


groups = st.dictionaries(st.integers(0, 7), st.sets(st.sampled_from("abc")))


def cluster_of(
    sizes: dict[int, int],
    actors: tuple[int, int],
    poison: frozenset[int] = frozenset(),
    groups: Mapping[int, set[str]] | None = None,
) -> Cluster:
    minimum, maximum = actors
    return Cluster(sizes, PartSchedule(sizes, minimum=minimum, maximum=maximum, groups=groups or {}), poison)


def happen(cluster: Cluster, event: str, number: int) -> None:
    """Let something happen to one of the workers."""
    workers = sorted(cluster.workers)
    if event == "resize":
        cluster.schedule.maximum = max(number, cluster.schedule.minimum)
    if not workers:
        return
    worker = workers[number % len(workers)]
    match event:
        case "step":
            cluster.step(worker)
        case "kill":
            cluster.kill(worker)
        case "kill all":
            for one in workers:
                cluster.kill(one)
        case "refuse":
            cluster.refuse(worker)


def finish(cluster: Cluster) -> None:
    """Let all workers go on in turn until the schedule says that it has ended."""
    for _ in range(LAST_STEP):
        cluster.act()
        if cluster.schedule.ended:
            return
        assert cluster.workers, "nothing will ever happen"
        for worker in sorted(cluster.workers):
            if worker in cluster.workers:
                cluster.step(worker)
    pytest.fail("the schedule did not end")


def indices(cluster: Cluster) -> list[int]:
    return [index for part in cluster.inputs.values() for index in part]


@given(sizes=sizes, actors=actors, data=st.data())
def test_law_one_record_an_input_and_poison_costs_only_itself(
    sizes: dict[int, int], actors: tuple[int, int], data: st.DataObject
) -> None:
    poison = data.draw(st.frozensets(st.integers(0, max(sum(sizes.values()) - 1, 0)), max_size=3))
    cluster = cluster_of(sizes, actors, poison)
    finish(cluster)
    expected = {i: "worker_lost" if i in poison else "judged" for i in indices(cluster)}
    assert cluster.committed == expected
    assert cluster.commits == dict.fromkeys(sizes, 1)
    assert not cluster.schedule.given_up


@given(sizes=sizes, actors=actors, happening=events, data=st.data())
def test_law_whatever_dies_it_ends_and_nothing_is_judged_twice(
    sizes: dict[int, int], actors: tuple[int, int], happening: Sequence[tuple[str, int]], data: st.DataObject
) -> None:
    poison = data.draw(st.frozensets(st.integers(0, max(sum(sizes.values()) - 1, 0)), max_size=2))
    cluster = cluster_of(sizes, actors, poison)
    for event, number in happening:
        cluster.act()
        happen(cluster, event, number)
    finish(cluster)
    assert all(times == 1 for times in cluster.commits.values())
    unfinished = [part for part in sizes if not cluster.commits[part]]
    assert cluster.schedule.left == len(unfinished)
    if unfinished:
        assert cluster.schedule.cannot_start
    else:
        assert sorted(cluster.committed) == indices(cluster)


@given(sizes=sizes, actors=actors, happening=events)
def test_law_no_worker_waits_while_a_part_does(
    sizes: dict[int, int], actors: tuple[int, int], happening: Sequence[tuple[str, int]]
) -> None:
    cluster = cluster_of(sizes, actors)
    for event, number in happening:
        cluster.act()
        held = sum(len(node.parts) for node in cluster.workers.values())
        waiting = len(sizes) - len(cluster.commits) - held
        idle = [node for node in cluster.workers.values() if node.is_ready and not node.parts]
        assert not waiting or not idle
        assert cluster.schedule.in_flight == held
        assert cluster.schedule.left == held + waiting
        happen(cluster, event, number)


@given(sizes=sizes, actors=actors, happening=events, groups=groups)
def test_law_a_group_is_held_by_one_worker_and_a_free_part_by_one_that_holds_none(
    sizes: dict[int, int],
    actors: tuple[int, int],
    happening: Sequence[tuple[str, int]],
    groups: dict[int, set[str]],
) -> None:
    cluster = cluster_of(sizes, actors, groups=groups)
    for event, number in happening:
        cluster.act()
        held = [
            {group for given in node.parts for group in groups.get(given.part, ())}
            for node in cluster.workers.values()
        ]
        assert sum(map(len, held)) == len(set().union(*held))
        given = {given.part for node in cluster.workers.values() for given in node.parts}
        waiting = set(sizes) - set(cluster.commits) - given
        if any(node.is_ready and not node.parts for node in cluster.workers.values()):
            assert all(groups.get(part, set()) & set().union(*held) for part in waiting)
        happen(cluster, event, number)
    finish(cluster)
    assert len(cluster.commits) == len(sizes) or cluster.schedule.cannot_start


@given(sizes=sizes, actors=actors, happening=events)
def test_law_a_stopped_schedule_gives_nothing_more_and_ends_with_what_is_in_flight(
    sizes: dict[int, int], actors: tuple[int, int], happening: Sequence[tuple[str, int]]
) -> None:
    cluster = cluster_of(sizes, actors)
    for event, number in happening:
        cluster.act()
        happen(cluster, event, number)
    cluster.schedule.stop()
    held = cluster.schedule.in_flight
    done = len(cluster.commits)
    finish(cluster)
    assert len(cluster.commits) == done + held


def ready_schedule(parts: int, workers: int) -> PartSchedule:
    """Return a schedule whose workers are all ready, and have parts."""
    schedule = PartSchedule(range(parts), minimum=workers, maximum=workers)
    assert schedule.next_actions() == [StartWorker(n) for n in range(min(workers, parts))]
    for worker in range(workers):
        schedule.ready(worker)
    return schedule


def test_a_worker_holds_two_parts_and_the_last_ones_are_shared() -> None:
    schedule = ready_schedule(parts=5, workers=2)
    given = schedule.next_actions()
    assert [(a.worker, a.part) for a in given if isinstance(a, JudgePart)] == [(0, 0), (1, 1), (0, 2), (1, 3)]
    assert schedule.in_flight == 2 * IN_FLIGHT
    schedule.done(1, 1)
    assert schedule.next_actions() == [JudgePart(1, 4)]


def test_a_second_part_is_left_to_workers_that_are_starting() -> None:
    schedule = PartSchedule([0, 1], minimum=2, maximum=2)
    schedule.next_actions()
    schedule.ready(0)
    assert schedule.next_actions() == [JudgePart(0, 0)]
    schedule.ready(1)
    assert schedule.next_actions() == [JudgePart(1, 1)]


def test_only_the_part_that_was_judged_has_lost_its_worker() -> None:
    schedule = PartSchedule([2, 0, 1], minimum=1, maximum=1)
    schedule.next_actions()
    schedule.ready(0)
    schedule.next_actions()
    schedule.done(0, 2)
    assert schedule.next_actions() == [JudgePart(0, 1)]
    schedule.lost(0)
    for worker in range(1, MAX_LOSSES):
        assert schedule.next_actions() == [StartWorker(worker)]
        schedule.ready(worker)
        first = worker % 2  # the part that was judged waits behind the other
        assert schedule.next_actions() == [JudgePart(worker, part) for part in (first, 1 - first)]
        schedule.lost(worker)
    assert (schedule.ended, schedule.left, schedule.given_up) == (True, 2, [])


def test_workers_double_up_to_the_maximum_and_end_when_idle() -> None:
    schedule = PartSchedule(range(40), minimum=1, maximum=5)
    counts, given = [], []
    for _ in range(4):
        actions = schedule.next_actions()
        started = [a.worker for a in actions if isinstance(a, StartWorker)]
        given += [a for a in actions if isinstance(a, JudgePart)]
        counts.append(len(started))
        for worker in started:
            schedule.ready(worker)
    assert counts == [1, 1, 2, 1]
    ends = 0
    while not schedule.ended:
        actions = schedule.next_actions()
        given += [a for a in actions if isinstance(a, JudgePart)]
        ends += sum(isinstance(a, EndWorker) for a in actions)
        if given:
            last = given.pop(0)
            schedule.done(last.worker, last.part)
    assert ends == 4  # all but the minimum


def test_no_more_workers_are_started_while_they_refuse_and_one_judges_on() -> None:
    schedule = PartSchedule(range(9), minimum=1, maximum=2)
    schedule.next_actions()
    schedule.ready(0)
    refusals = 0
    while started := [a.worker for a in schedule.next_actions() if isinstance(a, StartWorker)]:
        (worker,) = started
        schedule.refused(worker)
        refusals += 1
    assert refusals == MAX_FAILED_STARTS
    assert not schedule.ended  # the first one holds parts
    schedule.done(0, 0)
    assert StartWorker(refusals + 1) in schedule.next_actions()


def test_workers_that_all_refuse_end_the_run() -> None:
    schedule = PartSchedule(range(9), minimum=1, maximum=1)
    for worker in range(MAX_FAILED_STARTS):
        assert schedule.next_actions() == [StartWorker(worker)]
        schedule.ready(worker)
        assert len(schedule.next_actions()) == IN_FLIGHT
        schedule.refused(worker)
    assert (schedule.ended, schedule.left) == (True, 9)


def lose_all(schedule: PartSchedule, good: Container[int] = ()) -> int:
    """Let workers judge good parts and be lost at others, until the schedule ends; return the losses."""
    losses, given = 0, deque[JudgePart]()
    while not schedule.ended:
        for action in schedule.next_actions():
            match action:
                case StartWorker(worker):
                    schedule.ready(worker)
                case JudgePart():
                    given.append(action)
        while given:
            now = given.popleft()
            if now.part in good:
                schedule.done(now.worker, now.part)
            else:
                schedule.lost(now.worker)
                losses += 1
                given = deque(one for one in given if one.worker != now.worker)
    return losses


def test_a_part_that_takes_all_workers_down_is_given_up_and_the_others_are_judged() -> None:
    schedule = PartSchedule(range(9), minimum=1, maximum=1)
    assert lose_all(schedule, good=set(range(9)) - {7}) == MAX_LOSSES
    assert (schedule.given_up, schedule.left) == ([7], 0)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_that_all_die_while_they_judge_end_the_run(workers: int) -> None:
    schedule = PartSchedule(range(500), minimum=workers, maximum=workers)
    assert MAX_IN_A_ROW * workers <= lose_all(schedule) < (MAX_IN_A_ROW + 1) * workers
    assert (schedule.left, schedule.given_up) == (500, [])
    assert schedule.lost_in_a_row >= MAX_IN_A_ROW * workers


def test_many_parts_with_poison_do_not_end_a_run_that_judged_some() -> None:
    poison = frozenset(range(3, 300, 3))
    cluster = cluster_of(dict.fromkeys(range(100), 3), (1, 1), poison)
    finish(cluster)
    assert {index for index, what in cluster.committed.items() if what == "worker_lost"} == poison
    assert len(cluster.commits) == 100


def test_workers_that_never_start_end_the_run() -> None:
    schedule = PartSchedule(range(9), minimum=2, maximum=4)
    worker = 0
    while not schedule.ended:
        for action in schedule.next_actions():
            assert isinstance(action, StartWorker)
            schedule.lost(action.worker)
            worker += 1
    assert schedule.cannot_start
    assert worker == MAX_FAILED_STARTS * 2
    assert schedule.left == 9
