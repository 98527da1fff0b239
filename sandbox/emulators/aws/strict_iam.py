"""IAM as AWS documents it, where moto is more lenient."""

from collections.abc import Callable

from moto.iam.exceptions import DeleteConflictException, NotFoundException

from sandbox.emulators.aws.patching import Foreign, Patches

_BACKEND = "moto.iam.models:IAMBackend"


def apply(patches: Patches, on_deleted_key: Callable[[str], None]) -> None:
    """Make moto's IAM as strict as the real one.

    Args:
        patches: Takes the replacements.
        on_deleted_key: Called with each access key of a user that is deleted.
    """
    tell_of_deleted_keys(patches, on_deleted_key)
    keep_what_is_attached(patches)
    demand_boundaries(patches)


def keep_what_is_attached(patches: Patches) -> None:
    """A policy that is attached to a user, group or role is not deleted (API reference of `DeletePolicy`)."""

    def wrapper(original: Foreign) -> object:
        def delete_policy(self: Foreign, policy_arn: str) -> None:
            if self.get_policy(policy_arn).attachment_count:
                raise DeleteConflictException("Cannot delete a policy attached to entities.")
            original(self, policy_arn)

        return delete_policy

    patches.wrap(f"{_BACKEND}.delete_policy", wrapper)


def demand_boundaries(patches: Patches) -> None:
    """The policy that bounds a role must exist, and is given by its ARN (API reference of `CreateRole`)."""

    def demand(backend: Foreign, boundary: str | None) -> None:
        # The sandbox has none of AWS's own policies.
        known = boundary is None or ":iam::aws:policy/" in boundary or boundary in backend.managed_policies
        if not known:
            raise NotFoundException(f"Scope ARN: {boundary} does not exist or is not attachable.")

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
            demand(self, permissions_boundary)
            return original(
                self, role_name, assume_role_policy_document, path, permissions_boundary, *rest, **more
            )

        return create_role

    def on_put(original: Foreign) -> object:
        def put(self: Foreign, role_name: str, permissions_boundary: str) -> None:
            demand(self, permissions_boundary)
            original(self, role_name, permissions_boundary)

        return put

    patches.wrap(f"{_BACKEND}.create_role", on_create)
    patches.wrap(f"{_BACKEND}.put_role_permissions_boundary", on_put)


def tell_of_deleted_keys(patches: Patches, on_deleted_key: Callable[[str], None]) -> None:
    """A deleted access key signs nothing any more; moto forgets that there was one."""

    def wrapper(original: Foreign) -> object:
        def delete_access_key_by_name(self: Foreign, name: str) -> None:
            original(self, name)
            on_deleted_key(name)

        return delete_access_key_by_name

    patches.wrap(f"{_BACKEND}.delete_access_key_by_name", wrapper)
