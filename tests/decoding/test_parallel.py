import os
import signal

import pytest
import torch

from asrsparse.decoding.parallel import in_processes


def square(number):
    if number < 0:
        raise ValueError(f"got {number}, allowed are 0 and more")
    return number**2, torch.get_num_threads(), os.getpid()


def test_results_come_in_order_from_processes_with_one_thread():
    results = list(in_processes(square, range(7), 2, "jobs"))
    assert [value for value, _, _ in results] == [n**2 for n in range(7)]
    assert {threads for _, threads, _ in results} == {1}
    assert len({process for _, _, process in results} - {os.getpid()}) == 2


def test_one_process_is_this_one():
    assert {process for _, _, process in in_processes(square, range(3), 1, "jobs")} == {os.getpid()}


@pytest.mark.parametrize("num_processes", [1, 2])
def test_an_error_keeps_its_message(num_processes):
    with pytest.raises(ValueError, match=r"^got -1, allowed are 0 and more$"):
        list(in_processes(square, [2, -1, 3], num_processes, "jobs"))


def test_a_process_that_is_killed_says_what_to_lower():
    with pytest.raises(ValueError, match=r"A process was killed, as happens where memory runs out\. Lower jobs\."):
        list(in_processes(lambda _: os.kill(os.getpid(), signal.SIGKILL), [1], 2, "jobs"))
