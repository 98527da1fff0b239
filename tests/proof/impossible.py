"""What verification cannot see by design, in the words of docs/threat-model.md."""

THIEF_APPENDS = "entries that a thief of the signing right adds at the end"
NOT_CONFIRMED = "no digest names that the other cloud has confirmed"
BOTH_CLOUDS = "administrators of both clouds together"
HEAD_FORGED = "a head or a generation that somebody has forged there"
METADATA_ALONE = "metadata of an entry whose body can be read"
ARCHIVED_BODY = "body of an archived entry"
WHICH_GENERATION = "which generation the archived entry of a run records"
UNREAD = {
    "signed, with the event of another run: oci": ARCHIVED_BODY,
    "cut the last, and the heads: aws": WHICH_GENERATION,
    "cut half, and the heads: aws": WHICH_GENERATION,
    "cut half, and the heads: aws and oci": BOTH_CLOUDS,
    "all deleted, and the heads: aws": WHICH_GENERATION,
    "the whole stream of another deployment, and its head: oci": WHICH_GENERATION,
}
"""Mutations that are not seen where OCI's bodies are archived."""
NO_VERSIONS = "for a reader who may not list versions"
