"""What torch and Python say when memory runs out becomes one line with the cure; other errors stay what they are."""

import numpy
import pytest
import torch

from kinemix.cli import main
from kinemix.shortage import explain_shortage


def _catch(fail):
    with pytest.raises((RuntimeError, MemoryError)) as error:
        fail()
    return error.value


@pytest.mark.parametrize(
    ("fail", "amount"),
    [(lambda: torch.empty(10**15), "4000000000000000 bytes"), (lambda: numpy.empty(10**17), "unknown")],
)
def test_real_shortages_of_the_processor(fail, amount):
    line = explain_shortage(_catch(fail))
    assert line.startswith("memory does not suffice")
    assert (amount in line) == (amount != "unknown")
    assert "lower the batch size" in line
    assert "\n" not in line


def test_a_shortage_of_the_gpu_as_torch_words_it():
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.02 GiB is "
        "free."
    )
    line = explain_shortage(error)
    assert line.startswith("the GPU's memory does not suffice (2.00 GiB more were asked for): lower")
    wrapped = RuntimeError(f"Caught OutOfMemoryError in DataLoader worker process 0.\n...{error}")
    assert explain_shortage(wrapped) == line


def test_a_shortage_of_shared_memory():
    error = _catch(lambda: torch.UntypedStorage._new_shared(10**16, device="cpu"))
    assert explain_shortage(error).startswith("no shared memory for a batch")


def test_other_errors_are_none():
    for error in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("x"),
        KeyError("memory"),
    ):
        assert explain_shortage(error) is None
    triton = "out of resource: shared memory, Required: 131072, Hardware limit: 101376"
    files = (
        "unable to open shared memory object </torch_12_34_5> in read-write mode: Too many open files (24)"
    )
    for text in (triton, files):
        assert explain_shortage(RuntimeError(text)) is None


def test_the_command_line_tells_it_and_a_defect_keeps_its_traceback(monkeypatch, capsys):
    def run(error):
        def fail(words):
            raise error

        monkeypatch.setattr("kinemix.cli.verbs.run_list", fail)
        return main(["list"])

    assert run(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kinemix: error: the GPU's memory does not suffice (2.00 GiB")
    assert run(MemoryError()) == 2
    with pytest.raises(RuntimeError, match="a defect"):
        run(RuntimeError("a defect"))
