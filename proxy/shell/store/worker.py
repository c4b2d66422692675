"""A thread that does one thing after another, and that nobody has to wait for at the end: a disk may never answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Worker(Executor):
    """An executor of one thread, a daemon: those of `concurrent.futures` keep the process until their work is done."""

    def __init__(self, name: str) -> None:
        """Begin, with a thread of this *name*."""
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._over = False
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Do *fn* after what was submitted before. Raises RuntimeError after the end."""
        if self._over:
            raise RuntimeError("the thread has ended")
        future: Future[_T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                future.set_exception(error)

        self._jobs.put(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """End after what was submitted."""
        del cancel_futures
        if not self._over:
            self._over = True
            self._jobs.put(None)
        if wait:
            self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job
