"""The wheel, which is all of a release that is installed."""

import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from lockstep.protocol.model import Engine

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_tells_type_checkers_that_it_is_typed(tmp_path: Path) -> None:
    """PEP 561: without `py.typed` mypy ignores the annotations of an installed package."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    assert "lockstep/py.typed" in names
    assert "lockstep/client/__init__.py" in names
    report = {
        f"lockstep/operate/report/{name}" for name in ("page.html.j2", "credential.html.j2", "page.css")
    }
    shared = {f"lockstep/operate/html/{name}" for name in ("parts.html.j2", "base.css")}
    live = {f"lockstep/operate/page/{name}" for name in ("frame.html.j2", "page.css", "live.js", "icon.svg")}
    scripts = {f"lockstep/operate/plan_sql/{engine}.sql.j2" for engine in Engine}
    rules = {f"lockstep/databases/rules_{engine}.sql" for engine in Engine}
    assert report | shared | live | scripts | rules | {"lockstep/cli/first_plan.yaml.j2"} <= {*names}
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"lockstep"}
