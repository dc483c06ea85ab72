"""The command line: verbs only. What a verb does stands in the library; here it is asked for and printed.

Everything that goes wrong ends here, in :func:`main`: what a user can mend is one line and exit code 2, being
interrupted is one line and 130 (0 for a training, which saves first), and a defect of kinemix keeps its traceback.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from kinemix.errors import ConfigError, KinemixError, did_you_mean
from kinemix.shortage import explain_shortage

USER_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141
"""Exit codes."""

_ENVIRONMENT = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE)
"""Failures of the machine rather than of kinemix: full disk, no permission, too many open files."""

VERBS = {
    "train": "teach a network from a folder or list of videos",
    "splits": "train and test every split or fold of the data: mean and deviation",
    "recipes": "the rows of the papers' tables as config files: list, show NAME, check NAME",
    "ablate": "run an ablation table of the papers on your data, beside the paper's figures",
    "sweep": "search over options: modules, kernels, rates, ...; weak runs are stopped early",
    "test": "measure a trained run: accuracies, confusion, scores",
    "ensemble": "average score files, measure each and all, compare them pair by pair",
    "compare": "runs side by side: classes, order, confidence, agreement, cost, as pictures and a page",
    "report": "one page about a run or several: curves, confusion, clips, order, cost, data, how to do it again",
    "predict": "name what is seen in video files",
    "explain": "where and when a network found its answer, and what its temporal modules learned: pictures, films",
    "app": "a page to try networks on: drop a clip, see the answer and why; with a JSON API",
    "embed": "features of a set of videos, drawn by t-SNE or UMAP; two runs side by side",
    "convert": "read a checkpoint of another project, tensor by tensor",
    "inspect": "print where the temporal modules of a model stand, and what they cost",
    "complexity": "count parameters and multiply-adds, memory and time; --papers: beside every published count",
    "list": "what there is: modules, backbones, networks, datasets; --papers: every row of the papers' tables",
    "models": "list the models' names",
    "data": "the published datasets: list, show NAME, check NAME ROOT",
    "doctor": "what is wrong with a collection of videos: files, labels, copies, leaks, cost of reading",
    "prepare": "transcode a dataset once into a layout that is fast to sample",
    "motion": "make the generated benchmark of video files",
    "demo": "the whole way on generated videos, in minutes",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: words after ``kinemix``; by default those of the process.

    Returns:
        The exit code: 0, 2 for something the user can mend, 130 after an interruption that saved nothing.
    """
    # Threads that wait for their like must sleep, not spin: where another process holds a core (a loader worker
    # does), spinning made a training step ten times slower. OpenMP reads this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        _check_streams()
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except KinemixError as error:
        return fail(error)
    except (RuntimeError, MemoryError) as error:
        if (shortage := explain_shortage(error)) is None:
            raise
        return fail(shortage)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not stumble over it when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in _ENVIRONMENT:
            raise
        return fail(
            f"{error.filename or 'writing'}: {error.strerror}; free or choose another place and run again"
        )
    except KeyboardInterrupt as interruption:
        _tell(f"kinemix: {str(interruption) or 'interrupted'}")
        return INTERRUPTED


@contextmanager
def explain_going_on() -> Iterator[None]:
    """Around work that goes on where it was interrupted: whoever presses Ctrl-C is told so."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        line = str(interruption) or "interrupted; the same command goes on where this one stopped"
        raise KeyboardInterrupt(line) from None


def _check_streams() -> None:
    """Make sure that there is somewhere to print to: ``>&-`` closes a stream, and its number is then given away."""
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = os.fdopen(2, "w")
    if sys.stdout is None:
        raise ConfigError("standard output is closed, so there is nowhere to print to: send it to a file")


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_describe_verbs())
        return 0 if words else USER_ERROR
    verb, rest = words[0], words[1:]
    if verb == "--version":
        from kinemix import __version__

        print(f"kinemix {__version__}")
        return 0
    if verb not in VERBS:
        raise ConfigError(f"unknown verb {verb!r}: {did_you_mean(verb, VERBS)}")
    from kinemix.cli import verbs

    run: Callable[[list[str]], int] = getattr(verbs, f"run_{verb}")
    return run(rest)


def _describe_verbs() -> str:
    lines = [f"  {verb:11}{about}" for verb, about in VERBS.items()]
    return "\n".join(
        ["usage: kinemix VERB [OPTIONS]", "", *lines, "", "kinemix VERB --help tells a verb's options."]
    )


def fail(reason: object) -> int:
    """Tell what a user can mend, in one line; returns the exit code."""
    _tell(f"kinemix: error: {' '.join(str(reason).split())}")
    return USER_ERROR


def _tell(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:  # nobody reads the errors either; the exit code still tells
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
