# make            native programs and manual pages in out/
# make test       everything that is tested; installs missing packages (Debian, root)
# make demo       a qcow2 image as a raw file, narrated; installs missing packages
# make bench      side by side with the other programs that are installed
# make install    PREFIX=/usr/local DESTDIR=
# make deps man format check-format clean

PREFIX ?= /usr/local
DESTDIR ?=
PROJECT := src/NbdFuse
NATIVE := artifacts/native/nbdfuse
SOURCES := $(shell find src -name '*.cs' -o -name '*.csproj') $(wildcard Directory.* global.json .editorconfig)
export DOTNET_NOLOGO := 1
export DOTNET_CLI_TELEMETRY_OPTOUT := 1

.PHONY: all man install test demo bench deps format check-format clean

all: out/nbdfuse man

man: out/nbdfuse.1

out/nbdfuse: $(SOURCES)
	scripts/deps.sh check build
	dotnet publish $(PROJECT) -c Release -o $(NATIVE)
	install -D -m 755 $(NATIVE)/nbdfuse out/nbdfuse
	install -m 644 $(NATIVE)/nbdfuse.dbg out/nbdfuse.dbg

out/%.1: docs/man/%.1.scd
	scripts/deps.sh check man
	mkdir -p out
	scdoc < $< > $@.part && mv $@.part $@

install: all
	install -D -m 755 out/nbdfuse $(DESTDIR)$(PREFIX)/bin/nbdfuse
	install -D -m 644 out/nbdfuse.1 $(DESTDIR)$(PREFIX)/share/man/man1/nbdfuse.1

test:
	scripts/deps.sh install build man test
	$(MAKE) all
	scripts/test.sh

demo:
	scripts/deps.sh install build man demo
	$(MAKE) all
	scripts/demo.sh

bench:
	scripts/deps.sh install build man bench
	$(MAKE) all
	python3 bench/bench.py

deps:
	scripts/deps.sh install build man test demo bench

format:
	dotnet format NbdFuse.slnx

check-format:
	dotnet format NbdFuse.slnx --verify-no-changes

clean:
	rm -rf artifacts out
