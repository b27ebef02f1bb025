"""Doing for several threads at once what costs the same for one and for many, as a transaction that waits for the disk does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Together"]

Q = TypeVar("Q")
A = TypeVar("A")


class _Request(Generic[Q, A]):
    __slots__ = ("answer", "question")

    def __init__(self, question: Q) -> None:
        self.question = question
        self.answer: A | BaseException | None = None  # None until it is served


class Together(Generic[Q, A]):
    """`serve` answers several questions: one answer, or what went wrong, for each. What it raises goes to all of them.

    There is no thread of its own: whoever comes first serves all that have come meanwhile, while the others wait.
    """

    def __init__(self, serve: Callable[[Sequence[Q]], Sequence[A | BaseException]]) -> None:
        self._serve = serve
        self._lock = Lock()  # guards the list
        self._waiting: list[_Request[Q, A]] = []
        self._turn = Lock()  # held by the one who serves

    def ask(self, question: Q) -> A:
        """Raises what went wrong."""
        request = _Request[Q, A](question)
        with self._lock:
            self._waiting.append(request)
        with self._turn:
            if request.answer is None:
                with self._lock:
                    requests, self._waiting = self._waiting, []
                self._answer(requests)
        assert request.answer is not None
        if isinstance(request.answer, BaseException):
            raise request.answer
        return request.answer

    def _answer(self, requests: Sequence[_Request[Q, A]]) -> None:
        try:
            answers = self._serve([request.question for request in requests])
        except BaseException as error:  # whatever it is: nobody may take it for done
            answers = [error] * len(requests)
        for request, answer in zip(requests, answers, strict=True):
            request.answer = answer
