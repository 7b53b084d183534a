# The benchmark: `make bench`, and for some rows only `make bench ROWS="tcp udp" ROUNDS=50`. Included by the Makefile.
BENCH_BIN := $(addprefix $(BUILD)/bench/,work table empty.so)

.PHONY: bench bench-programs deps-bench
deps-bench:
	@$(DEPS) bench
bench-programs: $(BENCH_BIN)
everything: bench-programs
bench: deps-bench $(BUILD)/libpreclose.so bench-programs
	scripts/bench --build $(BUILD) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ROWS),$(ROWS),--out docs)

$(BUILD)/bench/work: bench/work.c bench/slot.h
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< -pthread
$(BUILD)/bench/table: bench/table.c bench/slot.h $(ROOM_OBJ)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Ishim -o $@ $< $(ROOM_OBJ) -pthread
$(BUILD)/bench/empty.so: bench/empty.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -shared -fPIC -o $@ $<
