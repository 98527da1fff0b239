"""Which permissions a request to S3 needs, by its method, its subresource and its headers.

See https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from werkzeug.wrappers import Request

from sandbox.emulators.aws.policies import Call

_LISTING = {
    "continuation-token",
    "delimiter",
    "encoding-type",
    "list-type",
    "max-keys",
    "prefix",
    "start-after",
}
_LISTING_VERSIONS = {"encoding-type", "key-marker", "max-keys", "prefix", "version-id-marker", "versions"}
_NO_ARGUMENT = {"x-id"}
_OF_BUCKET = {
    ("DELETE", ""): "DeleteBucket",
    ("DELETE", "encryption"): "PutEncryptionConfiguration",
    ("DELETE", "lifecycle"): "PutLifecycleConfiguration",
    ("DELETE", "ownershipControls"): "PutBucketOwnershipControls",
    ("DELETE", "policy"): "DeleteBucketPolicy",
    ("DELETE", "replication"): "PutReplicationConfiguration",
    ("GET", "policy"): "GetBucketPolicy",
    ("HEAD", ""): "ListBucket",
    ("PUT", "acl"): "PutBucketAcl",
    ("PUT", "encryption"): "PutEncryptionConfiguration",
    ("PUT", "lifecycle"): "PutLifecycleConfiguration",
    ("PUT", "object-lock"): "PutBucketObjectLockConfiguration",
    ("PUT", "ownershipControls"): "PutBucketOwnershipControls",
    ("PUT", "policy"): "PutBucketPolicy",
    ("PUT", "replication"): "PutReplicationConfiguration",
    ("PUT", "versioning"): "PutBucketVersioning",
}
_OF_OBJECT = {
    ("DELETE", ""): "DeleteObject",
    ("DELETE", "versionId"): "DeleteObjectVersion",
    ("GET", ""): "GetObject",
    ("GET", "versionId"): "GetObjectVersion",
    ("HEAD", ""): "GetObject",
    ("HEAD", "versionId"): "GetObjectVersion",
    ("PUT", ""): "PutObject",
    ("PUT", "legal-hold"): "PutObjectLegalHold",
    ("PUT", "retention"): "PutObjectRetention",
}
_BYPASS = "x-amz-bypass-governance-retention"
_LOCKING = ("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date")


def s3_calls(request: Request, body: bytes, context: Mapping[str, tuple[str, ...]]) -> Iterator[Call]:
    """The calls to judge. What is not known here has a name that no policy allows but by a wildcard.

    Args:
        request: To a bucket or an object, by path.
        body: The request's body, for the deletion of many.
        context: The keys that every request has.
    """
    bucket, _, key = request.path.lstrip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    arguments = set(request.args) - _NO_ARGUMENT
    if request.method == "POST" and arguments == {"delete"}:
        for name, version in _to_delete(body):
            action = "s3:DeleteObjectVersion" if version else "s3:DeleteObject"
            yield from _with_headers(Call(action=action, resource=f"{arn}/{name}", context=context), request)
        return
    if not key:
        asked = {**context, **({"s3:prefix": (p,)} if (p := request.args.get("prefix")) else {})}
        yield Call(action=_bucket_action(request, arguments), resource=arn, context=asked)
        return
    asked = dict(context)
    for name in ("if-none-match", "x-amz-storage-class"):
        if value := request.headers.get(name):
            asked[f"s3:{name}"] = (value,)
    known = _OF_OBJECT.get((request.method, "".join(sorted(arguments))))
    is_copy = "x-amz-copy-source" in request.headers
    action = f"s3:{known}" if known and not is_copy else _unknown(request)
    yield from _with_headers(Call(action=action, resource=f"{arn}/{key}", context=asked), request)


def _bucket_action(request: Request, arguments: set[str]) -> str:
    if request.method == "GET" and arguments <= _LISTING:
        return "s3:ListBucket"
    if request.method == "GET" and "versions" in arguments and arguments <= _LISTING_VERSIONS:
        return "s3:ListBucketVersions"
    known = _OF_BUCKET.get((request.method, "".join(sorted(arguments))))
    return f"s3:{known}" if known else _unknown(request)


def _with_headers(call: Call, request: Request) -> Iterator[Call]:
    """A call, and what its headers need besides."""
    yield call
    if request.headers.get(_BYPASS, "").lower() == "true":
        yield Call(action="s3:BypassGovernanceRetention", resource=call.resource, context=call.context)
    if call.action == "s3:PutObject" and any(name in request.headers for name in _LOCKING):
        yield Call(action="s3:PutObjectRetention", resource=call.resource, context=call.context)


def _to_delete(body: bytes) -> Iterator[tuple[str, str]]:
    document: Any = ET.fromstring(re.sub(rb'\sxmlns="[^"]*"', b"", body))  # noqa: S314 - of our own clients
    for item in document.iter("Object"):
        yield item.findtext("Key", ""), item.findtext("VersionId", "")


def _unknown(request: Request) -> str:
    return f"s3:{request.method}?{request.query_string.decode()}"
