"""Pickles that hold plain data, and only those: reading one never runs anything that the file brings along.

A pickle is a program: whoever wrote it can have any function called while it is read. Here the only names that a
file may ask for are the ones that rebuild NumPy arrays and numbers, each answered by a function that does no more
than that; lists, dicts, tuples, text and numbers need no names. Anything else is refused before it is called.
"""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core.multiarray import scalar as numpy_scalar

from kinemix.errors import DataError


def read_plain_pickle(path: Path) -> Any:
    """What a pickle holds: lists, dicts, tuples, text, numbers and NumPy arrays of them.

    Raises:
        DataError: it holds anything else, or is no pickle.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file).load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a broken pickle may raise almost anything; none of it is a defect of kinemix
        raise DataError(f"{path}: no pickle of plain data ({type(error).__name__}: {error})") from error


class _ArrayType:
    """Stands for ``numpy.ndarray``: named where an array is rebuilt, never called by the file itself."""


def _make_array(_kind: Any, _shape: Any, _type_code: Any) -> np.ndarray[Any, Any]:
    return np.empty(0, "b")  # the file fills in shape, type and values afterwards


def _read_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _encode(text: Any, encoding: str = "latin1") -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"text in {encoding}")
    return codecs.encode(text, "latin1")


def _make_empty_bytes() -> bytes:
    return b""  # old pickles ask for `bytes()`; with arguments this raises


_ALLOWED = {
    ("__builtin__", "bytes"): _make_empty_bytes,
    ("numpy", "ndarray"): _ArrayType(),
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"{core}.{module}", name): stand_in
        for core in ("numpy.core", "numpy._core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _make_array),
            ("multiarray", "scalar", numpy_scalar),
            ("numeric", "_frombuffer", _read_buffer),
        )
    },
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise DataError(
                f"the pickle asks for {module}.{name}; only lists, dicts, text, numbers and NumPy arrays are read "
                "from a pickle, because others can run code: save the scores as .npz or .csv instead"
            )
        return _ALLOWED[module, name]
