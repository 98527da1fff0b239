"""Compiles the modules of a bundle: `python cdk/bundle_compile.py CONTENT TASK_ROOT OWN…`, run by the target's Python.

Packages of others keep the byte code only, where Python finds it without a source, and the OCI SDK keeps none of its
texts, which are half of it. Lockstep's own packages, which OWN names, keep their sources, so that what is deployed can
be read; their byte code is unchecked, since unpacking changes the files' dates and Python would then treat it as
outdated.
"""

import ast
import importlib.util
import marshal
import sys
from pathlib import Path

WITHOUT_TEXTS, VENDORED = "oci", "_vendor"
# The beginnings of byte code: by the source's hash, which is not checked, and by its date (PEP 552).
_HASHED, _DATED = (importlib.util.MAGIC_NUMBER + bytes((flags, 0, 0, 0)) for flags in (1, 0))


def compile_all(content: Path, task_root: str, own: frozenset[str]) -> None:
    """Compile every module below a folder; tracebacks show the path below `task_root`."""
    for source in sorted(content.rglob("*.py")):
        path = source.relative_to(content)
        text = source.read_bytes()
        tree = ast.parse(text)
        if path.parts[0] == WITHOUT_TEXTS and VENDORED not in path.parts:
            tree = _Textless().visit(tree)
        code = compile(tree, f"{task_root}/{path}", "exec", dont_inherit=True)
        if path.parts[0] in own:
            compiled = Path(importlib.util.cache_from_source(str(source)))
            compiled.parent.mkdir(exist_ok=True)
            compiled.write_bytes(_HASHED + importlib.util.source_hash(text) + marshal.dumps(code))
        else:
            source.with_suffix(".pyc").write_bytes(_DATED + bytes(8) + marshal.dumps(code))
            source.unlink()


class _Textless(ast.NodeTransformer):
    """Replaces docstrings by nothing."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first, *rest = node.body
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = rest or [ast.copy_location(ast.Pass(), first)]
        return node


if __name__ == "__main__":
    compile_all(Path(sys.argv[1]), sys.argv[2], frozenset(sys.argv[3:]))
