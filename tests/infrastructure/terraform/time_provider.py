"""The provider `hashicorp/time`, as far as the configuration uses it: `time_sleep`, which really sleeps."""

import re
import sys
import time
import uuid
from typing import Any

# The type-checked venv has none of these packages.
from tf.iface import Resource  # type: ignore[import-not-found]
from tf.runner import run_provider  # type: ignore[import-not-found]
from tf.schema import Attribute, Schema  # type: ignore[import-not-found]
from tf.types import Map, String  # type: ignore[import-not-found]

State = dict[str, Any]
_UNITS = {"s": 1, "m": 60}


class Sleep(Resource):  # type: ignore[misc]  # the base is untyped
    """A pause after what it depends on was made."""

    def __init__(self, provider: object) -> None:
        """Keep the package's signature."""

    @classmethod
    def get_name(cls) -> str:
        return "sleep"

    @classmethod
    def get_schema(cls) -> Schema:
        return Schema(
            attributes=[
                Attribute("create_duration", String(), optional=True),
                Attribute("destroy_duration", String(), optional=True),
                Attribute("triggers", Map(String()), optional=True, requires_replace=True),
                Attribute("id", String(), computed=True),
            ]
        )

    def validate(self, diags: object, type_name: str, config: State) -> None:
        """Nothing is checked beyond the schema."""

    def create(self, _ctx: object, planned: State) -> State:
        number, unit = re.fullmatch(r"([0-9]+)([sm])", planned["create_duration"]).groups()  # type: ignore[union-attr]
        time.sleep(int(number) * _UNITS[unit])
        return {**planned, "id": str(uuid.uuid4())}

    def read(self, _ctx: object, current: State) -> State:
        return current

    def update(self, _ctx: object, _current: State, planned: State) -> State:
        return planned

    def delete(self, _ctx: object, _current: State) -> None:
        return None


class Provider:
    """The provider, as the package calls it."""

    def get_model_prefix(self) -> str:
        return "time_"

    def full_name(self) -> str:
        return "registry.terraform.io/hashicorp/time"

    def get_provider_schema(self, _diags: object) -> Schema:
        return Schema(attributes=[])

    def validate_config(self, _diags: object, _config: State) -> None:
        return None

    def configure_provider(self, _diags: object, _config: State) -> None:
        return None

    def get_data_sources(self) -> list[type]:
        return []

    def get_functions(self) -> list[type]:
        return []

    def get_resources(self) -> list[type[Sleep]]:
        return [Sleep]

    def new_resource(self, kind: type[Sleep]) -> Sleep:
        return kind(self)


if __name__ == "__main__":
    run_provider(Provider(), sys.argv)
