"""What the errors of the server and of the connection mean to who uses the backend."""

from __future__ import annotations

from pollin_actors.errors import BackendUnavailable

__all__ = [
    "LOST",
    "answer_lost",
    "code_of",
    "is_missing_function",
    "moved_to",
    "starts_anew",
    "unavailable",
]

# Of an error's first word. Of these nothing was carried out: the server says so before it begins.
_HINTS = {
    "OOM": "give the server more memory (maxmemory), or take callbacks out, then try again",
    "READONLY": "it is a replica: use the address of the primary, or wait until it is one",
    "LOADING": "it reads what was stored: wait, then try again",
    "MISCONF": "it cannot write to its disk: see its log, make room, then try again",
    "NOREPLICAS": "too few replicas are connected (min-replicas-to-write): see to them",
    "MASTERDOWN": "its primary is away: wait until it is back, or another has taken its place",
    "CLUSTERDOWN": "a part of the cluster is away: wait until it is back, then try again",
    "TRYAGAIN": "the cluster moves its slots about: wait until that is done",
    "ASK": "the cluster moves its slots about: wait until that is done",
    "MOVED": "it is part of a cluster: leave cluster=false out of the URL",
    "BUSY": "it is in the middle of a long script: wait, or end that",
    "NOAUTH": "give name and password in the URL: valkey://name:password@host",
    "WRONGPASS": "check name and password in the URL",
    "NOPERM": "give its user the right to run functions, on all keys that begin with the prefix",
}
_HINT = "check that it is running and can be reached, then try again"

LOST = (
    "the answer was lost: the operation may have been carried out, or not; look before you repeat "
    "it, or repeat it where the same id adds nothing"
)


def code_of(error: BaseException) -> str:
    """The first word of what a server says, or nothing."""
    name = type(error).__name__
    known = {
        "OutOfMemoryError": "OOM",
        "ReadOnlyError": "READONLY",
        "BusyLoadingError": "LOADING",
        "NoPermissionError": "NOPERM",
        "AuthenticationError": "WRONGPASS",
        "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
        "MasterDownError": "MASTERDOWN",
        "ClusterDownError": "CLUSTERDOWN",
        "TryAgainError": "TRYAGAIN",
        "MovedError": "MOVED",
        "AskError": "ASK",
    }
    if name in known:
        return known[name]
    word = str(error).partition(" ")[0]
    return word if word.isupper() else ""


def is_missing_function(error: BaseException) -> bool:
    """Whether the server has not got our functions, or not any more."""
    return "Function not found" in str(error)


def moved_to(error: BaseException) -> tuple[int, str, int] | None:
    """A slot, and host and port of the server of the cluster that is to be asked about it."""
    if code_of(error) != "MOVED":
        return None
    slot, _, where = str(error).removeprefix("MOVED").strip().partition(" ")
    host, _, port = where.rpartition(":")
    return (int(slot), host, int(port)) if slot.isdigit() and port.isdigit() else None


def starts_anew(error: BaseException) -> bool:
    """Whether another connection may lead to a server that can."""
    return code_of(error) in ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH")


def unavailable(label: str, error: BaseException) -> BackendUnavailable:
    """What the caller is told; the error is its cause."""
    code = code_of(error)
    text = str(error) or type(error).__name__
    if code and not text.startswith(code):
        text = f"{code} {text}"
    result = BackendUnavailable("valkey", f"{label}: {text}", _HINTS.get(code, _HINT))
    result.__cause__ = _bare(error)
    return result


def answer_lost(label: str, error: BaseException | None) -> BackendUnavailable:
    """What a caller is told whose message was sent and not answered."""
    what = "the work on it was interrupted" if error is None else str(error)
    result = BackendUnavailable("valkey", f"{label}: {what}; {LOST}", _HINT)
    result.__cause__ = None if error is None else _bare(error)
    return result


def _bare(error: BaseException) -> BaseException:
    """The error without its tracebacks: who prints those with variables would print a password,
    which the client's frames have."""
    links: BaseException | None = error
    seen: set[int] = set()
    while links is not None and id(links) not in seen:
        seen.add(id(links))
        links.__traceback__ = None
        links = links.__cause__ or links.__context__
    return error
