"""The commands that findings name: complete, and quoted for a shell."""

import shlex


def aws(region: str, words: str, *arguments: str) -> str:
    """A command of the AWS CLI.

    Args:
        region: Where it acts.
        words: Service and operation, which need no quotes.
        arguments: Options and their values.
    """
    return f"aws {words} {shlex.join([*arguments, '--region', region])}"


def oci(region: str, words: str, *arguments: str) -> str:
    """A command of the OCI CLI; arguments as of `aws`."""
    return f"oci {words} {shlex.join([*arguments, '--region', region])}"


def lockstep(*words: str) -> str:
    """A command of this program."""
    return shlex.join(["lockstep", *words])


DEPLOY_AWS = "make deploy-aws"
DEPLOY_OCI = "make deploy-oci"
DEPLOY_IMAGE_OCI = (
    "make image-oci IMAGE=REPOSITORY:TAG && docker push REPOSITORY:TAG && "
    f"TF_VAR_image=REPOSITORY:TAG {DEPLOY_OCI}"
)
"""The function's image holds code and CA files, so a deployment without a new image changes neither."""
DEPLOY_PLAN_OCI = f"TF_VAR_image=REPOSITORY:TAG {DEPLOY_OCI}"
"""The image that is deployed may stay; without one the function would go."""
