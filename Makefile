# Everything from a fresh clone: `make demo` or `make test`. PYTHON=… picks the Python for .venv.
SHELL := /bin/sh
BIN := .venv/bin
INSTALLED := .venv/.installed
MEASURING := .venv/.installed-bench
CRITICS := .venv/.installed-train
DATA ?= data
HOURS ?= 1
OUT ?= demo-out
FUZZ ?= 200
MINUTES ?= 5
# 3.11 first: the default build of torch for it is the smallest.
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3 python)

# pip is silent for minutes where a download is slow: say every 20 seconds that it is at work.
PIP = $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt
define install
@seconds=0; while sleep 1 && kill -0 $$$$ 2>/dev/null; do \
	  seconds=$$((seconds + 1)); \
	  [ $$((seconds % 20)) -ne 0 ] || echo "  pip downloads and unpacks: $$seconds s, $$(du -sm .venv | cut -f 1) MB in .venv"; \
	done & told=$$!; \
	$(PIP) -e '.[$(1)]'; code=$$?; \
	kill $$told; exit $$code
endef

.DEFAULT_GOAL := help
.PHONY: help install demo test test-long fuzz check format bench bench-cost bench-modes bench-quality bench-vae bench-checkpoints bench-storage pictures \
	bench-steps bench-speed bench-peers bench-scale bench-crops bench-texture train train-deblock train-texture ranges curves clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' $(MAKEFILE_LIST) | awk '{ printf "  %s %-14s", $$1, $$2; $$1 = $$2 = ""; print }'

# A candidate counts only when it runs: python3.12 may be a pyenv shim without a Python behind it.
$(INSTALLED): pyproject.toml constraints.txt
	@found=; for python in $(CANDIDATES); do \
	  "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	    2>/dev/null && found="$$python" && break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "tileup needs Python 3.11 or 3.12 with venv (tried: $(CANDIDATES)); give one with make PYTHON=/path/to/python" >&2; \
	  exit 1; \
	fi; \
	echo "Setting up .venv with $$found, once: 2 GB with the CPU build of torch (7 GB with CUDA's), 2 to 10 minutes."; \
	"$$found" -m venv .venv
	$(call install,dev)
	@touch $@

install: $(INSTALLED) ## set up .venv

demo: $(INSTALLED) ## enlarge a photograph with the shipped model, into demo-out/
	@$(BIN)/python bench/demo.py $(OUT)

test: $(INSTALLED) ## run the tests
	@echo "Some 7,000 tests, 5 to 7 minutes on two free cores; the first dots come after half a minute."
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-long: $(INSTALLED) ## the tests that repeat a table or take a cluster apart; minutes
	$(BIN)/python -m pytest -m long

fuzz: $(INSTALLED) ## new examples for every property, for five minutes; FUZZ=examples a round, MINUTES=n
	@end=$$(( $$(date +%s) + 60 * $(MINUTES) )); \
	while [ $$(date +%s) -lt $$end ]; do \
	  FUZZ=$(FUZZ) $(BIN)/python -m pytest -m hypothesis -n 2 --dist worksteal --hypothesis-seed=$$(date +%s) || exit 1; \
	done

check: $(INSTALLED) ## lint, format and types, changing nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(INSTALLED) ## lint and format, changing files
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: bench-cost bench-modes bench-quality ## measure everything, into the documents; DATA=folder

bench-cost: $(INSTALLED) ## what plans save; ARGS='--draw 5' also runs the model
	$(BIN)/python -m bench.cost --data $(DATA) $(ARGS)

bench-modes: $(INSTALLED) ## denoise modes and samplers against the true runs
	$(BIN)/python -m bench.denoise_modes --data $(DATA) $(ARGS)

$(MEASURING): $(INSTALLED)
	@echo "Adding what the benches compare with, once."
	$(call install,bench)
	@touch $@

bench-quality: $(MEASURING) ## fidelity on held-out pictures, beside other enlargers
	$(BIN)/python -m bench.quality --data $(DATA) $(ARGS)

bench-texture: $(MEASURING) ## whether strength shows, and what it costs; ARGS='-m FILE --every 4'
	$(BIN)/python -m bench.texture --data $(DATA) $(ARGS)

bench-speed: $(MEASURING) ## seconds per megapixel, beside other enlargers; leave the machine alone
	$(BIN)/python -m bench.speed --data $(DATA) $(ARGS)

bench-peers: $(INSTALLED) ## against diffusers and a tiled loop with the same checkpoint; half an hour
	$(BIN)/python -m bench.diffusion_peers --data $(DATA) $(ARGS)

bench-scale: $(INSTALLED) ## time and memory by the size of the picture, before and now; ten minutes
	$(BIN)/python -m bench.scale --data $(DATA) $(ARGS)

bench-vae: $(INSTALLED) ## the VAE in tiles, at full width: an hour on two cores
	$(BIN)/python -m bench.vae $(ARGS)

bench-checkpoints: $(INSTALLED) ## files of full size: memory and speed; needs 24 GB and 8 GB of disk
	$(BIN)/python -m bench.full_size $(ARGS)

bench-storage: $(INSTALLED) ## memory of weights of few bits; needs 8 GB and 2 GB of disk
	$(BIN)/python -m bench.stored $(ARGS)

bench-steps: $(MEASURING) ## quality against operations: steps, windows and overlap
	$(BIN)/python -m bench.steps --data $(DATA) $(ARGS)

bench-crops: $(MEASURING) ## crops side by side, by strength, and where it fails
	$(BIN)/python -m bench.crops --data $(DATA) $(ARGS)

pictures: $(INSTALLED) ## the pictures of the README
	$(BIN)/python -m bench.pictures

train: $(CRITICS) ## train the shipped model further; DATA=folder HOURS=n
	$(BIN)/python -m models.training fidelity --data $(DATA) --hours $(HOURS) $(ARGS)

$(CRITICS): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[train]'
	@touch $@

train-deblock: $(CRITICS) ## train its network for sources that JPEG damaged further; the same
	$(BIN)/python -m models.training deblock --data $(DATA) --hours $(HOURS) $(ARGS)

train-texture: $(CRITICS) ## train its second network, which draws texture, further; the same
	$(BIN)/python -m models.training texture --data $(DATA) --hours $(HOURS) $(ARGS)

ranges: $(CRITICS) ## how its maps are rounded to 8 bits, after training; a quarter of an hour
	$(BIN)/python -m models.ranges --data $(DATA) $(ARGS)

curves: $(MEASURING) ## models/training.png, from the log of the training
	$(BIN)/python -m models.curves

clean: ## remove what was made, and .venv
	rm -rf .venv demo-out out build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find tileup tests bench models -name __pycache__ -type d -exec rm -rf {} +
