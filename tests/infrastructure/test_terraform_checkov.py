import json
import subprocess

from tests.infrastructure.terraform.stack import CONFIGURATION, ROOT, TOOLS, needs_tools

ON_THE_BUCKET = {
    "CKV_OCI_7",  # it emits events
    "CKV_OCI_9",  # it is encrypted with a key of ours
    "CKV_OCI_10",  # it is not public
}


NOT_EVALUATED = "CKV_OCI_8"
"""The bucket is versioned unless it has a retention rule: checkov cannot evaluate that, so another test looks at it."""


OF_THE_ISSUER = {
    f"{check} oci_objectstorage_bucket.issuer"
    for check in (
        "CKV_OCI_9",  # its documents are for everybody, so no key of ours encrypts them
        "CKV_OCI_10",  # AWS reads them without an identity
    )
}


@needs_tools
def test_checkov_finds_nothing_without_skips() -> None:
    options = ["--framework", "terraform", "secrets", "--output", "json", "--skip-download"]
    # Its exit code does not tell one resource from another: what has failed is compared below.
    softly = {NOT_EVALUATED, *(found.partition(" ")[0] for found in OF_THE_ISSUER)}
    options += ["--soft-fail-on", ",".join(sorted(softly))]
    done = subprocess.run(  # noqa: S603 - the tool of our own venv
        [str(TOOLS / "checkov"), "--directory", str(CONFIGURATION), *options],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
    )
    reports = json.loads(done.stdout)
    # The output is an object for one framework and a list for several.
    for report in reports if isinstance(reports, list) else [reports]:
        results = report["results"]
        failed = [f"{c['check_id']} {c['resource']}: {c['check_name']}" for c in results["failed_checks"]]
        failed = [found for found in failed if not found.startswith(f"{NOT_EVALUATED} ")]
        public = {found for found in failed if found.partition(":")[0] in OF_THE_ISSUER}
        failed = [found for found in failed if found not in public]
        assert (failed, results["skipped_checks"], results["parsing_errors"]) == ([], [], [])
        if report["check_type"] == "terraform":
            assert len(public) == len(OF_THE_ISSUER)
            passed = {(c["check_id"], c["resource"].removesuffix("[0]")) for c in results["passed_checks"]}
            assert {(check, "oci_objectstorage_bucket.audit") for check in ON_THE_BUCKET} <= passed
    assert done.returncode == 0
