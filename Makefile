# One verb each, the same for people and CI. `make study ARGS="--seeds 0,1,2"` passes options on.
# Without CUDA (an eighth of the download): `make study TORCH=cpu`. With another Python or torch, in a folder of its
# own: `make test PYTHON=python3.12 TORCH=2.11.0 VENV=.venv-gpu`. Both: TORCH=2.11.0+cpu.
PYTHON ?= python3
TORCH ?=
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready$(TORCH:%=-%)
ARGS ?=

.PHONY: help study test test-fast test-deep test-oldest faults dashboard lab check figures pages address bench long-runs keep clean
.DEFAULT_GOAL := help

help:
	@echo "make study      the depth study on the digits: a few minutes on two cores"
	@echo "make dashboard  look at results in a browser"
	@echo "make lab        JupyterLab on the notebooks"
	@echo "make test       the tests      make test-fast  without whole runs and browser"
	@echo "make test-deep  the tests that take very long, which make test leaves out"
	@echo "make test-oldest  the fast ones on the oldest versions that pyproject.toml allows"
	@echo "make faults     inject faults into runs; writes the figures of docs/reliability.md"
	@echo "make check      ruff, format, mypy"
	@echo "make bench      measure speed and write benchmarks/"
	@echo "make pages      the manual and the committed lesson as pages, in site/"
	@echo "make address    what follows from the repository's address in pyproject.toml: badges, links"
	@echo "make figures    draw the README's figures and table again from results/reference"
	@echo "make long-runs  the studies on photographs: many hours, resumed where they were"
	@echo "make keep       commit what of them has ended: copies it into results/reference"
	@echo "make clean      remove $(VENV) and caches; results and data stay"

# Made again when the dependencies change; otherwise every verb starts at once. TORCH is a version, a place (a folder
# of TORCH_INDEX, such as cpu), or both. From a place come torch and torchvision, in the versions pinned here unless
# another is asked for, and what they need; all else then comes from where pip usually looks.
TORCH_INDEX ?= https://download.pytorch.org/whl
TORCH_PLACE := $(filter cpu cu%,$(subst +, ,$(TORCH)))
TORCH_VERSION := $(filter-out $(TORCH_PLACE),$(subst +, ,$(TORCH)))
TORCH_PINS := $(if $(TORCH_VERSION),torch==$(TORCH_VERSION) torchvision,$(shell grep -E '^torch(vision)?==' constraints.txt))
PINNED_BY_TORCH := ^(torch|torchvision|triton|nvidia-[^=]*|cuda-[^=]*)==
PINS ?= tested
EXTRAS := train,lab,figures,export,test,dev
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (once; $(if $(TORCH_PLACE),with torch from $(TORCH_INDEX)/$(TORCH_PLACE),about 7 GB with torch's CUDA libraries), a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; use make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@rm -f $(VENV)/.ready*
ifeq ($(PINS),oldest)
	@$(BIN)/python .ci/oldest.py > $(VENV)/constraints.txt
else
	@grep -v -E '$(if $(TORCH),$(PINNED_BY_TORCH),^$$)' constraints.txt > $(VENV)/constraints.txt
endif
	@$(if $(TORCH_PLACE),$(PIP) --index-url $(TORCH_INDEX)/$(TORCH_PLACE) $(TORCH_PINS))
	@$(PIP) -c $(VENV)/constraints.txt $(if $(TORCH_VERSION),torch==$(TORCH_VERSION)) -e '.[$(EXTRAS)]'
	@touch $(READY)
	@echo "set up"

study: $(READY)
	@echo "running the study: resnetlab study digits $(ARGS)"
	@$(BIN)/resnetlab study digits $(ARGS)

# Two processes on two cores: whatever computes in them has one thread. With two each, half of them wait for a core.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
test: $(READY)
	@echo "running the tests, two at a time"
	@$(TESTS) -n 2 --dist worksteal -m "not deep" $(ARGS)

test-fast: $(READY)
	@echo "running the fast tests, two at a time"
	@$(TESTS) -n 2 --dist worksteal -m "not slow and not browser and not deep" $(ARGS)

test-deep: $(READY)
	@echo "running the tests that take very long"
	@$(BIN)/python -m pytest -m deep $(ARGS)

# In an environment of its own: every package that is named in pyproject.toml in the oldest version it is given.
test-oldest:
	@$(MAKE) --no-print-directory test-fast PINS=oldest VENV=$(if $(filter .venv,$(VENV)),.venv-oldest,$(VENV))

dashboard: $(READY)
	@echo "starting the dashboard on 127.0.0.1"
	@$(BIN)/resnetlab dashboard $(ARGS)

lab: $(READY)
	@echo "starting JupyterLab on notebooks/"
	@$(BIN)/resnetlab lab $(ARGS)

# What becomes of runs under kills, full disks, damaged files and hostile names, counted in docs/reliability.md.
faults: $(READY)
	@echo "injecting faults: all tests of tests/faults, then the whole campaign, some minutes"
	@$(BIN)/python -m pytest tests/faults
	@$(BIN)/python tests/faults/campaign.py

check: $(READY)
	@echo "ruff, format, mypy"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

figures: $(READY)
	@echo "drawing the README's figures, writing the tables of results, photographing its pages, from the committed runs"
	@$(BIN)/resnetlab figures results/reference/digits
	@$(BIN)/resnetlab figures results/reference/depth-real
	@$(BIN)/python results/told.py
	@$(BIN)/python -m resnetlab.pages.pictures results/reference/digits/plain-56-seed0/train.ipynb
	@$(BIN)/python dashboard/photograph.py

pages: $(READY)
	@echo "writing the manual and the committed lesson into site/"
	@$(BIN)/python docs/build.py site

address:
	@echo "writing what follows from the address of the repository in pyproject.toml"
	@$(PYTHON) .ci/address.py

bench: $(READY)
	@echo "measuring; leave the machine alone for a few minutes"
	@$(BIN)/resnetlab bench $(ARGS)

# The plan is in results/reference/README.md. Hours of training: at the lowest priority, and from a clone of its
# own, so that work on the project does not disturb it. Interrupted, the same command goes on where it was. The
# shallow networks of a seed come first: something has ended, and can be kept, before a machine goes. What is
# committed of these images, ended or under way, is not begun again.
IMAGES ?= cifar10
, := ,
TINY ?= tiny-imagenet
STUDIES ?= depth-real* imagenet-tiny*
UNDER_WAY := results/.under-way
# A part of a study ends without the notebook over the whole: at every start it would be executed for each part again.
PART := --no-report
long-runs: $(READY)
	@for run in $(foreach study,$(STUDIES),$(UNDER_WAY)/$(study)/*/ results/reference/$(study)/*/); do \
	    here=$${run#$(UNDER_WAY)/}; here=results/$${here#results/reference/}; \
	    grep -qsF -e '"name": "$(IMAGES)"' -e '"name": "$(TINY)"' "$$run"run.json && [ ! -e "$$here" ] || continue; \
	    mkdir -p "$$here" && cp -r "$$run." "$$here" && echo "goes on: $$here" || exit 1; \
	done
	@for study in $(foreach seed,1 2 3,"depth-real $(PART) --seeds $(seed) --depths 8$(,)20 --data $(IMAGES)" \
	    "depth-real $(PART) --seeds $(seed) --data $(IMAGES)") "depth-real-clip --data $(IMAGES)" \
	    "depth-real --data $(IMAGES)" \
	    $(foreach seed,1 2 3,"imagenet-tiny $(PART) --seeds $(seed) --depths 18 --data $(TINY)" \
	    "imagenet-tiny $(PART) --seeds $(seed) --data $(TINY)") "imagenet-tiny --data $(TINY)" \
	    "imagenet-tiny-unclipped --data $(TINY)" "depth-real-16k --data $(IMAGES)"; do \
	    echo "running resnetlab study $$study"; \
	    code=0; nice -n 19 $(BIN)/resnetlab study $$study --jobs 2 --name $${study%% *} || code=$$?; \
	    for run in results/imagenet-tiny*/*/; do \
	        [ -f "$$run"summary.json ] && [ ! -f "$$run"evaluations.jsonl ] && [ $$code -ne 130 ] || continue; \
	        ls "$$run"checkpoints/step-*.pt >/dev/null 2>&1 || continue; \
	        nice -n 19 $(BIN)/resnetlab evaluate "$$run" --protocol all || code=$$?; \
	    done; \
	    [ $$code -ne 130 ] || exit 130; \
	    [ $$code -eq 0 ] || failed=$$code; \
	done; exit $${failed:-0}

# What has ended of STUDIES in the clone FROM becomes part of the reference results here: no weights, no images, no
# notebooks. Of what has not ended the newest checkpoint and the logs: `make long-runs` goes on from them on any
# machine, where otherwise hours would start again. A dot folder, which no reader of results looks into.
FROM ?= ../long-runs
# Weights of what has ended, until notebook 07 has measured all runs of a study.
WEIGHTS := results/.weights
# Bytes of the largest checkpoint that travels. Those of the ImageNet networks, up to 170 MB, do not: begun on one
# machine they end there, and `make long-runs` tests them there by every protocol.
LARGEST := 20000000
keep: $(READY)
	@rm -rf $(UNDER_WAY)
	@for run in $(foreach study,$(STUDIES),$(FROM)/results/$(study)/*/); do \
	    newest=$$(ls "$$run"checkpoints/step-*.pt 2>/dev/null | tail -n 1); \
	    [ -z "$$newest" ] || [ $$(wc -c < "$$newest") -le $(LARGEST) ] || newest=; \
	    if [ ! -f "$$run/summary.json" ]; then \
	        [ -n "$$newest" ] || continue; \
	        here=$(UNDER_WAY)/$${run#$(FROM)/results/}; mkdir -p "$${here}checkpoints"; \
	        cp "$$newest" "$${newest%.pt}.json" "$${here}checkpoints" || exit 1; \
	        cp "$$run"run.json "$$run"metrics.jsonl "$$run"probes.jsonl "$$run"timing.jsonl "$$here" || exit 1; \
	        echo "under way: $$here"; continue; \
	    fi; \
	    here=results/reference/$${run#$(FROM)/results/}; here=$${here%/}; new=$$here.new; \
	    rm -rf "$$new"; mkdir -p "$$new"; \
	    for file in run.json summary.json metrics.jsonl probes.jsonl timing.jsonl evaluations.jsonl; do \
	        [ ! -f "$$run$$file" ] || cp "$$run$$file" "$$new" || exit 1; \
	    done; \
	    $(BIN)/python results/rewrite.py "$$new" || { rm -rf "$$new"; exit 1; }; \
	    rm -rf "$$here" && mv "$$new" "$$here" && echo "kept $$here" || exit 1; \
	    if [ -n "$$newest" ]; then \
	        to=$(WEIGHTS)/$${run#$(FROM)/results/}; mkdir -p "$$to"; \
	        $(BIN)/resnetlab weights "$$run" --out "$$to" || exit 1; \
	    fi; \
	done
	@$(BIN)/python results/told.py
	@$(BIN)/python -m dashboard.inside write
	@echo "README.md and docs/findings.md have the new tables; notebooks 10 and 12 show these runs: execute them again"

clean:
	@echo "removing $(VENV) and caches"
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
