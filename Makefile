# SPDX-License-Identifier: GPL-2.0-only
#
# The one entry point; "make help" lists what there is.  The rules for what the
# rig builds are in tools/rig/Makefile.

BASE ?= 5.10
VMX ?= auto
KSRC ?=
V ?= 0
JOBS ?= $(shell nproc)
export SEED PROGRAMS UNPATCHED KUT TOPICS SKIP STABLE
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
	tree apply export post patches mbox releases readme report compare pictures setup clean distclean

help:
	@echo 'KVM x86: MSR filter fixes, and a rig that tests them'
	@echo
	@echo '  make run       boot an unpatched and a patched KVM, compare'
	@echo '  make kselftest run all KVM selftests on both'
	@echo '  make faults    seed faults in the patched KVM, show which test finds which'
	@echo '  make bench     measure the cost of filters, patch by patch: table, CSV, SVG'
	@echo '  make fuzz      run random programs of filters, MSR accesses and VM operations'
	@echo '  make debug-kernel  run the tests on kernels with KASAN, lockdep, KCSAN, fault'
	@echo '                 injection and other debug options'
	@echo '  make coverage  show which lines and branches of the filter code the tests run'
	@echo '  make vmm       run guests under QEMU on the patched host and check QEMU'\''s own MSR'
	@echo '                 filter: in a guest, after restore, nested'
	@echo '  make nested    run the tests with VMX=kvm inside an emulated host'
	@echo '  make host-test test the running kernel, if it is one of Debian'\''s, by replacing its'
	@echo '                 KVM modules.  Needs root, VMX and no running VMs.  STOCK=1: emulate'
	@echo '                 a host that runs a Debian kernel'
	@echo '  make lint      check the rig'\''s code, tables and patch files, without a kernel'
	@echo '  make check     check each patch on a kernel, without a boot'
	@echo '  make test      lint; check, run twice and fuzz of 5.10 and next; some faults of'
	@echo '                 5.10.  With BASE= or KSRC=: of that kernel'
	@echo '  make test-all  everything above for all kernels; resumes if interrupted'
	@echo '                 (FRESH=1: starts over)'
	@echo '  make apply     git am the series to KSRC, on a new branch there'
	@echo '  make export    write the patches for KSRC into OUT, for git am and quilt'
	@echo '  make post      write SERIES of patches/next for KSRC as mails: build/post/SERIES'
	@echo '  make tree      unpack the source and apply the series: build/BASE/src'
	@echo '  make patches   regenerate the patches that carry files of this repository'
	@echo '  make mbox      write each series of patches/next as build/next/SERIES.mbox'
	@echo '  make releases  write the results for BASE or KSRC into the table of trees'
	@echo '  make readme    write all results into README and tools/rig/RESULTS'
	@echo '  make report    write the last results as one page and as JUnit XML:'
	@echo '                 build/report/report.html, junit.xml'
	@echo '  make compare A=... B=...  compare two runs: results.json files, or their folders'
	@echo '  make pictures  write pictures of the report and of the curves'
	@echo '  make setup     install all packages that the targets need'
	@echo '  make clean     remove build outputs, keep sources'
	@echo '  make distclean remove build/'
	@echo
	@echo '  BASE=$(BASE)      the kernel: $(BASES)'
	@echo '  KSRC=DIR       a kernel tree, which is not modified'
	@echo '  TOPICS=A,B     apply or export only these topics: names, fixes, speed'
	@echo '  SKIP=A,B       leave out these topics'
	@echo '  STABLE=6.6.y   the stable tree that "make export" is for'
	@echo '  TREE=NAME      the name of KSRC in the table of trees'
	@echo '  KCONFIG=FILE   a .config for the builds of "make check", not the rig'\''s'
	@echo '  KEXTRA=FILE    options on top of the rig'\''s, for a tree that needs more'
	@echo '  VMX=auto       bochs (emulated), kvm (real), or auto'
	@echo '  V=1            print all commands and their output'
	@echo '  CACHE=DIR      for downloads (~/.cache/kvm-msr-filter)'
	@echo '  MIRROR=URL     a Debian mirror (the one that apt uses)'
	@echo '  PIN=newest     use Debian'\''s newest source, not the one in tables/kernels'
	@echo '  JOBS=N         processes at a time (one a CPU)'
	@echo '  AGAIN=1        boot twice in "make run", and compare'
	@echo '  TESTS=REGEX    only the tests of "make kselftest", or of KUT=, whose names match'
	@echo '  FAULT=NAME     use a faulty KVM as the patched one in "make kselftest"'
	@echo '                 and "make vmm"'
	@echo '  KUT=DIR        run kvm-unit-tests from this tree in "make vmm"'
	@echo '  FAULTS=REGEX   only the faults of "make faults" whose names match'
	@echo '  FLAVOURS=A,B   only these of the kernels of "make debug-kernel"'
	@echo '  OWN=1          only one fault for each function and kind, in lines of the series'
	@echo '  PROGRAMS=N     number of programs of "make fuzz" (10000); SEED=N: the first (1)'
	@echo '  UNPATCHED=1    run "make fuzz" on the unpatched KVM, or with FAULTS= on faulty ones;'
	@echo '                 it must fail'

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

# With any python3 from 3.9 on and git, and nothing else.
FOR_TREE := exec env PYTHONPATH=$(RIG) python3 -B -m riglib.series

apply export post:
	@[ -n "$(KSRC)" ] || { echo 'make: which tree? make $@ KSRC=/path/to/linux' >&2; exit 1; }
	@$(if $(filter export,$@),[ -n "$(OUT)" ] || { echo 'make: to where? make $@ KSRC=$(KSRC) OUT=DIR' >&2; exit 1; })
	@$(if $(filter post,$@),[ -n "$(SERIES)" ] || { echo 'make: which series? make $@ SERIES=01-nested KSRC=$(KSRC)' >&2; exit 1; })
	@$(FOR_TREE) $@ $(if $(filter post,$@),"$(SERIES)") "$(KSRC)" $(if $(filter export,$@),"$(OUT)")

mbox:
	@for f in patches/next/*/; do \
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
