"""Several processes on one port: forks them, restarts those that die, and stops them all.

The parent serves nothing. It has no threads and no event loop (forking with either is unsafe) and imports nothing of the web
server, so it stays small. A worker gets SIGTERM and nothing else from it: a signal sent to the whole process group (Ctrl+C,
systemd) reaches the workers directly as well, and must not count as a second one there.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable

from tusd_py.observability.logs import flush, log_event
from tusd_py.server.errors import StartError
from tusd_py.server.succession import RESTART_SIGNAL, START_TIMEOUT, Succession, Successor, Verdict
from tusd_py.server.wake_up import WakeUp

__all__ = ["LET_GO_SIGNAL", "Work", "supervise"]

log = logging.getLogger("tusd_py.server")

# Serves as the process with this index, calls the function when it accepts connections, and returns its exit status.
Work = Callable[[int, Callable[[], None]], int]

WATCHED = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, RESTART_SIGNAL)

# Tells a worker that another process listens now. Not the signal to restart: that may be sent to a whole group.
LET_GO_SIGNAL = signal.SIGUSR1

# A worker that lived for less than this counts as one that did not start.
MIN_LIFE = 1.0
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
# So many failed starts in a row and the supervisor gives up: somebody has to look at it.
MAX_FAILED_STARTS = 8

# A worker's exit status when it knows that trying again is useless (EX_CONFIG of sysexits.h).
CANNOT_START = 78

# What a worker may take beyond the shutdown timeout before it is killed: its own grace periods and some air.
STOP_MARGIN = 15.0

_PID = struct.Struct("=i")
_PR_SET_PDEATHSIG = 1


def supervise(count: int, work: Work, *, ready: Callable[[], None], succession: Succession, stop_timeout: float) -> int:
    """Keep `count` workers running until told to stop or replaced; returns the exit status.

    `ready` is called once, when every worker accepts connections.
    """
    supervisor = _Supervisor(count, work, ready, succession, stop_timeout + STOP_MARGIN)
    with WakeUp(WATCHED) as wake_up:
        return supervisor.run(wake_up)


class _Supervisor:
    def __init__(self, count: int, work: Work, ready: Callable[[], None], succession: Succession, stop_limit: float) -> None:
        self._work, self._announce, self._succession, self._stop_limit = work, ready, succession, stop_limit
        self._count = count
        self._workers: dict[int, tuple[int, float]] = {}  # pid: index, when it was forked
        self._ready: set[int] = set()
        self._due = dict.fromkeys(range(count), 0.0)  # index: when to fork it
        self._failed_starts = 0
        self._announced = False
        self._stop_deadline: float | None = None
        self._told_to_stop = self._restart_wanted = False
        self._successor: tuple[Successor, float] | None = None  # and until when it has to be ready
        self._status = 0

    def __repr__(self) -> str:
        return f"<Supervisor workers={len(self._workers)}/{self._count} ready={len(self._ready)} status={self._status}>"

    def run(self, wake_up: WakeUp) -> int:
        self._ready_reader, self._ready_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while self._stop_deadline is None or self._workers:
                self._fork_due()
                readable, _, _ = select.select(self._watched(wake_up), [], [], self._patience())
                if self._announced and self._stop_deadline is None:  # else systemd hears, or expects, somebody else
                    self._succession.notifier.alive()
                self._note_ready(readable)
                self._hear_successor()
                if wake_up.reader in readable:
                    self._on_signals(os.read(wake_up.reader, 4096))
                self._enforce_stop()
        finally:
            os.close(self._ready_reader)
            os.close(self._ready_writer)
        return self._status

    def _watched(self, wake_up: WakeUp) -> list[int]:
        successor = [] if self._successor is None else [self._successor[0].channel.fileno()]
        return [wake_up.reader, self._ready_reader, *successor]

    def _patience(self) -> float | None:
        """Seconds until something is due; None: wait for a signal."""
        now = time.monotonic()
        moments = list(self._due.values()) if self._stop_deadline is None else [self._stop_deadline]
        if self._successor is not None:
            moments.append(self._successor[1])
        if self._succession.notifier.interval is not None:
            moments.append(now + self._succession.notifier.interval)
        return max(0.0, min(moments) - now) if moments else None

    # Starting

    def _fork_due(self) -> None:
        now = time.monotonic()
        for index in [index for index, moment in self._due.items() if moment <= now]:
            del self._due[index]
            self._workers[self._fork(index)] = (index, now)

    def _fork(self, index: int) -> int:
        parent = os.getpid()
        # Signals that reach the child before it has handlers of its own wait until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*WATCHED, LET_GO_SIGNAL))
        try:
            pid = os.fork()
            if pid == 0:
                self._be_worker(index, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (*WATCHED, LET_GO_SIGNAL))
        return pid

    def _be_worker(self, index: int, parent: int) -> None:
        """What happens in the child. It never returns: the parent's stack is none of its business."""
        status = 1
        try:
            _die_with(parent)
            signal.set_wakeup_fd(-1)
            # What the loop does not take over is to work as in any process, SIGCHLD above all: uvloop's subprocesses need it.
            for number in WATCHED:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            status = self._work(index, self._tell_ready)
        except StartError as error:
            print(f"tusd-py: {error}", file=sys.stderr)
            status = CANNOT_START
        except BaseException as error:
            log_event(log, logging.ERROR, "WorkerCrashed", worker=index, error=error)
        finally:
            flush()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _tell_ready(self) -> None:
        os.write(self._ready_writer, _PID.pack(os.getpid()))

    def _note_ready(self, readable: list[int]) -> None:
        if self._ready_reader not in readable:
            return
        told = os.read(self._ready_reader, _PID.size * 256)
        self._ready.update(pid for (pid,) in _PID.iter_unpack(told))
        if not self._announced and len(self._ready) >= self._count and self._stop_deadline is None:
            self._announced = True
            self._announce()
            if self._restart_wanted:
                self._restart()

    # Dying and stopping

    def _on_signals(self, numbers: bytes) -> None:
        # A signal to the whole group ends workers, too: what we were told comes before what it did to them.
        for number in sorted(numbers, key=lambda number: number == signal.SIGCHLD):
            if number == signal.SIGCHLD:
                self._reap()
            elif number == RESTART_SIGNAL:
                self._restart()
            elif not self._told_to_stop:
                self._told_to_stop = True
                self._stop()
            else:
                log_event(log, logging.WARNING, "ShutdownForced")
                self._kill_all()

    def _reap(self) -> None:
        while self._workers:
            pid, raw = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self._workers:
                self._on_death(pid, os.waitstatus_to_exitcode(raw))

    def _on_death(self, pid: int, status: int) -> None:
        index, born = self._workers.pop(pid)
        was_ready = pid in self._ready
        self._ready.discard(pid)
        if self._stop_deadline is not None:
            self._status = self._status or (1 if status else 0)
            return
        if status == 0:  # somebody told it to stop, and may be about to tell us
            log_event(log, logging.INFO, "WorkerStopped", worker=index, pid=pid)
        else:
            log_event(log, logging.ERROR, "WorkerDied", worker=index, pid=pid, status=status)
        started = was_ready and time.monotonic() - born >= MIN_LIFE
        self._failed_starts = 0 if started else self._failed_starts + 1
        if status == CANNOT_START or self._failed_starts >= MAX_FAILED_STARTS:
            self._give_up(status)
            return
        delay = min(FIRST_DELAY * 2 ** (self._failed_starts - 1), LONGEST_DELAY) if self._failed_starts else 0.0
        self._due[index] = time.monotonic() + delay

    def _give_up(self, status: int) -> None:
        if status != CANNOT_START:
            text = f"{self._failed_starts} workers in a row ended as they started (the last with status {status}): giving up"
            print(f"tusd-py: {text}", file=sys.stderr, flush=True)
        self._stop()
        self._status = 1

    def _stop(self) -> None:
        if self._successor is not None:
            self._successor[0].signal(signal.SIGTERM)
            self._successor = None
        if not self._succession.listeners.handed_over:
            self._succession.notifier.stopping()
        self._end_workers(signal.SIGTERM)

    def _end_workers(self, number: signal.Signals) -> None:
        self._due.clear()
        self._stop_deadline = time.monotonic() + self._stop_limit
        self._succession.listeners.close()
        self._signal_all(number)

    # Being replaced

    def _restart(self) -> None:
        if not self._announced:  # a signal that came early waits, as it does in a process of its own
            self._restart_wanted = True
        elif self._stop_deadline is not None or self._successor is not None:
            log_event(log, logging.WARNING, "RestartIgnored", reason="stopping or restarting already")
        elif (successor := self._succession.start()) is not None:
            self._successor = (successor, time.monotonic() + START_TIMEOUT)

    def _hear_successor(self) -> None:
        if self._successor is None:
            return
        successor, deadline = self._successor
        verdict = successor.read()
        if verdict is None and time.monotonic() >= deadline:
            verdict = Verdict(False, reason=f"it was not ready after {START_TIMEOUT:.0f} s")
            successor.signal(signal.SIGKILL)
        if verdict is None:
            return
        successor.channel.close()
        self._successor = None
        if self._succession.conclude(successor.pid, verdict):
            self._end_workers(LET_GO_SIGNAL)

    def _enforce_stop(self) -> None:
        if self._workers and self._stop_deadline is not None and time.monotonic() >= self._stop_deadline:
            log_event(log, logging.ERROR, "WorkersStuck", workers=len(self._workers))
            self._kill_all()

    def _kill_all(self) -> None:
        self._signal_all(signal.SIGKILL)
        sys.stdout.flush()
        os._exit(1)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._workers:
            os.kill(pid, number)  # not reaped yet, so the pid is still its own


def _die_with(parent: int) -> None:
    """Get SIGTERM when the parent ends, however it ends. Linux only; elsewhere an orphan goes on serving."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)  # it ended before we asked
