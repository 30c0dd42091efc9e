"""A cluster in memory: workers that judge parts as `PartJudge` does, and that die when they are told to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from clipmod_cli.parts.judge import INPUT_LOSSES, WHOLE_LOSSES
from clipmod_cli.parts.schedule import EndWorker, JudgePart, PartSchedule, StartWorker


@dataclass
class Node:
    """A worker process.

    Attributes:
        parts: given to it; it judges the first.
        left: inputs of that part that it has not judged; None before it has begun.
        one_by_one: it judges that part input by input.
    """

    is_ready: bool = False
    parts: list[JudgePart] = field(default_factory=list)
    left: list[int] | None = None
    one_by_one: bool = False
    judged: dict[int, str] = field(default_factory=dict)


class Cluster:
    """Carries out the actions of a schedule, and keeps what parts came to.

    Attributes:
        committed: by index, what became of each input: `judged` or `worker_lost`.
        commits: how often each part was committed.
        lost: how many workers were lost while they judged each part.
        begun: how often each input was begun where parts were judged input by input, and not ended.
    """

    def __init__(self, sizes: Mapping[int, int], schedule: PartSchedule, poison: frozenset[int]) -> None:
        self.schedule = schedule
        self.poison = poison
        firsts = {part: sum(n for other, n in sizes.items() if other < part) for part in sizes}
        self.inputs = {part: list(range(firsts[part], firsts[part] + n)) for part, n in sizes.items()}
        self.workers: dict[int, Node] = {}
        self.committed: dict[int, str] = {}
        self.commits: Counter[int] = Counter()
        self.lost: Counter[int] = Counter()
        self.begun: Counter[int] = Counter()

    def act(self) -> None:
        """Do what the schedule wants, and check what it may want at all."""
        for action in self.schedule.next_actions():
            match action:
                case StartWorker(worker):
                    assert worker not in self.workers
                    assert len(self.workers) < self.schedule.maximum
                    self.workers[worker] = Node()
                case EndWorker(worker):
                    assert not self.workers.pop(worker).parts
                case JudgePart(worker, part):
                    node = self.workers[worker]
                    assert node.is_ready
                    node.parts.append(action)
                    assert len(node.parts) <= 2
                    holders = [n for n, w in self.workers.items() if part in (p.part for p in w.parts)]
                    assert holders == [worker]
                case _:
                    raise AssertionError(action)

    def step(self, worker: int) -> None:
        """Let a worker become ready, or judge one input, or commit a part."""
        node = self.workers[worker]
        if not node.is_ready:
            node.is_ready = True
            self.schedule.ready(worker)
        elif node.parts:
            self._judge_one(worker, node)

    def _judge_one(self, worker: int, node: Node) -> None:
        now = node.parts[0]
        if node.left is None:
            node.left, node.judged = list(self.inputs[now.part]), {}
            node.one_by_one = self.lost[now.part] >= WHOLE_LOSSES
        if not node.left:
            if not self.commits[now.part]:  # create-if-absent
                self.committed |= node.judged
                self.commits[now.part] += 1
            node.parts.pop(0)
            node.left = None
            self.schedule.done(worker, now.part)
            return
        index = node.left[0]
        if node.one_by_one and self.begun[index] >= INPUT_LOSSES:
            node.judged[index] = "worker_lost"
        elif index in self.poison:
            self.kill(worker)
            return
        else:
            node.judged[index] = "judged"
        node.left.pop(0)

    def kill(self, worker: int) -> None:
        """End a worker's process, whatever it does."""
        node = self.workers.pop(worker)
        if node.left is not None:
            self.lost[node.parts[0].part] += 1
        if node.left and node.one_by_one:
            self.begun[node.left[0]] += 1
        self.schedule.lost(worker)

    def refuse(self, worker: int) -> None:
        """Let a worker say that it cannot judge."""
        del self.workers[worker]
        self.schedule.refused(worker)
