"""Checks of verification, and rules of where a chain ends, left out one by one: what then goes unseen.

A plant is a change of one place of the source. It is compiled anew, and takes the place of the functions that run.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FunctionType, ModuleType

from lockstep.audit import append, chain, entry, verify


@dataclass(frozen=True, kw_only=True)
class Plant:
    """One check left out.

    Attributes:
        module: Where it is.
        old: Its source, which occurs once.
        new: What takes its place.
        mutation: The mutation that shows what it is for.
        loses: The field of `Outcome` that is then no longer true.
        digests: Whether there are digests, which see much by themselves.
    """

    name: str
    old: str
    new: str = "pass"
    mutation: str
    loses: str = "caught"
    digests: bool = False
    module: ModuleType = verify

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The code without the check, inside the block."""
        source = inspect.getsource(self.module)
        assert source.count(self.old) == 1, f"{self.name}: the source has changed"
        whole, changed = (
            dict(_functions(self._compiled(text))) for text in (source, source.replace(self.old, self.new))
        )
        # Only what the plant changes, so that two plants may stand in one module.
        olds = [
            (function, function.__code__, changed[name].__code__)
            for name, function in _functions(self.module)
            if changed[name].__code__ != whole[name].__code__
        ]
        for function, _, planted in olds:
            function.__code__ = planted
        try:
            yield
        finally:
            for function, original, _ in olds:
                function.__code__ = original

    def _compiled(self, source: str) -> ModuleType:
        made = ModuleType(self.module.__name__)
        made.__dict__.update(__package__=self.module.__package__, __file__=self.module.__file__)
        exec(compile(source, str(self.module.__file__), "exec"), made.__dict__)  # noqa: S102 - our own source
        return made


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """The functions and methods that a module defines, with their names."""
    for name, value in vars(module).items():
        if isinstance(value, FunctionType) and value.__module__ == module.__name__ and not value.__closure__:
            yield name, value
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for inner, member in vars(value).items():
                function = member.fget if isinstance(member, property) else member
                if (
                    isinstance(function, FunctionType)
                    and not function.__closure__
                    and not inner.startswith("__")
                ):
                    yield f"{name}.{inner}", function


def of(module: ModuleType, *plants: Plant) -> Iterator[Plant]:
    """Plants in a module."""
    yield from (replace(plant, module=module) for plant in plants)


_VERIFIES = "if signer and not signer_of(signer, entry.rotation_id).verify(entry.digest, entry.mac):"
_EITHER = "if signer and not any(k.verify(entry.digest, entry.mac) for k in (signer, signer.orders)):"
PLANTS = (
    *of(
        verify,
        Plant(
            name="the hash of the entry before is not compared",
            old="is_next = entry.previous_hash == expected",
            new="is_next = True",
            mutation="signed again by its own key: last-but-one of aws",
        ),
        Plant(
            name="numbers may be left out",
            old='problems.append(Problem(gone if stepped else "is missing", low, high))',
            mutation="a number left out: aws",
        ),
        Plant(
            name="foreign objects between entries are no problem",
            old='problems.append(Problem(f"{wrong}{over_it}", number))',
            mutation="junk under the next number: aws",
            loses="later",
        ),
        Plant(
            name="foreign objects after the last entry are no problem",
            old="problems += [Problem(o.wrong, o.number) for o in pending]",
            mutation="junk under the highest number: aws",
        ),
        Plant(
            name="what an entry says was missing is no problem",
            old="    if differs:\n",
            new="    if False:\n",
            mutation="a head with another hash: aws",
            loses="later",
        ),
        Plant(
            name="a retired key may sign after its successor",
            old="if (of := keys.rank(entry.mac.key_id)) < ranks.get(keys, of):",
            new="if (of := ranks.get(keys, (0, 0))) < of:",
            mutation="appended with a retired key, and its head: aws",
        ),
        Plant(
            name="a MAC is not verified",
            old=_VERIFIES,
            new="if False:",
            mutation="appended with an own key that names itself as the stream's, and its head: aws",
        ),
        Plant(
            name="a run may be signed by the key of orders",
            old=_VERIFIES,
            new=_EITHER,
            mutation="order key signs a run, and its head",
        ),
        Plant(
            name="an order may be signed by the key of runs",
            old=_VERIFIES,
            new=_EITHER,
            mutation="run key signs an order, and its head",
        ),
        Plant(
            name="an entry may be of another kind than its id says",
            old='if isinstance(entry.details.get("order"), str) != entry.rotation_id.startswith(ORDER):',
            new="if False:",
            mutation="order key signs a run as an order, and its head",
        ),
        Plant(
            name="the MAC of an archived entry is not verified",
            old="if signer and not is_signed(signer, found):",
            new="if False:",
            mutation="archived, appended with an own key that names itself as the stream's, and its head: oci",
        ),
        Plant(
            name="the place that an archived seal names is not compared",
            old="if not (found.seal and found.mac and found.is_at(credential_id, log.stream)):",
            new="if not (found.seal and found.mac):",
            mutation="archived, sealed for another credential, and its head: oci",
        ),
        Plant(
            name="the run of the event is not compared with the seal's",
            old='return "" if uid == entry.rotation_id else "names another run than its event"',
            new='return ""',
            mutation="signed, with the event of another run: aws",
        ),
        Plant(
            name="the base of a rotation need not be on record",
            old="if base not in recorded and base > lowest:",
            new="if False:",
            mutation="cut the last, and the heads: oci",
        ),
        Plant(
            name="delete markers are no problem",
            old="return latest.seq, Trace.HIDDEN",
            new="return latest.seq, None",
            mutation="last marked, and the lock record rolled back: aws",
            loses="at_once",
        ),
        Plant(
            name="an entry under which a marker lies is no problem",
            old="return latest.seq, Trace.DELETED",
            new="return latest.seq, None",
            mutation="marked and written again: middle of aws",
        ),
        Plant(
            name="a second version is no problem",
            old="return latest.seq, Trace.REWRITTEN if contents > 1 else None",
            new="return latest.seq, None",
            mutation="overwritten by itself: middle of aws",
        ),
        Plant(
            name="names that are no entries' are no problem",
            old="return 0, Trace.FOREIGN",
            new="return 0, None",
            mutation="a name: bidi: aws",
        ),
        Plant(
            name="the date of an object is not compared",
            old="if abs(found.at - entry.time) > _TOLERANCE:",
            new="if False:",
            mutation="dated 16 minutes later: last of aws",
        ),
        Plant(
            name="what digests name is not compared",
            old="and there.get(head.seq) != (head.hash, head.at)",
            new="and False",
            mutation="cut the last, and the heads: aws",
            loses="at_once",
            digests=True,
        ),
    ),
    *of(
        chain,
        Plant(
            name="the place that an entry names is not compared",
            old="if place != (chain_folder(credential_id), stream, seq):",
            new="if False:",
            mutation="sealed for another credential, and its head: aws",
        ),
        Plant(
            name="the event is not compared with its hash",
            old="hashlib.sha256(event).hexdigest() != place.event_hash",
            new="False",
            mutation="another event: middle of aws",
        ),
        Plant(
            name="the head is believed without its hash",
            old="if head and at and at.seal and at.hash == head.hash:",
            new="if head and at and at.seal:",
            mutation="a head with another hash: aws",
            loses="stated",
        ),
        Plant(
            name="an object above the head is taken in without a MAC",
            old="found.seal.previous_hash == last.hash and self.is_genuine(found)",
            new="found.seal.previous_hash == last.hash",
            mutation="appended with an own key that names itself as the stream's: aws",
            loses="stated",
        ),
        Plant(
            name="an object above the head is taken in whatever it continues",
            old="found.seal.previous_hash == last.hash and self.is_genuine(found)",
            new="self.is_genuine(found)",
            mutation="of another deployment: after the last of aws",
            loses="stated",
        ),
        Plant(
            name="an entry is taken in whatever place it names",
            old="return found.is_at(self.credential_id, self.log.stream)",
            new="return True",
            mutation="sealed for another credential: aws",
            loses="stated",
        ),
        Plant(
            name="without a head the chain goes on from an object without a MAC",
            old="if found and self.is_genuine(found) and self._continues_something(found) else None",
            new="if found and found.seal and self._continues_something(found) else None",
            mutation="appended with an own key that names itself as the stream's, and no head: aws",
            loses="stated",
        ),
        Plant(
            name="without a head the chain goes on from an entry of another log",
            old="if found and self.is_genuine(found) and self._continues_something(found) else None",
            new="if found and self.is_genuine(found) else None",
            mutation="of another deployment, and no head: after the last of aws",
            loses="stated",
        ),
    ),
    *of(
        entry,
        Plant(
            name="a MAC may hold more than its keys",
            old="if mac_text(mac) != given or not mac.key_id.isascii():",
            new="if False:",
            mutation="the last mac with another key, and its head: aws",
        ),
        Plant(
            name="the chain goes on from what the wrong key has signed",
            old="keys = [signer_of(signer, found.seal.rotation_id)] if found.seal else [signer, signer.orders]",
            new="keys = [signer, signer.orders]",
            mutation="order key signs a run",
            loses="stated",
        ),
    ),
    *of(
        append,
        Plant(
            name="a run finds its entry without a MAC",
            old="if known == entry_id and self.ends.is_genuine(found):",
            new="if known == entry_id:",
            mutation="the next run's entry forged, and its head: aws",
            loses="recorded",
        ),
    ),
)
