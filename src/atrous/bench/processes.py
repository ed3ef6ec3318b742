"""The processes of a measurement: this one, or several that start together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import psutil

from atrous import engines
from atrous.bench.load import Facts, load, with_share
from atrous.bench.load_generator import Load, Recording, generator_for
from atrous.bench.machine import peak_memory
from atrous.bench.plan import Plan
from atrous.bench.warmup import WarmUp, warm_up
from atrous.engines.base import Engine
from atrous.errors import AtrousError, EngineError

BLOCK = 0.2
"""Seconds of one block of the warm-up, at least."""

STUCK = 60.0
"""Seconds without CPU time after which a process that owes an answer counts as stuck."""


class WarmModel:
    """A model in this process, warm and ready to be measured.

    Args:
        plan: for one process.
        open_engine: like `atrous.engines.open_engine`.

    Attributes:
        facts: what was opened.
        warm: how it was warmed up.

    Raises:
        AtrousError: see `load`.
    """

    def __init__(
        self, plan: Plan, open_engine: Callable[..., Engine] = engines.open_engine
    ) -> None:
        self._loaded = load(plan, open_engine)
        self.facts = self._loaded.facts
        self._generator = generator_for(plan, self._loaded)
        # Three rounds of everything that runs side by side, or the medians would be of few.
        block = Load(BLOCK, 3 * plan.instances * self.facts.shape[0])
        try:
            self.warm = warm_up(lambda: self._generator.run(block).latencies.tolist())
        except BaseException:
            self.close()
            raise

    def run(self, load: Load) -> Recording:
        """Measure."""
        before = time.process_time()
        recording = self._generator.run(load)
        recording.cpu = time.process_time() - before
        recording.memory = peak_memory()
        return recording

    def close(self) -> None:
        """Stop and free everything."""
        self._generator.close()
        self._loaded.engine.close()


class Processes(Protocol):
    """What measures.

    Attributes:
        facts: what was opened.
        warm: how it was warmed up.
    """

    facts: Facts
    warm: WarmUp

    def run(self, load: Load) -> list[Recording]:
        """Measure in all processes at once; `load` is that of all together.

        Raises:
            AtrousError: the model failed, or a process ended.
        """


class ThisProcess:
    """This process; see `Processes`."""

    def __init__(self, model: WarmModel) -> None:
        self._model = model
        self.facts, self.warm = model.facts, model.warm

    def run(self, load: Load) -> list[Recording]:
        """See `Processes`."""
        return [self._model.run(load)]


class SeveralProcesses:
    """Processes of their own, each with an engine; see `Processes`.

    None begins before all are ready: they wait for a word that all get at once. A barrier of theirs
    would hang if one died; here all are watched.

    Args:
        plan: of all of them together.
        work: what runs in each: a process's end of a pipe, the plan of all, its number.
    """

    def __init__(
        self, plan: Plan, work: Callable[[Connection, Plan, int], None] | None = None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for number in range(plan.processes):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=work or _work, args=(theirs, plan, number), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        try:
            ready = self._answers()
        except BaseException:
            self.close()
            raise
        self.facts = ready[0][0]
        self.warm = WarmUp.of_all([warm for _, warm in ready])

    def run(self, load: Load) -> list[Recording]:
        """See `Processes`."""
        share = len(self._pipes)
        rate = load.rate / share if load.rate is not None else None
        for number, pipe in enumerate(self._pipes):
            own = Load(load.seconds, -(-load.queries // share), rate, load.seed * share + number)
            try:
                pipe.send(own)
            except OSError:
                break  # it has ended; the answers say so
        return self._answers()

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()

    def _answers(self) -> list[Any]:
        """One answer of each process; raises what one raises, or that one has ended or is stuck."""
        answers: dict[int, Any] = {}
        idle = [_Idle(process) for process in self._processes]
        while len(answers) < len(self._pipes):
            waiting: dict[Any, int] = {
                what: number
                for number in range(len(self._pipes))
                if number not in answers
                for what in (self._pipes[number], self._processes[number].sentinel)
            }
            for what in wait(list(waiting), timeout=1):
                number = waiting[what]
                if number not in answers:
                    answers[number] = self._answer(number)
            for number, one in enumerate(idle):
                if number not in answers and one.seconds() > STUCK:
                    raise EngineError(
                        f"process {number + 1} of {len(self._pipes)} is stuck: no answer, and no "
                        f"CPU time used for {STUCK:.0f} s; the others were stopped; try again, or "
                        "with a smaller `instances`"
                    )
        return [answers[number] for number in range(len(self._pipes))]

    def _answer(self, number: int) -> Any:
        try:
            answer = self._pipes[number].recv()
        except (EOFError, OSError):
            process = self._processes[number]
            process.join()
            code = process.exitcode or 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended ({code})"
            raise EngineError(
                f"process {number + 1} of {len(self._pipes)} {how} before it was done; the others "
                "were stopped; if memory ran out, take a smaller `processes`, `instances` "
                "or `batch`"
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer


class _Idle:
    """How long a process has not used the CPU."""

    def __init__(self, process: BaseProcess) -> None:
        self._process, self._used, self._since = process, -1.0, 0.0

    def seconds(self) -> float:
        """0 while it works, and when it has ended."""
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        used = times.user + times.system
        if used != self._used:
            self._used, self._since = used, time.monotonic()
        return time.monotonic() - self._since


def _work(pipe: Connection, plan: Plan, number: int) -> None:
    """Be one of several processes: get ready, measure when told to, end when the pipe does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process as well
    logging.getLogger("atrous").disabled = number > 0  # all would say the same
    try:
        if own := cores_of(plan, number, available_cores()):
            # Engines pin their threads, and every process would begin with the first core.
            os.sched_setaffinity(0, own)
        model = WarmModel(with_share(plan))
        pipe.send((model.facts, model.warm))
        while True:
            pipe.send(model.run(pipe.recv()))
    except (EOFError, BrokenPipeError):
        return
    except AtrousError as error:
        pipe.send(error)
    except Exception as error:  # whatever it is, the first process tells it
        pipe.send(EngineError(f"{type(error).__name__}: {error}"))


def available_cores() -> list[int]:
    """The cores that this process may use, none where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cores_of(plan: Plan, number: int, available: Sequence[int]) -> set[int]:
    """The cores of one of several processes; none of its own if there are not enough for all."""
    share = len(available) // plan.processes
    if plan.processes == 1 or plan.device != "cpu" or not 0 < plan.own_threads <= share:
        return set()
    return set(available[number * share : (number + 1) * share])


@contextmanager
def open_processes(plan: Plan, *, apart: bool = False) -> Iterator[Processes]:
    """Open a model in as many processes as a plan says, and warm it up.

    Args:
        plan: what to measure.
        apart: use another process also for one, so that nothing of this one is measured along.

    Raises:
        AtrousError: the model cannot be opened, does not fit the plan, or fails.
    """
    if plan.processes == 1 and not apart:
        model = WarmModel(plan)
        try:
            yield ThisProcess(model)
        finally:
            model.close()
    else:
        several = SeveralProcesses(plan)
        try:
            yield several
        finally:
            several.close()
