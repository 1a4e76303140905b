# Linters over everything that people write in helm/, terraform/ and deploy/: shell, YAML, Dockerfiles, Python.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need shellcheck yamllint hadolint python

files() { git ls-files --cached --others --exclude-standard -- "$@"; }

mapfile -t scripts < <(files 'deploy/*.sh' 'helm/*.sh' 'terraform/*.sh')
# Traps and lists of parts call functions by name, which shellcheck takes for functions that nobody calls.
step "shellcheck: ${#scripts[@]} scripts" shellcheck --exclude=SC2317,SC2329 --external-sources --source-path=SCRIPTDIR "${scripts[@]}"

# Golden files are what helm prints.
mapfile -t documents < <(files 'deploy/*.yaml' 'helm/*.yaml' '.github/*.yaml' | grep -v -e /templates/ -e ^deploy/check/golden/)
step "yamllint: ${#documents[@]} files" yamllint --strict --config-file deploy/check/yamllint.yaml "${documents[@]}"

mapfile -t dockerfiles < <(files '*Dockerfile')
((${#dockerfiles[@]} == 0)) || step "hadolint: ${#dockerfiles[@]} files" hadolint "${dockerfiles[@]}"

mapfile -t programs < <(files 'deploy/*.py' 'helm/*.py')
step "python: ${#programs[@]} files compile" python -c 'import ast, sys
for path in sys.argv[1:]: ast.parse(open(path).read(), path)' "${programs[@]}"
