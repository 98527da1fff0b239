"""IAM as AWS documents it, where moto is more lenient."""

from collections.abc import Callable

from moto.iam.exceptions import NotFoundException

from sandbox.emulators.aws.patching import Foreign, Patches

_BACKEND = "moto.iam.models:IAMBackend"


def apply(patches: Patches, on_deleted_key: Callable[[str], None]) -> None:
    """Make moto's IAM as strict as the real one.

    Args:
        patches: Takes the replacements.
        on_deleted_key: Called with each access key of a user that is deleted.
    """
    tell_of_deleted_keys(patches, on_deleted_key)
    demand_boundaries(patches)


def demand_boundaries(patches: Patches) -> None:
    """The policy that bounds a role must exist, and is given by its ARN (API reference of `CreateRole`)."""

    def on_create(original: Foreign) -> object:
        def create_role(
            self: Foreign,
            role_name: str,
            assume_role_policy_document: str,
            path: str,
            permissions_boundary: str | None,
            *rest: Foreign,
            **more: Foreign,
        ) -> object:
            # The sandbox has none of AWS's own policies.
            known = not permissions_boundary or ":iam::aws:policy/" in permissions_boundary
            if not known and permissions_boundary not in self.managed_policies:
                raise NotFoundException(
                    f"Scope ARN: {permissions_boundary} does not exist or is not attachable."
                )
            return original(
                self, role_name, assume_role_policy_document, path, permissions_boundary, *rest, **more
            )

        return create_role

    patches.wrap(f"{_BACKEND}.create_role", on_create)


def tell_of_deleted_keys(patches: Patches, on_deleted_key: Callable[[str], None]) -> None:
    """A deleted access key signs nothing any more; moto forgets that there was one."""

    def wrapper(original: Foreign) -> object:
        def delete_access_key_by_name(self: Foreign, name: str) -> None:
            original(self, name)
            on_deleted_key(name)

        return delete_access_key_by_name

    patches.wrap(f"{_BACKEND}.delete_access_key_by_name", wrapper)
