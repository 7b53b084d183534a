# The demos: `make demo` shows them all, `make demo NAME...` some. Included by the Makefile.

DEMO_PROGRAMS := hung-recv close-wait unread-reset drain shared linger listener half-close killed \
                 echo echo-server echo-client
DEMO_FILES := $(DEMO_PROGRAMS:%=$(BUILD)/demo/%)
DEMO_CFLAGS = -std=c17 -D_GNU_SOURCE $(WARN) $(CFLAGS) -pthread

.PHONY: demo demo-programs
.SECONDARY: $(BUILD)/demo/demo.o

# One after the other, also under make -j: the library needs what scripts/deps installs.
demo:
	scripts/deps demo
	$(MAKE) --no-print-directory $(BUILD)/libpreclose.so demo-programs
	demo/run --lib $(BUILD)/libpreclose.so --bin $(BUILD)/demo $(DEMO_NAMES)

demo-programs: $(DEMO_FILES)

$(BUILD)/demo/demo.o: demo/demo.c demo/demo.h
	@mkdir -p $(@D)
	$(CC) $(DEMO_CFLAGS) -c -o $@ $<

$(DEMO_FILES): $(BUILD)/demo/%: demo/%.c demo/demo.h $(BUILD)/demo/demo.o
	$(CC) $(DEMO_CFLAGS) -o $@ $< $(BUILD)/demo/demo.o

# A name that stands beside the goal `demo` says which one to show, and is nothing to make.
ifneq ($(filter demo,$(MAKECMDGOALS)),)
DEMO_NAMES := $(filter $(DEMO_PROGRAMS),$(MAKECMDGOALS))
.PHONY: $(DEMO_NAMES)
$(DEMO_NAMES):
	@:
endif
