# make            native programs and manual pages in out/
# make test       all tests but the slow ones; installs missing packages (Debian, root)
# make test-slow  the slow tests: virtual machines that boot from the file, file systems under stress
# make exercise   random operations on a mount against a model; ARGS="--seconds 3600 --threads 8 --seed 7"
# make demo       a disk in memory and a qcow2 image as raw files, narrated; installs missing packages
# make bench      side by side with the other programs that are installed
# make pack       NuGet packages of the libraries in out/packages/
# make api        writes the public face of the libraries down anew, for the test that compares it
# make install    PREFIX=/usr/local DESTDIR=
# make deps man format check-format clean

PREFIX ?= /usr/local
DESTDIR ?=
PROJECT_nbdfuse := src/NbdFuse
PROJECT_nbdserve := src/NbdServe
PROGRAMS := nbdfuse nbdserve
PACKAGES := Linux NbdProtocol NbdClient NbdServer
SOURCES := $(shell find src -name '*.cs' -o -name '*.csproj') $(wildcard Directory.* global.json .editorconfig)
export DOTNET_NOLOGO := 1
export DOTNET_CLI_TELEMETRY_OPTOUT := 1

.PHONY: all programs man install test test-slow exercise demo bench pack api deps format check-format clean

all: programs man

programs: $(PROGRAMS:%=out/%)

man: $(PROGRAMS:%=out/%.1)

# One after the other: both publish the same libraries.
out/nbdserve: | out/nbdfuse

$(PROGRAMS:%=out/%): out/%: $(SOURCES)
	scripts/deps.sh check build
	dotnet publish $(PROJECT_$*) -c Release -o artifacts/native/$*
	install -D -m 755 artifacts/native/$*/$* $@
	install -m 644 artifacts/native/$*/$*.dbg $@.dbg

out/%.1: docs/man/%.1.scd
	scripts/deps.sh check man
	mkdir -p out
	scdoc < $< > $@.part && mv $@.part $@

install: all
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin share/man/man1 lib/systemd/system)
	install -m 755 $(PROGRAMS:%=out/%) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(PROGRAMS:%=out/%.1) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 packaging/systemd/* $(DESTDIR)$(PREFIX)/lib/systemd/system

# The same sources give the same bytes: no paths of this machine in them, and the time of the last commit.
PACKED ?= out/packages
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),315532800)
pack:
	rm -rf $(PACKED) artifacts/packages
	for project in $(PACKAGES); do \
	    SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) dotnet pack src/$$project -c Release -o $(PACKED) \
	        --artifacts-path artifacts/packages -p:ContinuousIntegrationBuild=true || exit 1; done

api:
	dotnet build tests/unit -c Release
	NBD_ACCEPT_API=1 artifacts/bin/UnitTests/release/UnitTests --filter-class '*PublicApiTests'

test:
	scripts/deps.sh install build man test
	$(MAKE) all
	scripts/test.sh

test-slow:
	scripts/deps.sh install build man test-slow
	$(MAKE) all pack
	scripts/test.sh slow

exercise:
	scripts/deps.sh install build man test
	$(MAKE) all
	scripts/exercise.sh $(ARGS)

demo:
	scripts/deps.sh install build man demo
	$(MAKE) all
	scripts/demo.sh

bench:
	scripts/deps.sh install build man bench
	$(MAKE) all
	dotnet publish bench/client -c Release -o artifacts/native/clientbench
	python3 bench/bench.py
	python3 bench/bench_holes.py
	python3 bench/bench_scale.py
	python3 bench/bench_serve.py
	python3 bench/bench_client.py

deps:
	scripts/deps.sh install build man test test-slow demo bench

format:
	dotnet format NbdFuse.slnx

check-format:
	dotnet format NbdFuse.slnx --verify-no-changes

clean:
	rm -rf artifacts out
