"""What verification cannot see by design, in the words of docs/threat-model.md."""

THIEF_APPENDS = "entries that a thief of the signing right adds at the end"
HEAD_FORGED = "a head or a generation that somebody has forged there"
METADATA_ALONE = "metadata of an entry whose body can be read"
ARCHIVED_BODY = "body of an archived entry"
UNREAD = {"signed, with the event of another run: oci": ARCHIVED_BODY}
"""Mutations that are not seen where OCI's bodies are archived."""
NO_VERSIONS = "for a reader who may not list versions"
NOT_CONFIRMED = "no digest names that the other cloud has confirmed"
