"""Builds the image of the OCI function with docker or podman.

    python -m cdk.image --plan lockstep.yaml --tag fra.ocir.io/<namespace>/lockstep:1.0.0

The build context is a folder of its own, `build/image-oci`: the files that the bundle is made from, the plan and its CA
files. So nothing else of the repository, such as a Terraform state or a key, reaches the builder, and no other change
makes another image. The image of the Lambda functions is built by the CDK CLI from the same files (`cdk.functions`).
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from cdk.bundle import ROOT, BundleError, Runner, copy_ca_files, load_shipped_plan
from lockstep.plan.file import PlanProblemsError

Platform: TypeAlias = Literal["linux/amd64", "linux/arm64"]

PROGRAMS = ("docker", "podman")
"""The first that is installed is used."""
DOCKERFILE = Path("oci_fn/Dockerfile")
PLAN_IN_CONTEXT = Path("plan/lockstep.yaml")
"""Where the plan is in the build context: the bundle is made for it, and holds its CA files only."""
_BUILDER = ("cdk/bundle.py", "cdk/trim.py")
_FOLDERS = {"aws": ("functions", "lockstep"), "oci": ("functions", "lockstep", "oci_fn")}
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "terraform")


def sources(runner: Runner) -> list[str]:
    """The files and folders, relative to the repository, from which a runner's bundle is made, besides the plan."""
    locks = [f"locks/{name}.txt" for name in ("aws", "bootstrap", "oci")]
    return ["cdk/__init__.py", *_BUILDER, *_FOLDERS[runner], *locks]


def stage(plan_file: Path, context: Path) -> None:
    """Write the build context. The plan is `PLAN_IN_CONTEXT` in it, whatever its name is.

    Args:
        plan_file: The plan; its CA files must be in the plan's folder or below it.
        context: The folder to replace.

    Raises:
        BundleError: A CA file is missing, or not in the plan's folder or below it.
        PlanProblemsError: The plan is not valid.
    """
    plan = load_shipped_plan(plan_file)
    copy_sources(sources("oci"), context)
    copy_ca_files(context, plan_file, plan)
    (context / PLAN_IN_CONTEXT).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(plan_file, context / PLAN_IN_CONTEXT)


def copy_sources(names: Iterable[str], context: Path) -> None:
    """Replace a folder by files and folders of the repository, without anything else that lies there."""
    shutil.rmtree(context, ignore_errors=True)
    for name in names:
        source, target = ROOT / name, context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_LEFT_OUT)
        else:
            shutil.copyfile(source, target)


def find_program() -> str:
    """The path of docker or podman.

    Raises:
        BundleError: Neither is installed.
    """
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        raise BundleError(
            "neither docker nor podman is installed. Install one of them. Or build the OCI function's image elsewhere, "
            "from the folder that `python -m cdk.image --context-only` writes; and make a release without images: "
            "`make release RELEASE_ARGS=--no-image`"
        )
    return found


def unattested(program: str) -> Sequence[str]:
    """Options without which docker adds attestations, and so makes an index where an image is wanted."""
    return () if Path(program).name == "podman" else ("--provenance=false", "--sbom=false")


def build_command(program: str, *, context: Path, platform: Platform, tag: str) -> list[str]:
    """The command that builds the image.

    Args:
        program: Path of docker or podman.
        context: The folder that `stage` has written.
        platform: The processor of the function's application.
        tag: The image's name and tag.
    """
    return [
        *(program, "build", "--platform", platform),
        *("--file", str(context / DOCKERFILE), "--tag", tag, *unattested(program)),
        *("--build-arg", f"PLAN={PLAN_IN_CONTEXT}", str(context)),
    ]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def image(
    *,
    plan: Annotated[Path, typer.Option(help="The plan file.")] = Path("lockstep.yaml"),
    tag: Annotated[str, typer.Option(help="The image's name and tag.")] = "lockstep:latest",
    platform: Annotated[
        Platform, typer.Option(help="The processor; `shape` of the function's application must fit.")
    ] = "linux/amd64",
    context: Annotated[Path, typer.Option(help="The folder for the build context.")] = ROOT
    / "build"
    / "image-oci",
    context_only: Annotated[
        bool, typer.Option("--context-only", help="Write the build context only.")
    ] = False,
) -> None:
    """Build the image of the OCI function with docker or podman, and print what it was built from as JSON.

    Exit code: 0 built, 2 wrong use, an invalid plan, or no program to build with; else that of docker or podman.
    """
    try:
        stage(plan, context)
        program = "docker" if context_only else find_program()
    except (BundleError, PlanProblemsError) as error:
        typer.echo("\n".join(error.lines) if isinstance(error, PlanProblemsError) else str(error), err=True)
        raise typer.Exit(2) from None
    command = build_command(program, context=context, platform=platform, tag=tag)
    if not context_only:
        # BuildKit knows BUILDPLATFORM and TARGETARCH; docker's old builder does not.
        done = subprocess.run(command, check=False, env={**os.environ, "DOCKER_BUILDKIT": "1"})  # noqa: S603 - docker or podman
        if done.returncode:
            raise typer.Exit(done.returncode)
    typer.echo(json.dumps({"tag": tag, "platform": platform, "plan": str(plan), "command": command}))


if __name__ == "__main__":
    app(prog_name="python -m cdk.image")
