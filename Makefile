# Everything that is done with this project, in one word each. Works with GNU make 3.81 and newer, on Linux and macOS.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
ARGS ?=
JOBS ?= 3
export KEEP

.PHONY: api-fuzz attack help env servers browser prometheus test rules demo chaos rows rows-several failover upgrade faults fuzz bench lint format types imports docs pytest run-servers lock sbom clean compose-env

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: servers ## Run the whole story: servers, worker, gateway, money moved in every way, audit (KEEP=1 leaves it running)
	@$(BIN)/python -m tests.demo $(ARGS)

attack: servers ## Try every exploit of the security review, and say in a line each what stopped it
	@$(BIN)/python -m tests.security.attacks

test: lint types imports pytest ## Check everything: style, types, import rules, then all tests (ARGS="-k name" for some)

rules: env ## Check the rules of the contract and of the core, without a server, in under a minute (ARGS="-k refund")
	@$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile tests/rules $(ARGS)

bench: servers ## Measure against other ways of doing it, on an idle machine for 55 minutes (QUICK=1: two; ONLY=latency, ONLY=api)
	@$(BIN)/python -m tests.benchmarks$(if $(filter api,$(ONLY)),.api) $(if $(QUICK),--quick) $(patsubst %,--only %,$(filter-out api,$(ONLY))) $(ARGS)

env: made ## Make the Python environment in .venv, again only when the lock file changed

servers: env ## Install RabbitMQ with the system's package manager, if neither it nor Docker is there
	@$(BIN)/python -m tests.servers install
	@$(BIN)/python -m tests.servers.pgbouncer

run-servers: servers ## Start PostgreSQL and RabbitMQ for yourself, until Ctrl-C
	@$(BIN)/python -m tests.servers run

chaos: servers ## Break everything at random under load, and say what was lost or doubled (MINUTES=5 SEED=7 CLUSTER=1)
	@$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),5) $(SEED:%=--seed %) $(if $(CLUSTER),--cluster) $(ARGS)

# Of the faults, `make test` has the chaos and the controls. `make rows` has the rows of the matrix, those of dead letters,
# the faults behind the HTTP API, and each alarm's own fault, which together take too long for each change.
ROWS := $(addprefix tests/faults/test_,broker_faults.py database_faults.py messages.py worker_deaths.py) \
	tests/api/test_adversity.py tests/api/test_controls.py tests/alarms/test_in_a_fault_run.py
ROWS_OF_DEAD_LETTERS := tests/dead_letters/test_faults.py
# Three brokers and two databases take a machine for themselves: one after another, and only when asked for.
ROWS_OF_SEVERAL := $(addprefix tests/faults/test_,broker_cluster.py database_failover.py)
# Builds wheels of older commits, for which git's history must be there.
UPGRADE := tests/faults/test_upgrade.py
rows: servers ## Run every fault of one broker and one database with short limits, and each alarm's own (ARGS="-k row_27")
	@$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile $(ROWS) $(ROWS_OF_DEAD_LETTERS) $(ARGS)

rows-several: servers ## Run the faults of three brokers and two databases, about eight minutes (ARGS="-k row_36")
	@$(BIN)/pytest -n0 $(ROWS_OF_SEVERAL) $(ARGS)

failover: env ## Fail over under load with Patroni, etcd and PostgreSQL of the system: seconds without service (TIMES=1)
	@$(BIN)/python -m tests.servers install --failover
	@$(BIN)/python -m tests.faults.failover $(TIMES:%=--times %) $(ARGS)

upgrade: servers ## Run the release before and this one side by side under load, two minutes (FROM=a tag or commit)
	@$(if $(FROM),WALLET_UPGRADE_FROM=$(FROM)) $(BIN)/pytest -n0 $(UPGRADE) $(ARGS)

faults: servers ## Run every fault at its full length, over an hour (ARGS="-k row_27")
	@WALLET_FAULTS=full $(BIN)/pytest --timeout 7200 tests/faults $(ROWS_OF_DEAD_LETTERS) $(ARGS)

fuzz: env ## Fuzz the parser with atheris, which it installs where there is a wheel of it (SECONDS=60)
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(PIP) --only-binary :all: atheris==3.0.0
	@$(BIN)/python -m tests.faults.fuzz $(or $(SECONDS),60)

api-fuzz: servers ## Ask a running API everything that its OpenAPI document allows, and more (EXAMPLES=200)
	@$(BIN)/python -m tests.api.fuzz --examples $(or $(EXAMPLES),200)

# For the console's tests, which are those of a person at a browser.
browser: env
	@$(BIN)/python -m tests.console.chromium

# For the tests of the alarms, which are Prometheus's own.
prometheus: env
	@$(BIN)/python -m tests.alarms.prometheus

pytest: servers browser prometheus ## Run the tests alone, JOBS at a time with servers of their own (JOBS=0 for a few: ARGS="-k name")
	@$(BIN)/pytest $(ROWS:%=--ignore=%) --ignore=$(ROWS_OF_DEAD_LETTERS) $(ROWS_OF_SEVERAL:%=--ignore=%) --ignore=$(UPGRADE) --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: env ## Check style
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet . && echo "lint: in order"

format: env ## Bring the code into the one style
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

types: env ## Check types
	@$(BIN)/mypy

imports: env ## Check who imports whom
	@$(BIN)/lint-imports --no-logo

docs: env ## Write what is generated in the documents
	@$(BIN)/python -m tests.documents

sbom: env ## List what the image installs, with versions, hashes and licences, in sbom.cdx.json (CycloneDX)
	@$(BIN)/python -m tests.documents.sbom

lock: env ## Resolve the versions anew, within the bounds of pyproject.toml (ARGS=--upgrade for the newest)
	@$(BIN)/uv pip compile $(LOCK_OPTIONS) $(ARGS) pyproject.toml --extra server --output-file requirements.lock
	@$(BIN)/uv pip compile $(LOCK_OPTIONS) pyproject.toml --constraints requirements.lock \
		--output-file requirements-client.lock
	@$(BIN)/uv pip compile $(LOCK_OPTIONS) $(ARGS) pyproject.toml --extra server --group dev \
		--constraints requirements.lock --output-file requirements-dev.lock
	@$(BIN)/uv pip compile $(LOCK_OPTIONS) --group build --constraints requirements-dev.lock \
		--output-file requirements-build.lock

# One file for every platform and every Python from 3.11 on, and no word of where the packages come from.
LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links

compose-env: ## Write fresh secrets for `docker compose up` to .env, those that are not there yet (DEMO=1: with a gateway)
	@umask 077; touch .env; $(PYTHON) -c "$$COMPOSE_ENV" >> .env; echo ".env has every secret"

define COMPOSE_ENV
import base64, json, os, pathlib, secrets
there = {line.partition("=")[0] for line in pathlib.Path(".env").read_text().splitlines()}
is_demo = os.environ.get("DEMO") == "1" # `make compose-env DEMO=1`
roles = "SETUP", "WORKER", "KEEPER", "CONSOLE", "MONITOR", "GATEWAY", "UPSTREAM", "API", "WEBHOOKS"
databases = ["POSTGRES_PASSWORD"] + [f"{name}_DATABASE_PASSWORD" for name in
             ("OWNER", "WORKER", "KEEPER", "CONSOLE", "API", "AUDIT", "WEBHOOKS", "REPLICATION")]
of_several = "PATRONI_PASSWORD", "ERLANG_COOKIE_PASSWORD" # compose.ha.yaml
for name in *databases, *of_several, "RABBITMQ_PASSWORD", *(f"{role}_BROKER_PASSWORD" for role in roles):
    if name not in there:
        print(f"{name}={secrets.token_urlsafe(24)}")
if "WALLET_PAYMENT_KEYS" not in there:
    kid = "test-1" if is_demo else "k1"
    print("WALLET_PAYMENT_KEYS='" + json.dumps({kid: secrets.token_urlsafe(32)}) + "'")
    print("WALLET_DEMO=1\nCOMPOSE_PROFILES=demo" if is_demo else "WALLET_DEMO=0")
fresh = lambda: base64.b64encode(secrets.token_bytes(32)).decode()
if "WALLET_REQUEST_KEY" not in there:
    key = {"algorithm": "hmac-sha256", "secret": fresh()}
    print("WALLET_REQUEST_KEY='" + json.dumps({"kid": "wallet-1", **key}) + "'")
    print("WALLET_REQUEST_VERIFYING_KEYS='" + json.dumps({"wallet-1": key}) + "'")
if "WALLET_SENDERS" not in there:
    shop = {"types": ["*"], "queries": ["*"]}
    print("WALLET_SENDERS='" + json.dumps({"up-shop": shop, "api": {**shop, "clients": True}, "keeper": {"replays": True}}) + "'")
if "WALLET_SEAL_KEY" not in there:
    print("WALLET_SEAL_KEY='" + json.dumps({"kid": "seal-1", "secret": fresh()}) + "'")
endef
export COMPOSE_ENV

clean: ## Remove the environment and all caches
	@rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Contents are compared and not times, which git and `make lock` change without need.
.PHONY: made
made:
	@cmp -s requirements-dev.lock $(VENV)/made-from.lock && $(BIN)/python -c "" || { $(MAKE_ENV); }
	@cmp -s pyproject.toml $(VENV)/made-from.toml || { \
		$(PIP) --no-deps --no-build-isolation --editable . && cp pyproject.toml $(VENV)/made-from.toml; }

# Quiet twice: errors are shown, warnings about the machine's own settings for pip are not.
PIP = $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check

MAKE_ENV = set -e; \
	command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed, and there is no $(PYTHON)."; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.13"; \
		exit 1; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(INSTALL_VENV); }; \
	echo "making the Python environment in $(VENV), which takes about half a minute"; \
	$(PYTHON) -m venv --clear $(VENV); \
	$(PIP) --require-hashes --requirement requirements-dev.lock; \
	cp requirements-dev.lock $(VENV)/made-from.lock

# Debian and Ubuntu keep venv and ensurepip in a package of their own.
INSTALL_VENV = command -v apt-get >/dev/null || { echo "$(PYTHON) lacks venv and ensurepip: install them."; exit 1; }; \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif command -v sudo >/dev/null; then sudo=sudo; \
	else echo "$(PYTHON) lacks venv; as root: apt-get install python3-venv"; exit 1; fi; \
	package=$$($(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; print("python%s-venv" % v)'); \
	echo "$(PYTHON) lacks venv: installing $$package with apt-get$${sudo:+ (sudo may ask for your password)}"; \
	$$sudo env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/sbin:/usr/bin:/bin apt-get -qq update && \
	$$sudo env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/sbin:/usr/bin:/bin \
		apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends $$package >/dev/null
