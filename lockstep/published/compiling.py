"""Makes the documents of a published plan. Pure: the same plan gives the same documents, on any machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lockstep.compiled import CompiledPlan, dumped
from lockstep.published.documents import FORMAT, canonical, enveloped, index_of
from lockstep.published.merkle import tree
from lockstep.published.places import INDEX, credential_name, shard_name
from lockstep.shards import Shard, run_key
from lockstep.strict_json import write


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A plan, as it is published.

    Attributes:
        digest: The root of the tree over its documents.
        files: The files of its documents, by their names in its folder.
    """

    digest: str
    files: Mapping[str, bytes]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self.files.values()))


def compile_plan(plan: CompiledPlan, shards: Sequence[Shard], folder: Path) -> Published:
    """Compile a plan.

    Args:
        plan: With all its credentials.
        shards: Of the same plan.
        folder: That of the plan file: CA files below it are named relative to it.
    """
    index = index_of(plan)
    common = dumped(index.plan, folder)
    documents = {
        credential_name(run_key(credential.id)): canonical(
            {"format": FORMAT, "plan": {**common, "credentials": [dumped(credential, folder)]}}
        )
        for credential in plan.credentials
    }
    documents[INDEX] = canonical(write(index))
    for shard in shards:
        started = [{"credential_id": key, "key": run_key(key)} for key in shard.credential_ids]
        documents[shard_name(shard.name)] = canonical(started)
    found = tree(documents)
    return Published(
        digest=found.root,
        files={
            name: document if _is_plain(name) else enveloped(document, found.paths[name])
            for name, document in documents.items()
        },
    )


def _is_plain(name: str) -> bool:
    """Whether a document is its file as it is: Step Functions reads the array of a shard."""
    return name.startswith("shards/")
