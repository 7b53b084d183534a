# The command, build/preclose. Included by the Makefile.
CLI_SRC    = $(wildcard cli/*.c)
CLI_OBJ    = $(CLI_SRC:cli/%.c=$(BUILD)/cli/%.o)
# Rooms of the library that need nothing of it: how settings are read, how names are quoted.
CLI_ROOMS  = $(BUILD)/shim/settings.o $(BUILD)/shim/line.o
CLI_CFLAGS = $(ALL_CFLAGS) -Icli -DPRECLOSE_LIBDIR='"$(LIBDIR)"'
CLI_LIBS   = -ldw -lelf -lz $(NCURSES_LIBS)
NCURSES_LIBS := $(shell pkg-config --libs ncursesw 2>/dev/null || echo -lncursesw -ltinfo)

# It needs libraries that the library does not: where they can't be had, it is left out.
.PHONY: cli cli-if-possible deps-cli
cli-if-possible: $(CLI_ROOMS)
	@if $(DEPS) cli; then $(MAKE) --no-print-directory cli; else echo "make: $(BUILD)/preclose is left out"; fi
deps-cli:
	@$(DEPS) cli
cli: $(BUILD)/preclose

$(BUILD)/preclose: $(CLI_OBJ) $(CLI_ROOMS)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(CLI_OBJ) $(CLI_ROOMS) $(CLI_LIBS)

$(BUILD)/cli/%.o: cli/%.c Makefile cli/cli.mk VERSION | deps-cli
	@mkdir -p $(@D)
	$(CC) $(CLI_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/cli/html.o: cli/page.html
$(BUILD)/cli/run.o: $(BUILD)/libdir

# Its unit tests are among the others, and made from its rooms.
CLI_UNIT_BIN = $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_cli_*.c))
$(CLI_UNIT_BIN): $(BUILD)/tests/unit/%: tests/unit/%.c $(CLI_OBJ) $(CLI_ROOMS) | deps-test
	@mkdir -p $(@D)
	$(CC) $(CLI_CFLAGS) -Itests/unit -MMD -MP -MF $@.d -MT $@ -o $@ $< $(filter-out $(BUILD)/cli/main.o,$(CLI_OBJ)) \
	  $(CLI_ROOMS) $(CLI_LIBS) -lcmocka
everything: cli

# Where each shell looks, for itself and for what is in /usr/local.
BINDIR  ?= $(PREFIX)/bin
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
.PHONY: install-cli-if-built install-cli uninstall-cli
install: install-cli-if-built
install-cli-if-built: all
	@[ ! -x $(BUILD)/preclose ] || $(MAKE) --no-print-directory install-cli
install-cli:
	install -d $(addprefix $(DESTDIR),$(BINDIR) $(MANDIR)/man1 $(BASHDIR) $(ZSHDIR) $(FISHDIR))
	install -m 755 $(BUILD)/preclose $(DESTDIR)$(BINDIR)/preclose
	install -m 644 $(BUILD)/preclose.1 $(DESTDIR)$(MANDIR)/man1/preclose.1
	install -m 644 $(BUILD)/completion/preclose.bash $(DESTDIR)$(BASHDIR)/preclose
	install -m 644 $(BUILD)/completion/preclose.zsh $(DESTDIR)$(ZSHDIR)/_preclose
	install -m 644 $(BUILD)/completion/preclose.fish $(DESTDIR)$(FISHDIR)/preclose.fish
uninstall: uninstall-cli
uninstall-cli:
	rm -f $(addprefix $(DESTDIR),$(BINDIR)/preclose $(MANDIR)/man1/preclose.1 $(BASHDIR)/preclose $(ZSHDIR)/_preclose \
	  $(FISHDIR)/preclose.fish)

-include $(CLI_OBJ:.o=.d)
