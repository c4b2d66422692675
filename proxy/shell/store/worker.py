"""An executor of one daemon thread: the process can end while its thread still waits for a disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Worker(Executor):
    """An executor of one daemon thread; threads of `concurrent.futures` keep the process until their work is done."""

    def __init__(self, name: str) -> None:
        """Start a thread of this *name*."""
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ended = False
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Run *fn* after the earlier jobs. Raises RuntimeError after shutdown()."""
        if self._ended:
            raise RuntimeError("the thread has ended")
        future: Future[_T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - result() raises it
                future.set_exception(error)

        self._jobs.put(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """End after the submitted jobs."""
        del cancel_futures
        if not self._ended:
            self._ended = True
            self._jobs.put(None)
        if wait:
            self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job
