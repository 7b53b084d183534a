# The manual pages, the completions and the drop-in for systemd. Included by the Makefile.
# The first are made from the tables of shim/ and cli/, by programs of the machine that builds, which may be another
# than the one they are for.
HOSTCC ?= cc
DOC_TABLES = $(wildcard shim/*.def cli/*.def docs/*.h)
DOC_CC     = $(HOSTCC) -std=c17 $(WARN) -Ishim
CLI_DOCS   = $(BUILD)/preclose.1 $(addprefix $(BUILD)/completion/preclose.,bash zsh fish)
EXAMPLES   = $(BUILD)/preclose.conf docs/preclose.rules.yml docs/rsyslog.conf
DOCS       = $(BUILD)/libpreclose.7 $(BUILD)/preclose.conf $(CLI_DOCS)

.PHONY: docs
docs: $(DOCS)

PAGE_SRC = docs/page.c docs/command.c docs/roff.c docs/words.c
$(BUILD)/docs/page: $(PAGE_SRC) $(DOC_TABLES)
	@mkdir -p $(@D)
	$(DOC_CC) -o $@ $(PAGE_SRC)

COMPLETION_SRC = docs/completion.c docs/words.c
$(BUILD)/docs/completion: $(COMPLETION_SRC) $(DOC_TABLES)
	@mkdir -p $(@D)
	$(DOC_CC) -o $@ $(COMPLETION_SRC)

$(BUILD)/libpreclose.7 $(BUILD)/preclose.1: $(BUILD)/%: docs/%.in $(BUILD)/docs/page $(BUILD)/libdir VERSION
	$(BUILD)/docs/page $(VERSION) $(LIBDIR) < $< > $@.new
	@mv $@.new $@

$(BUILD)/completion/preclose.%: docs/completion/preclose.%.in $(BUILD)/docs/completion
	@mkdir -p $(@D)
	$(BUILD)/docs/completion $* < $< > $@.new
	@mv $@.new $@

$(BUILD)/preclose.conf: docs/preclose.conf.in $(BUILD)/libdir
	sed 's|@LIBDIR@|$(LIBDIR)|' $< > $@.new
	@mv $@.new $@
