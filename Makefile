# Every target may be run on a fresh machine: it first installs and fetches what it needs, and does nothing twice.
# One cargo profile (--release) everywhere, so that llama.cpp is compiled once.

CARGO   ?= cargo
PROFILE := --release --locked
MODEL   := models/SmolLM2-135M-Instruct.Q4_1.gguf

# make chat FEATURES=vulkan (or cuda, metal): the same for a GPU, in a folder of its own, so that neither build undoes the other.
ifneq ($(FEATURES),)
export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)/$(FEATURES)
PROFILE += --features $(FEATURES)
CARGO := scripts/gpu $(FEATURES) $(CARGO)
endif
PROGRAM := $(or $(CARGO_TARGET_DIR),target)/release/fireside

# Rust may have been installed a minute ago, in a shell that does not know it yet.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.PHONY: help setup model build chat test test-gpu test-remote fuzz-markdown conformance bench lint install dist dist-test

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST)

setup: ## install what building needs and this machine lacks
	@scripts/setup $(FEATURES)

model: ## fetch the default model (98 MB) into models/
	@scripts/fetch-model

build: setup ## build the program (the first time takes minutes: llama.cpp)
	$(CARGO) build $(PROFILE)

chat: setup model build ## do all of that, then chat with the default model
	@exec $(PROGRAM) -m $(MODEL)

test: setup model ## run every test but conformance; ARGS are for the test programs, as in make test ARGS=--show-output
	$(CARGO) test $(PROFILE) --no-fail-fast -- --skip conformance:: $(ARGS)

test-gpu: model ## build for the GPU that is here, or for a software GPU, and run the tests of the engine on it; ARGS as for test
	@scripts/test-gpu $(ARGS)

test-remote: setup model ## kill, stop and cut off workers 50 times in each phase (half an hour); prints a table
	FIRESIDE_TEST_RUNS=$(or $(RUNS),50) $(CARGO) test $(PROFILE) --test tests -- workers::no_fault --show-output

fuzz-markdown: setup ## render random and hostile Markdown for SECONDS (900), compared with a model of the screen
	FIRESIDE_FUZZ_SECONDS=$(or $(SECONDS),900) $(CARGO) test $(PROFILE) --test tests -- --ignored markdown:: --show-output

conformance: setup model ## compare with what other programs make of the same input; fetches them and compiles llama.cpp's tools
	scripts/references --build
	FIRESIDE_TEST_NO_SKIP=1 $(CARGO) test $(PROFILE) --test tests -- conformance:: --show-output

bench: setup model build ## compare speed with llama.cpp's own tools (some 30 minutes); ARGS='--only W1,W4' selects, BIG=1 runs a model of 8 billion parameters, GPU=1 FEATURES=cuda large ones on a GPU
	CARGO='$(CARGO)' scripts/references --build $(FEATURES)
	benches/rivals $(PROGRAM) --tools target/references/bin$(FEATURES:%=-%) $(if $(BIG),--big) $(if $(GPU),--gpu) $(ARGS)

lint: setup ## check the format; clippy with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --all-targets -- -D warnings

install: build model ## put the program, man pages and shell completions into PREFIX, the default model into your models folder
	@PREFIX='$(PREFIX)' scripts/install $(PROGRAM) $(MODEL)

dist: setup ## make packages for other machines in target/dist; FEATURES are cargo's, as in make dist FEATURES=vulkan
	@CARGO='$(CARGO)' scripts/dist $(FEATURES)

dist-test: dist model ## try the packages in a bare Debian (as root, with mmdebstrap)
	@scripts/dist-test
