"""Precision and threads: the process's, and those of `with` blocks, which belong to a context."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest

import fastconv
from fastconv._kernels import threads


@dataclass(frozen=True)
class Case:
    """A setting's three functions, its value before, and two others."""

    get: Callable[[], Any]
    set: Callable[[Any], None]
    block: Callable[[Any], AbstractContextManager[None]]
    before: Any
    one: Any
    other: Any


CASES = {
    "threads": Case(
        fastconv.get_num_threads, fastconv.set_num_threads, fastconv.num_threads, 5, 2, 3
    ),
    "precision": Case(
        fastconv.get_precision,
        fastconv.set_precision,
        fastconv.precision,
        "highest",
        "high",
        "highest",
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    if request.param == "threads" and not threads.openmp_date:
        pytest.skip("this build is single-threaded")
    found = CASES[request.param]
    before = found.get()
    found.set(found.before)
    yield found
    found.set(before)


def test_blocks_in_two_threads_that_overlap(case: Case) -> None:
    """The first enters, the second enters, the first leaves, the second leaves."""
    entered, left = threading.Event(), threading.Event()
    seen = []

    def first() -> None:
        with case.block(case.one):
            entered.set()
            assert second_entered.wait(60)
            seen.append(case.get())
        left.set()

    second_entered = threading.Event()

    def second() -> None:
        assert entered.wait(60)
        with case.block(case.other):
            second_entered.set()
            assert left.wait(60)
            seen.append(case.get())

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
        assert pool.submit(case.get).result() == case.before
    assert seen == [case.one, case.other]
    assert case.get() == case.before


def test_blocks_in_two_tasks_that_overlap(case: Case) -> None:
    async def task(value: Any, enter: float, leave: float) -> list[Any]:
        await asyncio.sleep(enter)
        with case.block(value):
            inside = [case.get()]
            await asyncio.sleep(leave - enter)
            inside.append(case.get())
        return [*inside, case.get()]

    async def both() -> list[list[Any]]:
        return list(await asyncio.gather(task(case.one, 0, 0.02), task(case.other, 0.01, 0.04)))

    assert asyncio.run(both()) == [
        [case.one, case.one, case.before],
        [case.other, case.other, case.before],
    ]
    assert case.get() == case.before


def test_a_task_has_the_block_that_started_it(case: Case) -> None:
    async def started() -> Any:
        return await asyncio.create_task(child())

    async def child() -> Any:
        return case.get()

    with case.block(case.one):
        assert asyncio.run(started()) == case.one


def test_blocks_within_blocks(case: Case) -> None:
    with case.block(case.one):
        with case.block(case.other):
            assert case.get() == case.other
        assert case.get() == case.one
    assert case.get() == case.before


def test_one_block_in_itself_and_in_two_threads(case: Case) -> None:
    """An object keeps no state of the blocks that it has entered."""
    block = case.block(case.one)
    with block, block:
        with ThreadPoolExecutor(1) as pool, block:
            assert pool.submit(case.get).result() == case.before
        assert case.get() == case.one
    assert case.get() == case.before


def test_an_exception_leaves_the_block(case: Case) -> None:
    with pytest.raises(ZeroDivisionError), case.block(case.one):
        raise ZeroDivisionError
    assert case.get() == case.before


def test_what_is_set_within_a_block_is_the_process_s(case: Case) -> None:
    """A block keeps its own value; after it, and in other threads, the new one holds."""
    with case.block(case.one):
        case.set(case.other)
        assert case.get() == case.one
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(case.get).result() == case.other
    assert case.get() == case.other


def test_generators_that_take_turns(case: Case) -> None:
    """Whichever ends first, the other keeps its value, and no value is left at the end."""

    def generator(value: Any) -> Generator[None, None, None]:
        with case.block(value):
            yield

    first, second = generator(case.one), generator(case.other)
    next(first), next(second)
    assert case.get() == case.other
    first.close()
    assert case.get() == case.other
    second.close()
    assert case.get() == case.before


def test_a_block_that_is_left_in_another_context(case: Case) -> None:
    block = case.block(case.one)
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert case.get() == case.before


def test_a_block_of_another_context_that_is_left_within_a_block(case: Case) -> None:
    """The block around it keeps its value."""
    other = case.block(case.one)
    contextvars.copy_context().run(other.__enter__)
    with case.block(case.other):
        other.__exit__(None, None, None)
        assert case.get() == case.other
    assert case.get() == case.before
