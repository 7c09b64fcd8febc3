"""A disk that fails at a chosen write: SQLite's own system calls are replaced, nothing else.

SQLite lets a program put functions in the place of the system calls that it makes on files, for
tests like these. So its real code runs, up to the answer of the system.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Self

import pytest

__all__ = ["FaultyDisk"]

_OK = 0
_ssize = ctypes.c_ssize_t
_off = ctypes.c_longlong


class _Vfs(ctypes.Structure):
    """The beginning of sqlite3_vfs in its third version; see https://sqlite.org/c3ref/vfs.html"""

    _fields_: ClassVar = [
        ("version", ctypes.c_int),
        ("size_of_file", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("methods", ctypes.c_void_p * 13),
        ("set_system_call", ctypes.c_void_p),
        ("get_system_call", ctypes.c_void_p),
    ]


_PROTOTYPES: dict[bytes, Any] = {
    b"write": ctypes.CFUNCTYPE(
        _ssize, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, use_errno=True
    ),
    b"pwrite": ctypes.CFUNCTYPE(
        _ssize, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, _off, use_errno=True
    ),
    b"pwrite64": ctypes.CFUNCTYPE(
        _ssize, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, _off, use_errno=True
    ),
    b"ftruncate": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, _off, use_errno=True),
    b"open": ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_int, use_errno=True
    ),
}


class FaultyDisk:
    """While it is entered, writes of SQLite in this process can be made to fail.

    Attributes:
        writes: how many there were (also changes of a file's length).
        fail_at: the write that fails, counted from 1; None: none does.
        lasting: whether all after it fail too.
        every: also each write whose number this divides; None: none of these.
        error: with which the system answers: ``errno.ENOSPC``, ``errno.EIO``.
        torn: whether half of what was to be written is, before it fails.
        read_only: whether files can only be opened for reading.
    """

    def __init__(self) -> None:
        self.writes = 0
        self.fail_at: int | None = None
        self.lasting = False
        self.every: int | None = None
        self.error = errno.EIO
        self.torn = False
        self.read_only = False
        library = ctypes.CDLL(_sqlite3.__file__)
        try:
            find = library.sqlite3_vfs_find
        except AttributeError:
            pytest.skip("the SQLite of this Python hides its functions")
        find.restype = ctypes.POINTER(_Vfs)
        self._vfs = find(None)
        vfs = self._vfs.contents
        assert vfs.version >= 3, "this system has no replaceable system calls"
        self._set = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
        )(vfs.set_system_call)
        self._get = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
            vfs.get_system_call
        )
        self._kept: list[Any] = []

    def __enter__(self) -> Self:
        for name, prototype in _PROTOTYPES.items():
            address = self._get(self._vfs, name)
            if not address:
                continue  # not in this build
            real = prototype(address)
            ours = prototype(self._opening(real) if name == b"open" else self._writing(real))
            self._kept += [real, ours]
            assert self._set(self._vfs, name, ctypes.cast(ours, ctypes.c_void_p)) == _OK
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name in _PROTOTYPES:
            self._set(self._vfs, name, None)  # back to the system's own
        self._kept.clear()

    def heal(self) -> None:
        """Nothing fails from now on."""
        self.fail_at = self.every = None
        self.read_only = False

    def _fails(self) -> bool:
        self.writes += 1
        at = self.fail_at
        if self.every is not None and self.writes % self.every == 0:
            return True
        return at is not None and (self.writes >= at if self.lasting else self.writes == at)

    def _writing(self, real: Any) -> Callable[..., int]:
        def call(file: int, *arguments: Any) -> int:
            if not self._fails():
                ctypes.set_errno(0)
                return int(real(file, *arguments))
            if self.torn and len(arguments) > 1:
                data, size, *at = arguments
                real(file, data, size // 2, *at)
            ctypes.set_errno(self.error)
            return -1

        return call

    def _opening(self, real: Any) -> Callable[..., int]:
        def call(path: bytes, flags: int, mode: int) -> int:
            if self.read_only and flags & (os.O_RDWR | os.O_WRONLY):
                ctypes.set_errno(errno.EACCES)
                return -1
            return int(real(path, flags, mode))

        return call
