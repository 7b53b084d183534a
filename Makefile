# make            build/libpreclose.so, the command build/preclose, their manual pages and completions
# make demo       what it does, shown on small programs (make demo NAME: one of them)
# make test       every test; installs what they need first (GROUPS="unit e2e": those groups of tests/run)
# make bench      what it costs, as ratios: a table, docs/bench.csv and .svg, README (ROWS="tcp udp": those, table only)
# make install    PREFIX=/usr/local DESTDIR= LIBDIR= MANDIR= DOCDIR= ...; make uninstall with the same

BUILD   ?= build
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
MANDIR  ?= $(PREFIX)/share/man
DOCDIR  ?= $(PREFIX)/share/doc/preclose
CFLAGS  ?= -O2 -g
WARN     = -Wall -Wextra -Wpedantic -Wshadow -Wconversion $(WERROR)
VERSION := $(shell cat VERSION)

ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -DPRECLOSE_VERSION='"$(VERSION)"' $(WARN) $(CFLAGS)
# Initial-exec: a thread-local variable that is allocated late could call malloc in a signal handler.
# Unwind tables: a walk up the stack begins in the library itself.
SHIM_CFLAGS = $(ALL_CFLAGS) -fPIC -fvisibility=hidden -ftls-model=initial-exec -fstack-usage -Ishim \
              -fasynchronous-unwind-tables
# Bound at load: a lazy binding could run the loader inside a signal handler.
# Sorted: what is apart (shim/touched.h) comes behind everything else.
SHIM_LDFLAGS = -shared -Wl,-z,now -Wl,-z,relro -Wl,-z,defs -Wl,--version-script=shim/libpreclose.map \
               -Wl,--sort-section=name

SHIM_SRC  = $(wildcard shim/*.c) $(wildcard shim/*.S)
# In this order, so that a fork copies few pages and a start reads few: what most calls need lies together.
SHIM_HOT  = guard life exports_close track arena touched release misuse report place aside watch family clock act \
            decide probe exports_open exports_share exports_connect options real sink scan unwind modules track_table
SHIM_OBJ  = $(patsubst %,$(BUILD)/shim/%.o,$(SHIM_HOT) \
              $(filter-out $(SHIM_HOT),$(patsubst shim/%,%,$(basename $(SHIM_SRC)))))
# The rooms, without the names that would replace libc's in the test itself.
ROOM_OBJ  = $(filter-out $(BUILD)/shim/exports_%.o $(BUILD)/shim/life.o $(BUILD)/shim/release.o \
              $(BUILD)/shim/drain.o $(BUILD)/shim/real.o $(BUILD)/shim/misuse.o $(BUILD)/shim/guard.o \
              $(BUILD)/shim/scan.o $(BUILD)/shim/watch.o,$(SHIM_OBJ))
UNIT_SRC  = $(wildcard tests/unit/test_*.c)
# Ways to build a program that differ in what its stack and its tables look like.
BUILT      = no-pie O0 Os frame-pointers branch-protection vectors
UNWIND_BIN = $(patsubst %,$(BUILD)/tests/unit/test_unwind-%,$(BUILT))
UNIT_BIN   = $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(UNIT_SRC)) $(UNWIND_BIN)
no-pie            = -no-pie -fno-pie
O0                = -O0
Os                = -Os
frame-pointers    = -fno-omit-frame-pointer -foptimize-sibling-calls
branch-protection = $(if $(filter aarch64,$(shell uname -m)),-mbranch-protection=standard,-fcf-protection=full)
vectors           = -O3 $(if $(filter x86_64,$(shell uname -m)),-mavx)
E2E_BIN   = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/e2e/*.c tests/hostile/*.c tests/valgrind/*.c tests/cost/*.c))

# What a goal needs and is missing; `:` where another make has seen to it.
DEPS     ?= scripts/deps

.PHONY: all clean install uninstall test everything units-built
all: $(BUILD)/libpreclose.so docs cli-if-possible

$(BUILD)/libpreclose.so: $(SHIM_OBJ) shim/libpreclose.map
	$(CC) $(CFLAGS) $(LDFLAGS) $(SHIM_LDFLAGS) -o $@ $(SHIM_OBJ)

$(BUILD)/shim/%.o: shim/%.c Makefile VERSION | deps-build
	@mkdir -p $(@D)
	$(CC) $(SHIM_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/shim/%.o: shim/%.S Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIC -c -o $@ $<

.PHONY: deps-build deps-test
deps-build:
	@$(DEPS) build
deps-test: deps-build
	@$(DEPS) test

$(BUILD)/tests/unit/%: tests/unit/%.c $(ROOM_OBJ) | deps-test
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Ishim -Itests/unit -MMD -MP -MF $@.d -MT $@ -o $@ $< $(ROOM_OBJ) -lcmocka -pthread

$(UNWIND_BIN): $(BUILD)/tests/unit/test_unwind-%: tests/unit/test_unwind.c $(ROOM_OBJ) | deps-test
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $($*) -Ishim -Itests/unit -MMD -MP -MF $@.d -MT $@ -o $@ $< $(ROOM_OBJ) -lcmocka -pthread

$(BUILD)/tests/%: tests/%.c | deps-test
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d -MT $@ -o $@ $< -pthread -ldl

units-built: $(UNIT_BIN)
everything: all $(UNIT_BIN) $(E2E_BIN) demo-programs

test: deps-test everything
	@tests/run $(BUILD) $(GROUPS)

# One group of the tests.
TEST_GROUPS = unit e2e hostile real lint gcc clang asan tsan valgrind cost package fuzz soak
.PHONY: sanitize $(TEST_GROUPS)
$(TEST_GROUPS): deps-test everything
	@tests/run $(BUILD) $@
sanitize: deps-test everything
	@tests/run $(BUILD) asan tsan

# What has the directory of the library in it is made anew when that is another.
.PHONY: always
$(BUILD)/libdir: always
	@mkdir -p $(@D)
	@echo '$(LIBDIR)' | cmp -s - $@ || echo '$(LIBDIR)' > $@

install: all
	install -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(MANDIR)/man7 $(DESTDIR)$(DOCDIR)/examples
	install -m 755 $(BUILD)/libpreclose.so $(DESTDIR)$(LIBDIR)/libpreclose.so
	install -m 644 $(BUILD)/libpreclose.7 $(DESTDIR)$(MANDIR)/man7/libpreclose.7
	install -m 644 $(EXAMPLES) $(DESTDIR)$(DOCDIR)/examples

uninstall:
	rm -f $(DESTDIR)$(LIBDIR)/libpreclose.so $(DESTDIR)$(MANDIR)/man7/libpreclose.7 \
	  $(addprefix $(DESTDIR)$(DOCDIR)/examples/,$(notdir $(EXAMPLES)))
	rmdir $(DESTDIR)$(DOCDIR)/examples $(DESTDIR)$(DOCDIR) 2> /dev/null || :

clean:
	rm -rf $(BUILD)

include docs/docs.mk
include cli/cli.mk
-include demo/demo.mk
include bench/bench.mk
-include $(SHIM_OBJ:.o=.d) $(wildcard $(BUILD)/tests/*/*.d)
