# Every target is one line that calls a verb of openr1 or a tool. `make help` lists them.
# Values are handed on through the environment, so RECIPE, RUN and the others may hold spaces; ARGS is read by the shell
# as words: ARGS='stages=[sft,grpo] data.path="my file.jsonl"'.

.DEFAULT_GOAL := help
BIN := .venv/bin
PYTHON ?=
TORCH ?=
WORKERS ?= 2
FAST := not slow and not vllm and not slurm and not gpu
export TORCH RECIPE RUN STAGE REPO TYPE FILE MODEL TASK ENGINE PARALLEL NUM_GPUS RUNS CLUSTER

# What a target cannot do without; asked for before anything starts.
needs-run := RECIPE
needs-generate := RECIPE
needs-sft := RECIPE
needs-grpo := RECIPE
needs-check := RECIPE
needs-submit := RECIPE CLUSTER
needs-fetch := RECIPE
needs-cancel := RUN
needs-logs := RUN
needs-grade := FILE
needs-evaluate := MODEL TASK
needs-compare := RUNS
needs-publish := RUN REPO TYPE
needs-sync := RUN
example-RECIPE := tiny
example-RUN := tiny
example-MODEL := smollm2_135m
example-TASK := champ
example-RUNS := "one two"
example-CLUSTER := test
example-FILE := completions.jsonl
example-REPO := me/my-dataset
example-TYPE := dataset
usage = make $1 $(foreach v,$(needs-$1),$v=$(example-$v))
$(foreach g,$(MAKECMDGOALS),$(foreach v,$(needs-$g),$(if $(strip $($v)),,$(error $g needs $v=, for example: $(call usage,$g)))))

##@ Set-up
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
setup: ## make .venv ready [TORCH=auto|cpu|cuda] [PYTHON=python3.12]; quick when nothing changed
	@$(or $(PYTHON),python3) scripts/setup.py --torch "$$TORCH" $(if $(PYTHON),--this-python)
setup-vllm: ## make .venv-vllm ready beside .venv: vLLM, for the CPU where there is no GPU [TORCH=] [PYTHON=]
	@$(or $(PYTHON),python3) scripts/setup_vllm.py --torch "$$TORCH" $(if $(PYTHON),--this-python)
setup-deepspeed: ready ## DeepSpeed into .venv, for parallel=zero2 and parallel=zero3
	@$(BIN)/python -m pip install --quiet setuptools==78.1.1 wheel ninja && DS_BUILD_OPS=0 $(BIN)/python -m pip install --no-build-isolation --constraint constraints.txt "deepspeed==0.19.8"
ready-vllm:
	@$(or $(PYTHON),python3) scripts/setup_vllm.py --torch "$$TORCH" $(if $(PYTHON),--this-python) --quiet
ready:
	@$(or $(PYTHON),python3) scripts/setup.py --torch "$$TORCH" $(if $(PYTHON),--this-python) --quiet

##@ Recipes
demo: ready ## the paper in miniature: every stage of R1 on a tiny model, and a report
	@$(BIN)/openr1 run recipe=tiny_r1
run: ready ## run or resume a recipe: RECIPE= [CLUSTER=] [RUN=] [ARGS="key=value …"]
	@set -f; $(BIN)/openr1 run "recipe=$$RECIPE" $${CLUSTER:+"cluster=$$CLUSTER"} $${RUN:+"run=$$RUN"} $(ARGS)
generate: ready ## the generate stages of a recipe and what they still need: RECIPE= [RUN=] [ARGS=]
	@set -f; $(BIN)/openr1 run "recipe=$$RECIPE" "kinds=[$@]" $${RUN:+"run=$$RUN"} $(ARGS)
sft: ready ## the sft stages, likewise: RECIPE= [RUN=] [ARGS=]
	@set -f; $(BIN)/openr1 run "recipe=$$RECIPE" "kinds=[$@]" $${RUN:+"run=$$RUN"} $(ARGS)
grpo: ready ## the grpo stages, likewise: RECIPE= [RUN=] [ARGS=]
	@set -f; $(BIN)/openr1 run "recipe=$$RECIPE" "kinds=[$@]" $${RUN:+"run=$$RUN"} $(ARGS)
evaluate: ready ## benchmarks with a model: MODEL= TASK=aime24[,…] [PARALLEL=data|tensor NUM_GPUS=8] [ENGINE=] [RUN=] [ARGS=]
	@set -f; $(BIN)/openr1 evaluate "model=$$MODEL" "benchmark=$$TASK" $${ENGINE:+"engine=$$ENGINE"} $${PARALLEL:+"engine.$${PARALLEL}_parallel=$${NUM_GPUS:-1}" "stages.evaluate.resources.gpus=$${NUM_GPUS:-1}"} $${RUN:+"run=$$RUN"} $(ARGS)
check: ready ## all that can be told before a recipe runs: RECIPE= [CLUSTER=] [RUN=] [ARGS=]
	@set -f; $(BIN)/openr1 check "recipe=$$RECIPE" $${CLUSTER:+"cluster=$$CLUSTER"} $${RUN:+"run=$$RUN"} $(ARGS)
fetch: ready ## models and data of a recipe into the cache, for nodes without internet: RECIPE= [CLUSTER=] [RUN=] [ARGS=]
	@set -f; $(BIN)/openr1 fetch "recipe=$$RECIPE" $${CLUSTER:+"cluster=$$CLUSTER"} $${RUN:+"run=$$RUN"} $(ARGS)
submit: ready ## queue a recipe on a Slurm cluster, or go on with it: RECIPE= CLUSTER= [RUN=] [ARGS=--dry-run]
	@set -f; $(BIN)/openr1 submit "recipe=$$RECIPE" "cluster=$$CLUSTER" $${RUN:+"run=$$RUN"} $(ARGS)
cancel: ready ## end the Slurm jobs of a run: RUN=
	@set -f; $(BIN)/openr1 cancel "$$RUN" $(ARGS)
status: ready ## what a run is doing [RUN=]
	@set -f; $(BIN)/openr1 status $${RUN:+"$$RUN"} $(ARGS)
logs: ready ## what a run has logged: RUN= [STAGE=]
	@set -f; $(BIN)/openr1 logs "$$RUN" $${STAGE:+"$$STAGE"} $(ARGS)
grade: ready ## verdicts for a Parquet or JSONL file: FILE= [ARGS="--verifier NAME …"]
	@set -f; $(BIN)/openr1 grade "$$FILE" $(ARGS)
compare: ready ## what differs between runs, what it did, how sure: RUNS="a b" [ARGS="--html FILE"]
	@set -f; $(BIN)/openr1 compare $$RUNS $(ARGS)
publish: ready ## send a dataset or model to the Hub, private: RUN= REPO= TYPE=dataset|model [STAGE=] [ARGS=--dry-run]
	@set -f; $(BIN)/openr1 publish "$$RUN" $${STAGE:+--stage "$$STAGE"} --repo "$$REPO" --type "$$TYPE" $(ARGS)
sync: ready ## send the metrics of a run to W&B: RUN=
	@set -f; $(BIN)/openr1 sync "$$RUN" $(ARGS)

##@ Development
test: ready ## the fast tests [ARGS="-k name"] [WORKERS=2]
	@set -f; OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "$(FAST)" $(ARGS)
test-slow: ready ## the tests that take minutes
	@set -f; OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(ARGS)
test-vllm: ready ready-vllm ## the tests on a real vLLM, without a GPU too [ARGS="-k offline"]
	@set -f; .venv-vllm/bin/python -m pytest tests/real_vllm -m vllm $(ARGS)
test-slurm: ready ## the tests on a real Slurm, as root, where OPENR1_TEST_SLURM=system says that it may be installed here [ARGS=]
	@set -f; OMP_NUM_THREADS=1 slurm/testing/run $(BIN)/python -m pytest -m slurm $(ARGS)
test-gpu: ready ## first contact with 1 to 8 GPUs, within 10 minutes: a report to paste into an issue [ARGS="--only step,zero3"]
	@set -f; $(BIN)/python tests/gpu/contact.py $(ARGS)
lint: ready ## ruff, the formatter and mypy; changes nothing
	@$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy
bench: bench-grading bench-generate bench-curate bench-evaluate bench-grpo bench-tracking bench-sandbox ## every benchmark
bench-grading: ready ## grading speed beside TRL's and math-verify's [ARGS="--golds 200"]
	@set -f; OMP_NUM_THREADS=1 $(BIN)/python benchmarks/grading.py $(ARGS)
bench-generate: ready ## tokens a second through the stage over the engine's own [ARGS="--vllm URL"]
	@set -f; OMP_NUM_THREADS=1 $(BIN)/python benchmarks/generate.py $(ARGS)
bench-curate: ready ## curation at 100k and 1M completions, decontamination beside sets of strings [ARGS="--rows 100000"]
	@set -f; $(BIN)/python benchmarks/curate.py $(ARGS) && OMP_NUM_THREADS=1 $(BIN)/python benchmarks/decontaminate.py
bench-evaluate: ready ## core-seconds of an evaluation beside inspect-ai and lm-eval, on one server [ARGS="--sizes 160"]
	@set -f; OMP_NUM_THREADS=1 $(BIN)/python benchmarks/evaluate.py $(ARGS)
bench-grpo: ready ## our GRPO step over a plain TRL script, in core-seconds [ARGS="--learning"]: how soon algorithms learn
	@set -f; OMP_NUM_THREADS=1 $(BIN)/python benchmarks/grpo.py $(ARGS)
bench-tracking: ready ## what W&B costs a step, its server well, dead, dying or slow [ARGS="--rounds 3"]
	@set -f; OMP_NUM_THREADS=1 $(BIN)/python benchmarks/tracking.py $(ARGS)
bench-sandbox: ready ## what a test costs in the sandbox, beside bare Python and bwrap for every test [ARGS="--tests 50"]
	@set -f; OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sandbox.py $(ARGS)
constraints: ready ## write constraints.txt anew from what .venv holds
	@$(BIN)/python scripts/constraints.py

.PHONY: help setup setup-vllm setup-deepspeed ready ready-vllm demo run generate sft grpo evaluate compare check fetch submit cancel status logs grade publish sync test test-slow test-vllm test-slurm test-gpu lint bench bench-grading bench-generate bench-curate bench-evaluate bench-grpo bench-tracking bench-sandbox constraints
