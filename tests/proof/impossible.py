"""What verification cannot see by design, in the words of docs/threat-model.md."""

THIEF_APPENDS = "entries that a thief of the signing right adds at the end"
NEWEST_REMOVED = "the removal of the newest entries, before the other cloud has looked"
WRITTEN_ANEW = "write a stream of OCI anew from the last entry that AWS has witnessed"
LOCKED = "rewrite nothing that is under Object Lock"
BOTH_CLOUDS = "administrators of both clouds together"
HEAD_BEHIND = "a head that names an older entry of the log"
GENERATION_BEHIND = "a current generation that is an older one on record, or none"
METADATA_ALONE = "metadata of an entry whose body can be read"
ARCHIVED_BODY = "body of an archived entry"
WHICH_GENERATION = "which generation the archived entry of a run records"
UNREAD = {
    "signed, with the event of another run: oci": ARCHIVED_BODY,
    "a generation that was served and is on no record": ARCHIVED_BODY,
    "cut the last, heads rolled back: aws": WHICH_GENERATION,
    "cut what is not witnessed, heads rolled back: aws": WHICH_GENERATION,
    "cut what is not witnessed, all rolled back: aws": WHICH_GENERATION,
    "cut half, heads rolled back: aws and oci": BOTH_CLOUDS,
}
"""Mutations that are not seen where OCI's bodies are archived."""
NO_VERSIONS = "for a reader who may not list versions"
