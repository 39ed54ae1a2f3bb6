# SPDX-License-Identifier: GPL-2.0-only
#
# The one entry point; "make help" lists what there is.  The rules for what the
# rig builds are in tools/rig/Makefile.

BASE ?= 5.10
VMX ?= auto
KSRC ?=
V ?= 0
JOBS ?= $(shell nproc)
export SEED PROGRAMS UNPATCHED KUT
export KSRC KCONFIG KEXTRA TREE VMX V CACHE MIRROR PIN JOBS FAULTS FLAVOURS TESTS FRESH BOOT_LIMIT BOOT_STALL QEMU_ACCEL

RIG := tools/rig
STEPS := $(RIG)/steps
# Debian's, which has the modules that the table packages names.
RIGLIB := exec env PYTHONPATH=$(RIG) /usr/bin/python3 -B -m riglib
BASES := $(shell awk '!/^\#/ && NF { print $$1 }' $(RIG)/tables/kernels)

ifeq ($(KSRC),)
ifeq ($(filter $(BASE),$(BASES)),)
$(error BASE=$(BASE) is unknown, there is: $(BASES))
endif
endif
ifneq ($(KUT),)
ifeq ($(wildcard $(KUT)/x86/unittests.cfg),)
$(error KUT=$(KUT) has no x86/unittests.cfg: it is to be a tree of kvm-unit-tests)
endif
endif
ifneq ($(KEXTRA),)
ifeq ($(wildcard $(KEXTRA)),)
$(error KEXTRA=$(KEXTRA) is not there: it is a file of lines CONFIG_...=)
endif
endif

NAME := $(if $(KSRC),ksrc,$(BASE))
# What the long targets are about, where the user says so.
NAMED := $(if $(KSRC),ksrc,$(if $(filter file default,$(origin BASE)),,$(BASE)))
TEST_KERNELS := $(if $(NAMED),$(NAMED),5.10 next)
MAKEFLAGS += --no-print-directory
# exec: make tells its child to end, and a shell would keep that to itself.
rig = exec $(STEPS)/locked $(MAKE) -f $(RIG)/Makefile BASE=$(BASE) VMX=$(VMX) KSRC="$(KSRC)" \
	AGAIN="$(AGAIN)" OWN="$(OWN)" FAULT="$(FAULT)" FLAVOURS="$(FLAVOURS)" STOCK="$(STOCK)"

.PHONY: help run kselftest faults bench fuzz debug-kernel coverage vmm nested host-test test test-all lint check \
	tree apply patches mbox releases readme report compare pictures setup clean distclean

help:
	@echo 'KVM on VMX: skip filter updates for MSRs that KVM intercepts already'
	@echo
	@echo '  make run       boot an unpatched and a patched KVM, print the table'
	@echo '  make kselftest KVM'\''s own selftests, all of them, unpatched against patched'
	@echo '  make faults    seeded faults in the patched KVM, and which test sees which'
	@echo '  make bench     what a filter costs, patch by patch: curves, CSV and SVG'
	@echo '  make fuzz      random programs of filters, accesses and what goes with them'
	@echo '  make debug-kernel  the tests on kernels that are built to complain (KASAN,'
	@echo '                 lockdep, KCSAN, fault injection), and on ones built otherwise'
	@echo '  make coverage  which lines and branches of the series, and of what it is about,'
	@echo '                 the tests run, by gcov'
	@echo '  make vmm       QEMU on the patched host, whose MSR filter is in force in a guest,'
	@echo '                 in one that was saved and restored, and in a nested one'
	@echo '  make nested    what VMX=kvm does, in an emulated host: its tests are guests of a'
	@echo '                 guest'
	@echo '  make host-test the running kernel, one of Debian'\''s: its KVM is unloaded, both'
	@echo '                 variants are loaded and tested in turn, and it is loaded again;'
	@echo '                 no reboot. Root, VMX, no VMs. STOCK=1: such a kernel, emulated'
	@echo '  make lint      our own code, tables and patch files; no kernel needed'
	@echo '  make check     the patches on a kernel, each alone; without a boot'
	@echo '  make test      lint; for 5.10 and next: check, run twice, 300 programs of fuzz;'
	@echo '                 for 5.10 a fault for each function and kind; BASE= or KSRC=: for'
	@echo '                 that kernel'
	@echo '  make test-all  for all kernels: check, run twice, fuzz, all faults, kselftest,'
	@echo '                 debug-kernel, vmm, nested and, where known, coverage and'
	@echo '                 host-test (STOCK=1); goes on where it was ended (FRESH=1:'
	@echo '                 from the start)'
	@echo '  make apply     git am the series to KSRC, on a new branch there'
	@echo '  make tree      only the source, with the series: build/BASE/src'
	@echo '  make patches   write the files here that patches carry into patches/'
	@echo '  make mbox      each series as one mbox: build/SERIES.mbox'
	@echo '  make releases  put what "make tree", "make check" and "make run" have found,'
	@echo '                 on BASE or KSRC, into the table of all trees'
	@echo '  make readme    put the results of all kernels, and that table, into README'
	@echo '                 and tools/rig/RESULTS'
	@echo '  make report    the last runs of all kernels as one page, and as JUnit XML:'
	@echo '                 build/report/report.html, junit.xml'
	@echo '  make compare A=... B=...  what changed between two runs, of two commits or two'
	@echo '                 machines: two results.json, or folders that have such files'
	@echo '  make pictures  of that report and the curves of "make bench" in it, for README'
	@echo '  make setup     install what all of this needs'
	@echo '  make clean     remove what was built, not the sources'
	@echo '  make distclean remove build/'
	@echo
	@echo '  BASE=$(BASE)      the kernel: $(BASES)'
	@echo '  KSRC=DIR       or a kernel tree of yours; it is not modified'
	@echo '  TREE=NAME      whose tree KSRC is, for "make releases"'
	@echo '  KCONFIG=FILE   a .config for the builds of "make check", not the rig'\''s'
	@echo '  KEXTRA=FILE    options on top of the rig'\''s, for a tree that needs more'
	@echo '  VMX=auto       bochs (emulated), kvm (real), or auto'
	@echo '  V=0            1: all that is run, and what it prints'
	@echo '  CACHE=DIR      for downloads (~/.cache/kvm-msr-filter)'
	@echo '  MIRROR=URL     a Debian mirror (the one that apt uses)'
	@echo '  PIN=newest     the newest source of Debian'\''s, not the one in tables/kernels'
	@echo '  JOBS=N         processes at a time (one a CPU)'
	@echo '  AGAIN=1        "make run" boots it twice, and compares'
	@echo '  TESTS=REGEX    only the tests of "make kselftest", or of KUT=, whose names match'
	@echo '  FAULT=NAME     a fault in place of the patched KVM of "make kselftest",'
	@echo '                 or of "make vmm"'
	@echo '  KUT=DIR        a tree of kvm-unit-tests: "make vmm" runs these, under its QEMU'
	@echo '  FAULTS=REGEX   only the faults of "make faults" whose names match'
	@echo '  FLAVOURS=A,B   only these of the kernels of "make debug-kernel"'
	@echo '  OWN=1          only one fault for each function and kind, in lines of the series'
	@echo '  PROGRAMS=N     how many "make fuzz" runs (10000), SEED=N: the first one (1)'
	@echo '  UNPATCHED=1    "make fuzz" has to find the bugs; with FAULTS= these faults'

setup:
	@$(RIG)/setup all bochs lint check kselftest bench debug vmm report browser

run tree:
	@$(RIG)/setup all
	@$(rig) $@

# They boot an AMD host, too.
kselftest faults fuzz:
	@$(RIG)/setup all kselftest
	@$(rig) $@

bench:
	@$(RIG)/setup all bench
	@$(rig) $@

debug-kernel:
	@$(RIG)/setup all debug
	@$(rig) $@

coverage:
	@$(RIG)/setup all
	@$(rig) $@

vmm nested:
	@$(RIG)/setup all vmm
	@$(rig) $@

# What stands against it is said before anything is installed or built.
host-test:
ifneq ($(KSRC),)
	@echo 'make: host-test is for kernels of Debian'\''s own, and KSRC= for others: "make run KSRC="' >&2; exit 1
else ifneq ($(STOCK),)
	@$(RIG)/setup all bochs stock
	@$(rig) $@
else
	@$(RIG)/host/swap check
	@$(STEPS)/stock base $(NAMED) >/dev/null
	@$(RIG)/setup all host
	@set -- $$($(STEPS)/stock base) && export PIN=$$2 && \
		$(STEPS)/locked $(MAKE) -f $(RIG)/Makefile BASE=$$1 KSRC= STOCK= host-test
endif

lint:
	@$(RIG)/setup all lint report browser
	@$(STEPS)/lint

check:
	@$(RIG)/setup all check
	@rm -f build/$(NAME)/check/check.tap
	@$(rig) config
	@$(STEPS)/locked env PYTHONPATH=$(RIG) /usr/bin/python3 -B -m riglib check $(NAME)

test:
	@$(RIG)/setup all lint report browser check
	@$(RIGLIB) stages test $(TEST_KERNELS)

test-all:
	@$(RIG)/setup all lint report browser check kselftest debug vmm stock
	@$(RIGLIB) stages test-all $(if $(NAMED),$(NAMED),$(BASES))

apply:
	@[ -n "$(KSRC)" ] || { echo 'make: which tree? make apply KSRC=/path/to/linux' >&2; exit 1; }
	@$(STEPS)/source apply "$(KSRC)"

mbox:
	@for f in patches/*/ patches/*/*/; do [ -f "$${f}0001-"* ] || continue; \
		f=$${f#patches/} && f=$${f%/} && \
		$(STEPS)/mbox patches/$$f build/$$f.mbox && echo "  MBOX    build/$$f.mbox"; done

patches:
	@$(RIGLIB) patches

releases:
	@$(RIGLIB) releases $(NAME)

readme:
	@$(RIGLIB) readme

report:
	@$(RIG)/setup report
	@$(RIGLIB) report

compare:
	@$(RIGLIB) compare "$(A)" "$(B)"

pictures: report
	@$(RIG)/setup browser
	@$(RIGLIB) pictures

clean:
	@$(STEPS)/locked sh -c 'for d in build/*/; do \
		rm -rf "$$d/obj" "$$d/images" "$$d/rig" "$$d/log" "$$d/report" \
		       "$$d/variants" "$$d"/tests* "$$d"/suite* "$$d/check" "$$d/debug"; done'

distclean:
	@$(STEPS)/locked rm -rf build
