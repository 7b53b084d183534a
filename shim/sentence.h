// A finding in one sentence: what happened, where, what it costs, what to do. It states only what is known.
#ifndef PRECLOSE_SENTENCE_H
#define PRECLOSE_SENTENCE_H

#include "line.h"
#include "report.h"

// Appends the sentence for f to l, without a full stop. Names that come from outside (threads, paths) are
// written as logfmt values, so that none can be taken for a part of the line. Async-signal-safe; uses
// modules_place, so the caller serialises (report lock).
void sentence(struct line *l, const struct finding *f, const struct line_context *c);

#endif
