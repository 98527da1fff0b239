"""Templates. In those of pages autoescape is on, and nothing is marked as safe."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.loaders import ChoiceLoader

from lockstep.operate.formatting import NONE, error_text, is_long, many, minute, number, span, stamp


def environment(package: str) -> Environment:
    """The templates of a package, and those in this one."""
    made = _made(
        package, "lockstep.operate.html", autoescape=True, extensions=["jinja2.ext.do"], lstrip_blocks=True
    )
    for shown in (span, stamp, minute, number, many, is_long, error_text):
        made.filters[shown.__name__] = shown
    made.globals["none_told"] = NONE
    return made


def text_templates(package: str, **options: Any) -> Environment:  # noqa: ANN401 - of Jinja
    """The templates of a package for what is no markup."""
    # SQL, YAML, text; what needs quotes goes through a filter of the template.
    return _made(package, autoescape=False, **options)


def _made(*packages: str, **options: Any) -> Environment:  # noqa: ANN401 - of Jinja
    loader = ChoiceLoader([PackageLoader(package, package_path="") for package in packages])
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, **options)  # noqa: S701 - likewise


def style(templates: Environment, own: str) -> str:
    """The shared style sheet and a page's own, as `{% include %}` gives them one after the other."""
    return "".join(templates.get_template(name).render() for name in ("base.css", own))
