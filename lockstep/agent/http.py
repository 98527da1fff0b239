"""The agent's answers, in the dialect of the AWS Secrets Manager Agent, so that what talks to that talks to this.

    GET /secretsmanager/get?secretId=…       the JSON of GetSecretValue
    GET /v1/<secretId>                       the same
    GET /lockstep/login?secretId=…           the login as a flat object of strings; `database=…` names another database
    GET /ping                                `healthy`, without a token
    GET /healthz                             200 while every value may be served, else 503; why: with a token
    GET /metrics                             for Prometheus, without values

Paths, parameters, headers and status codes are those of the AWS Secrets Manager Agent, which is part of
https://github.com/aws/aws-workload-credentials-provider since June 2026. What differs, and why, is said by the table of
its tests in ours, tests/agent/test_http.py.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from lockstep.agent.files import NO_DATABASE, LoginFormError, login_of
from lockstep.agent.server import refusal_of
from lockstep.agent.values import Kept, Value, Values

HTTP = "http"
TOKEN_HEADERS = ("X-Aws-Parameters-Secrets-Token", "X-Vault-Token")
CURRENT = "AWSCURRENT"
LOGIN = "/lockstep/login"
BY_PATH = "/v1/"
_OPEN = frozenset({"/ping", "/healthz"})
"""Paths that need no token: they name nothing."""
_PARAMETERS = frozenset({"versionId", "versionStage", "refreshNow", "roleArn"})
_REFRESH = {"true": True, "1": True, "false": False, "0": False}


class Dialect:
    """What answers requests: an ASGI application without routes, since every request is its own.

    Args:
        values: What is served.
        matches: Whether this is the token that a request must bring.
        names: What the header Host may say.
    """

    def __init__(self, values: Values, *, matches: Callable[[str], bool], names: frozenset[str]) -> None:
        self._values = values
        self._matches = matches
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; never with an exception of ours."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = refusal_of(request.headers, self._names) or await self._answer(request)
        except HTTPException as refused:
            response = Response(refused.detail, refused.status_code, refused.headers, "text/plain")
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        # As it was sent, decoded. That of `request.url` goes through a parser that drops some characters.
        path = str(request.scope["path"])
        if "X-Forwarded-For" in request.headers and path not in _OPEN:
            raise HTTPException(400, "Forwarded")
        is_trusted = any(self._matches(request.headers[h]) for h in TOKEN_HEADERS if h in request.headers)
        if not (is_trusted or path in _OPEN):
            raise HTTPException(403, "Bad Token")
        if request.method != "GET":
            raise HTTPException(405, "Not allowed")
        if path == "/ping":
            return PlainTextResponse("healthy")
        if path == "/healthz":
            told = "\n".join(f"{v.secret.name}: {_state(v)}" for v in self._values)
            return PlainTextResponse(told if is_trusted else "", 200 if self._values.are_served else 503)
        if path == "/metrics":
            return _metrics(self._values)
        parameters = dict(request.query_params)
        if path in ("/secretsmanager/get", LOGIN):
            secret_id, missing = parameters.pop("secretId", ""), "missing parameter secretId"
        elif path.startswith(BY_PATH):
            secret_id, missing = path.removeprefix(BY_PATH), "missing secret ID"
        else:
            raise HTTPException(404, "Not found")
        if not secret_id:
            raise HTTPException(400, missing)
        answer = self._login if path == LOGIN else self._value
        return await answer(secret_id, parameters)

    async def _served(self, secret_id: str, parameters: Mapping[str, str]) -> tuple[Value, Kept]:
        if unknown := next((name for name in parameters if name not in _PARAMETERS), None):
            raise HTTPException(400, f"unknown parameter: {unknown}")
        refresh_now = _REFRESH.get(parameters.get("refreshNow", "false").lower())
        if refresh_now is None:
            raise HTTPException(400, "invalid refreshNow value")
        if "roleArn" in parameters:
            raise _refusal(403, "AccessDeniedException", "The role is that of this agent's AWS profile.")
        value = self._values.find(secret_id)
        if value is None:
            raise _refusal(404, "ResourceNotFoundException", "This agent does not serve that secret.")
        if refresh_now:
            await run_in_threadpool(value.refresh_now)
        kept = value.served
        if kept is None:
            raise _refusal(503, "ServiceUnavailable", f"No value that certainly logs in: {_state(value)}")
        return value, kept

    async def _login(self, secret_id: str, parameters: dict[str, str]) -> Response:
        database = parameters.pop("database", None)
        value, kept = await self._served(secret_id, parameters)
        blob = self._values.beside(value)
        if database and blob and not blob.kept:
            raise _refusal(503, "ServiceUnavailable", f"No addresses of databases: {_state(blob)}")
        try:
            login = login_of(kept.value.text, blob.text if blob else None, database)
        except LoginFormError as error:
            is_unknown = error.where["code"] == NO_DATABASE
            status, code = (404, "ResourceNotFoundException") if is_unknown else (503, "ServiceUnavailable")
            raise _refusal(status, code, f"That secret has no such login. {error}") from None
        value.note(HTTP, kept)
        return JSONResponse(login.fields, headers=_describe(value, kept))

    async def _value(self, secret_id: str, parameters: dict[str, str]) -> Response:
        value, kept = await self._served(secret_id, parameters)
        current = {"versionStage": CURRENT, "versionId": kept.value.version}
        if any(parameters.get(name, wanted) != wanted for name, wanted in current.items()):
            raise _refusal(404, "ResourceNotFoundException", "This agent serves the current version only.")
        value.note(HTTP, kept)
        created = kept.value.created_at
        body = {
            "ARN": kept.value.arn or secret_id,
            "Name": value.secret.name,
            "VersionId": kept.value.version,
            "SecretString": kept.value.text.reveal(),
            "VersionStages": [CURRENT],
            "CreatedDate": str(created.timestamp() if created else 0.0),
        }
        return JSONResponse(body, headers=_describe(value, kept))


def _metrics(values: Values) -> Response:
    """Generations and ages, never a value."""
    from prometheus_client import CollectorRegistry, Gauge  # noqa: PLC0415 - at the first request for them
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest  # noqa: PLC0415 - likewise

    registry = CollectorRegistry()
    gauge = partial(Gauge, namespace="lockstep_agent", registry=registry)
    generation = gauge("generation", "The generation that is served.", ("secret", "source"))
    left = gauge("overlap_left_seconds", "Until it may be revoked.", ("secret",))
    given = gauge("given_generation", "What was given last, by `http` or as a file.", ("credential", "way"))
    for value in values:
        if value.kept:
            generation.labels(value.secret.name, value.kept.source).set(value.kept.value.generation)
            left.labels(value.secret.name).set(value.seconds_left)
        for way, last in tuple(value.given.items()):
            given.labels(value.secret.credential_id, way).set(last)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _state(value: Value) -> str:
    problem = f"; {value.problem}" if value.problem else ""
    if value.kept is None:
        return f"never read{problem}"
    held = f"generation {value.kept.value.generation}, seen {round(value.age_seconds)} s ago"
    return f"{held}, {round(value.seconds_left)} s left{problem}"


def _describe(value: Value, kept: Kept) -> dict[str, str]:
    return {
        "X-Lockstep-Generation": str(kept.value.generation),
        "X-Lockstep-Source": kept.source,
        "X-Lockstep-Age-Seconds": str(round(value.age_seconds)),
        "Cache-Control": "no-store",
    }


def _refusal(status: int, code: str, message: str) -> HTTPException:
    text = json.dumps({"__type": code, "message": message})
    return HTTPException(status, text, {"Content-Type": "application/json"})
