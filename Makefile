# SPDX-License-Identifier: GPL-2.0-only
#
# The one entry point; "make help" lists what there is.  The rules for what the
# rig builds are in tools/rig/Makefile.

BASE ?= 5.10
VMX ?= auto
KSRC ?=
V ?= 0
JOBS ?= $(shell nproc)
# Whose seeded faults "make test-all" tries, and which of them: each is a build.
FAULTS ?= next
FAULTS_ONLY ?= ^(l2|set)-
# Whose whole suite "make test-all" runs, and the fault that it has to find there.
SUITES ?= next
SUITE_FAULT ?= recalc-not-called
export V CACHE MIRROR JOBS FAULT TESTS BOOT_LIMIT BOOT_STALL QEMU_ACCEL

RIG := tools/rig
BASES := $(shell awk '!/^\#/ && NF { print $$1 }' $(RIG)/bases)

ifeq ($(KSRC),)
ifeq ($(filter $(BASE),$(BASES)),)
$(error BASE=$(BASE) is unknown, there is: $(BASES))
endif
endif

NAME := $(if $(KSRC),ksrc,$(BASE))
PART :=
MAKEFLAGS += --no-print-directory
rig = $(RIG)/locked $(MAKE) -f $(RIG)/Makefile BASE=$(BASE) VMX=$(VMX) KSRC="$(KSRC)"

.PHONY: help mutants run kselftest test test-one test-all check tree apply patches mbox \
	readme setup clean distclean

help:
	@echo 'KVM on VMX: skip filter updates for MSRs that KVM intercepts already'
	@echo
	@echo '  make run       boot an unpatched and a patched KVM, print the table'
	@echo '  make kselftest KVM'\''s own selftests, all of them, unpatched against patched'
	@echo '  make test      check, run, run again, mutants, and judge every line'
	@echo '  make test-all  the same for all kernels, with some of the faults of: $(FAULTS);'
	@echo '                 and make kselftest for: $(SUITES)'
	@echo '  make check     the patches and our own code, without a boot'
	@echo '  make mutants   seeded faults in the patched KVM, and which test sees which'
	@echo '  make apply     git am the series to KSRC, on a new branch there'
	@echo '  make tree      only the source, with the series: build/BASE/src'
	@echo '  make patches   write the files that the series adds into patches/'
	@echo '  make mbox      each series as one mbox: build/SERIES.mbox'
	@echo '  make readme    put the results of all kernels into README'
	@echo '  make setup     install what all of this needs'
	@echo '  make clean     remove what was built, not the sources'
	@echo '  make distclean remove build/'
	@echo
	@echo '  BASE=$(BASE)      the kernel: $(BASES)'
	@echo '  KSRC=DIR       or a kernel tree of yours; it is not modified'
	@echo '  VMX=auto       bochs (emulated), kvm (real), or auto'
	@echo '  V=0            1: all that is run, and what it prints'
	@echo '  CACHE=DIR      for downloads (~/.cache/kvm-msr-filter)'
	@echo '  MIRROR=URL     a Debian mirror (the one that apt uses)'
	@echo '  JOBS=N         processes at a time (one a CPU)'
	@echo '  ONLY=REGEX     only faults whose names match'
	@echo '  TESTS=REGEX    only the tests of "make kselftest" whose names match'
	@echo '  FAULT=NAME     a fault in place of the patched KVM of "make kselftest"'

setup:
	@$(RIG)/setup all bochs check kselftest

run tree mutants:
	@$(RIG)/setup all
	@$(rig) $@

kselftest:
	@$(RIG)/setup all kselftest
	@$(rig) $@

check:
	@$(RIG)/setup all check
	@$(rig) config
	@$(RIG)/locked $(RIG)/check $(NAME) $(PART)

# All of it, whatever becomes of each, and then the count.
verdicts = build/$(1)/check/check.tap build/$(1)/report/judgement.tap
faults = build/$(1)/mutants/report/judgement.tap
suite = build/$(1)/report/kselftest/judgement.tap
caught = build/$(1)/report/kselftest-part/caught.tap

test-one:
	@rm -f $(call verdicts,$(NAME)) $(call faults,$(NAME))
	-@$(MAKE) check
	-@$(MAKE) run && $(rig) again

test:
	@$(RIG)/setup all check
	@$(MAKE) test-one
	-@if [ -n "$$($(RIG)/mutate names build/$(NAME))" ]; then $(rig) mutants; \
	else mkdir -p $(dir $(call faults,$(NAME))) && \
		echo 'ok 1 - faults: there are none for this kernel # SKIP' \
			>$(call faults,$(NAME)); fi
	@$(RIG)/report count $(call verdicts,$(NAME)) $(call faults,$(NAME))

test-all:
	@$(RIG)/setup all check
	@part=; for base in $(BASES); do echo "BASE=$$base"; \
		$(MAKE) test-one BASE=$$base KSRC= PART=$$part; part=series; done
	-@for base in $(SUITES); do \
		echo "BASE=$$base"; rm -f $(call suite,$$base) $(call caught,$$base); \
		$(MAKE) kselftest BASE=$$base KSRC=; \
		echo "BASE=$$base FAULT=$(SUITE_FAULT)"; \
		$(MAKE) kselftest BASE=$$base KSRC= FAULT=$(SUITE_FAULT) TESTS='^msr_filter_[in]' \
			>build/$$base/log/kselftest-fault 2>&1; \
		$(RIG)/suite caught build/$$base; \
	done
	-@for base in $(FAULTS); do \
		echo "BASE=$$base"; ONLY='$(FAULTS_ONLY)' \
			$(MAKE) mutants BASE=$$base KSRC=; done
	@$(RIG)/report count $(foreach b,$(BASES),$(call verdicts,$(b))) \
		$(foreach b,$(FAULTS),$(call faults,$(b))) \
		$(foreach b,$(SUITES),$(call suite,$(b)) $(call caught,$(b)))

apply:
	@[ -n "$(KSRC)" ] || { echo 'make: which tree? make apply KSRC=/path/to/linux' >&2; exit 1; }
	@$(RIG)/source apply "$(KSRC)"

mbox:
	@for f in patches/*/; do f=$$(basename $$f); \
		$(RIG)/mbox $$f build/$$f.mbox && echo "  MBOX    build/$$f.mbox"; done

patches:
	@$(RIG)/generate

readme:
	@$(RIG)/report readme
	@$(RIG)/suite readme

clean:
	@$(RIG)/locked sh -c 'for d in build/*/; do \
		rm -rf "$$d/obj" "$$d/boot" "$$d/rig" "$$d/log" "$$d/report" \
		       "$$d/variants" "$$d"/tests* "$$d"/suite* "$$d"/kselftest* \
		       "$$d/check"; done'

distclean:
	@$(RIG)/locked rm -rf build
