"""`make release`: the files of a release: wheel, source archive, two images, bills of materials, checksums.

`python -m cdk.artefacts [--out dist] [--tag v1.2.3] [--snapshot] [--no-image] [--notes]`

Everything is made from the commit, with its time, so two machines make the same wheel and the same bills of materials.
Nothing is published. The images of the functions are no part of it: they hold a plan (`make build`, `make image-oci`).
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from cdk.bundle import ROOT, BundleError
from cdk.image import copy_sources, find_program, unattested
from lockstep import __version__

DISTRIBUTION = "lockstep-rotation"
# How people install or upgrade, by the files of a release. Its notes, the pages and the errors say it in these words.
# No index is asked for the project: whoever owned the name there would run code beside every password.
PIPX = 'pipx install --force "$(ls ./lockstep_rotation-*.whl)[oci]"'
INSTALL = f"sha256sum --check --ignore-missing SHA256SUMS && {PIPX}"
BILLS: Final = {
    "agent": "the agent's image",
    "aws": "the Lambda functions",
    "deploy": "the image that deploys",
    "oci": "the OCI function",
}
"""The lock files of which a bill of materials is made, `locks/<name>.txt`, and what is installed from each."""
TOOLS = ROOT / ".cache/release-tools/bin"
AGENT_DOCKERFILE = "docs/how-to/agent/Dockerfile"
DEPLOY_DOCKERFILE = "cdk/Dockerfile"
_AGENT_FILES = (
    *(AGENT_DOCKERFILE, "cdk/trim.py", "lockstep", "locks"),
    *("pyproject.toml", "LICENSE"),
)
_SECTION = re.compile(r"^## \[?(?P<version>[^\]\s]+)\]?(?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)


class NotReleasableError(Exception):
    """Nothing was made; the text says what to change."""


@dataclass(frozen=True)
class Commit:
    """What is released.

    Attributes:
        id: The commit's id, 40 hexadecimal digits.
        seconds: The time of the commit, in seconds since 1970.
        clean: Whether the work tree has nothing that the commit has not.
    """

    id: str
    seconds: int
    clean: bool


def notes(version: str, changelog: str) -> str:
    """The changelog's section of a version, without its heading.

    Raises:
        NotReleasableError: There is no such section, it has no date, or nothing is in it.
    """
    sections = [*_SECTION.finditer(changelog)]
    ends = [section.start() for section in sections[1:]] + [len(changelog)]
    for section, end in zip(sections, ends, strict=False):
        text = changelog[section.end() : end].strip()
        if section["version"] == version and section["date"] and text:
            return text
    raise NotReleasableError(
        f"CHANGELOG.md says nothing of {version}. Write `## [{version}] - YYYY-MM-DD` below `## Unreleased`. "
        "To see what a release would have, without one: make release RELEASE_ARGS=--snapshot"
    )


def commit_of(root: Path) -> Commit:
    """The commit of a work tree."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 - git

    name, seconds = git("log", "-1", "--format=%H %ct").split()
    return Commit(name, int(seconds), clean=not git("status", "--porcelain"))


def check(commit: Commit, *, version: str, changelog: str, tag: str | None = None) -> None:
    """See that a commit may be released.

    Raises:
        NotReleasableError: The tag names another version, the work tree has more than the commit, or the changelog says
            nothing of the version.
    """
    if tag not in {None, f"v{version}"}:
        raise NotReleasableError(
            f"the tag is {tag}, and lockstep/__init__.py says {version}. The tag would be v{version}."
        )
    if not commit.clean:
        raise NotReleasableError(
            "the work tree differs from its commit. Look at `git status`, and commit or stash it."
        )
    notes(version, changelog)


def build_packages(out: Path, commit: Commit) -> None:
    """Write the wheel and the source archive, the same bytes for the same commit."""
    targets = ("--target", "sdist", "--target", "wheel", "--directory", str(out))
    command = [sys.executable, "-m", "hatchling", "build", *targets]
    subprocess.run(command, check=True, cwd=ROOT, env=_at(commit), stdout=subprocess.DEVNULL)  # noqa: S603 - our own interpreter


def write_bills(out: Path, commit: Commit, *, names: Iterable[str] = BILLS) -> None:
    """Write a bill of materials for each lock file: CycloneDX 1.6 as JSON, with the hashes of the lock file."""
    for name in names:
        target = out / f"{DISTRIBUTION}-{__version__}.{name}.cdx.json"
        tool = [str(TOOLS / "cyclonedx-py"), "requirements", "--output-reproducible", "--spec-version", "1.6"]
        files = ["--pyproject", str(ROOT / "pyproject.toml"), "--output-file", str(target)]
        command = [*tool, *files, str(ROOT / f"locks/{name}.txt")]
        subprocess.run(command, check=True, env=_at(commit))  # noqa: S603 - from the lock file
        bill = json.loads(target.read_text())
        # The tool does not see a version that hatchling reads.
        bill["metadata"]["component"]["version"] = __version__
        target.write_text(json.dumps(bill, indent=2) + "\n")


def build_images(out: Path, *, program: str, folder: Path) -> None:
    """Build the agent's image and the one that deploys, and write each as an archive that `docker load` takes.

    The agent's is built from the files that its Dockerfile copies, the other from the source archive in `out`.

    Args:
        out: The folder of the release, with the source archive.
        program: Path of docker or podman.
        folder: Where the build contexts are written.
    """
    agent, unpacked = folder / "image-agent", folder / "image-deploy"
    copy_sources(_AGENT_FILES, agent)
    shutil.rmtree(unpacked, ignore_errors=True)
    (archive,) = out.glob("*.tar.gz")
    shutil.unpack_archive(archive, unpacked, filter="data")
    (deploy,) = unpacked.iterdir()
    for name, context, dockerfile in (
        ("lockstep-agent", agent, AGENT_DOCKERFILE),
        ("lockstep-deploy", deploy, DEPLOY_DOCKERFILE),
    ):
        tag = f"{name}:{__version__}"
        of = ("--file", str(context / dockerfile), "--tag", tag, *unattested(program))
        save = ("save", "--output", str(out / f"{name}-{__version__}.tar"), tag)
        for words in (("build", *of, str(context)), save):
            environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
            subprocess.run([program, *words], check=True, env=environment, stdout=sys.stderr)  # noqa: S603 - docker or podman


def seal(out: Path) -> str:
    """Write `SHA256SUMS` over all files; what is in it."""
    files = sorted(out.iterdir())
    sums = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (out / "SHA256SUMS").write_text(sums)
    return sums


def _at(commit: Commit) -> dict[str, str]:
    """The environment of a tool that gives what it makes the commit's time."""
    return {**os.environ, "SOURCE_DATE_EPOCH": str(commit.seconds), "PYTHONWARNINGS": "ignore"}


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def artefacts(
    *,
    out: Annotated[Path, typer.Option(help="The folder to write; it is replaced.")] = ROOT / "dist",
    tag: Annotated[str | None, typer.Option(help="Refuse to go on unless this is the version's tag.")] = None,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Of what lies here, without a section in the changelog.")
    ] = False,
    no_image: Annotated[bool, typer.Option("--no-image", help="Without images.")] = False,
    only_notes: Annotated[
        bool, typer.Option("--notes", help="Print what the changelog says of this version, and make nothing.")
    ] = False,
) -> None:
    """Make the files of a release, and print their names and checksums.

    Exit code: 0 made, 2 not releasable, or no program to build an image with.
    """
    changelog = (ROOT / "CHANGELOG.md").read_text()
    try:
        if only_notes:
            typer.echo(f"{notes(__version__, changelog)}\n\n```sh\n{INSTALL}\n```")
            return
        commit = commit_of(ROOT)
        if not snapshot:
            check(commit, version=__version__, changelog=changelog, tag=tag)
        program = None if no_image else find_program()
    except (BundleError, NotReleasableError) as error:
        typer.echo(f"not released: {error}", err=True)
        raise typer.Exit(2) from None
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    build_packages(out, commit)
    write_bills(out, commit)
    if program:
        build_images(out, program=program, folder=ROOT / "build")
    typer.echo(seal(out), nl=False)


if __name__ == "__main__":
    app(prog_name="python -m cdk.artefacts")
