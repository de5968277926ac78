"""The closed-loop part: slices of every contender in turn, so that noise strikes all alike."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.cases import KINDS, MODELS, RAW, Case, Kind, Layout
from benchmarks.load import run_slice
from benchmarks.proc import memory_mib, on_cores
from benchmarks.servers import CONTENDERS, ROOT, Contender, Server, ask, running
from benchmarks.stats import Sample
from benchmarks.workload import Workload

WARM_UP_REQUESTS: Final = 50
RAW_BY_ROWS: Final = {kind.rows: kind for kind in KINDS if kind.media == RAW}

DirectKey: TypeAlias = tuple[str, str, int, int]


@dataclass(slots=True)
class Samples:
    """All slices, in the order of time.

    Attributes:
        served: By case and the name of a contender.
        direct: By layout, model, rows of a batch and threads: ONNX Runtime alone.
        others_shares: Of each slice, the cores that other processes used.
        memory_mib: By contender the most memory that one of its processes used, load included.
    """

    served: dict[tuple[Case, str], list[Sample]] = field(default_factory=dict)
    direct: dict[DirectKey, list[Sample]] = field(default_factory=dict)
    others_shares: list[float] = field(default_factory=list)
    memory_mib: dict[str, float] = field(default_factory=dict)

    @property
    def cases(self) -> list[Case]:
        return list(dict.fromkeys(case for case, _ in self.served))


@dataclass(frozen=True, slots=True)
class Post:
    """A server that is asked for *model*, and the models that its figures hold for."""

    server: Server
    model: str
    holds_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """How a layout is measured."""

    workload: Workload
    slices: int
    seconds: int
    say: Callable[[str], None]

    def measure(self, layout: Layout, cases: Sequence[Case], samples: Samples) -> None:
        """Go *slices* times through all *cases*."""
        if not cases:
            return
        with ExitStack() as stack:
            posts = list(_posts(self.workload, layout, stack))
            _warm_up(posts, {case.kind for case in cases})
            for turn in range(self.slices):
                self.say(f"{layout.name}: turn {turn + 1} of {self.slices}")
                # nobody is always the first after a change of load
                order = posts[turn % len(posts) :] + posts[: turn % len(posts)]
                self._serve(layout, cases, order, samples)
                self._run_directly(layout, cases, samples)
            _note_memory(posts, samples)

    def _serve(
        self, layout: Layout, cases: Sequence[Case], posts: Sequence[Post], samples: Samples
    ) -> None:
        for kind, concurrency in dict.fromkeys((case.kind, case.concurrency) for case in cases):
            asked = [c for c in cases if (c.kind, c.concurrency) == (kind, concurrency)]
            for post in posts:
                fits = [case for case in asked if case.model in post.holds_for]
                if not fits:
                    continue
                piece = run_slice(
                    post.server.target(post.model, kind),
                    concurrency=concurrency,
                    seconds=self.seconds,
                    cores=layout.generator,
                )
                samples.others_shares.append(piece.others_share)
                for case in fits:
                    key = (case, post.server.contender.name)
                    samples.served.setdefault(key, []).append(piece.sample)

    def _run_directly(self, layout: Layout, cases: Sequence[Case], samples: Samples) -> None:
        for model, rows in dict.fromkeys((case.model, case.kind.rows) for case in cases):
            for threads in thread_counts(layout, rows):
                sample = run_direct(
                    self.workload.scorers[model],
                    self.workload.bodies[RAW_BY_ROWS[rows].name],
                    seconds=self.seconds,
                    layout=layout,
                    threads=threads,
                )
                key = (layout.name, model, rows, threads)
                samples.direct.setdefault(key, []).append(sample)


def thread_counts(layout: Layout, rows: int) -> list[int]:
    """Say with how many threads ONNX Runtime is measured alone.

    As many as the server has cores; and one, which is what the service gives a run, where a
    batch is large enough for several to share it.
    """
    cores = len(layout.server)
    return [cores] if cores == 1 or rows == 1 else [cores, 1]


def run_direct(graph: Path, rows: Path, *, seconds: float, layout: Layout, threads: int) -> Sample:
    """Measure ONNX Runtime alone on the server's cores."""
    arguments = [str(graph), str(rows), str(seconds), str(threads)]
    with on_cores(layout.server):
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "benchmarks.contenders.direct", *arguments],
            stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True,
        )  # fmt: skip
    return Sample(**json.loads(done.stdout))


def _posts(workload: Workload, layout: Layout, stack: ExitStack) -> Iterator[Post]:
    """Start the servers: one where it is enough, else one for each model."""
    for contender in CONTENDERS:

        def start(model: str, contender: Contender = contender) -> Server:
            return stack.enter_context(running(contender, workload, model, layout.server))

        if contender.is_the_same_for_all:
            yield Post(start(MODELS[0]), MODELS[0], MODELS)
        elif contender.knows_models:
            server = start(MODELS[0])
            yield from (Post(server, model, (model,)) for model in MODELS)
        else:
            yield from (Post(start(model), model, (model,)) for model in MODELS)


def _warm_up(posts: Sequence[Post], kinds: Iterable[Kind]) -> None:
    for kind in kinds:
        for post in posts:
            target = post.server.target(post.model, kind)
            answers = [ask(target) for _ in range(WARM_UP_REQUESTS)]
            if not all(answers):
                raise RuntimeError(f"{target.url} does not answer requests of {kind.name}")


def _note_memory(posts: Sequence[Post], samples: Samples) -> None:
    for post in posts:
        name = post.server.contender.name
        used = memory_mib(post.server.pid, "VmHWM")
        samples.memory_mib[name] = max(used, samples.memory_mib.get(name, 0.0))
