# Telltale's commands; `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help demo engines up down status build test test-engines soak check check-deploy images bench bench-quick bench-kernels bench-services bench-peers bench-scale counts flames fuzz fmt tools

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## List these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

ifneq ($(filter-out embedded real,$(ENGINES)),)
$(error ENGINES=$(ENGINES) is neither embedded nor real)
endif

demo: build ## Run the whole pipeline on this machine (ARGS="--cars 2000 --rate 5 --for 60s"; ENGINES=real: on those of make up)
ifeq ($(ENGINES),real)
	@./deploy/local/with-engines.sh $(or $(DIR),target/engines) $(TARGET)/release/telltale demo --engines real \
		$(if $(findstring --data,$(ARGS)),,--data $(or $(DIR),target/engines)/data/demo) $(ARGS)
else
	@$(TARGET)/release/telltale demo $(ARGS)
endif

engines: build ## Run only the embedded MQTT broker, Kafka log and schema registry (ARGS="--data DIR")
	@$(TARGET)/release/telltale engines $(ARGS)

# $(call given,NAME,--flag): the flag if NAME was given on the command line. The environment's KAFKA is our programs' setting,
# a list of servers; as an argument of `make up` it is a number of brokers.
given = $(if $(filter command,$(origin $(1))),$(2) '$($(1))')

up: ## Start Apache Kafka, HiveMQ and Apicurio Registry (KAFKA=3 SECURITY=on KAFKA_PORT= MQTT_PORT= REGISTRY_PORT= DIR=)
	@./deploy/local/engines.sh up $(call given,DIR,--dir) $(call given,KAFKA,--kafka) $(call given,KAFKA_PORT,--kafka-port) \
		$(call given,REGISTRY_PORT,--registry-port) $(call given,MQTT_PORT,--mqtt-port) \
		$(call given,WEBSOCKET_PORT,--websocket-port) $(call given,MQTT_USER,--mqtt-user) \
		$(call given,MQTT_PASSWORD_FILE,--mqtt-password-file) $(call given,SECURITY,--security) $(call given,TIMEOUT,--timeout)

down: ## End what `make up` started; data stays
	@./deploy/local/engines.sh down $(call given,DIR,--dir)

status: ## Show what `make up` started, and the addresses for our programs
	@./deploy/local/engines.sh status $(call given,DIR,--dir)

# The whole workspace, always: a single package would select other features of the dependencies and compile them again.
build: tools ## Build every program into target/release
	@$(CARGO) build --release --workspace --bins

test: tools ## Run all tests against the embedded engines
	$(CARGO) test --release --workspace $(ARGS)

test-engines: tools ## Run the tests that hold on real engines against Kafka, HiveMQ and the registry (PARTS="bridge demo")
	@CARGO="$(CARGO)" ./deploy/local/test-engines.sh $(call given,DIR,--dir) $(PARTS)

# Tests of the pure state machines, by a part of their names: docs/FAULT_POINTS.md. `make test` runs 256 cases of each.
SIMULATIONS := standing::tests windows::tests what_is_acknowledged_is_stored the_newest_whole_model_is_in_force

soak: build ## Let a seeded schedule of faults loose on every service, and prove that nothing was lost (ARGS="--for 10m --seed 7 --engines real")
	@$(CARGO) build --release --workspace --example naive_bridge
	$(if $(findstring --plan,$(ARGS)),,PROPTEST_CASES=$(or $(CASES),2560) $(CARGO) test --release --workspace --quiet \
		--lib --test simulation -- $(SIMULATIONS))
	@$(TARGET)/release/soak --dir $(TARGET)/soak $(ARGS)

check: tools ## Check format, lints, licences, documentation, architecture
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- --deny warnings
	$(CARGO) clippy --release --workspace --test secured -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --release --workspace --no-deps --document-private-items
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny check bans licenses sources; \
	else \
		echo "cargo-deny is not installed, so licences and banned crates were not checked: cargo install --locked cargo-deny"; \
	fi
	$(CARGO) test --release --workspace --test architecture

check-deploy: ## Check charts, Terraform and scripts, offline; deploy/check/tools.sh cluster installs what it needs (ARGS=PART)
	@./deploy/check.sh $(ARGS)

images: ## Build an image of each program with docker, podman or buildah (ARGS="--registry PATH --tag TAG --push scorer")
	@./deploy/docker/images.sh $(ARGS)

# Arguments of the same flag: what is given last counts.
bench: ## Measure hot paths and services beside the naive and the bare ways (ARGS="--engines real --rounds 5")
	@$(MAKE) --no-print-directory bench-kernels ARGS=
	@$(MAKE) --no-print-directory bench-services ARGS="--readings 5000000 --rounds 5 --latency 60 $(ARGS)"
	@$(MAKE) --no-print-directory bench-peers ARGS="--readings 1000000 --rounds 5 $(ARGS)"

bench-quick: ## The same in under ten minutes after the build, with smaller counts
	@$(MAKE) --no-print-directory bench-kernels ARGS="--max-time 0.2"
	@$(MAKE) --no-print-directory bench-services ARGS="$(ARGS)"
	@$(MAKE) --no-print-directory bench-peers ARGS="--rounds 1 --rows 50000 --tensorflow-rows 200 $(ARGS)"

# Not --benches, which would compile every crate's unit tests once more.
bench-kernels: tools ## Measure the hot paths against the naive ways (ARGS=PART_OF_A_NAME)
	@$(CARGO) build --release --workspace --example bench
	@$(TARGET)/release/examples/bench kernels --dir $(TARGET)/bench -- $(CARGO) bench --workspace --bench '*' -- $(ARGS)

PEER_JOBS := preprocessor,streams-convert,scorer,streams-score,bridge,telegraf,trainer,learn-small,tensorflow,learn-large,fastavro,keras

bench-services: build ## Measure the services beside librdkafka and rumqttc alone (ARGS="--jobs scorer,copy-avro --readings 1000000")
	@$(CARGO) build --release --workspace --example bench
	@$(TARGET)/release/examples/bench --dir $(TARGET)/bench $(ARGS)

# Ours and theirs in turns. install.sh brings the programs; none of this is part of CI.
bench-peers: build ## Measure beside Telegraf, Kafka Streams, Keras; crates/testkit/peers/install.sh first (ARGS="--mosquitto")
	@$(CARGO) build --release --workspace --example bench
	@$(TARGET)/release/examples/bench --dir $(TARGET)/bench --jobs $(PEER_JOBS) $(ARGS)

bench-scale: build ## Measure what changes with cars, workers, partitions, bytes, new models, connections (ARGS="--parts cars,swap")
	@$(CARGO) build --release --workspace --example bench
	@$(TARGET)/release/examples/bench scale --dir $(TARGET)/bench $(ARGS)

# What the system has, or else what deploy/check/tools.sh has installed.
COUNTING := PATH="$$PATH:$${TELLTALE_TOOLS:-$$HOME/.cache/telltale/tools}/bin"

counts: tools ## Count the instructions of the hot loops; fails beyond 5 % of testdata/bench/counts.json (ARGS=--accept, ARGS=PART_OF_A_NAME)
	@$(CARGO) build --release --workspace --example counts
	@$(COUNTING) $(TARGET)/release/examples/counts --dir $(TARGET)/counts $(ARGS)

flames: build ## Draw a flame graph of each service into docs/flames, and tell what a record costs by stage (ARGS="--services scorer")
	@$(CARGO) build --release --workspace --example bench --example flames
	@./deploy/flames.sh $(TARGET)/release/examples/flames --dir $(TARGET)/flames $(ARGS)

fuzz: ## Fuzz what reads the bytes of strangers; without ARGS lists the targets (ARGS="avro --for 60s")
	@./fuzz/run.sh $(ARGS)

fmt: ## Format all code
	$(CARGO) fmt --all

tools:
	@./deploy/local/check-tools.sh
