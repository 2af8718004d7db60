# SPDX-License-Identifier: Apache-2.0
#
# Weir's front door. `make help` says what there is.

.DEFAULT_GOAL := all
.SUFFIXES:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BUILD ?= release
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(BUILD),fuzz)
override CC := clang
endif

# ---- builds: each has its own folder ---------------------------------------------------------

O := build/$(BUILD)$(if $(filter-out gcc,$(CC)),$(if $(filter fuzz,$(BUILD)),,-$(notdir $(CC))))

WARN := -Wall -Wextra -Wconversion -Wshadow -Wvla -Wmissing-prototypes -Wstrict-prototypes -Werror
SANE := -fno-omit-frame-pointer -fno-sanitize-recover=all

mode_release := -O2 -g
mode_debug := -O0 -g3 -DSELF_CHECK
mode_asan := -O1 -g $(SANE) -fsanitize=address,undefined -DSELF_CHECK -DSLAB_OFF
mode_tsan := -O1 -g $(SANE) -fsanitize=thread -DSELF_CHECK
mode_fuzz := -O1 -g $(SANE) -fsanitize=fuzzer-no-link,address,undefined -DSELF_CHECK -DSLAB_OFF
# A bug on purpose, for the simulator to find: never installed, never shipped.
mode_planted := -O1 -g -DSELF_CHECK -DWEIR_PLANTED_BUG
mode_cov := -O0 -g --coverage -DSELF_CHECK

link_asan := -fsanitize=address,undefined
link_tsan := -fsanitize=thread
link_fuzz := -fsanitize=address,undefined
link_cov := --coverage

MODE := $(mode_$(BUILD))
ifeq ($(MODE),)
$(error BUILD=$(BUILD): one of release debug asan tsan fuzz cov planted)
endif

CPPFLAGS += -D_GNU_SOURCE -Isrc -MMD -MP
CFLAGS_ALL := -std=c11 $(MODE) $(WARN) $(CFLAGS)
LDFLAGS_ALL := $(link_$(BUILD)) $(LDFLAGS)
LIBS := -lssl -lcrypto -lyaml -lcares -llmdb -lpthread

# ---- what there is ---------------------------------------------------------------------------

rooms := base sip wire observe step txn flow guard pool registrar edge engine config store \
	net load cli
src := $(foreach r,$(rooms),$(wildcard src/$r/*.c))
cli_src := $(filter src/cli/%,$(src))
room_src := $(filter-out $(cli_src),$(src))
sim_src := $(wildcard sim/*.c)
sim_room_src := $(filter-out $(addprefix src/,net/% config/% store/% load/%),$(room_src))
support_src := $(wildcard test/support/*.c)
unit_src := $(wildcard test/unit/*/*_test.c)
fuzz_src := $(wildcard fuzz/*_fuzz.c)
bench_src := $(wildcard bench/*.c)

obj = $(patsubst %.c,$O/obj/%.o,$(1))

room_lib := $O/libweir.a
unit_bin := $(patsubst %.c,$O/%,$(unit_src))
replay_bin := $(patsubst fuzz/%_fuzz.c,$O/replay/%,$(fuzz_src))
fuzz_bin := $(patsubst fuzz/%_fuzz.c,$O/fuzz/%,$(fuzz_src))
sim_bin := $(if $(sim_src),$O/sim)
weir_bin := $(if $(cli_src),$O/weir)

# ---- compile and link ------------------------------------------------------------------------

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $@)

.PHONY: all everything unit replay fuzzers
all: $(weir_bin)

ifeq ($O,build/release)
all: build/weir
build/weir: $O/weir
	$(call say,COPY)
	$(Q)cp -f $< $@.new && mv -f $@.new $@
endif

everything: all unit replay sim-build $(call obj,$(src) $(bench_src))
unit: $(unit_bin)
replay: $(replay_bin)
fuzzers: $(fuzz_bin)

.PHONY: sim-build
sim-build: $(sim_bin)

$O/obj/%.o: %.c
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS_ALL) -c $< -o $@

$(room_lib): $(call obj,$(room_src))
	$(call say,AR)
	$(Q)rm -f $@ && ar rcs $@ $^

$O/weir: $(call obj,$(cli_src)) $(room_lib)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ $(LIBS) -o $@

$O/sim: $(call obj,$(sim_src)) $(call obj,$(sim_room_src))
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ -lcrypto -o $@

$O/obj/test/%.o $O/obj/sim/%.o: CPPFLAGS += -Itest -I.
$O/test/unit/wire/ws_wslay_test: LIBS += -lwslay

$O/test/unit/%: $O/obj/test/unit/%.o $(call obj,$(support_src)) $(room_lib)
	$(call say,LINK)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ -lcmocka $(LIBS) -o $@

$O/replay/%: $O/obj/fuzz/%_fuzz.o $O/obj/fuzz/replay_main.o $(room_lib)
	$(call say,LINK)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ $(LIBS) -o $@

$O/fuzz/%: $O/obj/fuzz/%_fuzz.o $(room_lib)
	$(call say,LINK)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -fsanitize=fuzzer,address,undefined $^ $(LIBS) -o $@

.PRECIOUS: $O/obj/%.o
-include $(patsubst %.o,%.d,$(call obj,$(src) $(sim_src) $(support_src)\
	$(unit_src) $(fuzz_src) $(bench_src)))
-include $O/obj/fuzz/replay_main.d

# ---- commands --------------------------------------------------------------------------------

.PHONY: test demo bench fuzz sim tidy cov clean install help deps
deps:
	@tools/deps.sh

test:
	@tools/deps.sh test
	@python3 test/run.py $(ONLY)

demo:
	@tools/deps.sh demo
	@$(MAKE) --no-print-directory BUILD=release CC=gcc all
	@python3 demo/demo.py

bench: bench-build
	@python3 bench/run.py $(BENCH)

.PHONY: bench-build
bench-build:
	@tools/deps.sh bench
	@$(MAKE) --no-print-directory BUILD=release CC=gcc all bench-tools

.PHONY: bench-tools
bench-tools: $(addprefix $O/bench/,relay delay parse_bench guard_bench \
	phones tls_acceptor malloc_count.so \
	knock accept_close burn)
$O/bench/%: $O/obj/bench/%.o $(room_lib)
	$(call say,LINK)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $^ $(LIBS) -o $@
$O/bench/%.so: bench/%.c
	$(call say,LINK)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS_ALL) -fPIC -shared $< -ldl -o $@

TIME ?= 60
fuzz:
	@test -n "$(T)" || \
		{ echo "make fuzz T=… TIME=seconds, with one of: $(sort $(notdir $(fuzz_bin)))"; exit 2; }
	@$(MAKE) --no-print-directory BUILD=fuzz build/fuzz/fuzz/$(T)
	@mkdir -p build/fuzz/corpus/$(T) fuzz/corpus/$(T)
	cd build/fuzz && ASAN_OPTIONS=detect_leaks=0 ./fuzz/$(T) -max_total_time=$(TIME) \
		-timeout=10 -rss_limit_mb=2048 -print_final_stats=1 $(FUZZ_FLAGS) \
		corpus/$(T) ../../fuzz/corpus/$(T)

SIM_ARGS = $(if $(SEEDS),--first $(or $(SEED),1) --seeds $(SEEDS),--seed $(or $(SEED),1)) \
	$(if $(TRACE),--trace) $(if $(FLOWS),--flows)
AVALANCHE_ARGS = --avalanche --seed $(or $(SEED),1) $(if $(PHONES),--phones $(PHONES)) \
	$(if $(SVG),--svg $(SVG)) $(if $(CSV),--csv $(CSV))
sim:
	@$(MAKE) --no-print-directory sim-build
	@$O/sim $(if $(AVALANCHE),$(AVALANCHE_ARGS),$(SIM_ARGS))

tidy:
	@python3 tools/tidy.py

# Line coverage of the unit tests and the corpora, by room.
cov:
	@$(MAKE) --no-print-directory BUILD=cov CC=gcc unit replay
	@python3 tools/cov.py build/cov

clean:
	rm -rf build

PREFIX ?= /usr/local
install: all
	install -D -m 755 $O/weir $(DESTDIR)$(PREFIX)/bin/weir

help:
	@echo 'make                        build/weir, the release program'
	@echo 'make test                   everything that is checked: ends with "N passed, N failed"'
	@echo 'make test ONLY="build unit" some of it: build tidy unit replay sim scenario'
	@echo 'make demo                   two edges, three servers, a killed one, phones and browsers'
	@echo 'make bench                  what a call costs, beside a bare relay [BENCH="--quick"]'
	@echo 'make fuzz T=token TIME=60   libFuzzer on one target; without T: which there are'
	@echo 'make sim SEED=7 [TRACE=1]   one run of a simulated network; SEEDS=10000: many'
	@echo '                            FLOWS=1: the one of phones, NATs and a registrar'
	@echo '                            AVALANCHE=1 [PHONES=20000 SVG=docs/images]: a region dies'
	@echo 'make tidy                   the rules of docs/CODING.md that a program can check'
	@echo 'make cov                    line coverage of unit tests and corpora, by room'
	@echo 'make deps                   install what is needed (Debian 12, as root)'
	@echo 'make install PREFIX=/usr/local    make clean'
	@echo
	@echo 'BUILD=release|debug|asan|tsan|fuzz|cov  CC=gcc|clang  V=1 shows the commands'
